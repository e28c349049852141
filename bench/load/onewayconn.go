package main

import (
	"bytes"
	"encoding/binary"
	"io"
)

// onewayConn is one connection's place in its stream.
type onewayConn struct {
	tlsPipe
	client *onewayClient
	state  connState

	position   uint64 // of the stream: verified, by us or by a server that acknowledged it
	written    uint64 // of an upload
	ack        []byte // the part of one that has come
	done       uint64 // messages
	lastNS     int64  // when the last of them was complete
	progressNS int64
}

func (c *onewayConn) connect() (err error) {
	if c.wire, c.secure, err = c.client.dial(); err != nil {
		return err
	}
	c.state = open
	c.progressNS = c.client.fairNS
	return c.engine.add(c.index, c.wire.fd)
}

// begin sends the table, from which the server takes all the rest.
func (c *onewayConn) begin() {
	c.lastNS = c.client.nowNS
	if c.client.direction == upload {
		c.topUp()
		return
	}
	c.write(c.client.pattern.at(uint64(c.index), 0, patternPeriod))
}

func (c *onewayConn) write(p []byte) {
	if _, err := c.secure.Write(p); err != nil {
		c.lost("encryption", err)
		return
	}
	c.push()
}

// topUp sends until the kernel takes no more. During the ramp that is one message.
func (c *onewayConn) topUp() {
	if c.client.direction != upload {
		return
	}
	for c.state == open && !c.moving && c.wanted() {
		p := c.client.pattern.at(uint64(c.index), c.written, onewayPiece)
		c.written += onewayPiece
		c.write(p)
	}
}

// wanted says whether another piece is to be sent. What was begun is sent to its end.
func (c *onewayConn) wanted() bool {
	switch {
	case c.client.phase == ramping:
		return c.written < mib
	case c.client.busy():
		return c.written-c.position < uploadWindow
	default:
		return c.written%mib != 0
	}
}

func (c *onewayConn) sentAll() {
	c.progressNS = c.client.fairNS
	c.taken()
	c.topUp()
}

// received decrypts and checks what has come.
func (c *onewayConn) received(p []byte) {
	c.wire.in = p
	for c.state != closed {
		n, err := c.secure.Read(c.client.buffer)
		if n > 0 {
			c.progressNS = c.client.fairNS
			if !c.verify(c.client.buffer[:n]) {
				c.shut()
				return
			}
			c.book()
		}
		switch err {
		case nil:
		case errNotYet:
			c.topUp()
			c.push()
			return
		case io.EOF: // the server's goodbye; the end of the stream follows
			return
		default:
			c.lost("decryption", err)
			return
		}
	}
}

func (c *onewayConn) verify(got []byte) bool {
	if c.client.direction == upload {
		return c.acknowledged(got)
	}
	for len(got) > 0 {
		at := c.position % downloadCycle
		n := min(len(got), int(downloadCycle-at))
		if !bytes.Equal(got[:n], c.client.pattern.at(uint64(c.index), at, n)) {
			c.client.mismatch("connection %d: bytes %d to %d came changed", c.index, c.position, c.position+uint64(n))
			return false
		}
		got = got[n:]
		c.position += uint64(n)
		c.client.result.TotalBytes += uint64(n)
	}
	return true
}

// acknowledged reads what the server says to have received and found right.
func (c *onewayConn) acknowledged(got []byte) bool {
	for c.ack = append(c.ack, got...); len(c.ack) >= ackBytes; c.ack = c.ack[:copy(c.ack, c.ack[ackBytes:])] {
		position := binary.BigEndian.Uint64(c.ack)
		if position != c.position+mib || position > c.written {
			c.client.mismatch("connection %d: the server acknowledged %d bytes after %d, of %d", c.index, position, c.position, c.written)
			return false
		}
		c.client.result.TotalBytes += position - c.position
		c.position = position
	}
	return true
}

// book counts the messages that are complete now.
func (c *onewayConn) book() {
	for c.position >= (c.done+1)*mib {
		c.client.message(c.client.nowNS - c.lastNS)
		c.done++
		c.lastNS = c.client.nowNS
		if c.done == 1 {
			c.client.proven++
		}
	}
}

// drain says goodbye when all that was sent is acknowledged; then the server has
// to end the stream. Of a download it may still send what it had begun.
func (c *onewayConn) drain() {
	if c.topUp(); c.state != open || c.moving || c.client.direction == upload && c.position != c.written {
		return
	}
	c.state, c.progressNS = halfClosed, c.client.fairNS
	if err := c.secure.CloseWrite(); err != nil {
		c.lost("goodbye", err)
		return
	}
	c.push()
}

func (c *onewayConn) ended() {
	if c.state != halfClosed {
		c.client.fail("connection %d: the server closed after %d bytes", c.index, c.position)
	}
	c.shut()
}

func (c *onewayConn) lost(doing string, because error) {
	c.client.fail("connection %d: %s: %v", c.index, doing, because)
	c.shut()
}

func (c *onewayConn) shut() {
	if c.state != closed {
		c.engine.shut(c.index)
	}
	c.state = closed
}
