package main

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// A datagram is its number, the connection's index, and a slice of the
	// connection's stream at the place that belongs to that number.
	datagramHead = 8 + 4
	maxDatagram  = 65_507 // of UDP over IPv4: 65,535 less both heads

	// lossAfter: over loopback a datagram is answered within the time of a batch or
	// not at all, because the receiver's buffer was full.
	lossAfter = 200 * time.Millisecond
	// lossLimit is the part of all datagrams that may be lost. Losses below
	// are reported and don't end the run: UDP allows them.
	lossLimit = 0.01
	// lossesInARow of one connection are no bad luck: nobody answers.
	lossesInARow = 3
	// lossLookNS is how often lost datagrams are looked for.
	lossLookNS = int64(20 * time.Millisecond)
)

// udpClient keeps one datagram under way on each of its connected sockets.
type udpClient struct {
	*session
	size    int
	to      peer
	pattern *pattern
	conns   []udpConn
	started int
	proven  int
	sends   uint64
	missing map[datagramID]bool // given up; may still come
	scratch []byte
	lookNS  int64 // when to look for lost ones again
}

// datagramID names one datagram of the run.
type datagramID struct {
	index  int
	number uint64
}

type udpConn struct {
	number     uint64 // of the datagram under way
	message    []byte // it
	ready      bool   // the socket is connected
	waiting    bool   // for its answer
	moving     bool   // the engine has not sent it yet
	due        bool   // the next one is to be sent when it has
	missed     int    // datagrams without an answer in a row
	sentNS     int64
	sentFairNS int64
	answeredNS int64 // the fair time of the last answer
}

func runUDP(args []string) (failed bool, err error) {
	f := flag.NewFlagSet("udp", flag.ExitOnError)
	var l limits
	l.register(f)
	size := f.Int("size", 1024, "datagram `bytes`")
	f.Parse(args)
	if err := l.check(); err != nil {
		return false, err
	}
	if *size < datagramHead || *size > maxDatagram {
		return false, fmt.Errorf("-size must be %d to %d", datagramHead, maxDatagram)
	}
	c, err := newUDPClient(l, *size)
	if err != nil {
		return false, err
	}
	if err := c.run(c, finished); err != nil {
		return true, err
	}
	c.judgeLosses()
	return c.reportAndClose()
}

func newUDPClient(l limits, size int) (*udpClient, error) {
	to, err := parsePeer(l.addr)
	if err != nil {
		return nil, err
	}
	to.kind = unix.SOCK_DGRAM
	s, err := newSession(l, "udp", shape{slots: l.conns, chunk: size, datagrams: true})
	if err != nil {
		return nil, err
	}
	c := &udpClient{session: s, size: size, to: to, pattern: newPattern(), missing: map[datagramID]bool{}}
	c.result.SizeBytes = size
	c.scratch = make([]byte, size)
	c.conns = make([]udpConn, l.conns)
	for i := range c.conns {
		c.conns[i].message = make([]byte, size)
	}
	return c, nil
}

// compose writes a datagram.
func (c *udpClient) compose(to []byte, id datagramID) {
	binary.BigEndian.PutUint64(to, id.number)
	binary.BigEndian.PutUint32(to[8:], uint32(id.index))
	body := to[datagramHead:]
	copy(body, c.pattern.at(uint64(id.index), id.number*uint64(len(body)), len(body)))
}

func (c *udpClient) ramp() (bool, error) {
	for c.started < len(c.conns) && c.started-c.proven < rampWindow {
		fd, err := c.to.dial()
		if err != nil {
			return false, err
		}
		c.conns[c.started].answeredNS = c.fairNS
		if err := c.engine.add(c.started, fd); err != nil {
			return false, err
		}
		c.started++
	}
	return c.proven == len(c.conns), nil
}

func (c *udpClient) start() {
	for i := range c.conns {
		c.next(i)
	}
}

// next sends the next datagram of a connection.
func (c *udpClient) next(slot int) {
	conn := &c.conns[slot]
	if conn.due = conn.moving; conn.due {
		return
	}
	conn.number++
	c.compose(conn.message, datagramID{slot, conn.number})
	conn.waiting, conn.sentNS, conn.sentFairNS = true, c.nowNS, c.fairNS
	c.sends++
	conn.moving = !c.engine.send(slot, conn.message)
}

func (c *udpClient) connected(slot int) {
	c.conns[slot].ready = true
	c.next(slot)
}

func (c *udpClient) sent(slot int) {
	conn := &c.conns[slot]
	conn.moving = false
	if conn.due {
		c.next(slot)
	}
}

func (c *udpClient) received(slot int, p []byte) {
	conn := &c.conns[slot]
	c.result.TotalBytes += uint64(len(p))
	if !conn.waiting || !bytes.Equal(p, conn.message) {
		c.other(slot, p)
		return
	}
	conn.waiting, conn.missed, conn.answeredNS = false, 0, c.fairNS
	c.message(c.nowNS - conn.sentNS)
	switch {
	case c.phase == ramping:
		c.proven++
	case c.busy():
		c.next(slot)
	}
}

// other judges a datagram that is not the one under way: right only if it is
// one that was given up.
func (c *udpClient) other(slot int, p []byte) {
	if len(p) != c.size {
		c.mismatch("connection %d: a datagram of %d bytes instead of %d", slot, len(p), c.size)
		return
	}
	id := datagramID{slot, binary.BigEndian.Uint64(p)}
	c.compose(c.scratch, id)
	switch {
	case !bytes.Equal(p, c.scratch):
		c.mismatch("connection %d: a datagram that was never sent here, number %d", slot, id.number)
	case !c.missing[id]:
		c.mismatch("connection %d: datagram %d came again", slot, id.number)
	default:
		delete(c.missing, id)
		c.result.Late++
	}
}

func (c *udpClient) ended(slot int) { c.mismatch("connection %d: an empty datagram", slot) }

func (c *udpClient) lost(slot int, doing string, because error) {
	c.fail("connection %d, datagram %d: %s: %v", slot, c.conns[slot].number, doing, because)
	c.engine.shut(slot)
	c.conns[slot].ready, c.conns[slot].waiting = false, false
}

// tick gives up datagrams that have not come back.
func (c *udpClient) tick() {
	if c.nowNS < c.lookNS {
		return
	}
	c.lookNS = c.nowNS + lossLookNS
	for i := range c.conns {
		conn := &c.conns[i]
		if !conn.waiting || conn.moving || c.fairNS-conn.sentFairNS < int64(lossAfter) {
			continue
		}
		conn.waiting = false
		c.missing[datagramID{i, conn.number}] = true
		c.result.Lost++
		if conn.missed++; conn.missed >= lossesInARow {
			c.fail("connection %d: %d datagrams in a row were lost", i, conn.missed)
		}
		if c.phase < draining {
			c.next(i)
		}
	}
}

// judgeLosses fails a run that lost too much.
func (c *udpClient) judgeLosses() {
	if lost := c.result.Lost; float64(lost) > lossLimit*float64(c.sends) {
		c.fail("%d of %d datagrams were lost", lost, c.sends)
	}
}

func (c *udpClient) stalled(before int64) (n int, name string) {
	for i := range c.conns {
		if conn := &c.conns[i]; conn.ready && conn.answeredNS < before && (conn.waiting || c.busy()) {
			n++
			name = fmt.Sprintf("connection %d, datagram %d", i, conn.number)
		}
	}
	return n, name
}

func (c *udpClient) outstanding() (n int) {
	for i := range c.conns {
		if c.conns[i].waiting {
			n++
		}
	}
	return n
}
