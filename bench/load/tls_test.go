package main

import (
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// startTLSServer runs handle for each connection, with a certificate in the
// folder that is answered.
func startTLSServer(t *testing.T, handle func(net.Conn)) (addr, folder string) {
	t.Helper()
	folder = t.TempDir()
	if err := writeCertificate(folder); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(folder, certificateFile), filepath.Join(folder, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	return startServer(t, func(c net.Conn) {
		server := tls.Server(c, config)
		defer server.Close()
		handle(server)
	}), folder
}

func runTestTLS(t *testing.T, engine, addr, folder string, conns, size int) *result {
	t.Helper()
	l := limits{addr: addr, conns: conns, duration: 300 * time.Millisecond, warmup: 50 * time.Millisecond}
	l.stall, l.engine = time.Second, engine
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := newTLSClient(l, size, filepath.Join(folder, certificateFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.run(c, finished); err != nil {
		t.Fatal(err)
	}
	if err := c.engine.close(); err != nil {
		t.Fatal(err)
	}
	return &c.result
}

func TestTLS(t *testing.T) {
	addr, folder := startTLSServer(t, func(c net.Conn) { io.Copy(c, c) })
	for _, engine := range engines(t) {
		for _, c := range []struct{ conns, size int }{{1, 1}, {10, 1024}, {10, 16 << 10}, {2, maxChunk}, {100, 64}} {
			r := runTestTLS(t, engine, addr, folder, c.conns, c.size)
			if r.failed() || r.Messages == 0 || r.P50us == 0 || r.TotalBytes < r.Messages*uint64(c.size) {
				t.Errorf("%s: %d of %d bytes: %+v", engine, c.conns, c.size, r)
			}
		}
	}
}

func TestTLSFaultsAreSeen(t *testing.T) {
	copyBytes := func(c net.Conn, n int64) { io.CopyN(c, c, n) }
	for _, f := range []struct {
		text   string
		handle func(net.Conn)
	}{
		{"came back changed", func(c net.Conn) {
			copyBytes(c, 3000)
			b := make([]byte, 1)
			io.ReadFull(c, b)
			c.Write([]byte{b[0] ^ 4})
			copyBytes(c, 1<<40)
		}},
		{"without progress", func(c net.Conn) {
			copyBytes(c, 5000)
			io.Copy(io.Discard, c)
		}},
		{"the server closed", func(c net.Conn) { copyBytes(c, 4096) }},
		{"handshake", func(c net.Conn) {}},
		{"bytes", func(c net.Conn) { // one too many: alone, or before those of the next answer
			copyBytes(c, 2048)
			c.Write([]byte{0})
			copyBytes(c, 1<<40)
		}},
		{"without progress", func(c net.Conn) { // an end that is not answered
			io.Copy(c, c)
			<-t.Context().Done()
		}},
	} {
		for _, engine := range engines(t) {
			t.Run(engine+" "+f.text, func(t *testing.T) {
				addr, folder := startTLSServer(t, f.handle)
				r := runTestTLS(t, engine, addr, folder, 2, 1024)
				// An end may also show up as a reset.
				if !r.failed() || !strings.Contains(r.FirstError, f.text) && !strings.Contains(r.FirstError, "reset") {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}

func TestTLSServerMustBeTrusted(t *testing.T) {
	addr, _ := startTLSServer(t, func(c net.Conn) { io.Copy(c, c) })
	other := t.TempDir()
	if err := writeCertificate(other); err != nil {
		t.Fatal(err)
	}
	if r := runTestTLS(t, engineEpoll, addr, other, 2, 1024); !strings.Contains(r.FirstError, "certificate") {
		t.Errorf("%+v", r)
	}
}
