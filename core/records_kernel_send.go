package core

import (
	"syscall"

	"golang.org/x/sys/unix"

	"kloop/epoll"
	"kloop/ktls"
)

// kernelSeals says whether the kernel has the sending direction. c then sends by calls:
// io_uring's quick sends ask for MSG_WAITALL, which the kernel's TLS refuses, and control
// records and new keys have their places between.
func (c *Conn) kernelSeals() bool { return c.records != nil && c.records.tx == sideKernel }

// seal queues p as records, or answers false: p is to be queued as it is, for the kernel makes
// records of it, or the handshake's implementation has.
func (c *Conn) seal(p []byte) bool {
	r := c.records
	switch {
	case r.out == passAll:
		return false
	case r.out == passRecords:
		c.passOut(p)
		return true
	case r.tx != sideKernel:
		c.sealData(p)
		return true
	}
	if r.Sealer.KeyUpdateDue() && !r.closed {
		c.updateKey(false)
	}
	return r.closed
}

// queueControl queues records of a type other than data for the kernel.
func (c *Conn) queueControl(typ ktls.ContentType, content []byte, rekey bool) {
	for limit := c.records.Sealer.MaxPlaintext(); len(content) > 0; {
		n := min(len(content), limit)
		p := append([]byte(nil), content[:n]...)
		content = content[n:]
		c.queue.push(part{p: p, control: typ, rekey: rekey && len(content) == 0})
	}
	c.engine.markDirty(c)
}

// offerRecords is offer, for a kernel that seals.
func (c *Conn) offerRecords() (taken int, errno syscall.Errno) {
	e := c.engine
	for c.queue.bytes > 0 {
		first := *c.queue.first()
		e.stats.DirectSends++
		e.parts = e.parts[:0]
		var n, want int
		var err error
		if first.control != 0 {
			p := first.p[c.queue.front:]
			want = len(p)
			n, err = ktls.SendRecord(c.fd, first.control, p)
		} else {
			e.parts, want = c.queue.gather(e.parts)
			n, err = e.driver.SendNow(c.fd, e.parts)
		}
		if n > 0 {
			c.countSealed(n, len(e.parts))
			c.advance(n)
			taken += n
		}
		clear(e.parts)
		if failed, ok := err.(syscall.Errno); ok {
			return taken, failed
		}
		if n < want {
			break
		}
		if first.rekey {
			if err := c.nextKeyOut(); err != nil {
				c.recordsUsedUp(err)
				break
			}
		}
	}
	return taken, 0
}

// sendsInBackground says whether a thread of the kernel's is to seal and send what is next.
func (c *Conn) sendsInBackground() bool {
	return c.kernelSeals() && c.records.Background > 0 && !c.records.full && c.queue.bytes >= c.records.Background &&
		c.queue.first().control == 0
}

// sendInBackground has it begin. The handler is told of the backlog, as it is not over with this flush.
func (c *Conn) sendInBackground() {
	e := c.engine
	e.parts, c.flight = c.queue.gather(e.parts[:0])
	c.sending = sendPolled
	e.submit(Op{Kind: OpSend, FD: c.fd, Token: makeToken(OpSend, c.id), Parts: e.parts, Worker: true})
	clear(e.parts)
	if !c.backlog {
		c.backlog = true
		c.handler.Backlog(c, c.queue.bytes, 0)
	}
}

// sentInBackground handles its answer, before the bytes are taken off the queue.
func (c *Conn) sentInBackground(n int, short bool) {
	c.records.full = short
	if n > 0 {
		c.countSealed(n, 1)
	}
}

// CountSealed counts n bytes that the kernel has sealed and that were not written by c, but by
// sendfile(2), say: by at most this many calls. A new key so comes in time.
func (c *Conn) CountSealed(n, calls int) {
	if !c.kernelSeals() {
		return
	}
	c.countSealed(n, calls)
	if c.records.Sealer.KeyUpdateDue() {
		c.updateKey(false)
	}
}

// countSealed counts records: each call ends with one, however short.
func (c *Conn) countSealed(n, calls int) {
	s := c.records.Sealer
	s.Advance(uint64(n/s.MaxPlaintext() + max(calls, 1)))
}

// nextKeyOut has the kernel seal with the next key: the peer has been told.
func (c *Conn) nextKeyOut() error {
	r := c.records
	r.updating = false
	if err := r.Sealer.NextKey(); err != nil {
		return err
	}
	return r.Sealer.GiveToKernel(c.fd)
}

// sealFailed ends the connection after a failed send. What the peer had sent before comes
// first, and so does what is wrong with that: the error of a bad record is the socket's, and a
// send may be the first to meet it.
func (c *Conn) sealFailed(errno syscall.Errno) {
	if c.records.rx != sideKernel {
		c.sendFailed(errno, true)
		return
	}
	if c.isOpenError(errno) {
		pending, _ := epoll.Option(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case pending == 0: // it is the send's own after all
		case c.opens():
			c.failRecords(ktls.KernelReadError(errno))
			return
		default: // nobody wants what is received; without the error the send may go on
			c.engine.markDirty(c)
			return
		}
	}
	if c.closing != closeOpen {
		c.fail("write", errno)
		return
	}
	c.refused = &OpError{Op: "write", Err: errno}
	c.dropQueue()
	c.engine.queueRead(c)
}
