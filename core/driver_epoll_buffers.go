package core

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Chunks for datagrams: memory that no datagram reaches is never touched.
const (
	datagramChunks    = 64
	datagramChunkSize = 2 * datagramBufferSize
)

// packAlign is a cache line: what is received begins at the start of one.
const packAlign = 64

// packedBuffers are receive buffers that are filled one after the other, each with as many
// receives as it has room for. What comes in one iteration then lies together, and the
// next iteration uses the same memory again, which is in the cache.
type packedBuffers struct {
	memory []byte // of mmap(2): hosts keep addresses in it
	set    uint32 // of the driver's, part of the ids
	count  uint32
	size   int
	least  int // a buffer with less room is not filled any further
	refs   []int32
	free   []uint32 // the last one given back is the next
	now    int      // the buffer being filled; -1: none
	used   int      // bytes of it
}

func (b *packedBuffers) open(set, count, size uint32, least uint32) error {
	memory, err := unix.Mmap(-1, 0, int(count)*int(size), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("kloop: memory for %d receive buffers of %d bytes: %w", count, size, err)
	}
	*b = packedBuffers{memory: memory, set: set, count: count, size: int(size), least: max(int(least), 1), now: -1}
	b.refs = make([]int32, count)
	b.free = make([]uint32, 0, count)
	for i := range count {
		b.free = append(b.free, count-1-i)
	}
	return nil
}

func (b *packedBuffers) owns(id BufferID) bool { return uint32(id)>>bufferEpochShift == b.set }

// room answers memory to receive into, nil if there is none now.
func (b *packedBuffers) room() []byte {
	if b.now < 0 || b.size-b.used < b.least {
		if len(b.free) == 0 {
			return nil
		}
		b.now, b.used = int(b.free[len(b.free)-1]), 0
		b.free = b.free[:len(b.free)-1]
	}
	at := b.now * b.size
	return b.memory[at+b.used : at+b.size : at+b.size]
}

// take says that the first n bytes of room are in use, until give.
func (b *packedBuffers) take(n int) BufferID {
	b.refs[b.now]++
	b.used = min((b.used+n+packAlign-1)&^(packAlign-1), b.size)
	return BufferID(b.set<<bufferEpochShift | uint32(b.now+1))
}

func (b *packedBuffers) give(id BufferID) {
	i := uint32(id)&(1<<bufferEpochShift-1) - 1
	b.refs[i]--
	switch {
	case b.refs[i] > 0:
	case int(i) == b.now:
		b.used = 0
	default:
		b.free = append(b.free, i)
	}
}

func (b *packedBuffers) close() error {
	if b.memory == nil {
		return nil
	}
	memory := b.memory
	*b = packedBuffers{}
	return unix.Munmap(memory)
}
