package core

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// runningLoops runs a test with a loop that runs, once for each driver. What the test
// leaves open is looked for when the loop is closed.
func runningLoops(t *testing.T, test func(t *testing.T, l *Loop)) {
	for _, driver := range []DriverName{DriverIOUring, DriverEpoll} {
		t.Run(string(driver), func(t *testing.T) { test(t, runningLoop(t, driver)) })
	}
}

func runningLoop(t *testing.T, driver DriverName) *Loop {
	t.Helper()
	fds := openFDs(t)
	l, err := NewLoop(LoopOptions{Driver: driver})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		s := l.Engine().Stats()
		if s.Conns+s.Listeners+s.Watches+s.Operations+s.Driver.BuffersOut != 0 {
			t.Errorf("left over: %+v", s)
		}
		if now := openFDs(t); now > fds {
			t.Errorf("%d file descriptors before, %d after", fds, now)
		}
	})
	return l
}

// netPair answers both ends of a connection that l serves.
func netPair(t testing.TB, l *Loop) (dialled, accepted *NetConn) {
	t.Helper()
	n, err := l.ListenConn("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Close() }()
	dialled, err = l.DialConn(context.Background(), n.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := n.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return dialled, conn.(*NetConn)
}

// What every net.Conn is expected to do: golang.org/x/net/nettest.
func TestNetConnIsANetConn(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
			a, b := netPair(t, l)
			return a, b, func() { _, _ = a.Close(), b.Close() }, nil
		})
	})
}

func TestNetConnGivesEveryByteBothWays(t *testing.T) {
	const size = 5<<20 + 17
	runningLoops(t, func(t *testing.T, l *Loop) {
		a, b := netPair(t, l)
		var both sync.WaitGroup
		for i, c := range []*NetConn{a, b} {
			mine, other := pattern(i, size), pattern(1-i, size)
			both.Go(func() {
				if n, err := c.Write(mine); n != size || err != nil {
					t.Errorf("Write: %d, %v", n, err)
				}
				if err := c.CloseWrite(); err != nil {
					t.Error(err)
				}
				if _, err := c.Write(mine); !errors.Is(err, net.ErrClosed) {
					t.Errorf("Write after CloseWrite: %v", err)
				}
			})
			both.Go(func() {
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, other) {
					t.Errorf("%d bytes, as sent: %v, %v", len(got), bytes.Equal(got, other), err)
				}
			})
		}
		both.Wait()
		_, _ = a.Close(), b.Close()
	})
}

// A reader that takes its time stops the peer, and then gets everything.
func TestNetConnReadsNoMoreThanItHolds(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		a, b := netPair(t, l)
		defer func() { _, _ = a.Close(), b.Close() }()
		sent := pattern(1, 64<<20)
		if err := a.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := a.Write(sent)
		if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == len(sent) {
			t.Fatalf("Write of more than anyone holds: %d, %v", n, err)
		}
		b.mu.Lock()
		held := b.in.Len()
		b.mu.Unlock()
		// Beyond the mark comes what the kernel had received before the pause.
		if held > netHighWater+heldBeyond {
			t.Errorf("%d bytes held", held)
		}
		_ = a.Close()
		got, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(got, sent[:n]) {
			t.Errorf("%d bytes of %d, %v", len(got), n, err)
		}
	})
}

func TestNetConnTellsAReset(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		a, b := netPair(t, l)
		defer func() { _ = b.Close() }()
		if _, err := b.Write([]byte("unread")); err != nil {
			t.Fatal(err)
		}
		a.loop.Post(func() {
			_ = syscall.SetsockoptLinger(a.conn.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
		})
		_ = a.Close()
		_, err := io.ReadAll(b)
		var op *net.OpError
		if !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &op) || op.Op != "read" || op.Addr == nil {
			t.Errorf("%#v", err)
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Write: %v", err)
		}
	})
}

func TestNetConnEndsWithItsLoop(t *testing.T) {
	l, err := NewLoop(LoopOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- l.Run(context.Background()) }()
	n, err := l.ListenConn("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a, b := netPair(t, l)
	p, err := l.ListenPacketConn("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan error)
	go func() { _, err := a.Read(make([]byte, 1)); results <- err }()
	go func() { _, err := b.Write(make([]byte, 64<<20)); results <- err }()
	go func() { _, err := n.Accept(); results <- err }()
	go func() { _, _, err := p.ReadFrom(make([]byte, 1)); results <- err }()
	l.Stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if err := <-results; err == nil {
			t.Error("no error")
		}
	}
	if _, err := l.DialConn(context.Background(), n.Addr().(*net.TCPAddr).AddrPort()); !errors.Is(err, ErrClosed) {
		t.Errorf("DialConn on a closed loop: %v", err)
	}
	if _, err := l.ListenConn("tcp", "127.0.0.1:0"); !errors.Is(err, ErrClosed) {
		t.Errorf("ListenConn on a closed loop: %v", err)
	}
	if err := n.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Close of its listener: %v", err)
	}
}

