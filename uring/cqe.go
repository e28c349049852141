package uring

import "sync/atomic"

// CQE is a completion: struct io_uring_cqe.
type CQE struct {
	UserData uint64 // as given with SQE.SetUserData
	Res      int32  // the operation's result; negative: errno
	Flags    uint32 // IORING_CQE_F_*
}

// More reports whether further CQEs of the same SQE will follow.
func (c CQE) More() bool { return c.Flags&IORING_CQE_F_MORE != 0 }

// Buffer answers the id of the provided buffer that holds the data, and whether
// there is one.
func (c CQE) Buffer() (id uint16, ok bool) {
	return uint16(c.Flags >> cqeBufferShift), c.Flags&IORING_CQE_F_BUFFER != 0
}

// BufferMore reports whether the kernel keeps the buffer and goes on to fill it
// behind this data (incremental buffer rings).
func (c CQE) BufferMore() bool { return c.Flags&IORING_CQE_F_BUF_MORE != 0 }

type completionQueue struct {
	head    *uint32 // ours: what we have read
	tail    *uint32 // kernel's: what it has written
	dropped *uint32 // kernel's
	entries []CQE
	mask    uint32
}

// CQReady answers how many completions can be reaped without entering the
// kernel.
func (r *Ring) CQReady() uint32 {
	if r.fd < 0 {
		return 0
	}
	return atomic.LoadUint32(r.cq.tail) - *r.cq.head
}

// Reap copies up to len(out) completions, oldest first, and frees their slots.
// It answers how many. One load of the tail and one store of the head serve all
// of them.
func (r *Ring) Reap(out []CQE) int {
	if r.fd < 0 {
		return 0
	}
	q := &r.cq
	head := *q.head // only we write it
	n := min(int(atomic.LoadUint32(q.tail)-head), len(out))
	if n == 0 {
		return 0
	}
	first := copy(out[:n], q.entries[head&q.mask:])
	copy(out[first:n], q.entries) // what wraps around
	atomic.StoreUint32(q.head, head+uint32(n))
	return n
}

// Dropped answers how many completions the kernel lost because it had no memory
// to keep them while the CQ was full. Anything but 0 means that operations will
// never be answered.
func (r *Ring) Dropped() uint32 {
	if r.fd < 0 {
		return 0
	}
	return atomic.LoadUint32(r.cq.dropped)
}
