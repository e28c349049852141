package core

import (
	"bytes"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReceivesAndSends(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		mustWrite(t, peer, []byte("hello"))
		w.until("hello arrives", func() bool { return r.got.String() == "hello" })
		w.write(c, []byte("one "))
		c.Write([]byte("two "))
		w.write(c, []byte("three"))
		w.until("all is sent", func() bool { return c.Queued() == 0 })
		if got := mustRead(w.t, peer, 13); string(got) != "one two three" {
			w.t.Errorf("the peer got %q", got)
		}
		if len(r.backlog) != 0 {
			w.t.Errorf("a backlog of %v", r.backlog)
		}
	})
}

func TestEmptyWriteReleasesItsOwner(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		c, _, peer := w.conn()
		defer CloseDescriptor(peer)
		w.write(c, nil)
		if w.released[1] != 1 {
			t.Error("the owner of no bytes was kept")
		}
	})
}

func TestSlowReaderGetsEveryByte(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		var want []byte
		for i := range 40 {
			p := pattern(i, 300_000+i)
			want = append(want, p...)
			w.write(c, p)
		}
		w.until("the kernel refuses some", func() bool { return len(r.backlog) > 0 })
		first := r.backlog[0]
		if first == 0 || first >= len(want) {
			w.t.Errorf("first backlog is %d of %d bytes", first, len(want))
		}
		got := make(chan []byte)
		go func() { got <- mustRead(w.t, peer, len(want)) }()
		w.until("all is sent", func() bool { return c.Queued() == 0 })
		if !bytes.Equal(<-got, want) {
			w.t.Error("the peer got other bytes than were sent")
		}
		if last := r.backlog[len(r.backlog)-1]; last != 0 {
			w.t.Errorf("the last backlog is %d", last)
		}
		if r.sent != first {
			w.t.Errorf("a backlog of %d, but %d bytes told as sent", first, r.sent)
		}
		if !slices.IsSortedFunc(r.backlog, func(a, b int) int { return b - a }) {
			w.t.Errorf("a backlog grew with nothing written: %v", r.backlog)
		}
	})
}

func TestWritesBehindABacklogKeepTheirOrder(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		want := pattern(1, 8<<20)
		w.write(c, want)
		w.until("the kernel refuses some", func() bool { return len(r.backlog) > 0 })
		for i := range 2000 {
			p := pattern(i, 100)
			want = append(want, p...)
			w.write(c, p)
		}
		got := make(chan []byte)
		go func() { got <- mustRead(w.t, peer, len(want)) }()
		w.until("all is sent", func() bool { return c.Queued() == 0 })
		if !bytes.Equal(<-got, want) {
			w.t.Error("the peer got other bytes than were sent")
		}
	})
}

func TestMorePartsThanOneSendTakes(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		var want []byte
		for i := range 3*sendPartsMax + 7 {
			p := pattern(i, 5)
			want = append(want, p...)
			w.write(c, p)
		}
		c.Close()
		w.until("it closes", func() bool { return r.closed })
		if got := mustRead(w.t, peer, len(want)+1); !bytes.Equal(got, want) {
			w.t.Errorf("the peer got %d bytes, or other ones", len(got))
		}
	})
}

func TestHalfClose(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		w.write(c, []byte("last words"))
		c.WriteEOF()
		w.write(c, []byte("too late"))
		w.until("it is sent", func() bool { return c.Queued() == 0 && c.shutdown })
		if got := mustRead(w.t, peer, 100); string(got) != "last words" {
			w.t.Errorf("the peer got %q", got)
		}
		mustWrite(w.t, peer, []byte("answer"))
		w.until("the answer arrives", func() bool { return r.got.String() == "answer" })
		if err := unix.Shutdown(peer, unix.SHUT_WR); err != nil {
			w.t.Fatal(err)
		}
		w.until("end of file", func() bool { return r.eof })
		w.quiet()
		if r.closed {
			w.t.Error("closed, though nobody asked")
		}
		c.Close()
		w.until("it closes", func() bool { return r.closed })
		if r.err != nil {
			w.t.Error(r.err)
		}
	})
}

func TestWriteAfterThePeersEnd(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		if err := unix.Shutdown(peer, unix.SHUT_WR); err != nil {
			w.t.Fatal(err)
		}
		w.until("end of file", func() bool { return r.eof })
		c.Pause()
		c.Resume()
		w.write(c, []byte("still here"))
		w.until("it is sent", func() bool { return c.Queued() == 0 })
		if got := mustRead(w.t, peer, 10); string(got) != "still here" {
			w.t.Errorf("the peer got %q", got)
		}
	})
}

