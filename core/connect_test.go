package core

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// outcome is a ConnectHandler that remembers.
type outcome struct {
	t     testing.TB
	calls int
	err   error
}

func (o *outcome) Connected(_ *Connect, err error) {
	o.calls++
	o.err = err
	if o.calls > 1 {
		o.t.Error("connected twice")
	}
}

func (w *world) connect(at unix.Sockaddr) (*Connect, *outcome, int) {
	w.t.Helper()
	fd, err := unix.Socket(unix.AF_INET, socketFlags, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	o := &outcome{t: w.t}
	x, err := w.e.Connect(fd, rawSockaddr(addrPortOf(at), 0), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return x, o, fd
}

// closedPort is an address that nobody listens on.
func closedPort(t testing.TB) unix.Sockaddr {
	t.Helper()
	fd, at := tcpListener(t)
	CloseDescriptor(fd)
	return at
}

// deafPort is an address whose listener's queue is full, so that connects wait.
func deafPort(t testing.TB) (at unix.Sockaddr, release func()) {
	t.Helper()
	listener, err := unix.Socket(unix.AF_INET, socketFlags, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listener, 0); err != nil {
		t.Fatal(err)
	}
	at, err = unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	fds := []int{listener}
	// The queue takes backlog + 1.
	for range 2 {
		fd, err := unix.Socket(unix.AF_INET, socketFlags, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Connect(fd, at); err != nil && err != unix.EINPROGRESS {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	return at, func() {
		for _, fd := range fds {
			CloseDescriptor(fd)
		}
	}
}

func TestConnects(t *testing.T) {
	everyMode(t, func(w *world) {
		listener, at := tcpListener(w.t)
		defer CloseDescriptor(listener)
		_, o, fd := w.connect(at)
		defer CloseDescriptor(fd)
		w.until("it connects", func() bool { return o.calls == 1 })
		if o.err != nil {
			w.t.Error(o.err)
		}
		if _, err := unix.Getpeername(fd); err != nil {
			w.t.Error(err)
		}
	})
}

func TestConnectRefused(t *testing.T) {
	everyMode(t, func(w *world) {
		_, o, fd := w.connect(closedPort(w.t))
		defer CloseDescriptor(fd)
		w.until("it fails", func() bool { return o.calls == 1 })
		if o.err != syscall.ECONNREFUSED {
			w.t.Error(o.err)
		}
	})
}

func TestConnectCancelled(t *testing.T) {
	everyMode(t, func(w *world) {
		at, release := deafPort(w.t)
		defer release()
		x, o, fd := w.connect(at)
		defer CloseDescriptor(fd)
		w.quiet()
		if o.calls != 0 {
			w.t.Fatalf("over at once: %v", o.err)
		}
		if !w.e.Cancel(x.ID()) {
			w.t.Error("no such connect")
		}
		x.Cancel()
		w.until("it ends", func() bool { return o.calls == 1 })
		if !errors.Is(o.err, ErrCanceled) {
			w.t.Error(o.err)
		}
		if w.e.Cancel(x.ID()) {
			w.t.Error("it can be cancelled twice")
		}
	})
}

func TestConnectCancelledBeforeItBegan(t *testing.T) {
	everyMode(t, func(w *world) {
		x, o, fd := w.connect(closedPort(w.t))
		defer CloseDescriptor(fd)
		x.Cancel()
		w.until("it ends", func() bool { return o.calls == 1 })
		if !errors.Is(o.err, ErrCanceled) {
			w.t.Error(o.err)
		}
	})
}

func TestRawSockaddr(t *testing.T) {
	for _, text := range []string{"127.0.0.1:80", "[::1]:65535", "[fe80::1]:1"} {
		at := netip.MustParseAddrPort(text)
		raw := rawSockaddr(at, 3)
		want := sockaddr4Size
		if at.Addr().Is6() {
			want = sockaddr6Size
		}
		if len(raw) != want {
			t.Errorf("%s: %d bytes", text, len(raw))
		}
		if port := int(raw[sockaddrPort])<<8 | int(raw[sockaddrPort+1]); port != int(at.Port()) {
			t.Errorf("%s: port %d", text, port)
		}
	}
}
