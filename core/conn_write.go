package core

import "syscall"

// Write queues a copy of p behind what is queued. It goes to the kernel with the
// next poll.
func (c *Conn) Write(p []byte) {
	if !c.takesWrites() {
		return
	}
	if c.records != nil && c.seal(p) {
		return
	}
	c.writeCopy(p)
}

// writeCopy queues a copy of p.
func (c *Conn) writeCopy(p []byte) {
	for len(p) > 0 {
		n := c.extendLast(p)
		if n == 0 {
			chunk := c.engine.chunk()
			n = min(len(p), cap(chunk.p))
			c.queue.push(part{p: append(chunk.p, p[:n]...), buffer: chunk})
		}
		p = p[n:]
	}
	c.engine.markDirty(c)
}

// extendLast copies what fits of p behind the last part, if that is a buffer of
// the engine's. A send of it under way is not disturbed: it has its own length.
func (c *Conn) extendLast(p []byte) int {
	last := c.queue.last()
	if last == nil || last.buffer == nil {
		return 0
	}
	n := min(len(p), cap(last.p)-len(last.p))
	last.p = append(last.p, p[:n]...)
	c.queue.bytes += n
	return n
}

// WriteOwned queues p itself. The memory must stay as it is until owner, which
// must not be 0, is given to Options.Release.
func (c *Conn) WriteOwned(p []byte, owner uint64) {
	c.engine.stats.OwnersOut++
	if len(p) == 0 || !c.takesWrites() {
		c.engine.letGo(owner)
		return
	}
	if c.records != nil && c.seal(p) {
		c.engine.letGo(owner)
		return
	}
	c.queue.push(part{p: p, owner: owner})
	c.engine.markDirty(c)
}

func (c *Conn) takesWrites() bool { return c.closing == closeOpen && !c.wantEOF && c.refused == nil }

// WriteEOF shuts down the sending side once everything queued is sent. What has only
// one side is closed.
func (c *Conn) WriteEOF() {
	if c.kind != notPipe {
		c.Close()
		return
	}
	if c.takesWrites() {
		c.closeRecords()
		c.wantEOF = true
		c.engine.markDirty(c)
	}
}

// flushSend starts the next send, or ends the one under way when aborting.
func (c *Conn) flushSend() {
	if c.sending != sendIdle {
		// A quick send is answered at once; there is nothing to cancel.
		if c.closing == closeAborting && c.sending == sendPolled {
			c.cancelSend()
		}
		return
	}
	if c.queue.bytes > 0 {
		c.startSend()
	} else if c.wantEOF && !c.shutdown && c.closing != closeAborting {
		c.shutdownWrite()
	}
}

func (c *Conn) startSend() {
	if c.sendsByCall() {
		c.startWrite()
		return
	}
	e := c.engine
	e.parts, c.flight = c.queue.gather(e.parts[:0])
	quick := !c.backlog
	if quick {
		c.sending = sendQuick
		if e.silent {
			e.flying = append(e.flying, c)
		}
	} else {
		c.sending = sendPolled
	}
	e.submit(Op{Kind: OpSend, FD: c.fd, Token: makeToken(OpSend, c.id), Parts: e.parts, Quick: quick})
	clear(e.parts)
}

func (c *Conn) cancelSend() {
	c.sending = sendCancelling
	c.engine.cancel(c.sendToken(), makeToken(OpCancel, c.id))
}

// shutdownWrite needs no operation in the ring: shutdown(2) does not block.
func (c *Conn) shutdownWrite() {
	c.shutdown = true
	err := c.engine.calls.shutdownWrite(c.fd)
	// ENOTCONN: the peer has reset the connection; receiving tells that.
	if errno, ok := err.(syscall.Errno); ok && errno != syscall.ENOTCONN {
		c.fail("write", errno)
	}
}