func TestHandlerThatDoesNotKeepItOpen(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		r.keep = false
		w.write(c, []byte("bye"))
		if err := unix.Shutdown(peer, unix.SHUT_WR); err != nil {
			w.t.Fatal(err)
		}
		w.until("it closes", func() bool { return r.closed })
		if got := mustRead(w.t, peer, 10); string(got) != "bye" {
			w.t.Errorf("the peer got %q", got)
		}
		CloseDescriptor(peer)
	})
}

func TestCloseBehindAShortSend(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		want := pattern(7, 9<<20)
		w.write(c, want)
		c.Close()
		w.until("the kernel refuses some", func() bool { return len(r.backlog) > 0 })
		w.quiet()
		if r.closed {
			w.t.Fatal("closed with bytes unsent")
		}
		got := make(chan []byte)
		go func() { got <- mustRead(w.t, peer, len(want)+1) }()
		w.until("it closes", func() bool { return r.closed })
		if r.err != nil {
			w.t.Error(r.err)
		}
		if !bytes.Equal(<-got, want) {
			w.t.Error("the peer got other bytes than were sent")
		}
	})
}

func TestAbortWithAQueue(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		for i := range 10 {
			w.write(c, pattern(i, 2<<20))
		}
		w.until("the kernel refuses some", func() bool { return len(r.backlog) > 0 })
		c.Abort()
		w.write(c, []byte("too late"))
		w.until("it closes", func() bool { return r.closed })
		if r.err != nil {
			w.t.Error(r.err)
		}
	})
}

func TestAbortBeforeAnythingWasSent(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		w.write(c, pattern(1, 1000))
		c.Abort()
		w.until("it closes", func() bool { return r.closed })
		if got := mustRead(w.t, peer, 1); len(got) != 0 {
			w.t.Error("bytes were sent after all")
		}
	})
}

func TestPeerResetsInTheMiddleOfAWrite(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		w.write(c, pattern(1, 9<<20))
		w.until("the kernel refuses some", func() bool { return len(r.backlog) > 0 })
		reset(w.t, peer)
		w.until("it closes", func() bool { return r.closed })
		if r.err == nil || r.err.Err != syscall.ECONNRESET && r.err.Err != syscall.EPIPE {
			w.t.Errorf("closed with %v", r.err)
		}
	})
}

func TestPeerResetsBehindAClose(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		w.write(c, pattern(1, 9<<20))
		c.Close()
		w.until("the kernel refuses some", func() bool { return len(r.backlog) > 0 })
		reset(w.t, peer)
		w.until("it closes", func() bool { return r.closed })
		if r.err == nil || r.err.Op != "write" {
			w.t.Errorf("closed with %v, not a failed write", r.err)
		}
	})
}

func TestReadError(t *testing.T) {
	everyMode(t, func(w *world) {
		_, r, peer := w.conn()
		w.quiet()
		reset(w.t, peer)
		w.until("it closes", func() bool { return r.closed })
		if r.err == nil || r.err.Op != "read" || r.err.Err != syscall.ECONNRESET {
			w.t.Errorf("closed with %v", r.err)
		}
	})
}

func TestPauseStopsAndResumeGoesOn(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		mustWrite(w.t, peer, []byte("a"))
		w.until("a arrives", func() bool { return r.size == 1 })
		c.Pause()
		w.until("it is paused", func() bool { return c.receive == receiveIdle })
		mustWrite(w.t, peer, []byte("b"))
		w.quiet()
		if r.size != 1 {
			w.t.Error("received while paused")
		}
		c.Resume()
		c.Pause()
		c.Resume()
		w.until("b arrives", func() bool { return r.got.String() == "ab" })
	})
}

// With epoll nothing is received before Reap.
func TestPauseWithDataThatHasCompleted(t *testing.T) {
	w := newWorld(t, modes["ring"])
	c, r, peer := w.conn()
	defer CloseDescriptor(peer)
	w.quiet()
	mustWrite(t, peer, []byte("early"))
	// The bytes are in the completion queue, and not yet handled.
	if err := w.driver.Wait(int64(patience)); err != nil {
		t.Fatal(err)
	}
	c.Pause()
	w.until("it is paused", func() bool { return c.receive == receiveIdle })
	if r.got.String() != "early" {
		t.Errorf("got %q: bytes that had completed are lost", r.got.String())
	}
	mustWrite(t, peer, []byte(" late"))
	w.quiet()
	if r.got.String() != "early" {
		t.Errorf("got %q while paused", r.got.String())
	}
	c.Resume()
	w.until("the rest arrives", func() bool { return r.got.String() == "early late" })
}

