package uring

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// SQE is a submission: struct io_uring_sqe. Its Prep methods fill a zeroed one,
// as Ring.NextSQE gives it; afterwards SetUserData and SetFlags add what is
// common to all operations.
//
// # Memory
//
// An SQE holds addresses that the garbage collector does not see. Whoever
// prepares an operation keeps the memory referenced and unchanged:
//
//   - structures (Sockaddr, Timespec, Msg and its list of parts) until the
//     kernel has consumed the SQE: Ring.Consumed;
//   - the bytes to be sent, written, received or read, until the operation's
//     last CQE. With IOSQE_CQE_SKIP_SUCCESS there may be none: until the SQE
//     is consumed, Ring.Overflowed is false and every CQE in the CQ was
//     looked at without finding one of this operation.
//
// Memory may be of the Go heap, which does not move, or not Go's at all. The
// Prep methods make variables given to them escape to the heap.
type SQE struct {
	Opcode      uint8  // IORING_OP_*
	Flags       uint8  // IOSQE_*
	IOPrio      uint16 // flags of accept, receive and send
	FD          int32
	Off         uint64 // or a second address
	Addr        uint64
	Len         uint32
	OpFlags     uint32 // MSG_*, SOCK_*, poll(2) events, ...
	UserData    uint64
	BufGroup    uint16
	Personality uint16
	FileIndex   int32
	Addr3       uint64
	_           uint64
}

// SetUserData sets the number that the operation's CQEs will carry.
func (s *SQE) SetUserData(u uint64) { s.UserData = u }

// SetFlags adds flags (IOSQE_*) to those the Prep method has set.
//
// IOSQE_CQE_SKIP_SUCCESS asks for no CQE when the operation succeeds. A send
// that took only part of its bytes counts as a success, and the rest vanishes
// without a CQE, unless it has MSG_WAITALL: see QuickSendFlags.
func (s *SQE) SetFlags(flags uint8) { s.Flags |= flags }

func (s *SQE) prep(op uint8, fd int, addr uint64, length uint32, off uint64) {
	s.Opcode, s.FD, s.Addr, s.Len, s.Off = op, int32(fd), addr, length, off
}

// length is len(p) as the kernel takes it. More than MaxLen is a mistake of the
// caller: cut silently, the rest would be lost without a word.
func length(p []byte) uint32 {
	if len(p) > MaxLen {
		panic("uring: buffer longer than MaxLen")
	}
	return uint32(len(p))
}

func address(p []byte) uint64 { return escape(unsafe.Pointer(unsafe.SliceData(p))) }

// PrepNop prepares an operation that only answers 0.
func (s *SQE) PrepNop() { s.prep(IORING_OP_NOP, -1, 0, 0, 0) }

// PrepAccept accepts one connection of a listening socket. flags: SOCK_NONBLOCK,
// SOCK_CLOEXEC. Res: the new fd. See accept4(2).
func (s *SQE) PrepAccept(fd int, flags uint32) {
	s.prep(IORING_OP_ACCEPT, fd, 0, 0, 0)
	s.OpFlags = flags
}

// PrepAcceptMultishot accepts connections until it fails or is cancelled: one
// CQE with IORING_CQE_F_MORE for each (5.19). When a CQE comes without that
// flag, it has ended and is to be prepared again; -EMFILE is such an end. The
// peer's address is not given: use getpeername(2).
func (s *SQE) PrepAcceptMultishot(fd int, flags uint32) {
	s.PrepAccept(fd, flags)
	s.IOPrio = IORING_ACCEPT_MULTISHOT
}

// PrepConnect connects a socket, as connect(2): Res 0 or the error, never
// -EINPROGRESS.
func (s *SQE) PrepConnect(fd int, addr *Sockaddr) {
	s.prep(IORING_OP_CONNECT, fd, escape(unsafe.Pointer(&addr.raw)), 0, uint64(addr.size))
}

// PrepRecv receives into p, as recv(2). flags: MSG_*. Res: bytes, 0 at the end
// of the stream.
func (s *SQE) PrepRecv(fd int, p []byte, flags uint32) {
	s.prep(IORING_OP_RECV, fd, address(p), length(p), 0)
	s.OpFlags = flags
}

// PrepRecvMultishot receives again and again, each time into a buffer taken
// from the buffer ring of that group (6.0). Res: bytes; CQE.Buffer: where. It
// has ended when a CQE comes without IORING_CQE_F_MORE: Res 0 at the end of the
// stream, -ENOBUFS when the buffer ring was empty (give buffers back and prepare
// it again: no data is lost), -ECANCELED, an error of the socket, or bytes when
// the CQ was full (prepare it again).
func (s *SQE) PrepRecvMultishot(fd int, group uint16) {
	s.prep(IORING_OP_RECV, fd, 0, 0, 0)
	s.Flags |= IOSQE_BUFFER_SELECT
	s.IOPrio = IORING_RECV_MULTISHOT
	s.BufGroup = group
}

// PrepRecvSelect is PrepRecv into a buffer that is taken from the buffer ring of that
// group only when there is something to receive; at most max bytes of it (0: all). Res: bytes;
// CQE.Buffer: where. -ENOBUFS: the buffer ring was empty, and nothing was received.
func (s *SQE) PrepRecvSelect(fd int, group uint16, max uint32) {
	s.prep(IORING_OP_RECV, fd, 0, max, 0)
	s.Flags |= IOSQE_BUFFER_SELECT
	s.BufGroup = group
}

