package main

import (
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func runTestHandshakes(t *testing.T, addr, folder string) *result {
	t.Helper()
	l := limits{addr: addr, conns: 4, duration: 300 * time.Millisecond, warmup: 50 * time.Millisecond, stall: time.Second}
	c, err := newHandshakeClient(l, 64, filepath.Join(folder, certificateFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.run(); err != nil {
		t.Fatal(err)
	}
	return &c.result
}

// TestHandshakes has both of what is ours: the server of clients under test, too.
func TestHandshakes(t *testing.T) {
	folder := t.TempDir()
	if err := writeCertificate(folder); err != nil {
		t.Fatal(err)
	}
	listener, err := listenTLS(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go serveTLS(listener)
	r := runTestHandshakes(t, listener.Addr().String(), folder)
	if r.failed() || r.Messages == 0 || r.P50us == 0 || r.TotalBytes < r.Messages*64 {
		t.Errorf("%+v", r)
	}
}

func TestHandshakeFaultsAreSeen(t *testing.T) {
	for _, f := range []struct {
		text   string
		handle func(net.Conn)
	}{
		{"came back changed", func(c net.Conn) {
			p := make([]byte, 64)
			io.ReadFull(c, p)
			p[63] ^= 1
			c.Write(p)
			io.Copy(io.Discard, c)
		}},
		{"more bytes", func(c net.Conn) {
			io.CopyN(c, c, 64)
			c.Write([]byte{1})
			io.Copy(io.Discard, c)
		}},
		{"the echo", func(c net.Conn) { io.CopyN(io.Discard, c, 64) }},
		{"timeout", func(c net.Conn) { io.Copy(io.Discard, c); <-t.Context().Done() }},
		{"timeout", func(c net.Conn) { // an end that is not answered
			io.Copy(c, c)
			<-t.Context().Done()
		}},
	} {
		t.Run(f.text, func(t *testing.T) {
			addr, folder := startTLSServer(t, f.handle)
			r := runTestHandshakes(t, addr, folder)
			if !r.failed() || !strings.Contains(r.FirstError, f.text) && !strings.Contains(r.FirstError, "reset") {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestOneSuite: whatever a server prefers, it has no choice.
func TestOneSuite(t *testing.T) {
	addr, folder := startTLSServer(t, func(c net.Conn) { io.Copy(c, c) })
	d, err := newTLSDialer(addr, filepath.Join(folder, certificateFile))
	if err != nil {
		t.Fatal(err)
	}
	var offered []uint16
	seen := make(chan struct{})
	client, server := net.Pipe()
	go func() {
		defer close(seen)
		defer server.Close()
		tls.Server(server, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			offered = hello.CipherSuites
			return nil, io.ErrUnexpectedEOF
		}}).Handshake()
	}()
	if err := tls.Client(client, d.config).Handshake(); err == nil {
		t.Error("a handshake that the server refused")
	}
	<-seen
	if len(offered) != 1 || offered[0] != suite {
		t.Errorf("offered: %x", offered)
	}
	wire, secure, err := d.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(wire.fd)
	if s := secure.ConnectionState(); s.CipherSuite != suite {
		t.Errorf("%+v", s)
	}
}
