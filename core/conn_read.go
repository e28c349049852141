package core

import "syscall"

// flushReceive arms or cancels the receive, if that is not as wanted.
func (c *Conn) flushReceive() {
	want := c.wantRead && !c.readEOF && c.closing == closeOpen && c.refused == nil
	if c.receiveMoves() && c.receive == receiveIdle && !c.moveReceive() {
		return
	}
	switch {
	case want && c.receive == receiveIdle && c.readable && c.readsRecords():
		c.engine.queueRead(c)
	case want && c.receive == receiveIdle:
		op := c.receiveOp()
		c.receive, c.receiveToken, c.readable = receiveArmed, op.Token, false
		c.engine.submit(op)
	case (!want || c.receivesPastKernel()) && c.receive == receiveArmed:
		c.receive = receiveCancelling
		c.engine.cancel(c.receiveToken, makeToken(OpCancel, c.id))
	}
}

// notCancelled handles a failed cancel: ENOENT or EALREADY (io_uring_enter(2)). Either
// the operation has ended by itself, and that is seen already, or it was neither
// waiting nor over: a multishot receive gives way to others in the middle of much
// data. Then it is cancelled again.
func (c *Conn) notCancelled() {
	if c.receive == receiveCancelling {
		c.receive = receiveArmed
		c.engine.markDirty(c)
	}
	if c.sending == sendCancelling {
		c.sending = sendPolled
		c.engine.markDirty(c)
	}
}

// received handles a completion of the receive.
func (c *Conn) received(done *Completion) {
	c.receivedSome(done)
	if c.refused != nil && c.receive == receiveIdle {
		c.abort(c.refused)
	}
}

func (c *Conn) receivedSome(done *Completion) {
	if !done.More {
		c.receive = receiveIdle
	}
	// A resume may have come while the receive was being cancelled, and a
	// receive may end for reasons of the kernel's own: flush sorts it out.
	switch {
	case c.closing != closeOpen:
		c.finish()
		return
	case done.Res > 0:
		c.begun = true
		c.pollFirst = c.kind == DeviceReader
		c.engine.stats.BytesReceived += uint64(done.Res)
		c.deliver(done.Data)
		c.rearmReceive(done)
	case done.Res == 0 && done.More:
		// Of a ring that is gone. If it is an end, the receive armed since meets it again;
		// if a FIFO had no writer yet, that receive may have bytes by now.
	case done.Res == 0 && c.awaitsWriter():
		c.pollFirst = true
		c.rearmReceive(done)
	case done.Res == 0:
		c.receivedEOF()
	default:
		c.receiveFailed(done)
	}
}

// rearmReceive has the receive armed again if it ended though it was not asked to.
func (c *Conn) rearmReceive(done *Completion) {
	if done.More {
		return
	}
	if c.wantRead && !c.pollFirst {
		c.engine.stats.Rearms++
	}
	c.engine.markDirty(c)
}

func (c *Conn) receivedEOF() {
	// A receive armed before the first end of file was delivered meets it again. After a failed send it may
	// be no end at all: recv(2) answers 0 on a socket whose reset the send has reported.
	if c.readEOF || c.refused != nil {
		return
	}
	c.readEOF = true
	if !c.handler.ReceivedEOF(c) {
		c.Close()
	}
}

// receiveFailed handles the errors of recv(2) and those of io_uring's own.
func (c *Conn) receiveFailed(done *Completion) {
	errno := syscall.Errno(-done.Res)
	switch {
	case errno == syscall.ENOBUFS:
		// No receive buffer was free. They are given back with the next flush.
		c.engine.stats.NoBufs++
	case errno == syscall.EAGAIN && c.kind.byReading():
		c.pollFirst = true
	case errno == syscall.ECANCELED, transient(errno):
		// Cancelled by us, or by the end of the thread that armed it.
	default:
		c.fail("read", errno)
		return
	}
	c.rearmReceive(done)
}