// QuickSendFlags are the flags of a send that is tried once and answers only
// if it did not take everything (together with IOSQE_CQE_SKIP_SUCCESS, 5.17).
//
// MSG_DONTWAIT ends it at once with -EAGAIN where the socket's buffer is full,
// rather than waiting in the kernel. MSG_WAITALL makes a short send a failure,
// which has a CQE with the number of bytes taken; without it a short send
// counts as success, and its rest is lost without a CQE. MSG_NOSIGNAL: no
// SIGPIPE.
const QuickSendFlags = unix.MSG_DONTWAIT | unix.MSG_WAITALL | unix.MSG_NOSIGNAL

// PrepSend sends p, as send(2). flags: MSG_*. Res: bytes. Without MSG_DONTWAIT it
// waits until the socket takes something; with MSG_WAITALL as well, until it
// takes everything.
func (s *SQE) PrepSend(fd int, p []byte, flags uint32) {
	s.prep(IORING_OP_SEND, fd, address(p), length(p), 0)
	s.OpFlags = flags
}

// PrepSendMsg sends all parts of m as one, as sendmsg(2); otherwise like
// PrepSend. m must stay until the SQE is consumed, its parts' bytes for longer,
// as SQE says.
func (s *SQE) PrepSendMsg(fd int, m *Msg, flags uint32) {
	s.prep(IORING_OP_SENDMSG, fd, uint64(uintptr(unsafe.Pointer(m))), 1, 0)
	s.OpFlags = flags
}

// PrepPollAdd waits once until one of events (POLLIN, ... of poll(2)) holds.
// Res: the events that hold. POLLERR and POLLHUP are always waited for.
func (s *SQE) PrepPollAdd(fd int, events uint32) {
	s.prep(IORING_OP_POLL_ADD, fd, 0, 0, 0)
	s.OpFlags = pollEvents(events)
}

// PrepPollMultishot is PrepPollAdd that goes on (5.13): one CQE with
// IORING_CQE_F_MORE whenever events newly arise, edge-triggered. When a CQE
// comes without that flag (after a CQ overflow, for one), it has ended and is to
// be prepared again.
func (s *SQE) PrepPollMultishot(fd int, events uint32) {
	s.PrepPollAdd(fd, events)
	s.Len = IORING_POLL_ADD_MULTI
}

// PrepPollRemove ends a poll by its user data. Res: 0, or -ENOENT when there is
// none, or -EALREADY. The poll itself answers -ECANCELED.
func (s *SQE) PrepPollRemove(userData uint64) {
	s.prep(IORING_OP_POLL_REMOVE, -1, userData, 0, 0)
}

// PrepCancel asks the kernel to end operations by their user data. flags:
// IORING_ASYNC_CANCEL_*. Res: 0, or with IORING_ASYNC_CANCEL_ALL the number that
// matched; -ENOENT when there is none; -EALREADY when it runs and will end by
// itself. An operation has ended only with its own last CQE.
func (s *SQE) PrepCancel(userData uint64, flags uint32) {
	s.prep(IORING_OP_ASYNC_CANCEL, -1, userData, 0, 0)
	s.OpFlags = flags
}

// PrepCancelFD is PrepCancel for operations on a file: the first that matches,
// or all (5.19).
func (s *SQE) PrepCancelFD(fd int, all bool) {
	s.prep(IORING_OP_ASYNC_CANCEL, fd, 0, 0, 0)
	s.OpFlags = IORING_ASYNC_CANCEL_FD
	if all {
		s.OpFlags |= IORING_ASYNC_CANCEL_ALL
	}
}

// PrepTimeout answers -ETIME after the time, or 0 once count other operations
// have completed (count 0: never). flags: IORING_TIMEOUT_*. The clock is
// CLOCK_MONOTONIC.
func (s *SQE) PrepTimeout(ts *Timespec, count uint32, flags uint32) {
	s.prep(IORING_OP_TIMEOUT, -1, escape(unsafe.Pointer(ts)), 1, uint64(count))
	s.OpFlags = flags
}

// PrepTimeoutRemove ends a timeout by its user data. Res: 0, -ENOENT, -EBUSY or
// -EALREADY. The timeout itself answers -ECANCELED.
func (s *SQE) PrepTimeoutRemove(userData uint64) {
	s.prep(IORING_OP_TIMEOUT_REMOVE, -1, userData, 0, 0)
}

// PrepClose closes fd, as close(2). Operations of the ring on that file go on:
// cancel them and see their last CQE first.
func (s *SQE) PrepClose(fd int) { s.prep(IORING_OP_CLOSE, fd, 0, 0, 0) }

// PrepShutdown shuts down one or both directions, as shutdown(2). how: SHUT_RD,
// SHUT_WR, SHUT_RDWR.
func (s *SQE) PrepShutdown(fd int, how int) {
	s.prep(IORING_OP_SHUTDOWN, fd, 0, uint32(how), 0)
}

// CurrentOffset as the offset of PrepRead and PrepWrite uses and moves the
// file's own position.
const CurrentOffset = ^uint64(0)

// PrepRead reads into p, as pread(2). Res: bytes, 0 at the end of the file.
func (s *SQE) PrepRead(fd int, p []byte, offset uint64) {
	s.prep(IORING_OP_READ, fd, address(p), length(p), offset)
}

// PrepWrite writes p, as pwrite(2). Res: bytes, which may be less than len(p).
func (s *SQE) PrepWrite(fd int, p []byte, offset uint64) {
	s.prep(IORING_OP_WRITE, fd, address(p), length(p), offset)
}

// PrepMsgRing posts a CQE with userData and res to another ring, which may be
// of another thread (5.18). The SQE's own Res is 0 or the error; -EOVERFLOW when
// the other CQ is full.
func (s *SQE) PrepMsgRing(ringFD int, userData uint64, res int32) {
	s.prep(IORING_OP_MSG_RING, ringFD, 0, uint32(res), userData)
}
