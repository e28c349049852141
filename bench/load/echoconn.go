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
	halfClosed // our side is shut down: the rest has to come, then the end
)

// echoConn is one connection's place in its stream of bytes. Positions count
// from 0 since the connection was made; received <= sent <= target.
type echoConn struct {
	client     *echoClient
	index      int
	fd         int
	generation uint32 // counts the sockets of this place
	serial     uint64 // counts the streams of the whole run: chooses the payload
	state      connState
	blocked    bool // the kernel took less than was offered: wait for EPOLLOUT

	sent, target, received uint64
	begun, done            uint64  // messages
	sentNS                 []int64 // when message n began, at n mod depth
	progressNS             int64   // last time anything moved, or was begun
}

func (c *echoConn) String() string {
	return fmt.Sprintf("connection %d (stream %d, state %d, sent %d of %d, received %d, %d messages complete)",
		c.index, c.serial, c.state, c.sent, c.target, c.received, c.done)
}

// waiting says whether the peer owes this connection something.
func (c *echoConn) waiting() bool {
	switch c.state {
	case connecting, halfClosed:
		return true
	case open:
		return c.received < c.target
	default:
		return false
	}
}

func (c *echoConn) connect() error {
	fd, err := dial(c.client.to, c.client.family)
	if err != nil {
		return err
	}
	c.fd = fd
	c.generation++
	c.client.serials++
	c.serial = c.client.serials
	c.state = connecting
	c.blocked = false
	c.sent, c.target, c.received, c.begun, c.done = 0, 0, 0, 0, 0
	c.progressNS = c.client.fairNS
	return c.client.poll.add(fd, c.index, c.generation)
}

func (c *echoConn) connected(events uint32) {
	if err := socketError(c.fd); err != nil {
		c.lost("connect", err)
		return
	}
	if events&unix.EPOLLOUT == 0 {
		return
	}
	c.state = open
	c.begin(c.client.clock())
	c.push()
}

// begin adds a message to what is to be sent.
func (c *echoConn) begin(now int64) {
	if c.received == c.target { // it was idle: the stall clock starts now
		c.progressNS = c.client.fairNS
	}
	c.sentNS[c.begun%uint64(len(c.sentNS))] = now
	c.begun++
	c.target += uint64(c.client.size)
}

// topUp keeps the wanted number of messages under way.
func (c *echoConn) topUp(now int64) {
	if c.state != open {
		return
	}
	for c.begun-c.done < uint64(c.client.depth) {
		c.begin(now)
	}
	if !c.blocked {
		c.push()
	}
}

// push sends until all is sent or the kernel takes no more.
func (c *echoConn) push() {
	for c.sent < c.target {
		chunk := c.client.pattern.at(c.serial, c.sent, int(min(c.target-c.sent, maxChunk)))
		n, err := unix.Write(c.fd, chunk)
		switch err {
		case nil:
			c.sent += uint64(n)
			c.progressNS = c.client.fairNS
		case unix.EAGAIN:
			c.blocked = true
			return
		case unix.EINTR:
		default:
			c.lost("write", err)
			return
		}
	}
}

// pull reads until the socket is drained. One byte more than is due is asked for:
// a surplus byte shows up as an error, and an answer that is short
// of the request says that nothing is left (epoll(7), question 9), without a
// second read, unless the end of the stream has come too.
func (c *echoConn) pull(toEnd bool) {
	for c.state == open || c.state == halfClosed {
		want := int(min(c.sent-c.received+1, maxChunk))
		n, err := unix.Read(c.fd, c.client.buffer[:want])
		switch {
		case err == unix.EAGAIN:
			return
		case err == unix.EINTR:
			continue
		case err != nil:
			c.lost("read", err)
			return
		case n == 0:
			c.ended()
			return
		}
		if !c.verify(n) {
			return
		}
		c.complete()
		if n < want && !toEnd {
			return
		}
	}
}

// verify compares n bytes that have come with those that were sent.
func (c *echoConn) verify(n int) bool {
	if uint64(n) > c.sent-c.received {
		c.client.mismatch("more bytes came back than were sent: %v", c)
		c.shut()
		return false
	}
	got, want := c.client.buffer[:n], c.client.pattern.at(c.serial, c.received, n)
	if !bytes.Equal(got, want) {
		i := 0
		for got[i] == want[i] {
			i++
		}
		c.client.mismatch("byte %d is %#02x instead of %#02x: %v", c.received+uint64(i), got[i], want[i], c)
		c.shut()
		return false
	}
	c.received += uint64(n)
	c.client.result.TotalBytes += uint64(n)
	c.progressNS = c.client.fairNS
	return true
}

// complete books the messages that are complete now, and begins new ones.
func (c *echoConn) complete() {
	size := uint64(c.client.size)
	if c.received < (c.done+1)*size {
		return
	}
	now := c.client.clock()
	for c.received >= (c.done+1)*size {
		c.client.message(now - c.sentNS[c.done%uint64(len(c.sentNS))])
		c.done++
	}
	switch {
	case c.client.phase == ramping:
		c.client.proven++
	case c.client.busy() && c.state == open:
		c.topUp(now)
	}
}

// ended handles the peer's end of stream: right only as the answer to ours.
func (c *echoConn) ended() {
	if c.state != halfClosed || c.received != c.sent {
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

// shut closes the socket; epoll forgets it by itself.
func (c *echoConn) shut() {
	unix.Close(c.fd)
	c.fd, c.state = -1, closed
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
