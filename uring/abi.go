package uring

import "unsafe"

// Constants carry the names of <linux/io_uring.h>, so that they can be looked
// up in the manual pages as they stand. The kernel version is the first that
// knows the name.

// Set-up flags: io_uring_setup(2), field flags of struct io_uring_params.
const (
	IORING_SETUP_SQPOLL        = 1 << 1  // 5.1
	IORING_SETUP_SQ_AFF        = 1 << 2  // 5.1
	IORING_SETUP_CQSIZE        = 1 << 3  // 5.5
	IORING_SETUP_R_DISABLED    = 1 << 6  // 5.10
	IORING_SETUP_SUBMIT_ALL    = 1 << 7  // 5.18
	IORING_SETUP_COOP_TASKRUN  = 1 << 8  // 5.19
	IORING_SETUP_TASKRUN_FLAG  = 1 << 9  // 5.19
	IORING_SETUP_SINGLE_ISSUER = 1 << 12 // 6.0
	IORING_SETUP_DEFER_TASKRUN = 1 << 13 // 6.1
	IORING_SETUP_NO_SQARRAY    = 1 << 16 // 6.6
)

// Features the kernel reports at set-up: io_uring_setup(2), field features.
const (
	IORING_FEAT_SINGLE_MMAP   = 1 << 0  // 5.4
	IORING_FEAT_NODROP        = 1 << 1  // 5.5
	IORING_FEAT_SUBMIT_STABLE = 1 << 2  // 5.5
	IORING_FEAT_EXT_ARG       = 1 << 8  // 5.11
	IORING_FEAT_CQE_SKIP      = 1 << 11 // 5.17
)

// Flags of the SQ ring that the kernel sets in shared memory.
const (
	IORING_SQ_NEED_WAKEUP = 1 << 0 // 5.1: the SQPOLL thread sleeps
	IORING_SQ_CQ_OVERFLOW = 1 << 1 // 5.8: completions wait inside the kernel
	IORING_SQ_TASKRUN     = 1 << 2 // 5.19: completions wait for an enter with GETEVENTS
)

// Flags of io_uring_enter(2).
const (
	IORING_ENTER_GETEVENTS = 1 << 0 // 5.1
	IORING_ENTER_SQ_WAKEUP = 1 << 1 // 5.1
	IORING_ENTER_SQ_WAIT   = 1 << 2 // 5.10
	IORING_ENTER_EXT_ARG   = 1 << 3 // 5.11
)

// Flags of an SQE: io_uring_enter(2), field flags.
const (
	IOSQE_IO_DRAIN         = 1 << 1 // 5.2
	IOSQE_IO_LINK          = 1 << 2 // 5.3
	IOSQE_IO_HARDLINK      = 1 << 3 // 5.5
	IOSQE_ASYNC            = 1 << 4 // 5.6
	IOSQE_BUFFER_SELECT    = 1 << 5 // 5.7
	IOSQE_CQE_SKIP_SUCCESS = 1 << 6 // 5.17
)

// Flags of a CQE. The upper half of the flags is the buffer's id when
// IORING_CQE_F_BUFFER is set.
const (
	IORING_CQE_F_BUFFER        = 1 << 0 // 5.7: CQE.Buffer is valid
	IORING_CQE_F_MORE          = 1 << 1 // 5.13: more CQEs of this SQE will follow
	IORING_CQE_F_SOCK_NONEMPTY = 1 << 2 // 5.19: the socket held more when the receive ended
	IORING_CQE_F_BUF_MORE      = 1 << 4 // 6.12: the kernel goes on filling this buffer

	cqeBufferShift = 16
)

// Operations: field opcode of an SQE.
const (
	IORING_OP_NOP            = 0  // 5.1
	IORING_OP_FSYNC          = 3  // 5.1
	IORING_OP_POLL_ADD       = 6  // 5.1
	IORING_OP_POLL_REMOVE    = 7  // 5.1
	IORING_OP_SENDMSG        = 9  // 5.3
	IORING_OP_RECVMSG        = 10 // 5.3
	IORING_OP_TIMEOUT        = 11 // 5.4
	IORING_OP_TIMEOUT_REMOVE = 12 // 5.5
	IORING_OP_ACCEPT         = 13 // 5.5
	IORING_OP_ASYNC_CANCEL   = 14 // 5.5
	IORING_OP_CONNECT        = 16 // 5.5
	IORING_OP_FALLOCATE      = 17 // 5.6
	IORING_OP_OPENAT         = 18 // 5.6
	IORING_OP_CLOSE          = 19 // 5.6
	IORING_OP_STATX          = 21 // 5.6
	IORING_OP_READ           = 22 // 5.6
	IORING_OP_WRITE          = 23 // 5.6
	IORING_OP_SEND           = 26 // 5.6
	IORING_OP_RECV           = 27 // 5.6
	IORING_OP_SHUTDOWN       = 34 // 5.11
	IORING_OP_RENAMEAT       = 35 // 5.11
	IORING_OP_UNLINKAT       = 36 // 5.11
	IORING_OP_MKDIRAT        = 37 // 5.15
	IORING_OP_SYMLINKAT      = 38 // 5.15
	IORING_OP_LINKAT         = 39 // 5.15
	IORING_OP_MSG_RING       = 40 // 5.18
	IORING_OP_READ_MULTISHOT = 49 // 6.7
	IORING_OP_FTRUNCATE      = 55 // 6.9
)

