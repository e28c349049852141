package core

import "syscall"

// flushTries bounds how often Leave flushes connections that have more queued
// than one send takes.
const flushTries = 64

// Leave is for a caller that stops polling for a while, and may go on in another
// thread. Operations whose effects must be known are finished or cancelled:
// sends, so that it is known what the kernel took, and accepts. Connections being
// closed are closed as far as that needs no peer. Receives and polls stay.
// Completions of these wait for the next Reap.
func (e *Engine) Leave() {
	for range flushTries {
		e.Flush()
		e.handOver(0)
		e.takeEffects()
		e.settle()
		if !e.moreToSend() {
			break
		}
	}
	for try := 0; e.cancelEffects() && (try < awaitTries || e.filesUnderWay(false)); try++ {
		e.handOver(int64(min(try, 1)) * awaitStepNS)
		e.takeEffects()
		e.settle()
	}
	e.driver.Flush()
}

// moreToSend says whether a flush would send something that needs no peer.
func (e *Engine) moreToSend() bool {
	for _, c := range e.dirty {
		if !c.gone && !c.backlog {
			return true
		}
	}
	return false
}

// cancelEffects cancels sends that wait for their peer, and accepts. It answers
// whether there is anything to wait for: such an operation, or one of a
// connection being closed.
func (e *Engine) cancelEffects() (left bool) {
	for i := range e.slots.entries {
		switch object := e.slots.entries[i].object.(type) {
		case *Conn:
			if object.sending == sendPolled {
				object.cancelSend()
			}
			if object.closing != closeOpen {
				object.flushReceive()
				left = left || object.receive != receiveIdle
			}
			left = left || object.sending != sendIdle
		case *Datagram:
			if object.closing != closeOpen {
				object.flushReceive()
				left = left || object.receive != receiveIdle || object.polling && object.closing == closeAborting
			}
		case *Operation:
			left = object.leave() || left
		case *Listener:
			if object.armed {
				e.cancel(object.token(), 0)
				left = true
			}
		}
	}
	return left
}

// takeEffects handles the completions of sends and connects, and those of
// connections being closed. Receives and polls wait for Reap, as do the sockets
// that were accepted.
func (e *Engine) takeEffects() {
	e.ready.each(func(done *Completion) bool {
		if done.Token.kind() == opWake { // which has no object
			e.complete(done)
			return true
		}
		switch object := e.slots.get(done.Token.id()).(type) {
		case *Conn:
			kind := done.Token.kind()
			if (kind == OpReceive || kind == opReadable) && object.closing == closeOpen {
				return false
			}
			e.complete(done)
			return true
		case *Datagram:
			if object.closing == closeOpen {
				return false
			}
			e.complete(done)
			return true
		case *Connect:
			e.complete(done)
			return true
		case *Operation:
			return object.takeEffect(done)
		case *Listener:
			if done.Res < 0 {
				e.complete(done)
				return true
			}
			if !done.More {
				object.armed = false
				object.queueArm()
			}
			done.More = true
		}
		return false
	})
}

// Attach makes the calling thread the engine's. If it was another's, the driver
// starts anew, and everything that was armed is armed again with the next flush.
//
// The other thread should have called Leave. Without it a connection whose send was
// under way ends with an error, as nobody knows what the kernel took; and a listener
// may sleep through one connection, until the next: an accept waits exclusively
// (EPOLLEXCLUSIVE), and the wake-up can go to the old ring's, which is being cancelled.
func (e *Engine) Attach() error {
	if e.closed {
		return ErrClosed
	}
	moved, err := e.driver.Attach()
	if err != nil || !moved {
		return err
	}
	e.ready.fillAll(e.driver)
	e.ready.each(func(done *Completion) bool { return done.Token.kind() == opWake })
	// Before a handler is called, which may close what waits: Listener.Close would wait
	// for an answer that nobody gives.
	e.forgetWaiting()
	e.takeEffects()
	// What is left tells of operations that are gone: it changes no state.
	e.ready.each(func(done *Completion) bool {
		done.More = true
		return false
	})
	e.forgetEffects()
	e.calls.drain(e.waker.fd)
	e.armWaker()
	return nil
}

