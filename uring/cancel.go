package uring

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// SyncCancel ends operations and returns once they have ended, unlike the
// cancel operation, which only asks (IORING_REGISTER_SYNC_CANCEL, 6.0). Their
// CQEs, with -ECANCELED or the result they had reached, are then in the CQ, and
// the kernel holds their files no more: after close(2) the port of a listener
// is free.
//
// The call of the kernel alone does not go that far with DEFER_TASKRUN: what it
// cancels keeps its file until this thread enters for events (seen on 6.18:
// EADDRINUSE). So SyncCancel enters as well.
//
// It matches by fd when byFD is set, else by userData; all matches when all is
// set, else the first. It waits at most timeoutNS nanoseconds; negative:
// without limit.
//
// Errors are bare unix.Errno values: ENOENT when nothing matched, ETIME when time is over,
// EINTR, EBADF for an fd that is not open, EEXIST in a thread that may not
// submit.
func (r *Ring) SyncCancel(fd int, userData uint64, byFD bool, all bool, timeoutNS int64) error {
	reg := syncCancelReg{fd: -1, addr: userData, timeout: Timespec{Sec: -1, Nsec: -1}}
	if byFD {
		reg.fd, reg.addr = int32(fd), 0
		reg.flags |= IORING_ASYNC_CANCEL_FD
	}
	if all {
		reg.flags |= IORING_ASYNC_CANCEL_ALL
	}
	if timeoutNS >= 0 {
		reg.timeout = timespecOf(timeoutNS)
	}
	_, err := r.register(registerSyncCancel, unsafe.Pointer(&reg), 1)
	if err != nil && err != unix.ENOENT {
		return err
	}
	// What has ended just before, hence ENOENT, may hold its file as well.
	if _, enterErr := r.Enter(0, 0, IORING_ENTER_GETEVENTS); enterErr != nil {
		return enterErr
	}
	return err
}