// Flags of single operations: fields ioprio (accept, receive, send), len
// (poll) and the operation's own flags (cancel, timeout).
const (
	IORING_ACCEPT_MULTISHOT    = 1 << 0 // 5.19
	IORING_RECVSEND_POLL_FIRST = 1 << 0 // 5.19
	IORING_RECV_MULTISHOT      = 1 << 1 // 6.0
	IORING_POLL_ADD_MULTI      = 1 << 0 // 5.13

	IORING_ASYNC_CANCEL_ALL = 1 << 0 // 5.19: every match, not only the first
	IORING_ASYNC_CANCEL_FD  = 1 << 1 // 5.19: match by file, not by user data
	IORING_ASYNC_CANCEL_ANY = 1 << 2 // 5.19: match everything

	IORING_TIMEOUT_ABS           = 1 << 0 // 5.5
	IORING_TIMEOUT_ETIME_SUCCESS = 1 << 5 // 5.16
	IORING_TIMEOUT_MULTISHOT     = 1 << 6 // 6.4
)

// Operations of io_uring_register(2) and its flags.
const (
	registerEnableRings = 12 // 5.10
	registerPbufRing    = 22 // 5.19
	unregisterPbufRing  = 23 // 5.19
	registerSyncCancel  = 24 // 6.0
	pbufRingIncremental = 2  // IOU_PBUF_RING_INC, 6.12
)

// Offsets of the ring's regions for mmap(2).
const (
	offSQRing = 0
	offSQEs   = 0x10000000
)

// MaxLen is the most bytes the kernel moves in one operation (MAX_RW_COUNT of
// a system with pages of 4 KiB: 2 GiB less one page).
const MaxLen = 0x7ffff000

// IOVMax is the most parts of one vectored operation (UIO_MAXIOV).
const IOVMax = 1024

type sqOffsets struct {
	head, tail, ringMask, ringEntries, flags, dropped, array, _ uint32
	_                                                           uint64
}

type cqOffsets struct {
	head, tail, ringMask, ringEntries, overflow, cqes, flags, _ uint32
	_                                                           uint64
}

// setupParams is struct io_uring_params.
type setupParams struct {
	sqEntries, cqEntries      uint32
	flags                     uint32
	sqThreadCPU, sqThreadIdle uint32
	features                  uint32
	wqFD                      uint32
	_                         [3]uint32
	sqOff                     sqOffsets
	cqOff                     cqOffsets
}

// getEventsArg is struct io_uring_getevents_arg.
type getEventsArg struct {
	sigmask   uint64
	sigmaskSz uint32
	_         uint32
	ts        uint64
}

// Timespec is struct __kernel_timespec: 64-bit fields on every architecture.
type Timespec struct {
	Sec  int64
	Nsec int64
}

// timespecOf converts nanoseconds (>= 0).
func timespecOf(ns int64) Timespec {
	const second = 1_000_000_000
	return Timespec{Sec: ns / second, Nsec: ns % second}
}

// bufReg is struct io_uring_buf_reg.
type bufReg struct {
	ringAddr    uint64
	ringEntries uint32
	group       uint16
	flags       uint16
	_           [3]uint64
}

// bufEntry is struct io_uring_buf. In entry 0 the last field is the ring's
// tail.
type bufEntry struct {
	addr    uint64
	len     uint32
	bidTail uint32 // id in the first two bytes, tail (entry 0 only) in the last two
}

// syncCancelReg is struct io_uring_sync_cancel_reg.
type syncCancelReg struct {
	addr    uint64
	fd      int32
	flags   uint32
	timeout Timespec
	_       [4]uint64
}

// The kernel fixes these sizes: a difference stops the build with a constant
// that overflows or an index out of range.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(SQE{})-64]
	_ = [1]struct{}{}[unsafe.Sizeof(CQE{})-16]
	_ = [1]struct{}{}[unsafe.Sizeof(setupParams{})-120]
	_ = [1]struct{}{}[unsafe.Sizeof(getEventsArg{})-24]
	_ = [1]struct{}{}[unsafe.Sizeof(bufReg{})-40]
	_ = [1]struct{}{}[unsafe.Sizeof(bufEntry{})-16]
	_ = [1]struct{}{}[unsafe.Sizeof(syncCancelReg{})-64]
)
