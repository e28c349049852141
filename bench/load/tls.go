package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// tlsClient keeps one message under way on each of its TLS connections: crypto/tls
// over a session's engine, without a goroutine per connection, which would cost
// more than the encryption of a small message.
type tlsClient struct {
	*session
	size    int
	to      peer
	config  *tls.Config
	pattern *pattern
	conns   []tlsConn
	buffer  []byte // shared: what was decrypted is checked at once
	started int
	proven  int
}

func runTLS(args []string) (failed bool, err error) {
	f := flag.NewFlagSet("tls", flag.ExitOnError)
	var l limits
	l.register(f)
	size := f.Int("size", 1024, "message `bytes`")
	trusted := f.String("trusted", certificateFile, "the server's certificate, a PEM `file`")
	f.Parse(args)
	if err := l.check(); err != nil {
		return false, err
	}
	if *size < 1 || *size > maxChunk {
		return false, fmt.Errorf("-size must be 1 to %d", maxChunk)
	}
	c, err := newTLSClient(l, *size, *trusted)
	if err != nil {
		return false, err
	}
	return c.runAndReport(c)
}

func newTLSClient(l limits, size int, trusted string) (*tlsClient, error) {
	to, err := parsePeer(l.addr)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	text, err := os.ReadFile(trusted)
	if err != nil {
		return nil, err
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate in it", trusted)
	}
	// A record is a little larger than what it holds.
	s, err := newSession(l, "tls", shape{slots: l.conns, chunk: size + size/8})
	if err != nil {
		return nil, err
	}
	c := &tlsClient{session: s, size: size, to: to, pattern: newPattern(), buffer: make([]byte, maxChunk)}
	// Records of 16 KiB from the start, not only after the first 128 KiB.
	c.config = &tls.Config{RootCAs: roots, ServerName: serverName, DynamicRecordSizingDisabled: true}
	c.result.SizeBytes = size
	c.conns = make([]tlsConn, l.conns)
	for i := range c.conns {
		c.conns[i] = tlsConn{client: c, index: i}
	}
	return c, nil
}

// ramp makes one connection after the other: handshakes are not what is measured.
func (c *tlsClient) ramp() (bool, error) {
	if c.started < len(c.conns) && c.started == c.proven {
		conn := &c.conns[c.started]
		c.started++
		if err := conn.connect(); err != nil {
			c.fail("connection %d: %v", conn.index, err)
		}
	}
	return c.proven == len(c.conns), nil
}

func (c *tlsClient) start() {
	for i := range c.conns {
		c.conns[i].next()
	}
}

func (c *tlsClient) tick() {}

func (c *tlsClient) connected(slot int) { c.conns[slot].next() }

func (c *tlsClient) sent(slot int) { c.conns[slot].taken() }

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

// dialTLS connects and shakes hands, and answers a socket for the engine.
func (c *tlsClient) dialTLS() (*tlsWire, *tls.Conn, error) {
	fd, err := c.to.dial()
	if err != nil {
		return nil, nil, err
	}
	wire, err := newTLSWire(fd)
	if err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	secure := tls.Client(wire, c.config)
	if err := secure.Handshake(); err != nil {
		unix.Close(fd)
		return nil, nil, fmt.Errorf("handshake: %w", err)
	}
	if err := wire.carry(); err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	return wire, secure, nil
}
