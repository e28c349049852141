package core

import (
	"encoding/binary"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kloop/uring"
)

// systemCalls are the calls that the engine makes past its driver, whatever that is. None
// of them waits. Only a kernel that is simulated answers them by other means than Linux.
type systemCalls interface {
	// openEventfd makes the eventfd(2) of the waker; raise makes it readable, for any
	// thread, and drain unreadable. That it is so already is no error.
	openEventfd() (fd int, err error)
	raise(eventfd int)
	drain(eventfd int)
	// close closes a descriptor of the core's own.
	close(fd int)
	// shutdownWrite is shutdown(2) of the sending side.
	shutdownWrite(fd int) error
	// connectOutcome tells how a connect(2) ended that went on by itself: ENOTCONN says
	// that it never began.
	connectOutcome(fd int) error
	// ended says that poll(2) finds the end of a pipe's writers, and no bytes before it.
	ended(fd int) bool
	// scout makes a Unix datagram socket connected to addr; fd -1: there is none.
	scout(addr []byte) (fd int)
	// fileNow makes a read or write of a file at once, or answers -EAGAIN.
	fileNow(s *OperationSpec) int64
	// pause lets a few milliseconds pass.
	pause()
	// closeLater closes a descriptor of the core's own, in another thread.
	closeLater(fd int)
}

// linux is the kernel that the process runs on.
type linux struct{}

var _ systemCalls = linux{}

func (linux) openEventfd() (fd int, err error) {
	return unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
}

func (linux) raise(eventfd int) {
	var value [8]byte
	binary.NativeEndian.PutUint64(value[:], 1)
	// EAGAIN says that the counter is full, hence readable: as good.
	_, _ = unix.Write(eventfd, value[:])
}

func (linux) drain(eventfd int) {
	var value [8]byte
	// EAGAIN says that it is unreadable already.
	_, _ = unix.Read(eventfd, value[:])
}

func (linux) close(fd int) { CloseDescriptor(fd) }

func (linux) shutdownWrite(fd int) error { return syscall.Shutdown(fd, syscall.SHUT_WR) }

func (linux) connectOutcome(fd int) error {
	value, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && value != 0 {
		err = syscall.Errno(value)
	}
	if err == nil {
		_, err = unix.Getpeername(fd)
	}
	return err
}

func (linux) ended(fd int) bool {
	polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	_, err := unix.Poll(polled, 0)
	return err != nil || polled[0].Revents != 0 && polled[0].Revents&unix.POLLIN == 0
}

func (linux) pause() { time.Sleep(awaitStepNS) }

func (linux) closeLater(fd int) { go CloseDescriptor(fd) }

func (linux) scout(addr []byte) (fd int) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	if uring.ConnectNow(fd, addr) != nil {
		CloseDescriptor(fd)
		return -1
	}
	return fd
}
