package core

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// How many bytes a NetConn holds in each direction, besides what the kernel does.
// Receiving pauses above netHighWater and goes on below netLowWater; Write waits at
// netHighWater.
const (
	netHighWater = 256 << 10
	netLowWater  = 64 << 10
)

// netBufferKept is the size up to which an empty buffer of a NetConn is kept, in bytes: an
// idle connection should not hold memory, a busy one not ask for it again each time.
const netBufferKept = 16 << 10

// netLinger bounds how long a closed NetConn goes on sending what was written to it to a
// peer that does not take it.
const netLinger = 60 * time.Second

// NetConn is a net.Conn whose I/O a Loop does: for goroutines, which may wait in it. All
// methods are for any goroutine but the loop's own, which would wait for itself; the loop
// must be running.
//
// Write returns when the bytes are queued, which is not later than what the peer's kernel
// tells anyone: an error of sending them is told by the next Write or Read. Close returns
// at once and sends what is queued, for up to a minute.
type NetConn struct {
	loop          *Loop
	conn          *Conn // the loop's thread alone calls it
	local, remote net.Addr

	readBy, writeBy    deadline
	reading, writing   sync.Mutex    // one Read and one Write at a time
	readable, writable chan struct{} // a token says: look again
	closed             chan struct{} // by Close

	mu       sync.Mutex // guards what follows
	in       bytes.Buffer
	paused   bool // receiving, as in is full
	eof      bool // the peer sends no more
	out      []byte
	spare    []byte // the memory that out had before
	flushing bool   // flushOut is posted
	backlog  bool   // the kernel takes no more for now: out waits
	wroteEOF bool
	ended    error // what ended the connection

	linger *Timer // the loop's thread alone uses it
}

var _ net.Conn = (*NetConn)(nil)

func newNetConn(l *Loop) *NetConn {
	return &NetConn{
		loop:     l,
		readable: make(chan struct{}, 1),
		writable: make(chan struct{}, 1),
		closed:   make(chan struct{}),
	}
}

// Read implements net.Conn. Bytes that came before an error are answered first.
func (c *NetConn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	past := c.readBy.wait()
	for {
		if err := c.mayWait(past); err != nil {
			return 0, c.opError("read", err)
		}
		n, err := c.take(p)
		if n > 0 || len(p) == 0 {
			return n, nil
		}
		if err == io.EOF {
			return 0, io.EOF
		}
		if err != nil {
			return 0, c.opError("read", err)
		}
		select {
		case <-c.readable:
		case <-past:
		case <-c.closed:
		case <-c.loop.ended:
		}
	}
}

// mayWait says why a call can't begin to wait, or go on.
func (c *NetConn) mayWait(past <-chan struct{}) error {
	switch {
	case isDone(c.closed):
		return net.ErrClosed
	case isDone(past):
		return os.ErrDeadlineExceeded
	}
	return nil
}

// take answers what has been received, or why nothing will come.
func (c *NetConn) take(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in.Len() == 0 {
		switch {
		case c.eof:
			return 0, io.EOF
		case c.ended != nil:
			return 0, c.ended
		case isDone(c.loop.ended):
			return 0, ErrClosed
		}
		return 0, nil
	}
	n, _ := c.in.Read(p)
	if c.in.Len() == 0 && c.in.Cap() > netBufferKept {
		c.in = bytes.Buffer{}
	}
	if c.paused && c.in.Len() < netLowWater {
		c.paused = false
		c.loop.Post(c.conn.Resume)
	}
	return n, nil
}

// Write implements net.Conn. An n below len(p) comes with an error; these n bytes are sent.
func (c *NetConn) Write(p []byte) (n int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	past := c.writeBy.wait()
	for {
		if err := c.mayWait(past); err != nil {
			return n, c.opError("write", err)
		}
		taken, err := c.queue(p[n:])
		n += taken
		if err != nil {
			return n, c.opError("write", err)
		}
		if n == len(p) {
			return n, nil
		}
		select {
		case <-c.writable:
		case <-past:
		case <-c.closed:
		case <-c.loop.ended:
		}
	}
}

// queue copies of p what there is room for.
func (c *NetConn) queue(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended != nil:
		return 0, c.ended
	case c.wroteEOF:
		return 0, net.ErrClosed
	case isDone(c.loop.ended):
		return 0, ErrClosed
	}
	n := min(len(p), netHighWater-len(c.out))
	c.out = append(c.out, p[:n]...)
	if n > 0 {
		c.postFlush()
	}
	return n, nil
}

// postFlush has the loop send what is queued, with whatever else is by then.
func (c *NetConn) postFlush() {
	if !c.flushing && !c.backlog {
		c.flushing = true
		c.loop.Post(c.flushOut)
	}
}

// CloseWrite shuts down the sending side once everything written is sent.
func (c *NetConn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case isDone(c.closed):
		return c.opError("close", net.ErrClosed)
	case c.ended != nil:
		return c.opError("close", c.ended)
	}
	c.wroteEOF = true
	c.postFlush()
	return nil
}

// Close implements net.Conn.
func (c *NetConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if isDone(c.closed) {
		return c.opError("close", net.ErrClosed)
	}
	close(c.closed)
	c.loop.Post(c.finish)
	return nil
}

// LocalAddr implements net.Conn.
func (c *NetConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *NetConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *NetConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *NetConn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.readBy, t) }

// SetWriteDeadline implements net.Conn.
func (c *NetConn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.writeBy, t) }

func (c *NetConn) setDeadline(d *deadline, t time.Time) error {
	if isDone(c.closed) {
		return c.opError("set", net.ErrClosed)
	}
	d.set(t)
	return nil
}

func (c *NetConn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}
