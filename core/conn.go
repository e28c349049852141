package core

import "syscall"

// Handler is told what happens to a connection, like asyncio.Protocol.
type Handler interface {
	// Received gives bytes of the peer. p is valid until the next poll.
	Received(c *Conn, p []byte)
	// ReceivedEOF says that the peer will send no more. False closes the connection.
	ReceivedEOF(c *Conn) (keepOpen bool)
	// Backlog says that the kernel did not take all that was written (the first
	// call), and then, each time it takes more, how many bytes (sent) it took
	// and how many are queued now. With queued 0 the backlog is over.
	Backlog(c *Conn, queued, sent int)
	// Closed is the last call. err is nil after Close or Abort, else what ended
	// the connection. The core has no operation left on the fd.
	Closed(c *Conn, err *OpError)
}

// receiveState is what the kernel knows of a connection's receive operation.
type receiveState uint8

const (
	receiveIdle receiveState = iota
	receiveArmed
	receiveCancelling // a cancel is submitted, the last completion not yet seen
)

// sendState is what the kernel knows of a connection's send operation.
type sendState uint8

const (
	sendIdle sendState = iota
	sendQuick
	sendPolled
	sendCancelling
)

// closeState is how far the end of a connection is.
type closeState uint8

const (
	closeOpen closeState = iota
	closeGraceful
	closeAborting
)

// Conn is a connected stream socket, or one direction of a pipe or the like
// (AdoptPipe). Its methods never block, and are for the
// engine's thread. After Close or Abort they do nothing.
type Conn struct {
	// Tag is for the handler's use.
	Tag uint64

	engine  *Engine
	handler Handler
	fd      int
	id      uint32
	flight  int // bytes of the send under way

	dirty    bool
	wantRead bool
	readEOF  bool
	receive  receiveState
	sending  sendState
	closing  closeState
	gone     bool
	ownsFD   bool // the core closes fd, as Loop wants it

	kind         PipeKind
	receiveToken Token // of the receive that is armed
	pollFirst    bool  // each read follows a poll
	readable     bool  // the poll has answered, or need not: the read is next
	reads        bool  // in Engine.reading
	begun        bool  // bytes have come

	backlog  bool // the kernel has refused bytes, and the queue was not empty since
	wantEOF  bool
	shutdown bool
	failure  *OpError
	refused  *OpError // a send has failed, and Closed waits for what the peer had sent before
	queue    sendQueue
	records  *records // TLS, if not nil
}

// Adopt makes a connection of a connected, non-blocking stream socket. It starts
// paused: Resume makes it receive. The fd stays the caller's, who may close it
// once Closed was called.
func (e *Engine) Adopt(fd int, handler Handler) (*Conn, error) {
	if e.closed || e.closing {
		return nil, ErrClosed
	}
	c := &Conn{engine: e, handler: handler, fd: fd}
	id, err := e.slots.add(c)
	if err != nil {
		return nil, err
	}
	c.id = id
	e.stats.Conns++
	return c, nil
}

// Conn answers the live connection with this id, or nil.
func (e *Engine) Conn(id uint32) *Conn {
	c, _ := e.slots.get(id).(*Conn)
	return c
}

// ID is unique among the engine's live objects; at most 31 bits.
func (c *Conn) ID() uint32 { return c.id }

// FD is the socket. It must not be closed before Closed was called.
func (c *Conn) FD() int { return c.fd }

// Engine answers the engine that c belongs to.
func (c *Conn) Engine() *Engine { return c.engine }

// Queued is the number of bytes written that the kernel has not taken yet, as
// far as is known.
func (c *Conn) Queued() int {
	if c.engine.sealing == c {
		return c.queue.bytes + c.records.filled
	}
	return c.queue.bytes
}

// Pause stops receiving. Bytes that the kernel had received already are still
// given to Received.
func (c *Conn) Pause() { c.wantToRead(false) }

// Resume starts receiving, or goes on with it.
func (c *Conn) Resume() { c.wantToRead(true) }

func (c *Conn) wantToRead(want bool) {
	if c.wantRead == want || c.closing != closeOpen {
		return
	}
	c.wantRead = want
	c.engine.markDirty(c)
}

// Close stops receiving, sends what is queued, then ends the connection.
func (c *Conn) Close() {
	if c.refused != nil {
		c.abort(c.refused)
	} else if c.closing == closeOpen {
		if c.takesWrites() && c.records != nil && !c.records.SilentClose {
			c.closeRecords()
		}
		c.closing = closeGraceful
		c.engine.markDirty(c)
	}
}

// Abort stops receiving, drops what is queued and ends the connection.
func (c *Conn) Abort() { c.abort(nil) }

// abort ends the connection; failure is what Closed tells, nil if it was asked for.
func (c *Conn) abort(failure *OpError) {
	if c.closing == closeAborting || c.gone {
		return
	}
	c.closing = closeAborting
	c.failure = failure
	if c.sending == sendIdle {
		c.offerAlert()
		c.dropQueue()
	}
	c.engine.markDirty(c)
}

// fail ends the connection because of an error of the kernel.
func (c *Conn) fail(op string, errno syscall.Errno) {
	c.abort(&OpError{Op: op, Err: errno})
}

// flush tells the kernel what has changed since the last flush.
func (c *Conn) flush() {
	c.dirty = false
	if c.gone {
		return
	}
	if c.refused != nil && c.receive == receiveIdle {
		c.refusedAlone()
	}
	c.flushReceive()
	c.flushSend()
	c.finish()
	if c.sending == sendQuick && c.engine.silent && c.awaitsSend() {
		c.engine.urgent = true
	}
}

// refusedAlone ends a connection whose receive went with its ring (Attach), once what that had
// brought is delivered.
func (c *Conn) refusedAlone() {
	if c.engine.ready.len() > 0 || c.reads {
		c.engine.markDirty(c)
	} else {
		c.abort(c.refused)
	}
}

// awaitsSend says whether more is to be done as soon as the send under way is over.
func (c *Conn) awaitsSend() bool {
	return c.closing != closeOpen || c.wantEOF || c.backlog ||
		c.queue.bytes > c.flight || c.flight > flightUrgentBytes
}

// finish ends a closing connection once the kernel has nothing of it any more.
func (c *Conn) finish() {
	if c.gone || c.closing == closeOpen || c.receive != receiveIdle || c.sending != sendIdle {
		return
	}
	if c.closing == closeGraceful && (c.queue.bytes > 0 || c.wantEOF && !c.shutdown) {
		return
	}
	if c.queue.bytes > 0 {
		panic("kloop: a connection ends with bytes in its queue")
	}
	c.gone = true
	c.engine.slots.remove(c.id)
	c.engine.stats.Conns--
	if c.ownsFD {
		c.engine.calls.close(c.fd)
	}
	c.dropRecords()
	c.handler.Closed(c, c.failure)
}
