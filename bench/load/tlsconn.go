package main

import (
	"bytes"
	"crypto/tls"
	"io"
)

// tlsConn is one connection's place in its stream of bytes.
type tlsConn struct {
	client *tlsClient
	index  int
	state  connState
	wire   *tlsWire
	secure *tls.Conn

	waiting    bool // the server owes an answer, or the end
	moving     bool // the kernel has not taken all that was sent
	due        bool // something is to be sent when it has
	sent       uint64
	verified   uint64
	sentNS     int64
	progressNS int64
}

func (c *tlsConn) connect() (err error) {
	if c.wire, c.secure, err = c.client.dialTLS(); err != nil {
		return err
	}
	c.state = open
	c.waiting, c.progressNS = true, c.client.fairNS
	return c.client.engine.add(c.index, c.wire.fd)
}

// next sends a message.
func (c *tlsConn) next() {
	message := c.client.pattern.at(uint64(c.index), c.sent, c.client.size)
	c.sent += uint64(c.client.size)
	c.waiting, c.sentNS, c.progressNS = true, c.client.nowNS, c.client.fairNS
	if _, err := c.secure.Write(message); err != nil {
		c.lost("encryption", err)
		return
	}
	c.push()
}

// push sends what crypto/tls has written. The engine may need those bytes until
// it has sent them, so what is written in the meantime goes to another buffer.
func (c *tlsConn) push() {
	if c.due = c.moving; c.due || len(c.wire.out) == 0 {
		return
	}
	p := c.wire.out
	if c.moving = !c.client.engine.send(c.index, p); c.moving {
		c.wire.out, c.wire.spare = c.wire.spare[:0], p
	} else {
		c.wire.out = p[:0]
	}
}

func (c *tlsConn) taken() {
	c.moving = false
	c.progressNS = c.client.fairNS
	if c.due {
		c.push()
	}
}

// received decrypts and checks what has come.
func (c *tlsConn) received(p []byte) {
	c.wire.in = p
	for c.state != closed {
		n, err := c.secure.Read(c.client.buffer)
		if n > 0 && !c.verify(c.client.buffer[:n]) {
			return
		}
		switch err {
		case nil:
		case errNotYet:
			if c.verified == c.sent && c.waiting && c.state == open {
				c.complete()
			}
			c.push() // what crypto/tls itself had to say
			return
		case io.EOF: // the server's goodbye; the end of the stream follows
			return
		default:
			c.lost("decryption", err)
			return
		}
	}
}

func (c *tlsConn) verify(got []byte) bool {
	if uint64(len(got)) > c.sent-c.verified {
		c.client.mismatch("connection %d: more bytes came back than the %d that were sent", c.index, c.sent)
		c.shut()
		return false
	}
	if !bytes.Equal(got, c.client.pattern.at(uint64(c.index), c.verified, len(got))) {
		c.client.mismatch("connection %d: bytes %d to %d came back changed", c.index, c.verified, c.verified+uint64(len(got)))
		c.shut()
		return false
	}
	c.verified += uint64(len(got))
	c.client.result.TotalBytes += uint64(len(got))
	c.progressNS = c.client.fairNS
	return true
}

func (c *tlsConn) complete() {
	c.waiting = false
	c.client.message(c.client.nowNS - c.sentNS)
	switch {
	case c.client.phase == ramping:
		c.client.proven++
	case c.client.busy():
		c.next()
	default:
		c.halfClose()
	}
}

// halfClose says goodbye (close_notify), after which the server has to end the
// connection.
func (c *tlsConn) halfClose() {
	c.state, c.waiting, c.progressNS = halfClosed, true, c.client.fairNS
	if err := c.secure.CloseWrite(); err != nil {
		c.lost("goodbye", err)
		return
	}
	c.push()
}

func (c *tlsConn) ended() {
	if c.state != halfClosed {
		c.client.fail("connection %d: the server closed after %d of %d bytes", c.index, c.verified, c.sent)
	}
	c.shut()
}

func (c *tlsConn) lost(doing string, because error) {
	c.client.fail("connection %d: %s: %v", c.index, doing, because)
	c.shut()
}

func (c *tlsConn) shut() {
	if c.state != closed {
		c.client.engine.shut(c.index)
	}
	c.state, c.waiting = closed, false
}