// forgetWaiting makes the engine's state that of a driver with nothing under way that only
// waits: accepts, watches, datagrams and the waker.
func (e *Engine) forgetWaiting() {
	e.waker.armed = false
	for i := range e.slots.entries {
		switch object := e.slots.entries[i].object.(type) {
		case *Datagram:
			object.forgetOperations()
		case *Listener:
			object.armed = false
			object.queueArm()
		case *Watch:
			object.armed = false
			object.queueArm()
		}
	}
}

// forgetEffects is forgetWaiting for all else, once takeEffects has looked at what is
// known of it. It calls no handler.
func (e *Engine) forgetEffects() {
	clear(e.flying)
	e.flying = e.flying[:0]
	e.urgent = false
	for i := range e.slots.entries {
		switch object := e.slots.entries[i].object.(type) {
		case *Conn:
			object.forgetOperations()
		case *Connect:
			object.started = object.started || object.armed
			object.armed = false
			object.queueArm()
		case *Operation:
			object.forget()
		}
	}
}

// forgetOperations is Engine.forgetEffects, for one connection.
func (c *Conn) forgetOperations() {
	c.receive = receiveIdle
	if c.sendsByCall() && c.flight == 0 {
		c.sending = sendIdle // which was a poll
		if c.closing == closeAborting {
			c.dropQueue()
		}
	}
	if c.sending != sendIdle {
		// Without Leave nobody knows what the kernel took. Going on could lose or
		// repeat bytes.
		c.sending = sendIdle
		c.fail("write", errUnknownProgress)
		c.dropQueue()
	}
	c.engine.markDirty(c)
}

// Close aborts every connection, ends everything else, waits for the kernel's
// answers and frees the driver. Handlers are told. Valid in any thread, while no
// other uses the engine.
func (e *Engine) Close() error {
	if e.closed {
		return nil
	}
	attached := e.Attach()
	e.closing = true
	if attached == nil {
		e.cancelAll()
		for try := 0; e.anythingLeft() && (try < awaitTries || e.filesUnderWay(true)); try++ {
			e.Flush()
			e.handOver(int64(min(try, 1)) * awaitStepNS)
			e.Reap(len(e.ready.items))
			e.pool.Reap(pollReapMax, e.told)
		}
	}
	e.awaitPool()
	e.discardReady()
	e.recycleHeld()
	err := e.driver.Close()
	// Only if the kernel did not answer is anything left here.
	e.forgetWaiting()
	e.forgetEffects()
	e.cancelAll()
	e.finishAll()
	e.closed = true
	e.calls.close(e.waker.fd)
	if err == nil {
		err = attached
	}
	return err
}

// discardReady drops the completions that nobody will handle: without a ring for the
// closing thread there may be some.
func (e *Engine) discardReady() {
	e.ready.fillAll(e.driver)
	for e.ready.len() > 0 {
		done := e.ready.next()
		if done.Buffer != 0 {
			e.held = append(e.held, done.Buffer)
		}
		e.stale(done, done.Token.kind())
	}
}

func (e *Engine) anythingLeft() bool { return e.slots.live > 0 || e.waker.armed }

// cancelAll asks everything to end.
func (e *Engine) cancelAll() {
	if e.waker.armed {
		e.cancel(makeToken(opWake, 0), 0)
	}
	for i := range e.slots.entries {
		switch object := e.slots.entries[i].object.(type) {
		case *Conn:
			object.Abort()
		case *Datagram:
			object.Abort()
		case *Listener:
			object.Close()
		case *Watch:
			object.Cancel()
		case *Connect:
			object.Cancel()
		case *Operation:
			object.Cancel()
		}
	}
}

// finishAll ends objects that have no operation in the kernel any more.
func (e *Engine) finishAll() {
	for i := range e.slots.entries {
		switch object := e.slots.entries[i].object.(type) {
		case *Conn:
			object.finish()
		case *Datagram:
			object.finish()
		case *Watch:
			object.end(0)
		case *Connect:
			object.end(ErrCanceled)
		case *Operation:
			if object.lost {
				object.finish(-int(errUnknownProgress), nil)
			} else {
				object.finish(-int(syscall.ECANCELED), nil)
			}
		}
	}
}
