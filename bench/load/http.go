package main

import (
	"errors"
	"flag"
	"fmt"
)

// httpClient keeps one GET under way on each of its keep-alive connections.
type httpClient struct {
	*session
	to      peer
	request []byte
	conns   []httpConn
	started int
	proven  int
}

type httpConn struct {
	client     *httpClient
	index      int
	state      connState
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
	return c.runAndReport(c)
}

func newHTTPClient(l limits, path, expect string) (*httpClient, error) {
	to, err := parsePeer(l.addr)
	if err != nil {
		return nil, err
	}
	s, err := newSession(l, "http", shape{slots: l.conns})
	if err != nil {
		return nil, err
	}
	c := &httpClient{session: s, to: to}
	const form = "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: kloop-load\r\nAccept: */*\r\n\r\n"
	c.request = fmt.Appendf(nil, form, path, l.addr)
	c.conns = make([]httpConn, l.conns)
	for i := range c.conns {
		c.conns[i] = httpConn{client: c, index: i, parser: responseParser{expect: expect}}
	}
	return c, nil
}

func (c *httpClient) ramp() (bool, error) {
	for c.started < len(c.conns) && c.started-c.proven < rampWindow {
		conn := &c.conns[c.started]
		fd, err := c.to.dial()
		if err != nil {
			return false, err
		}
		conn.state, conn.waiting, conn.progressNS = connecting, true, c.fairNS
		if err := c.engine.add(conn.index, fd); err != nil {
			return false, err
		}
		c.started++
	}
	return c.proven == len(c.conns), nil
}

func (c *httpClient) start() {
	for i := range c.conns {
		c.conns[i].get()
	}
}

func (c *httpClient) tick() {}

func (c *httpClient) connected(slot int) {
	c.conns[slot].state = open
	c.conns[slot].get()
}

func (c *httpClient) sent(int) {} // a request is never followed by another before its response

func (c *httpClient) received(slot int, p []byte) { c.conns[slot].feed(p) }

func (c *httpClient) ended(slot int) {
	c.lost(slot, "keep-alive", errors.New("the server closed the connection"))
}

func (c *httpClient) lost(slot int, doing string, because error) {
	conn := &c.conns[slot]
	c.fail("connection %d after %d responses: %s: %v", slot, conn.responses, doing, because)
	conn.shut()
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
func (c *httpConn) get() {
	c.waiting = true
	c.sentNS, c.progressNS = c.client.nowNS, c.client.fairNS
	c.client.engine.send(c.index, c.client.request)
}

// feed hands received bytes to the parser; a complete response is booked and the
// next request sent.
func (c *httpConn) feed(b []byte) {
	c.progressNS = c.client.fairNS
	c.client.result.TotalBytes += uint64(len(b))
	if !c.waiting {
		c.client.mismatch("connection %d: %d bytes that nobody asked for", c.index, len(b))
		c.shut()
		return
	}
	rest, done, err := c.parser.feed(b)
	switch {
	case err != nil:
		c.client.mismatch("connection %d, response %d: %v", c.index, c.responses, err)
		c.shut()
	case done && len(rest) > 0:
		c.client.mismatch("connection %d: %d bytes behind response %d", c.index, len(rest), c.responses)
		c.shut()
	case done:
		c.complete()
	}
}

func (c *httpConn) complete() {
	c.waiting = false
	c.responses++
	c.client.message(c.client.nowNS - c.sentNS)
	switch {
	case c.client.phase == ramping:
		c.client.proven++
	case c.client.busy():
		c.get()
	}
}

func (c *httpConn) shut() {
	c.client.engine.shut(c.index)
	c.state, c.waiting = closed, false
}