// sent handles the answer to the send under way: bytes taken, or a negative errno.
func (c *Conn) sent(res int32) {
	short, waited := int(res) < c.flight, c.sending != sendQuick
	c.sending, c.flight = sendIdle, 0
	if c.kernelSeals() {
		c.sentInBackground(int(res), short)
	}
	if res > 0 {
		c.advance(int(res))
	}
	if c.closing == closeAborting {
		if res > 0 {
			c.offerAlert()
		}
		c.dropQueue()
		c.finish()
		return
	}
	if res < 0 {
		errno := syscall.Errno(-res)
		// ECANCELED: by Leave, or with the thread that submitted it.
		if !transient(errno) && errno != syscall.ECANCELED {
			if c.kernelSeals() {
				c.sealFailed(errno)
			} else {
				c.sendFailed(errno, waited)
			}
			return
		}
	}
	c.progressed(max(int(res), 0), short)
	c.sendNext()
}

// sendFailed ends the connection. What the peer had sent before it stopped reading, an answer perhaps that
// says why, comes first, if the send had to wait: its failure overtakes bytes that the kernel has already.
func (c *Conn) sendFailed(errno syscall.Errno, waited bool) {
	if !waited || c.kind != notPipe || c.closing != closeOpen || c.receive == receiveIdle {
		c.fail("write", errno)
		return
	}
	c.refused = &OpError{Op: "write", Err: errno}
	c.dropQueue()
	c.engine.markDirty(c)
}

// sendNext has the next flush go on with what is left to do.
func (c *Conn) sendNext() {
	if c.queue.bytes > 0 || c.wantEOF && !c.shutdown {
		c.engine.markDirty(c)
		return
	}
	c.moveSend()
	c.finish()
}

// progressed tells the handler of the backlog, if there is one.
func (c *Conn) progressed(taken int, short bool) {
	switch {
	case !c.backlog && short:
		c.backlog = true
		c.engine.stats.ShortSends++
		c.handler.Backlog(c, c.queue.bytes, 0)
	case !c.backlog || taken == 0:
	default:
		c.backlog = c.queue.bytes > 0
		c.handler.Backlog(c, c.queue.bytes, taken)
	}
}

// advance takes n bytes, which the kernel has, off the queue.
func (c *Conn) advance(n int) {
	if n > c.queue.bytes {
		panic("kloop: a send took more than is queued")
	}
	c.engine.stats.BytesSent += uint64(n)
	for n > 0 {
		first := &c.queue.parts[c.queue.head]
		left := len(first.p) - c.queue.front
		if n < left {
			c.queue.front += n
			c.queue.bytes -= n
			return
		}
		n -= left
		c.freePart(c.queue.pop())
	}
}

// dropQueue lets go of everything queued. No send may be under way.
func (c *Conn) dropQueue() {
	if c.engine.sealing == c {
		c.engine.sealing = nil
	}
	for c.queue.count > 0 {
		c.freePart(c.queue.pop())
	}
}

func (c *Conn) freePart(p part) {
	if p.buffer != nil {
		c.engine.dropBuffer(p.buffer)
	}
	if p.owner != 0 {
		c.engine.letGo(p.owner)
	}
}

// SendNow sends what is queued at once, if no send is under way, and answers the
// bytes that are queued still. If there are any, that is a backlog, of which
// Backlog tells only the end and the progress towards it; if there are none, a backlog
// that was is over, and nothing else tells. The kernel's error is answered at once; it
// ends the connection, and Closed tells it with the next poll.
func (c *Conn) SendNow() (left int, failed syscall.Errno) {
	if c.gone || c.closing == closeAborting || c.refused != nil {
		return 0, 0
	}
	c.sealPending()
	if c.sending == sendIdle && !c.sendsInBackground() {
		if _, errno := c.offer(); errno != 0 && !transient(errno) && !c.isOpenError(errno) {
			c.fail("write", errno)
			return 0, errno
		}
	}
	c.backlog = c.queue.bytes > 0
	if c.backlog {
		c.engine.markDirty(c)
	} else {
		c.moveSend()
	}
	return c.queue.bytes, 0
}
