package main

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// startEchoServer runs the real server in a goroutine until the test ends.
func startEchoServer(t *testing.T, engine string, conns int) string {
	t.Helper()
	made := make(chan int, 1)
	done := make(chan error, 1)
	var s *echoServer
	go func() {
		runtime.LockOSThread()
		var port int
		var err error
		if s, port, err = newEchoServer(engine, conns, 1024); err != nil {
			close(made)
			done <- err
			return
		}
		s.deadline = time.Now().Add(time.Minute)
		made <- port
		done <- s.serve()
	}()
	port, good := <-made
	if !good {
		t.Fatal(<-done)
	}
	t.Cleanup(func() {
		s.stopping.Store(true)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// startServer runs handle for each connection.
func startServer(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	return startServerOn(t, "tcp", "127.0.0.1:0", handle)
}

func startServerOn(t *testing.T, network, address string, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
	return l.Addr().String()
}

func runTestEcho(t *testing.T, addr string, engine string, conns, size, depth int, closeRate float64) *result {
	t.Helper()
	l := limits{addr: addr, conns: conns, duration: 300 * time.Millisecond, warmup: 50 * time.Millisecond}
	l.stall, l.engine = 500*time.Millisecond, engine
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := newEchoClient(l, size, depth)
	if err != nil {
		t.Fatal(err)
	}
	if closeRate > 0 {
		c.closer = newCloser(closeRate, 1)
	}
	if err := c.run(c, finished); err != nil {
		t.Fatal(err)
	}
	if err := c.engine.close(); err != nil {
		t.Fatal(err)
	}
	return &c.result
}

func TestEcho(t *testing.T) {
	const places = 64
	addrs := map[string]string{}
	for _, engine := range engines(t) {
		addrs[engine] = startEchoServer(t, engine, places)
	}
	for _, c := range []struct {
		conns, size, depth int
		closeRate          float64
	}{
		{1, 1, 1, 0},
		{10, 1024, 1, 0},
		{10, 1024, 8, 0},
		{20, 3 * patternPeriod, 1, 0}, // larger than a chunk of the kernel's buffers
		{20, 1024, 1, 500},
		{10, 100 * 1024, 1, 200},
		{2, 8 << 20, 1, 20}, // larger than all buffers of the kernel: sends wait
	} {
		for _, engine := range engines(t) {
			name := fmt.Sprintf("%s %dx%d depth %d closes %v", engine, c.conns, c.size, c.depth, c.closeRate)
			t.Run(name, func(t *testing.T) {
				before := openFiles(t)
				r := runTestEcho(t, addrs[engine], engine, c.conns, c.size, c.depth, c.closeRate)
				if r.failed() || r.Messages == 0 || r.Engine != engine {
					t.Errorf("%+v", r)
				}
				if c.closeRate > 0 && r.Closes == 0 {
					t.Error("no connection was closed")
				}
				// The server closes its ends when it comes to that; a few are Go's own, opened when they are first needed.
				after, most := openFiles(t), before+c.conns
				for limit := time.Now().Add(10 * time.Second); after > most && time.Now().Before(limit); after = openFiles(t) {
					time.Sleep(time.Millisecond)
				}
				if after > most {
					t.Errorf("%d descriptors before, %d after", before, after)
				}
			})
		}
	}
}

func TestEchoOverAUnixSocket(t *testing.T) {
	path := startServerOn(t, "unix", t.TempDir()+"/echo", func(c net.Conn) { io.Copy(c, c) })
	for _, engine := range engines(t) {
		if r := runTestEcho(t, unixPrefix+path, engine, 10, 1024, 1, 200); r.failed() || r.Messages == 0 || r.Closes == 0 {
			t.Errorf("%s: %+v", engine, r)
		}
	}
}

func TestEchoServerRefusesMoreThanItHasPlacesFor(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := openFiles(t)
	s, port, err := newEchoServer(engineEpoll, 1, 1024)
	if err != nil {
		t.Fatal(err)
	}
	s.deadline = time.Now().Add(time.Minute)
	var clients [2]net.Conn
	for i := range clients {
		if clients[i], err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.serve(); err == nil || !strings.Contains(err.Error(), "more than 1") {
		t.Errorf("two clients for one place: %v", err)
	}
	for _, c := range clients {
		c.Close()
	}
	if after := openFiles(t); after > before+1 { // the runtime's own epoll set
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// TestFaultsAreSeen drives servers that do wrong things.
func TestFaultsAreSeen(t *testing.T) {
	copyBytes := func(c net.Conn, n int64) { io.CopyN(c, c, n) }
	for _, f := range []struct {
		name, text string
		handle     func(net.Conn)
	}{
		{"a flipped bit", "instead of", func(c net.Conn) {
			copyBytes(c, 3000)
			b := make([]byte, 1)
			io.ReadFull(c, b)
			c.Write([]byte{b[0] ^ 4})
			copyBytes(c, 1<<40)
		}},
		{"a lost byte", "instead of", func(c net.Conn) {
			copyBytes(c, 3000)
			io.ReadFull(c, make([]byte, 1))
			copyBytes(c, 1<<40)
		}},
		{"a byte too many", "", func(c net.Conn) {
			copyBytes(c, 4096)
			c.Write([]byte{0})
			copyBytes(c, 1<<40)
		}},
		{"a stall", "without progress", func(c net.Conn) {
			copyBytes(c, 5000)
			io.Copy(io.Discard, c)
		}},
		{"an early end", "server closed", func(c net.Conn) {
			copyBytes(c, 4096)
		}},
	} {
		for _, engine := range engines(t) {
			t.Run(engine+" "+f.name, func(t *testing.T) {
				r := runTestEcho(t, startServer(t, f.handle), engine, 2, 1024, 1, 0)
				// An early end may also show up as a reset.
				if !r.failed() || (!strings.Contains(r.FirstError, f.text) && !strings.Contains(r.FirstError, "reset")) {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}
