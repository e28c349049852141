package uring

import (
	"fmt"
	"unsafe"
)

// iovec and msghdr are struct iovec and struct msghdr with numbers in place of
// pointers: they live outside the Go heap, where the garbage collector must not
// be led to believe that old values are pointers.
type iovec struct {
	base uintptr
	len  uintptr
}

type msghdr struct {
	name       uintptr
	nameLen    uint32
	iov        uintptr
	iovLen     uintptr
	control    uintptr
	controlLen uintptr
	flags      int32
}

// Msg is a message header with the list of its parts behind it, for
// SQE.PrepSendMsg. It is memory of a MsgArena.
type Msg struct {
	hdr    msghdr
	length int
}

// Len answers the bytes of all parts together: what a complete send answers.
func (m *Msg) Len() int { return m.length }

// Parts answers how many parts the message has.
func (m *Msg) Parts() int { return int(m.hdr.iovLen) }

const (
	arenaChunkSize = 64 << 10 // several messages of IOVMax parts
	arenaChunksMax = 1024     // 64 MiB, far above what a full SQ needs
)

// The largest message must fit into a chunk.
var _ [arenaChunkSize - IOVMax*unsafe.Sizeof(iovec{}) - unsafe.Sizeof(Msg{})]struct{}

// MsgArena gives out messages that live until Reset: one arena per batch of
// submissions. It keeps the memory it once needed, so it does not allocate in
// the long run. The memory is not Go's.
type MsgArena struct {
	chunks []region
	chunk  int     // in use
	used   uintptr // bytes of that chunk
}

// NewMsgArena makes an arena. The error is that of mmap(2).
func NewMsgArena() (*MsgArena, error) {
	a := &MsgArena{}
	if err := a.grow(); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *MsgArena) grow() error {
	m, err := mapRegion(-1, 0, arenaChunkSize)
	if err != nil {
		return fmt.Errorf("uring: message arena: %w", err)
	}
	a.chunks = append(a.chunks, m)
	return nil
}

// Msg makes a message of parts, valid until Reset. It takes the first IOVMax
// parts and at most MaxLen bytes: Parts and Len tell what it covers, the rest
// is the caller's to send next.
//
// The arena keeps no reference to the parts' bytes; the caller does, as SQE
// says. It answers nil when the arena is at its limit of 64 MiB or the system
// has no memory: submit, then Reset.
func (a *MsgArena) Msg(parts [][]byte) *Msg {
	parts = parts[:min(len(parts), IOVMax)]
	m := (*Msg)(a.take(unsafe.Sizeof(Msg{}) + uintptr(len(parts))*unsafe.Sizeof(iovec{})))
	if m == nil {
		return nil
	}
	first := unsafe.Add(unsafe.Pointer(m), unsafe.Sizeof(Msg{}))
	iov := unsafe.Slice((*iovec)(first), len(parts))
	*m = Msg{hdr: msghdr{iov: uintptr(first)}}
	for i, p := range parts {
		n := min(len(p), MaxLen-m.length)
		iov[i] = iovec{base: uintptr(address(p)), len: uintptr(n)}
		m.length += n
		m.hdr.iovLen++
		if n < len(p) {
			break
		}
	}
	return m
}

// take answers size bytes, or nil.
func (a *MsgArena) take(size uintptr) unsafe.Pointer {
	if len(a.chunks) == 0 {
		return nil // closed
	}
	if a.used+size > arenaChunkSize {
		if a.chunk+1 == len(a.chunks) && (len(a.chunks) == arenaChunksMax || a.grow() != nil) {
			return nil
		}
		a.chunk, a.used = a.chunk+1, 0
	}
	p := unsafe.Add(a.chunks[a.chunk].base, a.used)
	a.used += size
	return p
}

// Reset makes every message invalid and their memory free. The kernel must have
// consumed the SQEs that hold them: Ring.Consumed.
func (a *MsgArena) Reset() { a.chunk, a.used = 0, 0 }

// Close gives the memory back; the same condition as Reset.
func (a *MsgArena) Close() {
	for i := range a.chunks {
		a.chunks[i].unmap()
	}
	*a = MsgArena{}
}
