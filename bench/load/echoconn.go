package main

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"
)

type connState int

const (
	closed connState = iota
	connecting
	open
	halfClosed // our side is shut down: the rest has to come back, then the end
)

// echoConn is one connection's place in its stream of bytes. Positions count
// from 0 since the connection was made; verified <= offered <= target.
type echoConn struct {
	client *echoClient
	index  int    // of its slot in the engine
	serial uint64 // counts the streams of the whole run: chooses the payload
	state  connState
	moving bool // the kernel has not taken all that was offered
	ending bool // a half close is due when it has

	offered, target, verified uint64
	begun, done               uint64  // messages
	sentNS                    []int64 // when message n began, at n mod depth
	progressNS                int64   // last time anything moved, or was begun
}

func (c *echoConn) String() string {
	return fmt.Sprintf("connection %d (stream %d, state %d, sent %d of %d, received %d, %d messages complete)",
		c.index, c.serial, c.state, c.offered, c.target, c.verified, c.done)
}

// waiting says whether the peer owes this connection something.
func (c *echoConn) waiting() bool {
	switch c.state {
	case connecting, halfClosed:
		return true
	case open:
		return c.verified < c.target
	default:
		return false
	}
}

func (c *echoConn) connect() error {
	fd, err := c.client.to.dial()
	if err != nil {
		return err
	}
	c.client.serials++
	c.serial = c.client.serials
	c.state = connecting
	c.moving, c.ending = false, false
	c.offered, c.target, c.verified, c.begun, c.done = 0, 0, 0, 0, 0
	c.progressNS = c.client.fairNS
	return c.client.engine.add(c.index, fd)
}

func (c *echoConn) connected() {
	c.state = open
	c.begin()
	c.push()
}

// begin adds a message to what is to be sent.
func (c *echoConn) begin() {
	if c.verified == c.target { // it was idle: the stall clock starts now
		c.progressNS = c.client.fairNS
	}
	c.sentNS[c.begun%uint64(len(c.sentNS))] = c.client.nowNS
	c.begun++
	c.target += uint64(c.client.size)
}

// topUp keeps the wanted number of messages under way.
func (c *echoConn) topUp() {
	if c.state != open || c.ending {
		return
	}
	for c.begun-c.done < uint64(c.client.depth) {
		c.begin()
	}
	c.push()
}

// push sends until all is sent or the kernel takes no more.
func (c *echoConn) push() {
	for c.offered < c.target && !c.moving {
		chunk := c.client.pattern.at(c.serial, c.offered, int(min(c.target-c.offered, maxChunk)))
		c.offered += uint64(len(chunk))
		c.moving = !c.client.engine.send(c.index, chunk)
	}
}

// taken goes on when the kernel has taken what was offered.
func (c *echoConn) taken() {
	c.moving = false
	c.progressNS = c.client.fairNS
	c.push()
	c.finish()
}

// received verifies what has come, books the messages that are complete now,
// and begins new ones.
func (c *echoConn) received(p []byte) {
	if c.state == closed || !c.verify(p) {
		return
	}
	size := uint64(c.client.size)
	if c.verified < (c.done+1)*size {
		return
	}
	for c.verified >= (c.done+1)*size {
		c.client.message(c.client.nowNS - c.sentNS[c.done%uint64(len(c.sentNS))])
		c.done++
	}
	switch {
	case c.client.phase == ramping:
		c.client.proven++
	case c.client.busy():
		c.topUp()
	}
}

// verify compares the bytes that have come with those that were sent. All
// that came is compared, and more than was offered is a fault.
func (c *echoConn) verify(got []byte) bool {
	if uint64(len(got)) > c.offered-c.verified {
		c.client.mismatch("more bytes came back than were sent: %v", c)
		c.shut()
		return false
	}
	for len(got) > 0 {
		n := min(len(got), maxChunk)
		want := c.client.pattern.at(c.serial, c.verified, n)
		if !bytes.Equal(got[:n], want) {
			i := 0
			for got[i] == want[i] {
				i++
			}
			c.client.mismatch("byte %d is %#02x instead of %#02x: %v", c.verified+uint64(i), got[i], want[i], c)
			c.shut()
			return false
		}
		c.verified += uint64(n)
		c.client.result.TotalBytes += uint64(n)
		got = got[n:]
	}
	c.progressNS = c.client.fairNS
	return true
}

// halfClose ends our side once all that was begun is sent; all of it has to
// come back, then the peer's end of stream.
func (c *echoConn) halfClose() {
	c.ending = true
	c.finish()
}

func (c *echoConn) finish() {
	if !c.ending || c.moving || c.state != open {
		return
	}
	if err := unix.Shutdown(c.client.engine.fd(c.index), unix.SHUT_WR); err != nil {
		c.lost("shutdown", err)
		return
	}
	c.state = halfClosed
	c.progressNS = c.client.fairNS
}

// ended handles the peer's end of stream: right only as the answer to ours.
func (c *echoConn) ended() {
	if c.state != halfClosed || c.verified != c.target {
		c.client.fail("the server closed: %v", c)
		c.shut()
		return
	}
	c.shut()
	c.again()
}

func (c *echoConn) lost(what string, err error) {
	c.client.fail("%s: %v: %v", what, err, c)
	c.shut()
}

func (c *echoConn) shut() {
	c.client.engine.shut(c.index)
	c.state = closed
}

// again makes the connection anew after a random close.
func (c *echoConn) again() {
	if !c.client.busy() {
		return
	}
	if err := c.connect(); err != nil {
		c.client.fail("connecting again: %v", err)
	}
}
