package core

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// everyLoop runs a test on loops of both drivers.
func everyLoop(t *testing.T, test func(t *testing.T, o LoopOptions)) {
	for _, driver := range []DriverName{DriverIOUring, DriverEpoll} {
		t.Run(string(driver), func(t *testing.T) {
			test(t, LoopOptions{Driver: driver, Uring: UringOptions{SQPollCPU: -1}})
		})
	}
}

// runLoop makes a loop, lets prepare set it up, and runs it until the test ends.
func runLoop(t *testing.T, o LoopOptions, prepare func(l *Loop)) *Loop {
	t.Helper()
	l, err := NewLoop(o)
	if err != nil {
		t.Fatal(err)
	}
	prepare(l)
	ended := make(chan error, 1)
	go func() { ended <- l.Run(context.Background()) }()
	t.Cleanup(func() {
		l.Stop()
		if err := errors.Join(<-ended, l.Close()); err != nil {
			t.Error(err)
		}
		if s := l.engine.Stats(); s.Conns+s.Listeners+s.Watches+s.Driver.BuffersOut != 0 {
			t.Errorf("left over: %+v", s)
		}
	})
	return l
}

// inLoop runs f in the loop's thread and waits for it.
func inLoop(l *Loop, f func()) {
	done := make(chan struct{})
	l.Post(func() {
		defer close(done)
		f()
	})
	<-done
}

func echoServer(t *testing.T, l *Loop, network, address string) *Server {
	t.Helper()
	s, err := l.Listen(network, address, func(*Conn) Handler { return &recorder{t: t, echo: true, discard: true} })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func exchange(t *testing.T, at net.Addr) {
	t.Helper()
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	want := pattern(9, 100_000)
	go func() {
		_, err := conn.Write(want)
		if err = errors.Join(err, conn.(*net.TCPConn).CloseWrite()); err != nil {
			t.Error(err)
		}
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back, or other ones, %v", len(got), err)
	}
}

func TestLoopServes(t *testing.T) {
	everyLoop(t, func(t *testing.T, o LoopOptions) {
		for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
			t.Run(address, func(t *testing.T) {
				var s *Server
				runLoop(t, o, func(l *Loop) { s = echoServer(t, l, "tcp", address) })
				exchange(t, s.Addr())
			})
		}
	})
}

func TestLoopDials(t *testing.T) {
	everyLoop(t, func(t *testing.T, o LoopOptions) {
		var s *Server
		l := runLoop(t, o, func(l *Loop) { s = echoServer(t, l, "tcp", "127.0.0.1:0") })
		ended := make(chan string, 1)
		r := &dialled{recorder: recorder{t: t}, ended: ended}
		inLoop(l, func() {
			err := l.Dial("tcp", s.Addr().String(), r, func(c *Conn, err error) {
				if err != nil {
					t.Error(err)
					return
				}
				c.Write([]byte("there and back"))
				c.WriteEOF()
			})
			if err != nil {
				t.Error(err)
			}
		})
		if got := <-ended; got != "there and back" {
			t.Errorf("got %q", got)
		}
	})
}

// dialled tells what it got when it is closed.
type dialled struct {
	recorder
	ended chan string
}

func (d *dialled) Closed(c *Conn, err *OpError) {
	d.recorder.Closed(c, err)
	d.ended <- d.got.String()
}

func TestLoopDialErrors(t *testing.T) {
	everyLoop(t, func(t *testing.T, o LoopOptions) {
		l := runLoop(t, o, func(*Loop) {})
		at := addrPortOf(closedPort(t)).String()
		failed := make(chan error, 1)
		inLoop(l, func() {
			err := l.Dial("tcp", at, &recorder{t: t}, func(_ *Conn, err error) { failed <- err })
			if err != nil {
				t.Error(err)
			}
			if err := l.Dial("udp", at, nil, nil); err == nil {
				t.Error("udp can be dialled")
			}
			if err := l.Dial("tcp", "127.0.0.1:notaport", nil, nil); err == nil {
				t.Error("a port that is none can be dialled")
			}
		})
		if err := <-failed; !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
	})
}

func TestServerClose(t *testing.T) {
	everyLoop(t, func(t *testing.T, o LoopOptions) {
		var s *Server
		l := runLoop(t, o, func(l *Loop) { s = echoServer(t, l, "tcp", "127.0.0.1:0") })
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		// It is served, so it was accepted.
		for range 2 {
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			inLoop(l, func() { s.Close() })
		}
	})
}

func TestRefusedConnectionsAreClosed(t *testing.T) {
	everyLoop(t, func(t *testing.T, o LoopOptions) {
		var s *Server
		runLoop(t, o, func(l *Loop) {
			var err error
			s, err = l.Listen("tcp", "127.0.0.1:0", func(*Conn) Handler { return nil })
			if err != nil {
				t.Fatal(err)
			}
		})
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("read %d, %v", n, err)
		}
	})
}

