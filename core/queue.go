package core

import "kloop/ktls"

// sendPartsMax is IOV_MAX, the kernel's limit of parts in one send (sendmsg(2)).
const sendPartsMax = 1024

// sendBytesMax bounds one send, as its result is an int32.
const sendBytesMax = 1 << 30

// partsFirst is the first size of a queue: most connections write once or twice a turn,
// and an idle one keeps this memory.
const partsFirst = 2

// partsKept is the capacity up to which an empty queue keeps its memory.
const partsKept = 16

// part is a piece of memory to send.
type part struct {
	p      []byte
	owner  uint64  // 0: nobody waits for it
	buffer *buffer // not nil: p lies in it
	// control is 0, or the type of the record that the kernel is to make of p alone.
	control ktls.ContentType
	rekey   bool // behind it the kernel goes on with the next key
}

// sendQueue holds what a connection has to send, in order: a ring of parts.
type sendQueue struct {
	parts []part // len is a power of two, or 0
	head  int
	count int
	bytes int // not yet sent
	front int // bytes of the first part that are sent
}

func (q *sendQueue) push(p part) {
	if q.count == len(q.parts) {
		q.grow()
	}
	q.parts[(q.head+q.count)&(len(q.parts)-1)] = p
	q.count++
	q.bytes += len(p.p)
}

func (q *sendQueue) grow() {
	grown := make([]part, max(partsFirst, 2*len(q.parts)))
	for i := range q.count {
		grown[i] = q.parts[(q.head+i)&(len(q.parts)-1)]
	}
	q.parts, q.head = grown, 0
}

// last answers the last part, to be extended, or nil.
func (q *sendQueue) last() *part {
	if q.count == 0 {
		return nil
	}
	return &q.parts[(q.head+q.count-1)&(len(q.parts)-1)]
}

// first answers the first part, of which there must be one.
func (q *sendQueue) first() *part { return &q.parts[q.head] }

// pop takes the first part off whatever is left of it.
func (q *sendQueue) pop() part {
	first := &q.parts[q.head]
	p := *first
	*first = part{}
	q.bytes -= len(p.p) - q.front
	q.front = 0
	q.head = (q.head + 1) & (len(q.parts) - 1)
	q.count--
	if q.count == 0 && len(q.parts) > partsKept {
		q.parts, q.head = nil, 0
	}
	return p
}

// gatherWhole appends the first parts to dst: one, and as many more as it together
// with them has at most limitBytes and limitParts. It answers their bytes.
func (q *sendQueue) gatherWhole(dst [][]byte, limitBytes, limitParts int) ([][]byte, int) {
	total := 0
	skip := q.front
	for i := 0; i < min(q.count, limitParts); i++ {
		p := q.parts[(q.head+i)&(len(q.parts)-1)].p[skip:]
		skip = 0
		if i > 0 && total+len(p) > limitBytes {
			break
		}
		p = p[:min(len(p), sendBytesMax)]
		dst = append(dst, p)
		total += len(p)
	}
	return dst, total
}

// gather appends the first parts to dst, at most sendPartsMax and sendBytesMax, up to
// the next control record, and answers their bytes.
func (q *sendQueue) gather(dst [][]byte) ([][]byte, int) {
	total := 0
	skip := q.front
	for i := 0; i < q.count && len(dst) < sendPartsMax; i++ {
		next := &q.parts[(q.head+i)&(len(q.parts)-1)]
		if next.control != 0 {
			break
		}
		p := next.p[skip:]
		skip = 0
		if len(p) > sendBytesMax-total {
			p = p[:sendBytesMax-total]
		}
		if len(p) == 0 {
			break
		}
		dst = append(dst, p)
		total += len(p)
	}
	return dst, total
}
