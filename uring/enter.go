package uring

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// waitArg is what the kernel reads during EnterWait. It is part of the Ring,
// which is on the heap, because stacks move.
type waitArg struct {
	arg getEventsArg
	ts  Timespec
}

// Enter calls io_uring_enter(2) and answers how many SQEs the kernel consumed.
// It is a raw system call that the Go scheduler knows nothing of: use it only
// where the kernel will not wait (minComplete 0, no IORING_ENTER_SQ_WAIT). With
// minComplete > 0 it would hold the processor, a P, of every goroutine behind
// this one.
//
// Errors are bare unix.Errno values (comparable, and made without allocating):
// EAGAIN (no memory
// for a request; try again), EBUSY (the CQ overflowed; reap first), EEXIST
// (another thread than the one that may submit), EBADFD (the ring is not
// enabled), EINTR, EOWNERDEAD (the SQPOLL thread has died). ErrClosed after
// Close.
func (r *Ring) Enter(toSubmit, minComplete uint32, flags uint32) (int, error) {
	if r.fd < 0 {
		return 0, ErrClosed
	}
	fd, flags := r.enterFD(flags)
	n, _, errno := unix.RawSyscall6(unix.SYS_IO_URING_ENTER, fd,
		uintptr(toSubmit), uintptr(minComplete), uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// EnterWait is Enter for calls that may wait: it goes through Go's scheduler,
// and waits for at most timeoutNS nanoseconds (negative: without limit; 0: not
// at all) for minComplete completions. IORING_ENTER_GETEVENTS is implied.
//
// It answers unix.ETIME when the time is over and nothing was submitted in this
// call, and unix.EINTR when a signal ended the wait; otherwise the errors of
// Enter. When SQEs were consumed, their number is the answer however the wait
// ended: look at the CQ, not at the error, to see what completed.
func (r *Ring) EnterWait(toSubmit, minComplete uint32, flags uint32, timeoutNS int64) (int, error) {
	if r.fd < 0 {
		return 0, ErrClosed
	}
	fd, flags := r.enterFD(flags | IORING_ENTER_GETEVENTS)
	var arg unsafe.Pointer
	var size uintptr
	if timeoutNS >= 0 {
		r.wait.ts = timespecOf(timeoutNS)
		r.wait.arg.ts = uint64(uintptr(unsafe.Pointer(&r.wait.ts)))
		arg, size = unsafe.Pointer(&r.wait.arg), unsafe.Sizeof(r.wait.arg)
		flags |= IORING_ENTER_EXT_ARG
	}
	n, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, fd,
		uintptr(toSubmit), uintptr(minComplete), uintptr(flags), uintptr(arg), size)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// enterFD answers what stands for the ring in io_uring_enter(2).
func (r *Ring) enterFD(flags uint32) (uintptr, uint32) {
	if r.registered != 0 {
		return uintptr(r.registered - 1), flags | IORING_ENTER_REGISTERED_RING
	}
	return uintptr(r.fd), flags
}

// RegisterRing makes the kernel hold the ring in a table of the calling thread,
// so that entering it need not look up the fd (IORING_REGISTER_RING_FDS, 5.18).
// It answers the index in that table, for hosts that enter on their own.
//
// From then on only this thread may enter, and the table holds a reference: the
// ring outlives Close until UnregisterRing, or the thread's end.
func (r *Ring) RegisterRing() (index int, err error) {
	if r.registered != 0 {
		return r.registered - 1, nil
	}
	update := rsrcUpdate{offset: registerRingFDAnyOffset, data: uint64(r.fd)}
	if _, err := r.register(registerRingFDs, unsafe.Pointer(&update), 1); err != nil {
		return 0, fmt.Errorf("uring: register ring fd: %w", err)
	}
	r.registered = int(update.offset) + 1
	return int(update.offset), nil
}

// UnregisterRing undoes RegisterRing, in the same thread.
func (r *Ring) UnregisterRing() error {
	if r.registered == 0 {
		return nil
	}
	update := rsrcUpdate{offset: uint32(r.registered - 1)}
	if _, err := r.register(unregisterRingFDs, unsafe.Pointer(&update), 1); err != nil {
		return fmt.Errorf("uring: unregister ring fd: %w", err)
	}
	r.registered = 0
	return nil
}
