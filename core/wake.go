package core

import (
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// waker ends the sleep of an engine from another thread: an eventfd that the
// ring polls. It is never read in the ring, as a read that takes its value could
// be lost with the ring; and it is written only if the engine may be asleep.
type waker struct {
	fd       int
	armed    bool
	sleeping atomic.Bool
	asked    atomic.Bool
	wakes    atomic.Uint64
}

// armWaker polls the eventfd.
func (e *Engine) armWaker() {
	if e.closing {
		return
	}
	e.waker.armed = true
	e.submit(Op{Kind: OpPoll, FD: e.waker.fd, Events: unix.POLLIN, Token: makeToken(opWake, 0)})
}

// woken handles a completion of the poll of the eventfd.
func (e *Engine) woken(done *Completion) {
	if done.Res > 0 {
		e.calls.drain(e.waker.fd)
	}
	if !done.More {
		e.waker.armed = false
		if done.Res > 0 || transient(syscall.Errno(-done.Res)) || done.Res == -int32(syscall.ECANCELED) {
			e.armWaker()
		} else if !e.closing {
			panic("kloop: the wake-up eventfd can't be polled: " + syscall.Errno(-done.Res).Error())
		}
	}
}

// WakeFD is the eventfd that ends a sleep of the engine when written to.
func (e *Engine) WakeFD() int { return e.waker.fd }

// Wake ends a wait of Poll, the present one or else the next. For any thread.
func (e *Engine) Wake() {
	// The engine sets sleeping before it looks at asked, we set asked before we
	// look at sleeping: one of both sees the other (sequential consistency).
	e.waker.asked.Store(true)
	if e.waker.sleeping.Load() {
		e.waker.wakes.Add(1)
		e.calls.raise(e.waker.fd)
	}
}

// Post runs f in the engine's thread with the next poll, which it wakes. For any
// thread.
func (e *Engine) Post(f func()) {
	e.posted.mu.Lock()
	e.posted.funcs = append(e.posted.funcs, f)
	e.posted.full.Store(true)
	e.posted.mu.Unlock()
	e.Wake()
}

// runPosted runs what was posted before it was called.
func (e *Engine) runPosted() {
	if !e.posted.full.Load() {
		return
	}
	e.posted.mu.Lock()
	funcs := e.posted.funcs
	e.posted.funcs = e.posted.spare[:0]
	e.posted.full.Store(false)
	e.posted.mu.Unlock()
	for i, f := range funcs {
		funcs[i] = nil
		f()
	}
	e.posted.spare = funcs
}
