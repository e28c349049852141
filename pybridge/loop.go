package main

/*
#include "private.h"
*/
import "C"

import (
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"kloop/core"
	"kloop/uring"
)

// loop is one kloop_shared with its engine.
type loop struct {
	p      *C.struct_kloop
	k      *C.struct_kloop_shared
	engine *core.Engine
	driver core.Driver
	pool   *threadPool

	cmds     []C.struct_kloop_cmd
	events   []C.struct_kloop_event
	released []C.uint64_t

	// What found no room, or no call of the host that takes it.
	eventSpill   []C.struct_kloop_event
	releaseSpill []uint64
	kept         [][]byte // Go memory that events name
	lookups      lookups

	delivering bool // the host takes events when this call has returned
	closing    bool
	broken     bool             // a panic left the engine in an unknown state
	texts      []unsafe.Pointer // C memory to be freed with the loop
}

// maxLoops bounds the loops of a process; each has a ring or a set, hence two fds.
const maxLoops = 1 << 16

// loops finds a loop by the handle in its shared memory, which is its index plus
// one. Lookups take no lock.
var loops struct {
	mu    sync.Mutex
	table [maxLoops]atomic.Pointer[loop]
	next  int
}

func (l *loop) register() error {
	loops.mu.Lock()
	defer loops.mu.Unlock()
	for range maxLoops {
		i := loops.next
		loops.next = (loops.next + 1) % maxLoops
		if loops.table[i].CompareAndSwap(nil, l) {
			l.p.handle = C.uint64_t(i + 1)
			l.k.handle = l.p.handle
			return nil
		}
	}
	return core.ErrTooMany
}

func (l *loop) unregister() { loops.table[l.p.handle-1].Store(nil) }

func loopOf(handle C.uint64_t) *loop { return loops.table[handle-1].Load() }

// contain turns a panic into an event. It is for defer, in every call of the host:
// nothing here may end the host's process.
func (l *loop) contain(result *C.int) {
	if r := recover(); r != nil {
		l.panicked(r)
		*result = -C.int(syscall.ENOTRECOVERABLE)
		if l.delivering {
			*result = eventsOnly
		}
		l.k.pending = 1
	}
	l.delivering = false
}

// eventsOnly tells poll.c to give the host the events there are and do no more.
const eventsOnly = 1

func (l *loop) contain64(result *C.int64_t) {
	var short C.int
	if r := recover(); r != nil {
		l.panicked(r)
		short = -C.int(syscall.ENOTRECOVERABLE)
		*result = C.int64_t(short)
		l.k.pending = 1
	}
	l.delivering = false
}

// panicTextMax bounds a panic's text in bytes.
const panicTextMax = 16 << 10

func (l *loop) panicked(r any) {
	l.broken = true
	l.p.attached = 1 // to no avail, but kloop_poll must get as far as telling
	text := fmt.Sprintf("%v\n\n%s", r, debug.Stack())
	if len(text) > panicTextMax {
		text = text[:panicTextMax]
	}
	p := unsafe.Pointer(C.CString(text))
	l.texts = append(l.texts, p)
	l.emit(C.struct_kloop_event{
		kind: C.KLOOP_EV_PANIC,
		ptr:  C.uint64_t(uintptr(p)),
		len:  C.uint64_t(len(text)),
	})
}

// emit gives an event to the host, or keeps it until there is room.
func (l *loop) emit(event C.struct_kloop_event) {
	if l.delivering && len(l.eventSpill) == 0 && int(l.k.nevents) < len(l.events) {
		l.events[l.k.nevents] = event
		l.k.nevents++
		return
	}
	l.eventSpill = append(l.eventSpill, event)
}

// emitSpilled gives the host what there was no room for. What all events before them name
// is not needed any more, but what they name is.
func (l *loop) emitSpilled() {
	late := len(l.eventSpill) > 0
	l.engine.KeepData(late)
	if !late {
		clear(l.kept)
		l.kept = l.kept[:0]
	}
	n := copy(l.events[l.k.nevents:], l.eventSpill)
	l.k.nevents += C.uint32_t(n)
	rest := copy(l.eventSpill, l.eventSpill[n:])
	l.eventSpill = l.eventSpill[:rest]
}

