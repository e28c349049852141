package main

import (
	"flag"
	"fmt"
)

// direction says who sends.
type direction string

const (
	download direction = "download"
	upload   direction = "upload"
)

const (
	// A message is 1 MiB: rates are MiB per second, the CPU time of one is that of a MiB.
	mib = 1 << 20

	// onewayPiece is what servers write at once, and what we do.
	onewayPiece = 64 << 10

	// downloadCycle: the stream of a download is that of the pattern, but begins anew
	// after so many bytes, so that servers need not make anything while the clock runs.
	// Pieces that are lost or doubled, up to all of a cycle, don't compare equal.
	downloadCycle = 31 * onewayPiece

	// uploadWindow bounds what is sent and not acknowledged: above what the kernel holds for a
	// connection, so that it is the kernel's flow control that bounds it as a rule.
	uploadWindow = 16 * mib

	// ackBytes: of an upload, each MiB is acknowledged with the number of bytes, big-endian.
	ackBytes = 8
)

// onewayClient has connections on which one side sends as fast as flow control
// allows. On each, the client first sends the pattern's table, from which a server
// takes what it has to send or to expect. Of an upload it is the beginning.
type onewayClient struct {
	*session
	tlsDialer
	tlsRamp
	direction direction
	pattern   *pattern
	conns     []onewayConn
	buffer    []byte
}

func runOneWay(args []string, to direction) (failed bool, err error) {
	f := flag.NewFlagSet(string(to), flag.ExitOnError)
	var l limits
	l.register(f)
	trusted := f.String("trusted", certificateFile, "the server's certificate, a PEM `file`")
	f.Parse(args)
	if err := l.check(); err != nil {
		return false, err
	}
	c, err := newOneWayClient(l, to, *trusted)
	if err != nil {
		return false, err
	}
	return c.runAndReport(c)
}

func newOneWayClient(l limits, to direction, trusted string) (*onewayClient, error) {
	d, err := newTLSDialer(l.addr, trusted)
	if err != nil {
		return nil, err
	}
	s, err := newSession(l, string(to), shape{slots: l.conns, chunk: maxChunk})
	if err != nil {
		return nil, err
	}
	c := &onewayClient{session: s, tlsDialer: d, direction: to, pattern: newPattern(), buffer: make([]byte, maxChunk)}
	c.result.SizeBytes = mib
	c.conns = make([]onewayConn, l.conns)
	for i := range c.conns {
		c.conns[i] = onewayConn{client: c, tlsPipe: tlsPipe{engine: s.engine, index: i}}
	}
	return c, nil
}

func (c *onewayClient) ramp() (bool, error) {
	return c.rampOne(len(c.conns), func(i int) error { return c.conns[i].connect() }, c.fail), nil
}

func (c *onewayClient) start() {
	for i := range c.conns {
		c.conns[i].topUp()
	}
}

// tick ends connections once nothing new is wanted.
func (c *onewayClient) tick() {
	if c.phase != draining {
		return
	}
	for i := range c.conns {
		c.conns[i].drain()
	}
}

func (c *onewayClient) connected(slot int) { c.conns[slot].begin() }

func (c *onewayClient) sent(slot int) { c.conns[slot].sentAll() }

func (c *onewayClient) received(slot int, p []byte) { c.conns[slot].received(p) }

func (c *onewayClient) ended(slot int) { c.conns[slot].ended() }

func (c *onewayClient) lost(slot int, doing string, because error) {
	c.conns[slot].lost(doing, because)
}

// stalled counts connections without progress: one side always has to move something.
func (c *onewayClient) stalled(before int64) (n int, name string) {
	for i := range c.conns {
		if conn := &c.conns[i]; conn.state != closed && conn.progressNS < before {
			n++
			name = fmt.Sprintf("connection %d, byte %d", i, conn.position)
		}
	}
	return n, name
}

func (c *onewayClient) outstanding() (n int) {
	for i := range c.conns {
		if c.conns[i].state != closed {
			n++
		}
	}
	return n
}