// Goroutines that ask for something while the loop ends get an error, and nothing is left open.
func TestNothingIsLeftOfALoopThatEnds(t *testing.T) {
	before := openFDs(t)
	for range 50 {
		l, err := NewLoop(LoopOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { ended <- l.Run(context.Background()) }()
		n, err := l.ListenConn("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := n.Addr().(*net.TCPAddr).AddrPort()
		var asking sync.WaitGroup
		for range 2 {
			asking.Go(func() {
				for {
					c, err := l.DialConn(context.Background(), at)
					if err != nil {
						return
					}
					_ = c.Close()
				}
			})
			asking.Go(func() {
				for {
					c, err := l.DialPacket(at)
					if err != nil {
						return
					}
					_ = c.Close()
				}
			})
			asking.Go(func() {
				for {
					n, err := l.ListenConn("tcp", "127.0.0.1:0")
					if err != nil {
						return
					}
					_ = n.Close()
				}
			})
		}
		l.Stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		asking.Wait()
	}
	if after := openFDs(t); after > before {
		t.Errorf("%d file descriptors before, %d after", before, after)
	}
}

func TestDialTellsWhyNot(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		n, err := l.ListenConn("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := n.Addr().String()
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		if err := n.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second Close: %v", err)
		}
		d := &Dialer{Loop: l, Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			return nil, errors.New("no " + host)
		}}
		_, err = d.DialContext(context.Background(), "tcp", at)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a port that is closed: %v", err)
		}
		over, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err = d.DialContext(over, "tcp", at); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that is over: %v", err)
		}
		if _, err = d.DialContext(context.Background(), "tcp", "name.test:80"); err == nil || err.Error() != "dial tcp: no name.test" {
			t.Errorf("a name: %v", err)
		}
		for _, bad := range [][2]string{{"unix", at}, {"tcp6", at}, {"tcp", "127.0.0.1"}, {"tcp", "127.0.0.1:99999"}} {
			if _, err = d.DialContext(context.Background(), bad[0], bad[1]); err == nil {
				t.Errorf("%v connected", bad)
			}
		}
	})
}

// A connect that gets no answer ends with its context: the backlog of the listener is full.
func TestDialEndsWithItsContext(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		fd, at := fullListener(t)
		defer CloseDescriptor(fd)
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		d := &Dialer{Loop: l}
		_, err := d.DialContext(ctx, "tcp", at.String())
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%v", err)
		}
		end := time.Now().Add(patience)
		for l.connects() > 0 {
			if time.Now().After(end) {
				t.Fatal("the connect goes on")
			}
		}
	})
}

// connects is how many are under way.
func (l *Loop) connects() (n uint64) {
	l.call(func() { n = l.engine.stats.Watches })
	return n
}

// fullListener listens and never accepts, and has connections enough that the kernel answers
// no other.
func fullListener(t *testing.T) (fd int, at netip.AddrPort) {
	t.Helper()
	fd, err := listenSocket("tcp", netip.MustParseAddrPort("127.0.0.1:0"), 0, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	at = localAddr(fd)
	for range 2 {
		c, err := net.DialTimeout("tcp", at.String(), 100*time.Millisecond)
		if err != nil {
			break
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	return fd, at
}

func TestDialTriesEveryAddress(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		n, err := l.ListenConn("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = n.Close() }()
		d := &Dialer{Loop: l, Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("127.0.0.1")}, nil
		}}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, port, _ := net.SplitHostPort(n.Addr().String())
		c, err := d.DialContext(ctx, "tcp", net.JoinHostPort("name.test", port))
		if err != nil {
			t.Fatal(err)
		}
		if c.RemoteAddr().String() != n.Addr().String() {
			t.Errorf("connected to %s", c.RemoteAddr())
		}
		_ = c.Close()
	})
}

// More connections than NetListener keeps: none is lost.
func TestNetListenerAnswersAll(t *testing.T) {
	const clients = acceptedMax + 100
	runningLoops(t, func(t *testing.T, l *Loop) {
		n, err := l.ListenConn("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var last net.Conn
		for range clients {
			if last, err = net.Dial("tcp", n.Addr().String()); err != nil {
				t.Fatal(err)
			}
			defer func(c net.Conn) { _ = c.Close() }(last)
		}
		for range clients - 1 {
			c, err := n.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
		}
		if err := n.SetDeadline(time.Now().Add(-1)); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Accept past its deadline: %v", err)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		if err := last.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := last.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection that nobody has accepted is open still: %v", err)
		}
		if again, err := l.ListenConn("tcp", n.Addr().String()); err != nil {
			t.Errorf("the port is not free: %v", err)
		} else {
			_ = again.Close()
		}
	})
}

func TestBackgroundLoopServesTheProcess(t *testing.T) {
	n, err := Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		c, err := n.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(c, c)
		_ = c.Close()
	}()
	c, err := Dial(context.Background(), "tcp", n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := c.(*NetConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if string(got) != "hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, _ = c.Close(), n.Close()
	first, _ := Background()
	if second, err := Background(); first != second || err != nil {
		t.Errorf("another loop: %v", err)
	}
}

// heldBeyond is what the kernel may have received of one connection before a pause: all
// receive buffers.
const heldBeyond = 256 * 128 << 10
