package core

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// acceptor is an AcceptHandler that remembers.
type acceptor struct {
	t      testing.TB
	fds    []int
	errnos []syscall.Errno
	over   bool
}

func (a *acceptor) Accepted(_ *Listener, fd int) {
	if a.over {
		a.t.Error("accepted after Close")
	}
	a.fds = append(a.fds, fd)
}

func (a *acceptor) AcceptFailed(_ *Listener, errno syscall.Errno) {
	if a.over {
		a.t.Error("failed after Close")
	}
	a.errnos = append(a.errnos, errno)
}

func (a *acceptor) closeAll() {
	for _, fd := range a.fds {
		CloseDescriptor(fd)
	}
	a.fds = nil
}

func (w *world) listen() (*Listener, *acceptor, unix.Sockaddr) {
	w.t.Helper()
	fd, at := tcpListener(w.t)
	a := &acceptor{t: w.t}
	l, err := w.e.Listen(fd, a)
	if err != nil {
		w.t.Fatal(err)
	}
	return l, a, at
}

func TestAccepts(t *testing.T) {
	everyMode(t, func(w *world) {
		l, a, at := w.listen()
		var peers []int
		for range 20 {
			peers = append(peers, peerOf(w.t, at))
		}
		w.until("all are accepted", func() bool { return len(a.fds) == len(peers) })
		flags, err := unix.FcntlInt(uintptr(a.fds[0]), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK == 0 {
			w.t.Errorf("an accepted socket blocks: flags %#x, %v", flags, err)
		}
		flags, err = unix.FcntlInt(uintptr(a.fds[0]), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			w.t.Errorf("an accepted socket survives exec: flags %#x, %v", flags, err)
		}
		l.Close()
		CloseDescriptor(l.FD())
		a.closeAll()
		for _, peer := range peers {
			CloseDescriptor(peer)
		}
	})
}

func TestPortIsFreeOnceTheListenerIsClosed(t *testing.T) {
	everyMode(t, func(w *world) {
		l, a, at := w.listen()
		w.quiet()
		for range 50 {
			l.Close()
			a.over = true
			CloseDescriptor(l.FD())
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				w.t.Fatal(err)
			}
			// Without SO_REUSEADDR: nothing at all may be left of the old one.
			if err := unix.Bind(fd, at); err != nil {
				w.t.Fatalf("bind again: %v", err)
			}
			if err := unix.Listen(fd, 10); err != nil {
				w.t.Fatalf("listen again: %v", err)
			}
			a = &acceptor{t: w.t}
			if l, err = w.e.Listen(fd, a); err != nil {
				w.t.Fatal(err)
			}
			w.poll(0)
		}
		l.Close()
		CloseDescriptor(l.FD())
	})
}

func TestListenerClosedWithConnectionsNotYetGiven(t *testing.T) {
	everyMode(t, func(w *world) {
		l, a, at := w.listen()
		w.quiet()
		first := peerOf(w.t, at)
		second := peerOf(w.t, at)
		// Accepted by the kernel, but not handled by the engine.
		if err := w.driver.Wait(int64(patience)); err != nil {
			w.t.Fatal(err)
		}
		a.over = true
		l.Close()
		CloseDescriptor(l.FD())
		w.quiet()
		// What was accepted is closed, what was not is reset.
		for _, peer := range []int{first, second} {
			var one [1]byte
			if n, err := unix.Read(peer, one[:]); n > 0 || err != nil && err != unix.ECONNRESET {
				w.t.Errorf("read: %d, %v", n, err)
			}
			CloseDescriptor(peer)
		}
	})
}

func TestListenerClosedInItsHandler(t *testing.T) {
	everyMode(t, func(w *world) {
		fd, at := tcpListener(w.t)
		a := &closingAcceptor{acceptor{t: w.t}}
		l, err := w.e.Listen(fd, a)
		if err != nil {
			w.t.Fatal(err)
		}
		w.quiet()
		peers := []int{peerOf(w.t, at), peerOf(w.t, at), peerOf(w.t, at)}
		w.until("one is accepted", func() bool { return len(a.fds) > 0 })
		w.quiet()
		if len(a.fds) != 1 || !l.gone {
			w.t.Errorf("%d accepted, closed %v", len(a.fds), l.gone)
		}
		CloseDescriptor(fd)
		a.closeAll()
		for _, peer := range peers {
			CloseDescriptor(peer)
		}
	})
}

// closingAcceptor closes its listener when the first connection comes.
type closingAcceptor struct{ acceptor }

func (a *closingAcceptor) Accepted(l *Listener, fd int) {
	a.acceptor.Accepted(l, fd)
	l.Close()
}

func TestNoDescriptorForAConnection(t *testing.T) {
	everyMode(t, func(w *world) {
		l, a, at := w.listen()
		peer := peerOf(w.t, at)
		defer CloseDescriptor(peer)
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			w.t.Fatal(err)
		}
		// The next descriptor would be peer's successor, or fill a gap: the limit
		// is the lowest that is free.
		lowest, err := unix.Dup(peer)
		if err != nil {
			w.t.Fatal(err)
		}
		CloseDescriptor(lowest)
		low := limit
		low.Cur = uint64(lowest)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
			w.t.Fatal(err)
		}
		w.until("accept fails", func() bool { return len(a.errnos) > 0 })
		w.quiet()
		if len(a.errnos) != 1 || a.errnos[0] != syscall.EMFILE {
			w.t.Errorf("accept failed with %v", a.errnos)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			w.t.Fatal(err)
		}
		l.Resume()
		w.until("it is accepted after all", func() bool { return len(a.fds) == 1 })
		a.closeAll()
		l.Close()
		CloseDescriptor(l.FD())
	})
}

func TestListenOnWhatDoesNotListen(t *testing.T) {
	everyMode(t, func(w *world) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		a := &acceptor{t: w.t}
		l, err := w.e.Listen(fd, a)
		if err != nil {
			w.t.Fatal(err)
		}
		w.until("accept fails", func() bool { return len(a.errnos) > 0 })
		if a.errnos[0] != syscall.EINVAL {
			w.t.Errorf("accept failed with %v", a.errnos[0])
		}
		l.Close()
		CloseDescriptor(fd)
	})
}
