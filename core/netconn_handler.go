package core

import (
	"bytes"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// netHandler is what the loop's thread does for a NetConn. It is a type of its own so that
// a NetConn's users don't see a Handler's methods.
type netHandler struct{ *NetConn }

var _ Handler = netHandler{}

// adoptNet makes a NetConn of a connected socket, which it owns then, and begins to
// receive. In the loop's thread.
func (l *Loop) adoptNet(fd int) (*NetConn, error) {
	c := newNetConn(l)
	setNoDelay(fd)
	conn, err := l.engine.Adopt(fd, netHandler{c})
	if err != nil {
		return nil, err
	}
	conn.ownsFD = true
	c.conn = conn
	c.local, c.remote = net.TCPAddrFromAddrPort(localAddr(fd)), net.TCPAddrFromAddrPort(remoteAddr(fd))
	conn.Resume()
	return c, nil
}

// remoteAddr answers what a socket is connected to.
func remoteAddr(fd int) (at netip.AddrPort) {
	name, err := unix.Getpeername(fd)
	if err != nil {
		return at
	}
	return addrPortOf(name)
}

// Received implements Handler.
func (h netHandler) Received(_ *Conn, p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.in.Write(p)
	if h.in.Len() > netHighWater && !h.paused {
		h.paused = true
		h.conn.Pause()
	}
	notify(h.readable)
}

// ReceivedEOF implements Handler.
func (h netHandler) ReceivedEOF(*Conn) (keepOpen bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.eof = true
	notify(h.readable)
	return true
}

// Backlog implements Handler.
func (h netHandler) Backlog(_ *Conn, queued, _ int) {
	h.mu.Lock()
	h.backlog = queued > 0
	more := !h.backlog && !h.flushing && (len(h.out) > 0 || h.wroteEOF)
	h.mu.Unlock()
	if more {
		h.flushOut()
	}
}

// Closed implements Handler.
func (h netHandler) Closed(_ *Conn, err *OpError) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = net.ErrClosed
	if err != nil {
		h.ended = os.NewSyscallError(err.Op, err.Err)
	}
	h.out, h.spare = nil, nil
	if h.linger != nil {
		h.linger.Stop()
	}
	if isDone(h.closed) {
		h.in = bytes.Buffer{}
	}
	notify(h.readable)
	notify(h.writable)
}

// flushOut gives the engine what was written, unless it has more than the kernel takes. In
// the loop's thread.
func (c *NetConn) flushOut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushing = false
	if !c.backlog {
		c.handOut()
	}
}

// handOut gives the engine what was written, and then the end. c.mu is held.
func (c *NetConn) handOut() {
	out := c.out
	c.out = c.spare[:0]
	c.conn.Write(out)
	c.spare = nil
	if cap(out) <= netBufferKept {
		c.spare = out[:0]
	}
	if c.wroteEOF {
		c.conn.WriteEOF()
	}
	notify(c.writable)
}

// finish is the part of Close that the loop's thread does: what is written is sent, as the
// kernel goes on sending for a socket that is closed.
func (c *NetConn) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil {
		return
	}
	c.in = bytes.Buffer{}
	c.handOut()
	c.conn.Close()
	c.linger = c.loop.engine.AfterFunc(netLinger, c.conn.Abort)
}