func TestSendNow(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		w.write(c, []byte("small "))
		if left, _ := c.SendNow(); left != 0 {
			w.t.Errorf("%d of 6 bytes left", left)
		}
		if got := mustRead(w.t, peer, 6); string(got) != "small " {
			w.t.Errorf("the peer got %q", got)
		}
		want := pattern(3, 9<<20)
		w.write(c, want)
		left, _ := c.SendNow()
		if left == 0 || left != c.Queued() {
			w.t.Fatalf("%d bytes left, %d queued", left, c.Queued())
		}
		got := make(chan []byte)
		go func() { got <- mustRead(w.t, peer, len(want)) }()
		w.until("all is sent", func() bool { return c.Queued() == 0 })
		if !bytes.Equal(<-got, want) {
			w.t.Error("the peer got other bytes than were sent")
		}
		if r.sent != left || r.backlog[len(r.backlog)-1] != 0 {
			w.t.Errorf("%d bytes were left, but %d told as sent, backlogs %v", left, r.sent, r.backlog)
		}
	})
}

func TestSendNowBehindAQuickSend(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		w.write(c, []byte("first "))
		w.e.Flush()
		w.write(c, []byte("second"))
		if left, _ := c.SendNow(); left != 12 {
			t.Errorf("%d bytes left, not 12: it overtook", left)
		}
		w.until("all is sent", func() bool { return c.Queued() == 0 })
		if got := mustRead(t, peer, 12); string(got) != "first second" {
			t.Errorf("the peer got %q", got)
		}
		if len(r.backlog) == 0 || r.backlog[len(r.backlog)-1] != 0 || r.sent != 12 {
			t.Errorf("12 bytes were left, then backlogs %v and %d bytes sent", r.backlog, r.sent)
		}
	})
}

func TestSendNowToAPeerThatIsGone(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, peer := w.conn()
		c.Pause()
		w.quiet()
		reset(w.t, peer)
		w.write(c, []byte("x"))
		var errno syscall.Errno
		for errno == 0 {
			w.write(c, []byte("x"))
			_, errno = c.SendNow()
		}
		w.until("it closes", func() bool { return r.closed })
		if r.err == nil || r.err.Op != "write" {
			w.t.Errorf("closed with %v", r.err)
		}
	})
}

func TestManyConnections(t *testing.T) {
	everyMode(t, func(w *world) {
		const count = 1000
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 3*count {
			w.t.Skipf("needs %d descriptors, has %d", 3*count, limit.Cur)
		}
		type side struct {
			r    *recorder
			peer int
		}
		sides := make([]side, count)
		for i := range sides {
			_, r, peer := w.conn()
			r.echo = true
			sides[i] = side{r, peer}
			mustWrite(w.t, peer, pattern(i, 1000+i))
		}
		for i := range sides {
			want := pattern(i, 1000+i)
			w.until("all arrives", func() bool { return sides[i].r.size == len(want) })
		}
		w.quiet()
		for i, s := range sides {
			if got := mustRead(w.t, s.peer, 1000+i); !bytes.Equal(got, pattern(i, 1000+i)) {
				w.t.Fatalf("connection %d echoes other bytes", i)
			}
			CloseDescriptor(s.peer)
		}
		for i := range sides {
			w.until("end of file", func() bool { return sides[i].r.eof })
		}
	})
}

func TestMoreDataThanBuffers(t *testing.T) {
	for name, options := range modes {
		t.Run(name, func(t *testing.T) {
			options.Buffers, options.BufferSize = 2, 512
			w := newWorld(t, options)
			c, r, peer := w.conn()
			want := pattern(5, 1<<20)
			go func() {
				mustWrite(t, peer, want)
				CloseDescriptor(peer)
			}()
			w.until("end of file", func() bool { return r.eof })
			if !bytes.Equal(r.got.Bytes(), want) {
				t.Errorf("got %d bytes, or other ones", r.got.Len())
			}
			s := w.e.Stats()
			// With epoll a receive without a buffer waits for one.
			if !options.epoll && (s.NoBufs == 0 || s.Rearms == 0) {
				t.Errorf("%d times without buffers, %d re-arms: this tests nothing", s.NoBufs, s.Rearms)
			}
			c.Close()
		})
	}
}

func TestNoAllocationInSteadyState(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		r.discard, r.echo = true, true
		p := pattern(1, 1024)
		in := make([]byte, 1024)
		echo := func() {
			if _, err := unix.Write(peer, p); err != nil {
				t.Fatal(err)
			}
			w.written++
			before := r.size
			for r.size == before {
				w.poll(-1)
			}
			w.poll(0)
			if n, err := unix.Read(peer, in); err != nil || n != len(in) {
				t.Fatal(n, err)
			}
		}
		w.written = 0
		for range 100 {
			echo()
		}
		if allocations := testing.AllocsPerRun(500, echo); allocations != 0 {
			t.Errorf("%v allocations per message", allocations)
		}
		w.written = 0
		c.Close()
	})
}
