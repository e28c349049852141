package core

import (
	"errors"
	"syscall"

	"kloop/epoll"
	"kloop/ktls"
)

// recordReads bounds how often one connection's records are read in a turn, so that it does
// not hold up the others.
const recordReads = 4

// readsRecords says whether c receives by a poll and calls, and not by an operation that
// receives: the kernel opens its records, or will behind one that is read to its exact end.
func (c *Conn) readsRecords() bool { return c.records != nil && c.records.rx != sideGo }

// queueRead has the next Reap read: handlers are given data there only, as a flush makes
// what they were given before invalid.
func (e *Engine) queueRead(c *Conn) {
	if !c.reads {
		c.reads = true
		e.reading = append(e.reading, c)
	}
}

// readQueued reads what queueRead was asked for. Handlers may ask for more, of the next Reap.
func (e *Engine) readQueued() {
	count := len(e.reading)
	for i := range count {
		c := e.reading[i]
		e.reading[i], c.reads = nil, false
		c.readRecords()
		if c.refused != nil {
			c.abort(c.refused)
		}
	}
	e.reading = e.reading[:copy(e.reading, e.reading[count:])]
}

// readRecords reads what there is, up to a bound. Unless nothing is left the next Reap goes
// on, without a poll: a KeyUpdate that the kernel has opened behind data is there to be
// received, but poll(2) says nothing of it.
func (c *Conn) readRecords() {
	c.readable = true
	for range recordReads {
		if !c.wantRead || c.readEOF || !c.opens() {
			break
		}
		if c.readable = c.readRecord(); !c.readable {
			break
		}
	}
	c.engine.markDirty(c)
}

// readRecord makes one call, and answers whether there may be more that poll(2) will not tell.
func (c *Conn) readRecord() (more bool) {
	switch r := c.records; {
	case r.rx == sideKernel:
		return c.readOpened()
	case r.rx == sideMoving && r.partial != nil:
		return c.readPartial()
	}
	return false
}

// readPartial reads towards the end of the record that was received in part, and not beyond:
// what follows is the kernel's to open.
func (c *Conn) readPartial() (more bool) {
	r := c.records
	p := r.partial.p
	size, err := r.Opener.Size(p)
	if err != nil {
		c.failRecords(err)
		return false
	}
	room := p[len(p):max(size, ktls.HeaderSize)]
	n, errno := epoll.Receive(c.fd, room)
	switch {
	case errno != 0:
		return c.readFailed(errno)
	case n == 0:
		c.receivedEOF()
		return false
	}
	c.engine.stats.BytesReceived += uint64(n)
	c.open(room[:n])
	if c.receiveMoves() {
		c.moveReceive()
	}
	return true
}

// readOpened receives what the kernel has opened: data of several records, or one record of
// another type. A new key of the peer's is given to the kernel before anything behind it is read.
func (c *Conn) readOpened() (more bool) {
	e, r := c.engine, c.records
	room := e.openedRoom()
	n, typ, err := ktls.ReceiveRecord(c.fd, room, r.cmsg)
	if errno, failed := err.(syscall.Errno); failed {
		return c.readFailed(errno)
	}
	if n == 0 && typ == ktls.TypeData {
		c.receivedEOF()
		return false
	}
	p := e.keepOpened(n)
	e.stats.BytesReceived += uint64(n)
	r.Opener.Advance(uint64(n/ktls.MaxPlaintext + 1))
	action, err := r.control.Receive(typ, p)
	if err == nil && action&ktls.ActionNextKeyIn != 0 {
		err, r.asked = r.Opener.NextKey(), false
		if err == nil {
			err = r.Opener.GiveToKernel(c.fd)
		}
	}
	switch {
	case err != nil:
		c.failRecords(err)
		return false
	case action == ktls.ActionData:
		c.handler.Received(c, p)
		c.askForKey()
	case action != 0:
		c.act(action)
	}
	return typ != ktls.TypeData || n == len(room) || r.Opener.Suite().Version == ktls.TLS13
}

// askForKey asks the peer for a new key of its own, if one is due.
func (c *Conn) askForKey() {
	if r := c.records; !r.asked && r.Opener.KeyUpdateDue() {
		r.asked = true
		c.updateKey(true)
	}
}

// readFailed ends the connection, unless the error asks for another try, now (true) or
// after the next poll.
func (c *Conn) readFailed(errno syscall.Errno) (again bool) {
	switch {
	case transient(errno):
		return errno == syscall.EINTR
	case c.isOpenError(errno):
		c.failRecords(ktls.KernelReadError(errno))
	default:
		c.fail("read", errno)
	}
	return false
}

// isOpenError says whether an errno is how a kernel that opens records calls a bad one.
func (c *Conn) isOpenError(errno syscall.Errno) bool {
	var record *ktls.RecordError
	return c.records != nil && c.records.rx == sideKernel && errors.As(ktls.KernelReadError(errno), &record)
}
