package core

import (
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kloop/epoll"
	"kloop/uring"
)

// Between looks at whether a FIFO has another end: from the first to the last, doubled each time.
const (
	firstFIFOPause = time.Millisecond
	lastFIFOPause  = 10 * time.Millisecond
)

// cancellableOpen is an open(2) that may be of a FIFO, and then waits for the other end: never in the kernel, where
// nothing but that other end, or a signal, of which none may be used in a host's process, could end it. It
// opens without waiting, and looks again.
type cancellableOpen struct {
	spec      *OperationSpec
	cancelled chan struct{}
	once      sync.Once
}

func newCancellableOpen(s *OperationSpec) *cancellableOpen {
	return &cancellableOpen{spec: s, cancelled: make(chan struct{})}
}

func (f *cancellableOpen) cancel() { f.once.Do(func() { close(f.cancelled) }) }

// isFIFO says whether an open waits for another process.
func isFIFO(s *OperationSpec) bool {
	if s.File.Flags&(unix.O_NONBLOCK|unix.O_PATH) != 0 || s.File.Flags&unix.O_ACCMODE == unix.O_RDWR {
		return false
	}
	var stat [uring.StatxSize]byte
	flags := uint32(0)
	if s.File.Flags&unix.O_NOFOLLOW != 0 {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	err := uring.Statx(s.FD, s.File.Path, flags, unix.STATX_TYPE, stat[:])
	return err == nil && uring.StatxMode(stat[:])&unix.S_IFMT == unix.S_IFIFO
}

// run answers what open(2) would, or -ECANCELED.
func (f *cancellableOpen) run() int64 {
	if !isFIFO(f.spec) {
		return fileCall(f.spec)
	}
	reads := f.spec.File.Flags&unix.O_ACCMODE == unix.O_RDONLY
	atOnce := *f.spec
	atOnce.File.Flags |= unix.O_NONBLOCK
	renamed := false
	reader := -1 // is there for writers while it waits, as one that waits in open(2)
	for pause := firstFIFOPause; !isDone(f.cancelled); pause = min(2*pause, lastFIFOPause) {
		if reader < 0 {
			switch result := fileCall(&atOnce); {
			case result >= 0 && (!reads || hasWriter(int(result))):
				epoll.SetNonblocking(int(result), false)
				return result
			case result >= 0:
				reader = int(result)
			case result == -int64(syscall.ENXIO) && (isFIFO(f.spec) || !renamed):
				renamed = !isFIFO(f.spec) // and the next answer is about what has the name now
			case result == -int64(syscall.EINTR), result == -int64(syscall.EAGAIN): // that has a lease, perhaps
			default:
				return result
			}
		} else if hasWriter(reader) {
			epoll.SetNonblocking(reader, false)
			return int64(reader)
		}
		select {
		case <-f.cancelled:
		case <-time.After(pause):
		}
	}
	if reader >= 0 {
		CloseDescriptor(reader)
	}
	return -int64(syscall.ECANCELED)
}

// hasWriter says whether a FIFO that was opened for reading has a writer, or has had one since. poll(2) tells of what
// was written, and of a writer that has gone; tee(2), which takes nothing, of one that has done neither.
func hasWriter(fd int) bool {
	if ready, errno := epoll.Poll(fd, unix.POLLIN); errno != 0 || ready != 0 {
		return true
	}
	var beside [2]int
	if unix.Pipe2(beside[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return false // without two more descriptors it is seen when it writes
	}
	defer CloseDescriptor(beside[0])
	defer CloseDescriptor(beside[1])
	n, err := unix.Tee(fd, beside[1], 1, unix.SPLICE_F_NONBLOCK)
	return n > 0 || err != nil // 0: no writer; EAGAIN: one that has written nothing
}
