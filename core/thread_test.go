package core

import (
	"bytes"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// inThread runs f in a thread of its own, which ends with it, as the engine's.
func (w *world) inThread(f func()) {
	w.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Not unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		if err := w.e.Attach(); err != nil {
			w.t.Error(err)
			return
		}
		f()
	}()
	<-done
	if w.t.Failed() {
		w.t.FailNow()
	}
}

func TestThreadChangeWithBytesInFlight(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		want := pattern(1, 12<<20)
		var got []byte
		w.inThread(func() {
			w.write(c, want)
			w.until("the kernel refuses some", func() bool { return len(r.backlog) > 0 })
			mustWrite(w.t, peer, []byte("first "))
			w.until("it arrives", func() bool { return r.size == 6 })
			w.e.Leave()
			if c.sending != sendIdle {
				w.t.Error("a send is under way after Leave")
			}
		})
		// Nobody polls meanwhile.
		mustWrite(w.t, peer, []byte("second "))
		got = append(got, mustRead(w.t, peer, 1<<20)...)
		w.inThread(func() {
			w.until("what came meanwhile arrives", func() bool { return r.got.String() == "first second " })
			before := c.Queued()
			// The kernel tells of room when a third of the send buffer is free, however large it is by then.
			w.until("sending goes on", func() bool {
				got = append(got, readNow(peer)...)
				return c.Queued() < before
			})
			w.e.Leave()
		})
		w.inThread(func() {
			rest := make(chan []byte)
			go func() { rest <- mustRead(w.t, peer, len(want)-len(got)) }()
			w.until("all is sent", func() bool { return c.Queued() == 0 })
			got = append(got, <-rest...)
			w.e.Leave()
		})
		if !bytes.Equal(got, want) {
			w.t.Errorf("the peer got %d bytes, or other ones", len(got))
		}
	})
}

// readNow answers what has come, at most a megabyte.
func readNow(fd int) []byte {
	p := make([]byte, 1<<20)
	n, _, err := unix.Recvfrom(fd, p, unix.MSG_DONTWAIT)
	if err != nil {
		return nil
	}
	return p[:n]
}

func TestThreadChangeKeepsWhatWasReceived(t *testing.T) {
	everyMode(t, func(w *world) {
		_, r, peer := w.conn()
		want := pattern(2, 3<<20)
		w.inThread(func() { w.poll(0) })
		go func() {
			mustWrite(w.t, peer, want)
			CloseDescriptor(peer)
		}()
		for !r.eof {
			w.inThread(func() {
				w.e.Flush()
				if err := w.driver.Wait(int64(patience)); err != nil {
					w.t.Error(err)
				}
				// Completions are in the queue now; the next thread handles them.
				w.e.Leave()
			})
			w.inThread(func() {
				w.poll(0)
				w.e.Leave()
			})
		}
		if !bytes.Equal(r.got.Bytes(), want) {
			w.t.Errorf("got %d bytes, or other ones", r.got.Len())
		}
	})
}

func TestThreadThatEndsWithoutLeave(t *testing.T) {
	everyMode(t, func(w *world) {
		_, r, peer := w.conn()
		r.echo = true
		defer CloseDescriptor(peer)
		w.inThread(func() {
			mustWrite(w.t, peer, []byte("one"))
			w.until("it arrives", func() bool { return r.size == 3 })
			w.poll(0)
		})
		w.inThread(func() {
			mustWrite(w.t, peer, []byte("two"))
			w.until("it arrives", func() bool { return r.size == 6 })
			w.poll(0)
		})
		if got := mustRead(w.t, peer, 6); string(got) != "onetwo" {
			w.t.Errorf("the peer got %q", got)
		}
	})
}

func TestThreadChangeWithEverythingArmed(t *testing.T) {
	everyMode(t, func(w *world) {
		at, release := deafPort(w.t)
		x, o, fd := w.connect(at)
		defer CloseDescriptor(fd)
		reader, writer := w.pipe()
		defer CloseDescriptor(reader)
		defer CloseDescriptor(writer)
		watch, watched := w.watch(reader, unix.POLLIN)
		l, a, listening := w.listen()
		w.inThread(func() {
			w.quiet()
			w.e.Leave()
		})
		mustWrite(w.t, writer, []byte("x"))
		w.inThread(func() {
			w.until("the pipe is readable", func() bool { return watched.ready > 0 })
			CloseDescriptor(peerOf(w.t, listening))
			w.until("it is accepted", func() bool { return len(a.fds) == 1 })
			if o.calls != 0 {
				w.t.Error("the connect is over:", o.err)
			}
			// Its listener goes: the connect fails, or had got into the queue.
			release()
			x.Cancel()
			watch.Cancel()
			w.until("both end", func() bool { return o.calls == 1 && watched.over })
			a.closeAll()
			l.Close()
			CloseDescriptor(l.FD())
			w.e.Leave()
		})
	})
}

func TestConnectThatFinishesInAnotherThread(t *testing.T) {
	everyMode(t, func(w *world) {
		listener, at := tcpListener(w.t)
		defer CloseDescriptor(listener)
		_, o, fd := w.connect(at)
		defer CloseDescriptor(fd)
		_, refused, other := w.connect(closedPort(w.t))
		defer CloseDescriptor(other)
		w.inThread(func() { w.e.Flush(); w.e.driver.Flush() })
		w.inThread(func() {
			w.until("both are over", func() bool { return o.calls+refused.calls == 2 })
		})
		if o.err != nil || refused.err == nil {
			w.t.Errorf("connects ended with %v and %v", o.err, refused.err)
		}
	})
}

func TestLeaveClosesWhatIsClosing(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		w.quiet()
		w.write(c, []byte("last"))
		c.Close()
		w.e.Leave()
		if !r.closed || r.err != nil {
			w.t.Errorf("closed %v, %v", r.closed, r.err)
		}
		if got := mustRead(w.t, peer, 5); string(got) != "last" {
			w.t.Errorf("the peer got %q", got)
		}
	})
}

func TestLeaveDoesNotWaitForPeers(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		w.write(c, pattern(1, 12<<20))
		c.Close()
		w.until("the kernel refuses some", func() bool { return len(r.backlog) > 0 })
		w.e.Leave()
		if r.closed || c.Queued() == 0 {
			w.t.Errorf("closed %v with %d bytes queued", r.closed, c.Queued())
		}
	})
}

func TestWakeAfterAThreadChange(t *testing.T) {
	everyMode(t, func(w *world) {
		for range 3 {
			w.inThread(func() {
				w.quiet()
				go w.e.Wake()
				w.poll(-1)
				w.e.Leave()
			})
		}
	})
}

func TestCloseInAnotherThread(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		w.inThread(func() {
			w.write(c, pattern(1, 12<<20))
			w.until("the kernel refuses some", func() bool { return len(r.backlog) > 0 })
		})
		if err := w.e.Close(); err != nil {
			w.t.Error(err)
		}
		if !r.closed {
			w.t.Error("not told of the end")
		}
	})
}
