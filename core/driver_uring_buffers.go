package core

import "kloop/uring"

// A BufferID holds the number of the ring it belongs to above the 16 bits of the
// buffer's own. Numbers start at 1, so that no id is 0.
const (
	bufferEpochShift = 16
	bufferEpochMax   = 1<<16 - 1
)

// buffersAtFirst is how many receive buffers the kernel gets at first. It fills them in
// turn, so that few buffers stay in the cache; when a receive finds none, their number
// doubles.
const buffersAtFirst = 32

// bufferSet is the receive buffers of one ring.
type bufferSet struct {
	ring  *uring.BufRing
	epoch uint32
	out   int // buffers not in the kernel's hands
	given uint32
	count uint32
	added bool // buffers were given since the last publish
}

func newBufferSet(ring *uring.Ring, epoch, count, size uint32) (*bufferSet, error) {
	given := min(count, buffersAtFirst)
	buffers, err := ring.NewBufRingPart(bufferGroup, count, size, given, false)
	if err != nil {
		return nil, err
	}
	return &bufferSet{ring: buffers, epoch: epoch, given: given, count: count}, nil
}

// grow gives the kernel as many buffers again as it has been given, up to all.
func (b *bufferSet) grow() {
	for end := min(2*b.given, b.count); b.given < end; b.given++ {
		b.ring.Add(uint16(b.given))
		b.added = true
	}
}

func (b *bufferSet) owns(id BufferID) bool { return uint32(id)>>bufferEpochShift == b.epoch }

func (b *bufferSet) take(id uint16, n int) (BufferID, []byte) {
	b.out++
	return BufferID(b.epoch<<bufferEpochShift | uint32(id)), b.ring.Bytes(id, 0, n)
}

func (b *bufferSet) add(id BufferID) {
	b.out--
	b.added = true
	b.ring.Add(uint16(id))
}

// publish lets the kernel see what was given back.
func (b *bufferSet) publish() {
	if b.added {
		b.added = false
		b.ring.Publish()
	}
}

// close unmaps the buffers of a closed ring, which can't fail then.
func (b *bufferSet) close() { _ = b.ring.Close() }
