package core

import "kloop/uring"

// A BufferID holds the number of the set it belongs to above the 16 bits of the
// buffer's own. Numbers start at 1, so that no id is 0.
const (
	bufferEpochShift = 16
	bufferEpochMax   = 1<<16 - 1
)

// buffersAtFirst is how many receive buffers the kernel gets at first. It fills them in
// turn, so few of them stay in the cache: 100 KiB x 10 took 26.7 µs of CPU per message with 8,
// 28.8 with 32. When receives find none too often, their number doubles: 16 KiB x 100 took
// 8.6 µs with 8 at most, 7.3 with 32.
const buffersAtFirst = 8

// Too often is: among so many receives, more than half as many without a buffer as with one.
const missWindow = 128

// Buffer groups of a ring.
const (
	bufferGroup   = 0 // for streams
	datagramGroup = 1
)

// Buffers for datagrams. Each takes one, however short it is, so that there are many from
// the start; memory that no datagram reaches is never touched. 256 KiB is the largest
// datagram that asyncio receives whole (a Unix socket's; UDP has at most 64 KiB).
const (
	datagramsAtFirst = 64
	datagramsMax     = 256
	datagramMax      = 256 << 10
	// 1,344 bytes more than a power of two, which are 21 cache lines: an odd number, since
	// short datagrams would else all lie in the same few sets of the cache.
	datagramBufferSize = datagramMax + 1344
)

// It must have room for the header.
var _ [datagramBufferSize - datagramMax - uring.DatagramHeader]struct{}

// bufferSet is the receive buffers of one group of a ring.
type bufferSet struct {
	ring   *uring.BufRing
	epoch  uint32
	out    int // buffers not in the kernel's hands
	given  uint32
	count  uint32
	hits   int  // receives with a buffer, of the present window
	misses int  // and without
	added  bool // buffers were given since the last publish
}

func newBufferSet(ring *uring.Ring, group uint16, epoch, count, size, given uint32) (*bufferSet, error) {
	buffers, err := ring.NewBufRingPart(group, count, size, given, false)
	if err != nil {
		return nil, err
	}
	return &bufferSet{ring: buffers, epoch: epoch, given: given, count: count}, nil
}

// missed counts a receive that found no buffer.
func (b *bufferSet) missed() {
	b.misses++
	b.hits = min(b.hits, missWindow) // a long good time does not outweigh a bad one
	if b.hits+b.misses < missWindow {
		return
	}
	if 2*b.misses > b.hits {
		b.grow()
	}
	b.hits, b.misses = 0, 0
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
	b.hits++
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