func TestLoopRunsAgainInAnotherThread(t *testing.T) {
	everyLoop(t, func(t *testing.T, o LoopOptions) {
		l, err := NewLoop(o)
		if err != nil {
			t.Fatal(err)
		}
		s := echoServer(t, l, "tcp", "127.0.0.1:0")
		for range 5 {
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- l.Run(ctx) }()
			exchange(t, s.Addr())
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := l.Listen("tcp", "127.0.0.1:0", nil); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed loop listens: %v", err)
		}
	})
}

// An armed accept keeps the limit of descriptors of when it was armed, so the limit
// is lowered before the loop runs.
func TestServerGoesOnAfterItHadNoDescriptors(t *testing.T) {
	everyLoop(t, func(t *testing.T, o LoopOptions) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer CloseDescriptor(fd)
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		failed := make(chan error, 1)
		tell := func(_ *Server, err error) {
			select {
			case failed <- err:
			default:
			}
		}
		o.AcceptError = tell
		var s *Server
		runLoop(t, o, func(l *Loop) {
			s = echoServer(t, l, "tcp", "127.0.0.1:0")
			low := limit
			low.Cur = 0
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
				t.Fatal(err)
			}
		})
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: s.Addr().(*net.TCPAddr).Port})
		told := <-failed
		if err := errors.Join(err, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(told, syscall.EMFILE) {
			t.Error(told)
		}
		mustWrite(t, fd, []byte("x"))
		if got := mustRead(t, fd, 1); string(got) != "x" {
			t.Errorf("got %q", got)
		}
	})
}

func TestTraceTellsOfOperations(t *testing.T) {
	var out bytes.Buffer
	ring, err := NewUringDriver(UringOptions{SQPollCPU: -1})
	if err != nil {
		t.Fatal(err)
	}
	w := worldOf(t, Trace(ring, &out), -1)
	c, r, peer := w.conn()
	defer CloseDescriptor(peer)
	mustWrite(t, peer, []byte("x"))
	w.until("x arrives", func() bool { return r.size == 1 })
	c.Write([]byte("yz"))
	c.Close()
	w.until("it closes", func() bool { return r.closed })
	for _, want := range []string{"submit receive#", "done receive#", ": 1 more true", "2 bytes in 1 parts, quick true", "cancel of receive#"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

func TestOverflowOfTheCompletionQueueLosesNothing(t *testing.T) {
	w := newWorld(t, mode{UringOptions: UringOptions{Entries: 2, CQEntries: 4, SQPollCPU: -1}})
	const count = 100
	var got []*recorder
	for i := range count {
		_, r, peer := w.conn()
		defer CloseDescriptor(peer)
		got = append(got, r)
		mustWrite(t, peer, []byte{byte(i)})
	}
	for i, r := range got {
		w.until("it arrives", func() bool { return r.size == 1 })
		if r.got.Bytes()[0] != byte(i) {
			t.Errorf("connection %d got another's byte", i)
		}
	}
	if s := w.e.Stats().Driver; s.Overflows == 0 {
		t.Error("the queue did not overflow: this tests nothing")
	}
}

// BenchmarkEcho is an echo of 1 KiB through the engine and a blocking peer in the
// same thread: three system calls, of which one is the engine's.
// TestReapAnswersEverythingThatOverflowed: the engine takes fewer completions than it has
// room for as all there are, before a change of thread for one.
func TestReapAnswersEverythingThatOverflowed(t *testing.T) {
	w := newWorld(t, modes["tiny SQ"])
	ready, err := unix.Eventfd(1, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseDescriptor(ready)
	const polls = 40
	for range polls {
		w.e.submit(Op{Kind: OpPoll, FD: ready, Events: unix.POLLIN})
	}
	w.driver.Flush()
	if err := w.driver.Wait(0); err != nil {
		t.Fatal(err)
	}
	var dst [reapBatch]Completion
	if n := w.driver.Reap(dst[:]); n != polls {
		t.Errorf("%d of %d completions are reaped at once", n, polls)
	}
}

func BenchmarkEcho(b *testing.B) {
	for _, name := range []string{"ring", "epoll"} {
		b.Run(name, func(b *testing.B) { benchmarkEcho(b, modes[name]) })
	}
}

func benchmarkEcho(b *testing.B, mode mode) {
	w := newWorld(b, mode)
	_, r, peer := w.conn()
	defer CloseDescriptor(peer)
	r.discard, r.echo = true, true
	p := pattern(1, 1024)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := unix.Write(peer, p); err != nil {
			b.Fatal(err)
		}
		if err := w.e.Poll(int64(time.Second)); err != nil {
			b.Fatal(err)
		}
		w.e.Flush()
		if err := w.driver.Wait(0); err != nil {
			b.Fatal(err)
		}
		if _, err := unix.Read(peer, p); err != nil {
			b.Fatal(err)
		}
	}
}
