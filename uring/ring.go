package uring

import (
	"errors"
	"sync/atomic"
	"unsafe"
)

// ErrClosed is answered by calls on a ring, buffer ring or arena after its
// Close.
var ErrClosed = errors.New("uring: closed")

// Ring is one io_uring instance. It is not safe for concurrent use; which
// thread may use it is said at New.
//
// Both queues live in memory shared with the kernel. Each has a producer that
// writes the tail and a consumer that writes the head; both are free-running
// counters of which the low bits index the entries. For the SQ we produce and
// the kernel consumes; for the CQ it is the other way round. What we store must
// be seen after what it announces, and what we load before what it allows:
// sync/atomic gives both, being sequentially consistent. That it is also a full
// barrier between our store of the tail and our load of the SQ's flags is what
// NeedWakeup relies on.
type Ring struct {
	fd       int
	flags    uint32
	features uint32
	sq       submissionQueue
	cq       completionQueue
	wait     waitArg

	rings region
	sqes  region
}

type submissionQueue struct {
	head    *uint32 // kernel's: the next entry it consumes
	tail    *uint32 // ours: what the kernel may consume
	flags   *uint32 // kernel's
	entries []SQE
	mask    uint32

	prepared   uint32 // tail including what Publish has not announced yet
	cachedHead uint32 // the kernel's head when last looked at
}

// Flags answers the set-up flags that the kernel accepted.
func (r *Ring) Flags() uint32 { return r.flags }

// Features answers the features that the kernel reported (IORING_FEAT_*).
func (r *Ring) Features() uint32 { return r.features }

// FD answers the ring's file descriptor, or -1 once it is closed.
func (r *Ring) FD() int { return r.fd }

// NextSQE answers the next free slot, zeroed, or nil when the SQ is full (enter
// the kernel, or under SQPOLL wait with IORING_ENTER_SQ_WAIT). Fill it with one
// Prep method; the kernel sees it after Publish and Enter. The pointer is valid
// until Publish.
func (r *Ring) NextSQE() *SQE {
	q := &r.sq
	if q.prepared-q.cachedHead >= uint32(len(q.entries)) {
		if len(q.entries) == 0 {
			return nil // closed
		}
		q.cachedHead = atomic.LoadUint32(q.head)
		if q.prepared-q.cachedHead >= uint32(len(q.entries)) {
			return nil
		}
	}
	s := &q.entries[q.prepared&q.mask]
	q.prepared++
	*s = SQE{}
	return s
}

// SQReady answers how many SQEs are prepared and not yet consumed by the
// kernel.
func (r *Ring) SQReady() uint32 {
	if r.fd < 0 {
		return 0
	}
	return r.sq.prepared - atomic.LoadUint32(r.sq.head)
}

// SQSpace answers how many SQEs NextSQE has left.
func (r *Ring) SQSpace() uint32 {
	return uint32(len(r.sq.entries)) - r.SQReady()
}

// Publish lets the kernel see every prepared SQE and answers how many it has not
// consumed yet: the toSubmit of Enter. Under SQPOLL nothing more is needed
// unless NeedWakeup says so.
func (r *Ring) Publish() uint32 {
	if r.fd < 0 {
		return 0
	}
	atomic.StoreUint32(r.sq.tail, r.sq.prepared)
	return r.sq.prepared - atomic.LoadUint32(r.sq.head)
}

// Consumed reports whether the kernel has consumed every published SQE. From
// then on it does not read again what SQEs point at, except for the bytes to
// be sent or written (IORING_FEAT_SUBMIT_STABLE).
func (r *Ring) Consumed() bool {
	return r.fd < 0 || atomic.LoadUint32(r.sq.head) == atomic.LoadUint32(r.sq.tail)
}

// NeedWakeup reports whether the SQPOLL thread sleeps: enter with
// IORING_ENTER_SQ_WAKEUP. It is to be asked after Publish.
func (r *Ring) NeedWakeup() bool { return r.sqFlag(IORING_SQ_NEED_WAKEUP) }

// Overflowed reports whether completions wait in the kernel because the CQ was
// full: reap, then enter with IORING_ENTER_GETEVENTS. None is lost (see
// Dropped).
func (r *Ring) Overflowed() bool { return r.sqFlag(IORING_SQ_CQ_OVERFLOW) }

// TaskrunPending reports whether completions wait for this thread to enter with
// IORING_ENTER_GETEVENTS (IORING_SETUP_TASKRUN_FLAG).
func (r *Ring) TaskrunPending() bool { return r.sqFlag(IORING_SQ_TASKRUN) }

func (r *Ring) sqFlag(flag uint32) bool {
	return r.fd >= 0 && atomic.LoadUint32(r.sq.flags)&flag != 0
}

// Words are addresses of the words that the kernel shares, each 32 bits wide,
// for hosts that look at them or enter the kernel without a call into Go. They
// are never Go memory. They are valid until Close, which must not be called
// while a host may look.
//
// A host must load with acquire order and store nothing: heads and tails of
// both queues stay with the Ring.
type Words struct {
	CQHead, CQTail uintptr // completions wait when they differ
	SQFlags        uintptr // IORING_SQ_*
	SQHead, SQTail uintptr // SQTail - SQHead: published, not consumed
	FD             int     // for io_uring_enter(2)
}

// Words answers the addresses; all zero and FD -1 once the ring is closed.
func (r *Ring) Words() Words {
	return Words{
		CQHead:  uintptr(unsafe.Pointer(r.cq.head)),
		CQTail:  uintptr(unsafe.Pointer(r.cq.tail)),
		SQFlags: uintptr(unsafe.Pointer(r.sq.flags)),
		SQHead:  uintptr(unsafe.Pointer(r.sq.head)),
		SQTail:  uintptr(unsafe.Pointer(r.sq.tail)),
		FD:      r.fd,
	}
}
