package main

import (
	"flag"
	"fmt"
)

// echoClient keeps depth messages under way on each connection.
type echoClient struct {
	*session
	size    int
	depth   int
	to      peer
	pattern *pattern
	conns   []echoConn
	serials uint64 // streams begun
	started int    // connections begun during the ramp
	proven  int    // connections that exchanged a message during the ramp
	closer  *closer
	idle    bool // connections stay silent after their first message
}

func runEcho(args []string, idle bool) (failed bool, err error) {
	f := flag.NewFlagSet("echo", flag.ExitOnError)
	var l limits
	l.register(f)
	size := f.Int("size", 1024, "message `bytes`")
	depth := f.Int("depth", 1, "messages under way per connection")
	closeRate := f.Float64("close-rate", 0, "random closes per second, over all connections")
	seed := f.Uint64("seed", 1, "seed of the random closes")
	f.Parse(args)
	if err := l.check(); err != nil {
		return false, err
	}
	const maxSize, maxDepth = 64 << 20, 1024
	if *size < 1 || *size > maxSize || *depth < 1 || *depth > maxDepth {
		return false, fmt.Errorf("-size must be 1 to %d, -depth 1 to %d", maxSize, maxDepth)
	}
	c, err := newEchoClient(l, *size, *depth)
	if err != nil {
		return false, err
	}
	if *closeRate > 0 {
		c.closer = newCloser(*closeRate, *seed)
	}
	if idle {
		c.idle = true
		return c.hold(c)
	}
	return c.runAndReport(c)
}

func newEchoClient(l limits, size, depth int) (*echoClient, error) {
	to, err := parsePeer(l.addr)
	if err != nil {
		return nil, err
	}
	s, err := newSession(l, "echo", shape{slots: l.conns, chunk: size * depth})
	if err != nil {
		return nil, err
	}
	c := &echoClient{session: s, size: size, depth: depth, to: to, pattern: newPattern()}
	c.result.SizeBytes = size
	c.conns = make([]echoConn, l.conns)
	for i := range c.conns {
		c.conns[i] = echoConn{client: c, index: i, sentNS: make([]int64, depth)}
	}
	return c, nil
}

func (c *echoClient) ramp() (bool, error) {
	for c.started < len(c.conns) && c.started-c.proven < rampWindow {
		if err := c.conns[c.started].connect(); err != nil {
			return false, err
		}
		c.started++
	}
	return c.proven == len(c.conns), nil
}

func (c *echoClient) start() {
	if c.idle {
		return
	}
	for i := range c.conns {
		c.conns[i].topUp()
	}
}

func (c *echoClient) connected(slot int)            { c.conns[slot].connected() }
func (c *echoClient) sent(slot int)                 { c.conns[slot].taken() }
func (c *echoClient) received(slot int, p []byte)   { c.conns[slot].received(p) }
func (c *echoClient) ended(slot int)                { c.conns[slot].ended() }
func (c *echoClient) lost(i int, d string, e error) { c.conns[i].lost(d, e) }

func (c *echoClient) tick() {
	if c.closer != nil && c.busy() {
		c.closer.tick(c)
	}
}

func (c *echoClient) stalled(before int64) (n int, name string) {
	for i := range c.conns {
		conn := &c.conns[i]
		if conn.waiting() && conn.progressNS < before {
			n++
			name = conn.String()
		}
	}
	return n, name
}

func (c *echoClient) outstanding() (n int) {
	for i := range c.conns {
		if c.conns[i].waiting() {
			n++
		}
	}
	return n
}
