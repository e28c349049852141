package uring

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BufRing is a provided buffer ring: buffers that receives take as data arrives
// (IORING_REGISTER_PBUF_RING, 5.19). It is for the thread of its Ring.
//
// The ring is an array of entries with a tail that we write and a head that the
// kernel keeps to itself. The tail lies inside entry 0, in the two bytes behind
// that entry's buffer id. Go has no 16-bit atomics and a plain store would not
// order the entries before it on arm64, so id and tail of entry 0 are written
// together by one 32-bit atomic store in Publish, and by nothing else.
type BufRing struct {
	ring    *Ring
	group   uint16
	count   uint32
	size    uint32
	entries []bufEntry
	tail    uint16
	firstID uint16 // the buffer id of entry 0

	meta region // the entries
	data region // the buffers
}

const (
	bufRingCountMax = 1 << 15 // the kernel's limit

	bufRingName      = "provided buffer rings"
	bufRingSince     = "5.19"
	incrementalName  = "incremental buffer rings"
	incrementalSince = "6.12"
)

// NewBufRing makes count buffers (a power of two, at most 32768) of size bytes
// each and gives all of them to the kernel as that group. incremental
// (IOU_PBUF_RING_INC, 6.12): the kernel fills a buffer piece by piece and keeps it
// while CQE.BufferMore holds; the caller counts the offset. The memory is not Go's
// and not inherited by forked children.
//
// Errors: unix.EEXIST when the group exists; one that matches ErrNotSupported
// when the kernel has no buffer rings or no incremental ones; unix.EINVAL for bad
// numbers; unix.ENOMEM.
func (r *Ring) NewBufRing(group uint16, count, size uint32, incremental bool) (*BufRing, error) {
	return r.NewBufRingPart(group, count, size, count, incremental)
}

// NewBufRingPart is NewBufRing for a ring of which only the buffers from 0 to
// given-1 are given to the kernel at first. The others follow with Add. Memory of
// buffers that were never given is never touched.
func (r *Ring) NewBufRingPart(group uint16, count, size, given uint32, incremental bool) (*BufRing, error) {
	if r.fd < 0 {
		return nil, ErrClosed
	}
	if count == 0 || count > bufRingCountMax || count&(count-1) != 0 || size == 0 || size > MaxLen {
		return nil, fmt.Errorf("uring: buffer ring of %d x %d bytes: %w", count, size, unix.EINVAL)
	}
	b := &BufRing{ring: r, group: group, count: count, size: size}
	if err := b.mapMemory(); err != nil {
		b.unmap()
		return nil, err
	}
	reg := bufReg{ringAddr: uint64(uintptr(b.meta.base)), ringEntries: count, group: group}
	if incremental {
		reg.flags = pbufRingIncremental
	}
	if _, err := r.register(registerPbufRing, unsafe.Pointer(&reg), 1); err != nil {
		b.unmap()
		if err == unix.EINVAL {
			return nil, bufRingRefused(incremental)
		}
		return nil, fmt.Errorf("uring: register buffer ring: %w", err)
	}
	for id := range min(given, count) {
		b.Add(uint16(id))
	}
	b.Publish()
	return b, nil
}

// bufRingRefused is the meaning of EINVAL once the numbers are known to be good.
func bufRingRefused(incremental bool) error {
	if incremental {
		return &NotSupportedError{Name: incrementalName, Since: incrementalSince, Err: unix.EINVAL}
	}
	return &NotSupportedError{Name: bufRingName, Since: bufRingSince, Err: unix.EINVAL}
}

func (b *BufRing) mapMemory() (err error) {
	if b.meta, err = mapRegion(-1, 0, pageRound(uintptr(b.count)*unsafe.Sizeof(bufEntry{}))); err != nil {
		return fmt.Errorf("uring: buffer ring: %w", err)
	}
	if b.data, err = mapRegion(-1, 0, pageRound(uintptr(b.count)*uintptr(b.size))); err != nil {
		return fmt.Errorf("uring: buffers: %w", err)
	}
	b.entries = unsafe.Slice((*bufEntry)(b.meta.base), b.count)
	return nil
}

func (b *BufRing) unmap() {
	b.entries = nil
	b.meta.unmap()
	b.data.unmap()
}

// Group answers the group's number.
func (b *BufRing) Group() uint16 { return b.group }

// Count answers the number of buffers.
func (b *BufRing) Count() uint32 { return b.count }

// Size answers the size of each buffer in bytes.
func (b *BufRing) Size() uint32 { return b.size }

// Bytes answers n bytes of buffer id from offset off. They are the kernel's
// again once the buffer is given back: copy before. The slice is memory of the
// buffer ring, valid until Close. It panics beyond the buffer's end.
func (b *BufRing) Bytes(id uint16, off, n int) []byte {
	if off < 0 || n < 0 || off > int(b.size) || n > int(b.size)-off {
		panic("uring: beyond the end of a provided buffer")
	}
	return unsafe.Slice((*byte)(unsafe.Add(b.buffer(id), off)), n)
}

// Addr answers the address of buffer id, for hosts that read it without Go. It
// is never Go memory.
func (b *BufRing) Addr(id uint16) uintptr { return uintptr(b.buffer(id)) }

func (b *BufRing) buffer(id uint16) unsafe.Pointer {
	if uint32(id) >= b.count || b.data.base == nil {
		panic("uring: no such provided buffer")
	}
	return unsafe.Add(b.data.base, uintptr(id)*uintptr(b.size))
}

// Add puts buffer id back, whole. The kernel sees it after the next Publish. A
// buffer that the kernel holds must not be added: it would be filled twice.
func (b *BufRing) Add(id uint16) {
	slot := uint32(b.tail) & (b.count - 1)
	e := &b.entries[slot]
	e.addr = uint64(uintptr(b.buffer(id)))
	e.len = b.size
	if slot == 0 {
		b.firstID = id // written by Publish, together with the tail
	} else {
		e.bidTail = halves(id, 0)
	}
	b.tail++
}

// Publish lets the kernel see every buffer added.
func (b *BufRing) Publish() {
	atomic.StoreUint32(&b.entries[0].bidTail, halves(b.firstID, b.tail))
}

// Recycle adds buffers and publishes them.
func (b *BufRing) Recycle(ids ...uint16) {
	for _, id := range ids {
		b.Add(id)
	}
	b.Publish()
}

// Close takes the ring from the kernel and unmaps it. No receive of the group
// may be armed: see their last CQEs first. After Ring.Close it only unmaps; the
// kernel may still write while it ends what was in flight. It may be called
// again.
func (b *BufRing) Close() error {
	if b.data.base == nil {
		return nil
	}
	reg := bufReg{group: b.group}
	_, err := b.ring.register(unregisterPbufRing, unsafe.Pointer(&reg), 1)
	if err != nil && err != ErrClosed {
		// The kernel still holds the addresses: leaking the memory is the
		// lesser harm.
		return fmt.Errorf("uring: unregister buffer ring: %w", err)
	}
	b.unmap()
	return nil
}
