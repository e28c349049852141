package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// echoClient keeps depth messages under way on each connection.
type echoClient struct {
	*session
	size    int
	depth   int
	to      unix.Sockaddr
	family  int
	pattern *pattern
	buffer  []byte // shared: what was read is checked at once and forgotten
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
		return c.runIdle()
	}
	if err := c.run(c, finished); err != nil {
		return true, err
	}
	return c.report()
}

func newEchoClient(l limits, size, depth int) (*echoClient, error) {
	s, err := newSession(l, "echo")
	if err != nil {
		return nil, err
	}
	c := &echoClient{session: s, size: size, depth: depth, pattern: newPattern()}
	c.result.SizeBytes = size
	if c.to, c.family, err = parseAddr(l.addr); err != nil {
		return nil, err
	}
	c.buffer = make([]byte, maxChunk)
	c.conns = make([]echoConn, l.conns)
	for i := range c.conns {
		c.conns[i] = echoConn{client: c, index: i, fd: -1, sentNS: make([]int64, depth)}
	}
	return c, nil
}

// runIdle holds the connections, silent, until standard input ends.
func (c *echoClient) runIdle() (failed bool, err error) {
	if err := c.run(c, warming); err != nil || c.result.failed() {
		fmt.Fprintln(os.Stderr, "load:", c.result.FirstError)
		return true, err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return false, err
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
		c.conns[i].topUp(c.nowNS)
	}
}

func (c *echoClient) event(i int, generation uint32, events uint32) {
	conn := &c.conns[i]
	if conn.generation != generation || conn.state == closed {
		return
	}
	if conn.state == connecting {
		conn.connected(events)
		return
	}
	if events&(unix.EPOLLIN|endMask) != 0 {
		conn.pull(events&endMask != 0)
	}
	if conn.blocked && events&unix.EPOLLOUT != 0 {
		conn.blocked = false
		conn.push()
	}
}

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
