package main

import (
	"bytes"
	"io"
)

// tlsConn is one connection's place in its stream of bytes.
type tlsConn struct {
	tlsPipe
	client *tlsClient
	state  connState

	waiting    bool // the server owes an answer, or the end
	sent       uint64
	verified   uint64
	sentNS     int64
	progressNS int64
}

func (c *tlsConn) connect() (err error) {
	if c.wire, c.secure, err = c.client.dial(); err != nil {
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

func (c *tlsConn) sentAll() {
	c.progressNS = c.client.fairNS
	c.taken()
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
			c.push() // what TLS itself had to say
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
