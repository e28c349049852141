package main

import (
	"flag"
	"fmt"

	"golang.org/x/sys/unix"
)

// httpClient keeps one GET under way on each of its keep-alive connections.
type httpClient struct {
	*session
	to      unix.Sockaddr
	family  int
	request []byte
	buffer  []byte
	conns   []httpConn
	started int
	proven  int
}

type httpConn struct {
	client     *httpClient
	index      int
	fd         int
	state      connState
	unsent     []byte // the rest of a request
	parser     responseParser
	waiting    bool // a response is due
	sentNS     int64
	progressNS int64
	responses  uint64
}

func runHTTP(args []string) (failed bool, err error) {
	f := flag.NewFlagSet("http", flag.ExitOnError)
	var l limits
	l.register(f)
	path := f.String("path", "/", "what to GET")
	expect := f.String("expect", "", "the body that every response must have; empty: any")
	f.Parse(args)
	if err := l.check(); err != nil {
		return false, err
	}
	c, err := newHTTPClient(l, *path, *expect)
	if err != nil {
		return false, err
	}
	if err := c.run(c, finished); err != nil {
		return true, err
	}
	return c.report()
}

func newHTTPClient(l limits, path, expect string) (*httpClient, error) {
	s, err := newSession(l, "http")
	if err != nil {
		return nil, err
	}
	c := &httpClient{session: s, buffer: make([]byte, maxChunk)}
	if c.to, c.family, err = parseAddr(l.addr); err != nil {
		return nil, err
	}
	const form = "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: kloop-load\r\nAccept: */*\r\n\r\n"
	c.request = fmt.Appendf(nil, form, path, l.addr)
	c.conns = make([]httpConn, l.conns)
	for i := range c.conns {
		c.conns[i] = httpConn{client: c, index: i, fd: -1, parser: responseParser{expect: expect}}
	}
	return c, nil
}

func (c *httpClient) ramp() (bool, error) {
	for c.started < len(c.conns) && c.started-c.proven < rampWindow {
		conn := &c.conns[c.started]
		fd, err := dial(c.to, c.family)
		if err != nil {
			return false, err
		}
		conn.fd, conn.state = fd, connecting
		conn.waiting, conn.progressNS = true, c.fairNS
		if err := c.poll.add(fd, conn.index, 0); err != nil {
			return false, err
		}
		c.started++
	}
	return c.proven == len(c.conns), nil
}

func (c *httpClient) start() {
	for i := range c.conns {
		c.conns[i].get(c.nowNS)
	}
}

func (c *httpClient) tick() {}

func (c *httpClient) event(i int, _ uint32, events uint32) {
	conn := &c.conns[i]
	if conn.state == connecting {
		if err := socketError(conn.fd); err != nil {
			conn.lost("connect: %v", err)
			return
		}
		if events&unix.EPOLLOUT == 0 {
			return
		}
		conn.state = open
		conn.get(c.clock())
		return
	}
	if conn.state != open {
		return
	}
	conn.push()
	if events&(unix.EPOLLIN|endMask) != 0 {
		conn.pull(events&endMask != 0)
	}
}

func (c *httpClient) stalled(before int64) (n int, name string) {
	for i := range c.conns {
		conn := &c.conns[i]
		if conn.waiting && conn.progressNS < before {
			n++
			name = fmt.Sprintf("connection %d after %d responses", conn.index, conn.responses)
		}
	}
	return n, name
}

func (c *httpClient) outstanding() (n int) {
	for i := range c.conns {
		if c.conns[i].waiting {
			n++
		}
	}
	return n
}

// get sends a request.
func (c *httpConn) get(now int64) {
	c.waiting = true
	c.sentNS, c.progressNS = now, c.client.fairNS
	c.unsent = c.client.request
	c.push()
}

func (c *httpConn) push() {
	for len(c.unsent) > 0 {
		n, err := unix.Write(c.fd, c.unsent)
		switch err {
		case nil:
			c.unsent = c.unsent[n:]
		case unix.EAGAIN: // EPOLLOUT will say when
			return
		case unix.EINTR:
		default:
			c.lost("write: %v", err)
			return
		}
	}
}

// pull reads until the socket is drained; a read that did not fill the buffer
// has drained it, unless the end has come too.
func (c *httpConn) pull(toEnd bool) {
	for c.state == open {
		n, err := unix.Read(c.fd, c.client.buffer)
		switch {
		case err == unix.EAGAIN:
			return
		case err == unix.EINTR:
			continue
		case err != nil:
			c.lost("read: %v", err)
			return
		case n == 0:
			c.lost("%v", "the server closed a keep-alive connection")
			return
		}
		c.progressNS = c.client.fairNS
		c.client.result.TotalBytes += uint64(n)
		if !c.feed(c.client.buffer[:n]) {
			return
		}
		if n < len(c.client.buffer) && !toEnd {
			return
		}
	}
}

// feed hands received bytes to the parser; a complete response is booked and the
// next request sent.
func (c *httpConn) feed(b []byte) bool {
	if !c.waiting {
		c.client.mismatch("connection %d: %d bytes that nobody asked for", c.index, len(b))
		return false
	}
	rest, done, err := c.parser.feed(b)
	if err != nil {
		c.client.mismatch("connection %d, response %d: %v", c.index, c.responses, err)
		return false
	}
	if !done {
		return true
	}
	if len(rest) > 0 {
		c.client.mismatch("connection %d: %d bytes behind response %d", c.index, len(rest), c.responses)
		return false
	}
	c.complete()
	return true
}

func (c *httpConn) complete() {
	now := c.client.clock()
	c.waiting = false
	c.responses++
	c.client.message(now - c.sentNS)
	switch {
	case c.client.phase == ramping:
		c.client.proven++
	case c.client.busy():
		c.get(now)
	}
}

func (c *httpConn) lost(format string, cause any) {
	c.client.fail("connection %d after %d responses: "+format, c.index, c.responses, cause)
	unix.Close(c.fd)
	c.fd, c.state, c.waiting = -1, closed, false
}
