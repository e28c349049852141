package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// handshakeClient makes one TLS connection after the other, -conns at a time: a full
// handshake, one message that comes back, and both sides' goodbye. A goroutine
// has each of these, for crypto/tls can't interrupt a handshake; beside its cost
// theirs is small.
type handshakeClient struct {
	limits
	tlsDialer
	pattern *pattern
	size    int
	base    time.Time
	idle    sync.WaitGroup

	mu      sync.Mutex // what follows, and the result
	phase   phase
	serials uint64
	latency histogram
	result  result
}

// handshakeGCPercent: handshakes allocate, unlike all else here.
const handshakeGCPercent = 800

func runHandshakes(args []string) (failed bool, err error) {
	l, size, trusted, err := tlsFlags("handshakes", args, 64)
	if err != nil {
		return false, err
	}
	debug.SetGCPercent(handshakeGCPercent)
	c, err := newHandshakeClient(l, size, trusted)
	if err != nil {
		return false, err
	}
	if err := c.run(); err != nil {
		return true, err
	}
	if c.result.FirstError != "" {
		fmt.Fprintln(os.Stderr, "load:", c.result.FirstError)
	}
	return c.result.failed(), c.result.print()
}

func newHandshakeClient(l limits, size int, trusted string) (*handshakeClient, error) {
	d, err := newTLSDialer(l.addr, trusted)
	if err != nil {
		return nil, err
	}
	c := &handshakeClient{limits: l, tlsDialer: d, pattern: newPattern(), size: size, base: time.Now(), phase: warming}
	c.result = result{Mode: "handshakes", Engine: "net", Conns: l.conns, SizeBytes: size, Syscalls: -1}
	return c, nil
}

// run takes the client through its phases. An error means that the generator could not
// do its work.
func (c *handshakeClient) run() error {
	a, err := newAccount(c.pid, c.tracepoint)
	if err != nil {
		return err
	}
	for range c.conns {
		c.idle.Go(c.work)
	}
	err = errors.Join(c.pass(a, c.warmup), c.measure(a))
	c.enter(draining)
	c.idle.Wait()
	c.result.RunSeconds = time.Since(c.base).Seconds()
	return err
}

// enter begins a phase.
func (c *handshakeClient) enter(next phase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase = next
}

func (c *handshakeClient) measure(a *account) error {
	begin, err := a.read()
	if err != nil {
		return err
	}
	c.enter(measuring)
	if err := c.pass(a, c.duration); err != nil {
		return err
	}
	now, err := a.read()
	if err != nil {
		return err
	}
	c.enter(draining)
	used, r := now.since(begin), &c.result
	r.Seconds = float64(used.wallNS) / 1e9
	r.PerSecond = float64(r.Messages) / r.Seconds
	r.P50us, r.P99us = c.latency.quantileUS(0.5), c.latency.quantileUS(0.99)
	r.MaxUs = float64(c.latency.maxNS) / 1e3
	r.ServerCPUns, r.ClientCPUns, r.Syscalls = used.serverCPUns, used.clientCPUns, used.syscalls
	return nil
}

// pass waits, or until something is wrong, and books the time that the server had no core.
func (c *handshakeClient) pass(a *account, d time.Duration) error {
	end, last := time.Now().Add(d), time.Now()
	for time.Now().Before(end) && c.wanted() {
		time.Sleep(min(time.Until(end), tickMS*time.Millisecond))
		now := time.Now()
		starved, err := a.starved(int64(now.Sub(last)))
		if err != nil {
			return err
		}
		last = now
		c.result.StarvedSeconds += float64(starved) / 1e9
	}
	return nil
}

// wanted says whether connections are still to be made.
func (c *handshakeClient) wanted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase < draining && !c.result.failed()
}

func (c *handshakeClient) work() {
	for c.wanted() {
		c.mu.Lock()
		c.serials++
		serial := c.serials
		c.mu.Unlock()
		begin := time.Now()
		if err := c.exchange(serial); err != nil {
			c.fail(serial, err)
			return
		}
		c.book(time.Since(begin))
	}
}

func (c *handshakeClient) book(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.TotalBytes += uint64(c.size)
	if c.phase == measuring {
		c.result.Messages++
		c.latency.record(int64(took))
	}
}

// changedError is a byte that is not what was sent.
type changedError string

func (e changedError) Error() string { return string(e) }

func (c *handshakeClient) fail(serial uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var changed changedError
	switch {
	case errors.As(err, &changed):
		c.result.Mismatches++
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.result.Stalls++
	default:
		c.result.Errors++
	}
	if c.result.FirstError == "" {
		c.result.FirstError = fmt.Sprintf("connection %d: %v", serial, err)
	}
}

// exchange is the whole life of a connection, which may take as long as a stall.
func (c *handshakeClient) exchange(serial uint64) error {
	dialer := net.Dialer{Timeout: c.stall, Control: func(_, _ string, raw syscall.RawConn) error {
		var prepared error
		return errors.Join(raw.Control(func(fd uintptr) { prepared = c.to.prepare(int(fd)) }), prepared)
	}}
	wire, err := dialer.Dial("tcp", c.addr)
	if err != nil {
		return err
	}
	defer wire.Close()
	if err := wire.SetDeadline(time.Now().Add(c.stall)); err != nil {
		return err
	}
	secure := tls.Client(wire, c.config)
	if err := secure.Handshake(); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if err := asAgreed(secure.ConnectionState()); err != nil {
		return err
	}
	message, got := c.pattern.at(serial, 0, c.size), make([]byte, c.size+1)
	if _, err := secure.Write(message); err != nil {
		return err
	}
	if _, err := io.ReadFull(secure, got[:c.size]); err != nil {
		return fmt.Errorf("the echo: %w", err)
	}
	if !bytes.Equal(got[:c.size], message) {
		return changedError("the message came back changed")
	}
	if err := secure.CloseWrite(); err != nil {
		return err
	}
	switch n, err := secure.Read(got); {
	case n > 0:
		return changedError("more bytes came back than were sent")
	case err != io.EOF:
		return fmt.Errorf("the server's end: %w", err)
	}
	return nil
}
