package core

import "kloop/ktls"

// chunkSize is the size in bytes of the buffers into which Conn.Write copies: large
// enough that a send has few parts, small enough that a thousand connections with
// a little to send each don't need much.
const chunkSize = 64 << 10

// chunksKept bounds the free chunks an engine holds on to.
const chunksKept = 64

// slabSize is the size of the buffers that records are sealed into, which connections
// share: a thousand with a record each would else touch a thousand buffers, all in the
// same few sets of the cache. It has room for 8 whole records.
const (
	slabSize  = 8 * (ktls.MaxPlaintext + 64)
	slabsKept = 16
)

// buffer is memory of the engine's.
type buffer struct {
	p    []byte
	uses int // parts of queues that lie in it, and others who hold it
}

// chunk answers an empty write buffer, which the caller holds.
func (e *Engine) chunk() *buffer { return takeBuffer(&e.chunks, chunkSize) }

func takeBuffer(free *[]*buffer, size int) *buffer {
	if n := len(*free); n > 0 {
		b := (*free)[n-1]
		*free = (*free)[:n-1]
		b.uses = 1
		return b
	}
	return &buffer{p: make([]byte, 0, size), uses: 1}
}

// dropBuffer is what everyone who holds b does in the end.
func (e *Engine) dropBuffer(b *buffer) {
	b.uses--
	if b.uses > 0 {
		return
	}
	b.p = b.p[:0]
	switch cap(b.p) {
	case chunkSize:
		if len(e.chunks) < chunksKept {
			e.chunks = append(e.chunks, b)
		}
	case slabSize:
		if len(e.slabs) < slabsKept {
			e.slabs = append(e.slabs, b)
		}
	}
}

// slabWith answers a slab with room for so many bytes more, in place of b, which may be nil
// and which the engine holds.
func (e *Engine) slabWith(b *buffer, room int) *buffer {
	switch {
	case b == nil:
	case b.uses == 1: // nobody else needs what is in it: the same memory once more, which is in the cache
		b.p = b.p[:0]
		return b
	case cap(b.p)-len(b.p) >= room:
		return b
	default:
		e.dropBuffer(b)
	}
	return takeBuffer(&e.slabs, slabSize)
}

// openedRoom answers memory for what the kernel opens: a whole record fits into it.
// Connections share it, as they share slabs, though not the one that is sealed into.
func (e *Engine) openedRoom() []byte {
	e.opened = e.slabWith(e.opened, ktls.MaxPlaintext)
	return e.opened.p[len(e.opened.p):cap(e.opened.p)]
}

// keepOpened keeps the first n bytes of openedRoom, for handlers to look at.
func (e *Engine) keepOpened(n int) []byte {
	b := e.opened
	from := len(b.p)
	b.p = b.p[:from+n]
	b.uses++
	e.holdBuffer(b)
	return b.p[from : from+n : from+n]
}

// holdBuffer keeps a buffer that handlers may look at until the next flush.
func (e *Engine) holdBuffer(b *buffer) { e.heldBuffers = append(e.heldBuffers, b) }

// KeepData says whether data given to handlers stays valid beyond the next flush, for
// as long as it is not said otherwise.
func (e *Engine) KeepData(keep bool) { e.keepHeld = keep }

// recycleHeld gives back the buffers that handlers have looked at.
func (e *Engine) recycleHeld() {
	if e.keepHeld {
		return
	}
	for _, id := range e.held {
		e.driver.Recycle(id)
	}
	e.held = e.held[:0]
	for i, b := range e.heldBuffers {
		e.heldBuffers[i] = nil
		e.dropBuffer(b)
	}
	e.heldBuffers = e.heldBuffers[:0]
}