// room answers for how many events there is room; none before what was spilled.
func (l *loop) room() int {
	if len(l.eventSpill) > 0 {
		return 0
	}
	return len(l.events) - int(l.k.nevents)
}

// release gives an owner back to the host. It is core.Options.Release.
func (l *loop) release(owner uint64) {
	if len(l.releaseSpill) == 0 && int(l.k.nreleased) < len(l.released) {
		l.released[l.k.nreleased] = C.uint64_t(owner)
		l.k.nreleased++
		return
	}
	l.releaseSpill = append(l.releaseSpill, owner)
}

func (l *loop) releaseSpilled() {
	n := 0
	for n < len(l.releaseSpill) && int(l.k.nreleased) < len(l.released) {
		l.released[l.k.nreleased] = C.uint64_t(l.releaseSpill[n])
		l.k.nreleased++
		n++
	}
	l.releaseSpill = l.releaseSpill[:copy(l.releaseSpill, l.releaseSpill[n:])]
}

// tell brings the words up to date by which poll.c and the host decide what to call.
func (l *loop) tell() {
	l.p.need_flush = word(l.engine.FlushNeeded())
	l.p.unsettled = word(l.engine.Unsettled())
	l.k.pending = word(l.engine.Pending() || len(l.eventSpill) > 0 || len(l.releaseSpill) > 0)
}

func word(b bool) C.uint32_t {
	if b {
		return 1
	}
	return 0
}

// lookEveryNS is how often a host that is busy with callbacks looks at an epoll set: a look
// costs a hundredth of that.
const lookEveryNS = 20_000

// tellDriver tells where the words are by which the host and poll.c wait.
func (l *loop) tellDriver() {
	switch driver := l.driver.(type) {
	case *core.UringDriver:
		l.tellRing(driver)
	case *core.EpollDriver:
		l.tellSet(driver)
	default:
		panic("kloop: a host can't wait for the driver " + driver.Name())
	}
}

func (l *loop) tellSet(driver *core.EpollDriver) {
	w := driver.Set().Words()
	l.k.cq_head = sharedWord(w.Consumed)
	l.k.cq_tail = sharedWord(w.Produced)
	l.k.sq_flags = sharedWord(w.Zero)
	l.k.poll_mask = 0
	l.k.ring_fd = C.int32_t(w.FD)
	l.k.look_every_ns = lookEveryNS
	l.k.idle_looks = 0
	l.p.sq_head, l.p.sq_tail = l.k.sq_flags, l.k.sq_flags
	l.p.set = C.struct_kloop_set{
		events:   (*C.struct_epoll_event)(unsafe.Pointer(sharedWord(w.Events))),
		max:      C.uint32_t(w.Max),
		produced: sharedWord(w.Produced),
		count:    sharedWord(w.Count),
		next:     sharedWord(w.Next),
		turn:     sharedWord(w.Turn),
	}
}

// tellRing tells where the kernel's words are. They move with Attach.
func (l *loop) tellRing(driver *core.UringDriver) {
	w := driver.Ring().Words()
	l.k.cq_head = sharedWord(w.CQHead)
	l.k.cq_tail = sharedWord(w.CQTail)
	l.k.sq_flags = sharedWord(w.SQFlags)
	l.p.sq_head = sharedWord(w.SQHead)
	l.p.sq_tail = sharedWord(w.SQTail)
	l.k.poll_mask = uring.IORING_SQ_TASKRUN | uring.IORING_SQ_CQ_OVERFLOW
	l.k.ring_fd = C.int32_t(w.FD)
}

// sharedWord makes a pointer of an address in the ring's mapping, which is not Go
// memory, so that the garbage collector has no part in it.
func sharedWord(address uintptr) *C.uint32_t {
	return *(**C.uint32_t)(unsafe.Pointer(&address))
}
