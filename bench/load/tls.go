package main

import "fmt"

// tlsClient keeps one message under way on each of its TLS connections: TLS
// over a session's engine, without a goroutine per connection, which would cost
// more than the encryption of a small message.
type tlsClient struct {
	*session
	tlsDialer
	tlsRamp
	size    int
	pattern *pattern
	conns   []tlsConn
	buffer  []byte // shared: what was decrypted is checked at once
	idle    bool   // connections stay silent after their first message
}

func runTLS(args []string, idle bool) (failed bool, err error) {
	l, size, trusted, err := tlsFlags("tls", args, 1024)
	if err != nil {
		return false, err
	}
	c, err := newTLSClient(l, size, trusted)
	if err != nil {
		return false, err
	}
	if idle {
		c.idle = true
		return c.hold(c)
	}
	return c.runAndReport(c)
}

func newTLSClient(l limits, size int, trusted string) (*tlsClient, error) {
	d, err := newTLSDialer(l.addr, trusted)
	if err != nil {
		return nil, err
	}
	// A record is a little larger than what it holds.
	s, err := newSession(l, "tls", shape{slots: l.conns, chunk: size + size/8})
	if err != nil {
		return nil, err
	}
	c := &tlsClient{session: s, tlsDialer: d, size: size, pattern: newPattern(), buffer: make([]byte, maxChunk)}
	c.result.SizeBytes = size
	c.conns = make([]tlsConn, l.conns)
	for i := range c.conns {
		c.conns[i] = tlsConn{client: c, tlsPipe: tlsPipe{engine: s.engine, index: i}}
	}
	return c, nil
}

func (c *tlsClient) ramp() (bool, error) {
	return c.rampOne(len(c.conns), func(i int) error { return c.conns[i].connect() }, c.fail), nil
}

func (c *tlsClient) start() {
	if c.idle {
		return
	}
	for i := range c.conns {
		c.conns[i].next()
	}
}

func (c *tlsClient) tick() {}

func (c *tlsClient) connected(slot int) { c.conns[slot].next() }

func (c *tlsClient) sent(slot int) { c.conns[slot].sentAll() }

func (c *tlsClient) received(slot int, p []byte) { c.conns[slot].received(p) }

func (c *tlsClient) ended(slot int) { c.conns[slot].ended() }

func (c *tlsClient) lost(slot int, doing string, because error) { c.conns[slot].lost(doing, because) }

func (c *tlsClient) stalled(before int64) (n int, name string) {
	for i := range c.conns {
		if conn := &c.conns[i]; conn.waiting && conn.progressNS < before {
			n++
			name = fmt.Sprintf("connection %d, byte %d", i, conn.verified)
		}
	}
	return n, name
}

func (c *tlsClient) outstanding() (n int) {
	for i := range c.conns {
		if c.conns[i].waiting {
			n++
		}
	}
	return n
}
