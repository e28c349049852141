package uring

import (
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
// Errors are bare unix.Errno values, comparable and made without allocating:
// EAGAIN (no memory for a request; try again), EBUSY (the CQ overflowed; reap
// first), EEXIST (another thread than the one that may submit), EBADFD (the ring
// is not enabled), EINTR, EOWNERDEAD (the SQPOLL thread has died). ErrClosed
// after Close.
func (r *Ring) Enter(toSubmit, minComplete uint32, flags uint32) (int, error) {
	if r.fd < 0 {
		return 0, ErrClosed
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd),
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
	flags |= IORING_ENTER_GETEVENTS
	var arg unsafe.Pointer
	var size uintptr
	if timeoutNS >= 0 {
		r.wait.ts = timespecOf(timeoutNS)
		r.wait.arg.ts = uint64(uintptr(unsafe.Pointer(&r.wait.ts)))
		arg, size = unsafe.Pointer(&r.wait.arg), unsafe.Sizeof(r.wait.arg)
		flags |= IORING_ENTER_EXT_ARG
	}
	n, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd),
		uintptr(toSubmit), uintptr(minComplete), uintptr(flags), uintptr(arg), size)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
