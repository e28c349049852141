package core

import (
	"bytes"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kloop/uring"
)

const (
	// unblockPause is between attempts to wake an open of a FIFO that was not asleep yet.
	unblockPause = time.Millisecond
	// unblockMost is after how many of them it is left alone: it waits for another FIFO that has got the name.
	unblockMost = 1000
)

// fifoOpen is an open(2) that may be of a FIFO, and then waits for the other end. A cancelled one that can't
// be woken outlives its operation: it uses no memory of that, and what it opens in the end is closed.
type fifoOpen struct {
	spec      OperationSpec // of its own: the operation may be over
	cancelled chan struct{}
	once      sync.Once
	held      chan struct{} // closed when waits is known
	waits     bool          // it is one of a FIFO
	done      chan struct{}
	unblocked chan struct{} // closed when a cancellation has no descriptor any more

	mu   sync.Mutex
	over bool
	fifo int // a descriptor that names the FIFO (O_PATH), whatever becomes of its path; -1: none
}

func newFIFOOpen(s *OperationSpec) *fifoOpen {
	f := &fifoOpen{
		spec: *s, fifo: -1,
		cancelled: make(chan struct{}), held: make(chan struct{}), done: make(chan struct{}), unblocked: make(chan struct{}),
	}
	f.spec.File.Path = bytes.Clone(s.File.Path)
	return f
}

// isFIFO says whether an open waits for another process.
func isFIFO(s *OperationSpec) bool {
	if !mayWait(s) {
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

func mayWait(s *OperationSpec) bool {
	return s.File.Flags&(unix.O_NONBLOCK|unix.O_PATH) == 0 && s.File.Flags&unix.O_ACCMODE != unix.O_RDWR
}

func (f *fifoOpen) run() int64 {
	f.hold()
	close(f.held)
	result := -int64(syscall.EINTR)
	for result == -int64(syscall.EINTR) && !isDone(f.cancelled) {
		result = fileCall(&f.spec)
	}
	f.mu.Lock()
	f.over = true
	f.mu.Unlock()
	f.letGo()
	close(f.done)
	if isDone(f.cancelled) {
		<-f.unblocked // one that is cancelled from now on opens nothing
		if result >= 0 {
			closeFD(int(result))
			return -int64(syscall.ECANCELED)
		}
	}
	return result
}

// hold has a FIFO be found by who wakes the open, also if it loses its name meanwhile.
func (f *fifoOpen) hold() {
	if !isFIFO(&f.spec) {
		return
	}
	f.waits = true
	flags := unix.O_PATH | unix.O_CLOEXEC | int(f.spec.File.Flags)&unix.O_NOFOLLOW
	fd, err := unix.Openat(f.spec.FD, pathOf(f.spec.File.Path), flags, 0)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fifo = fd
}

func (f *fifoOpen) letGo() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fifo >= 0 {
		closeFD(f.fifo)
		f.fifo = -1
	}
}

// cancel wakes the open as its other end would: no signal may be used in a host's process for it.
// What it has opened is closed. One that can't be woken is answered for.
func (f *fifoOpen) cancel(j poolJob) {
	f.once.Do(func() {
		close(f.cancelled)
		if !mayWait(&f.spec) {
			close(f.unblocked)
			return
		}
		go func() {
			<-f.held
			woken := f.unblock()
			if !woken {
				f.letGo()
			}
			close(f.unblocked)
			if !woken && j.isOver(f) {
				j.p.add(j.o, -int64(syscall.ECANCELED))
			}
		}()
	})
}

// unblock answers whether the open is over, or not one of a FIFO and will be.
func (f *fifoOpen) unblock() bool {
	if !f.waits {
		return true
	}
	for range unblockMost {
		fd, err := f.openOtherEnd()
		switch err {
		case nil, unix.EINTR, unix.EMFILE, unix.ENFILE, unix.ENOMEM:
		case unix.ENXIO: // it is not asleep yet, or not any more
		case unix.EBADF:
			return f.isOver()
		default:
			return false
		}
		select {
		case <-f.done:
		case <-time.After(unblockPause):
		}
		if err == nil {
			closeFD(fd)
		}
		if isDone(f.done) {
			return true
		}
	}
	return false
}

func (f *fifoOpen) isOver() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.over
}

// openOtherEnd opens what the open waits for. EBADF: it is over, or could not be held.
func (f *fifoOpen) openOtherEnd() (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fifo < 0 {
		return -1, unix.EBADF
	}
	flags := unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_RDONLY
	if f.spec.File.Flags&unix.O_ACCMODE == unix.O_RDONLY {
		flags = unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_WRONLY
	}
	return unix.Open("/proc/self/fd/"+strconv.Itoa(f.fifo), flags, 0)
}
