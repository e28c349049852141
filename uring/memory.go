package uring

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// region is memory outside the Go heap: the kernel may hold its address for as
// long as it is mapped, and the garbage collector neither moves nor reads it.
type region struct {
	base unsafe.Pointer
	size uintptr
}

// mapRegion maps size bytes: of a ring when fd >= 0, else anonymous memory. A
// forked child does not inherit the mapping (MADV_DONTFORK): a child that
// touched it would corrupt its parent's ring.
func mapRegion(fd int, offset int64, size uintptr) (region, error) {
	flags := unix.MAP_SHARED | unix.MAP_POPULATE
	if fd < 0 {
		flags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	}
	base, err := unix.MmapPtr(fd, offset, nil, size, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return region{}, fmt.Errorf("mmap of %d bytes: %w", size, err)
	}
	m := region{base: base, size: size}
	if err := unix.Madvise(unsafe.Slice((*byte)(base), size), unix.MADV_DONTFORK); err != nil {
		m.unmap()
		return region{}, fmt.Errorf("madvise(MADV_DONTFORK): %w", err)
	}
	return m, nil
}

// unmap gives the memory back. It may be called again.
func (m *region) unmap() {
	if m.base == nil {
		return
	}
	// munmap(2) fails only for a range that is not page-aligned, which mmap(2)
	// never answers.
	_ = unix.MunmapPtr(m.base, m.size)
	m.base, m.size = nil, 0
}

// word answers a 32-bit word that the kernel shares with us.
func (m *region) word(offset uint32) *uint32 {
	return (*uint32)(unsafe.Add(m.base, offset))
}

// escapes is never enabled: it exists so that the compiler must assume that a
// pointer given to escape outlives the call.
var escapes struct {
	enabled bool
	sink    unsafe.Pointer
}

// escape turns a pointer into the number the kernel wants. An SQE hides the
// pointer from the compiler, which could then place the memory on a stack, and
// stacks move. Through escape it is always on the heap (or not Go memory at
// all). It does not keep the memory alive: that is up to the caller.
func escape(p unsafe.Pointer) uint64 {
	if escapes.enabled {
		escapes.sink = p
	}
	return uint64(uintptr(p))
}

// pageRound rounds up to whole pages.
func pageRound(size uintptr) uintptr {
	page := uintptr(unix.Getpagesize())
	return (size + page - 1) &^ (page - 1)
}
