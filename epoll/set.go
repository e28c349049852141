package epoll

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// eventsMax is how many events one look at the kernel takes. More wait in the kernel.
const eventsMax = 1024

// words stand at the start of the memory that a Set shares with a host that waits by
// itself (Words). They are for one thread at a time.
type words struct {
	consumed uint32 // counts what was taken of what follows
	produced uint32 // counts events, and what Owe says
	count    uint32 // events in the array
	next     uint32 // the first of these not yet taken
	turn     uint32 // counts looks
	zero     uint32 // stays 0
}

// eventsOffset is where behind the words the events are, in bytes: a cache line.
const eventsOffset = 64

var _ [eventsOffset - unsafe.Sizeof(words{})]struct{}

// Set is an epoll instance, and the events of the last look at it. It may be used by any
// thread, by one at a time.
type Set struct {
	fd     int
	memory []byte // not Go's, since hosts keep its address
	words  *words
	events []unix.EpollEvent
	coarse bool // the kernel has no epoll_pwait2(2)
}

// New makes an empty set. Errors are those of epoll_create1(2) and mmap(2).
func New() (*Set, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: epoll_create1: %w", err)
	}
	size := eventsOffset + eventsMax*int(unsafe.Sizeof(unix.EpollEvent{}))
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		_ = unix.Close(fd) // closed whatever it answers
		return nil, fmt.Errorf("epoll: mmap of %d bytes: %w", size, err)
	}
	base := unsafe.Pointer(unsafe.SliceData(memory))
	return &Set{
		fd:     fd,
		memory: memory,
		words:  (*words)(base),
		events: unsafe.Slice((*unix.EpollEvent)(unsafe.Add(base, eventsOffset)), eventsMax),
	}, nil
}

// Words says where a host finds what it needs to wait without Go: it calls epoll_wait(2) on
// FD for at most Max events at Events, but only if *Next == *Count; then sets *Next to 0,
// *Count to their number, and adds that to *Produced. It counts each look in *Turn.
// Something is there to be served while *Consumed != *Produced.
type Words struct {
	FD                                          int
	Consumed, Produced, Count, Next, Turn, Zero uintptr
	Events                                      uintptr
	Max                                         uint32
}

// Words answers addresses that are valid until Close.
func (s *Set) Words() Words {
	w := s.words
	return Words{
		FD:       s.fd,
		Consumed: uintptr(unsafe.Pointer(&w.consumed)),
		Produced: uintptr(unsafe.Pointer(&w.produced)),
		Count:    uintptr(unsafe.Pointer(&w.count)),
		Next:     uintptr(unsafe.Pointer(&w.next)),
		Turn:     uintptr(unsafe.Pointer(&w.turn)),
		Zero:     uintptr(unsafe.Pointer(&w.zero)),
		Events:   uintptr(unsafe.Pointer(&s.events[0])),
		Max:      eventsMax,
	}
}

// Close closes the set and frees its memory. The error is that of munmap(2).
func (s *Set) Close() error {
	if s.fd < 0 {
		return nil
	}
	_ = unix.Close(s.fd) // closed whatever it answers
	s.fd = -1
	s.words, s.events = nil, nil
	return unix.Munmap(s.memory)
}

// Add registers fd for events; each of its events carries the tag. Errors are those of
// epoll_ctl(2): EPERM for what is always ready, EEXIST, EBADF, ENOSPC, ENOMEM.
func (s *Set) Add(fd int, events uint32, tag int32) unix.Errno {
	return s.control(unix.EPOLL_CTL_ADD, fd, events, tag)
}

// Modify changes what fd is registered for, and has what is ready now told anew. ENOENT:
// what has this number now is not registered.
func (s *Set) Modify(fd int, events uint32, tag int32) unix.Errno {
	return s.control(unix.EPOLL_CTL_MOD, fd, events, tag)
}

// control is a raw system call, since epoll_ctl(2) does not wait.
func (s *Set) control(op int, fd int, events uint32, tag int32) unix.Errno {
	event := unix.EpollEvent{Events: events, Fd: int32(fd), Pad: tag}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(s.fd), uintptr(op), uintptr(fd),
		uintptr(unsafe.Pointer(&event)), 0, 0)
	return errno
}

// Next takes the next event of the last look, if there is one.
func (s *Set) Next() (fd int, tag int32, events uint32, ok bool) {
	w := s.words
	if w.next == w.count {
		return 0, 0, 0, false
	}
	event := &s.events[w.next]
	w.next++
	w.consumed++
	return int(event.Fd), event.Pad, event.Events, true
}

// Owe says that n more things than the events wait to be served, so that nobody sleeps.
func (s *Set) Owe(n int) { s.words.produced += uint32(n) }

// Paid says that n of these have been served.
func (s *Set) Paid(n int) { s.words.consumed += uint32(n) }

// Pending says whether anything waits to be served.
func (s *Set) Pending() bool { return s.words.consumed != s.words.produced }

// Turn counts looks at the kernel, by us or by a host.
func (s *Set) Turn() uint32 { return s.words.turn }

// Look takes the events there are, if the last ones have all been taken. It is a raw
// system call, since it does not wait.
func (s *Set) Look() error {
	w := s.words
	w.turn++
	if w.next != w.count {
		return nil
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.fd), uintptr(unsafe.Pointer(&s.events[0])),
		eventsMax, 0, 0, 0)
	return s.looked(int(n), errno)
}

// Wait is Look that waits up to timeoutNS nanoseconds (negative: for ever) for an event.
// unix.EINTR: a signal ended it.
func (s *Set) Wait(timeoutNS int64) error {
	w := s.words
	if w.next != w.count {
		w.turn++
		return nil
	}
	w.turn++
	if !s.coarse && timeoutNS >= 0 {
		ts := unix.NsecToTimespec(timeoutNS)
		n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(s.fd), uintptr(unsafe.Pointer(&s.events[0])),
			eventsMax, uintptr(unsafe.Pointer(&ts)), 0, 0)
		if !absent(errno) {
			return s.looked(int(n), errno)
		}
		s.coarse = true
	}
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.fd), uintptr(unsafe.Pointer(&s.events[0])),
		eventsMax, uintptr(milliseconds(timeoutNS)), 0, 0)
	return s.looked(int(n), errno)
}

// absent says that the kernel has no such call (epoll_pwait2: 5.11), or that a seccomp
// filter older than it refuses it.
func absent(errno unix.Errno) bool { return errno == unix.ENOSYS || errno == unix.EPERM }

const (
	nsPerMS = 1_000_000
	maxMS   = 1<<31 - 1
)

// milliseconds rounds up, so that nobody wakes before it is time and waits again.
func milliseconds(timeoutNS int64) int {
	if timeoutNS < 0 {
		return -1
	}
	return int(min((timeoutNS+nsPerMS-1)/nsPerMS, maxMS))
}

func (s *Set) looked(n int, errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	w := s.words
	w.next, w.count = 0, uint32(n)
	w.produced += uint32(n)
	return nil
}
