package core

import (
	"bytes"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// outcomes is an OperationHandler that remembers, by tag.
type outcomes struct {
	t      testing.TB
	result map[uint64]int
	data   map[uint64][]byte
}

var _ OperationHandler = (*outcomes)(nil)

func (r *outcomes) Done(o *Operation, result int, p []byte) {
	if _, twice := r.result[o.Tag]; twice {
		r.t.Errorf("operation %d is done twice", o.Tag)
	}
	r.result[o.Tag], r.data[o.Tag] = result, bytes.Clone(p)
}

func (r *outcomes) done(tag uint64) func() bool {
	return func() bool { _, done := r.result[tag]; return done }
}

func newOutcomes(t testing.TB) *outcomes {
	return &outcomes{t: t, result: map[uint64]int{}, data: map[uint64][]byte{}}
}

func (w *world) start(spec OperationSpec, tag uint64, r *outcomes) *Operation {
	w.t.Helper()
	o, err := w.e.Start(spec, tag, r)
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

func (w *world) nonePending() {
	w.t.Helper()
	if n := w.e.Stats().Operations; n != 0 {
		w.t.Errorf("%d operations under way", n)
	}
}

// sockets is a connected pair that both end with the test.
func (w *world) sockets() (ours, peer int) {
	ours, peer = tcpPair(w.t)
	w.t.Cleanup(func() { CloseDescriptor(ours); CloseDescriptor(peer) })
	w.fds += 2
	return ours, peer
}

func TestOperationReceives(t *testing.T) {
	everyMode(t, func(w *world) {
		ours, peer := w.sockets()
		r := newOutcomes(w.t)
		w.start(OperationSpec{Kind: OpReceiveOnce, FD: ours, Limit: 3}, 1, r)
		w.quiet()
		mustWrite(w.t, peer, []byte("abcdefgh"))
		w.until("it is done", r.done(1))
		into := make([]byte, 3)
		w.start(OperationSpec{Kind: OpReceiveInto, FD: ours, Buffer: into}, 2, r)
		w.until("it is done", r.done(2))
		w.start(OperationSpec{Kind: OpReceiveOnce, FD: ours, Limit: 100}, 3, r)
		w.until("it is done", r.done(3))
		if got := string(r.data[1]) + string(into[:r.result[2]]) + string(r.data[3]); got != "abcdefgh" {
			w.t.Errorf("received %q", got)
		}
		_ = unix.Shutdown(peer, unix.SHUT_WR)
		w.start(OperationSpec{Kind: OpReceiveOnce, FD: ours, Limit: 100}, 4, r)
		w.until("the end of the stream", r.done(4))
		if r.result[4] != 0 {
			w.t.Errorf("at the end: %d", r.result[4])
		}
		w.nonePending()
	})
}

func TestOperationSendsAll(t *testing.T) {
	everyMode(t, func(w *world) {
		ours, peer := w.sockets()
		r := newOutcomes(w.t)
		want := pattern(1, 8<<20)
		w.start(OperationSpec{Kind: OpSendAll, FD: ours, Buffer: want}, 1, r)
		w.quiet()
		if r.done(1)() {
			w.t.Fatal("sent before the peer reads")
		}
		got := make(chan []byte)
		go func() { got <- mustRead(w.t, peer, len(want)) }()
		w.until("all is sent", r.done(1))
		if r.result[1] != len(want) || !bytes.Equal(<-got, want) {
			w.t.Errorf("sent %d, or other bytes", r.result[1])
		}
		w.nonePending()
	})
}

func TestOperationsFail(t *testing.T) {
	everyMode(t, func(w *world) {
		ours, peer := w.sockets()
		r := newOutcomes(w.t)
		w.start(OperationSpec{Kind: OpReceiveOnce, FD: -1, Limit: 1}, 1, r)
		w.start(OperationSpec{Kind: OpReceiveInto, FD: ours, Buffer: make([]byte, 1)}, 2, r)
		w.quiet()
		linger := unix.Linger{Onoff: 1}
		_ = unix.SetsockoptLinger(peer, unix.SOL_SOCKET, unix.SO_LINGER, &linger)
		null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		if err := unix.Dup3(null, peer, unix.O_CLOEXEC); err != nil { // closes the peer's socket
			w.t.Fatal(err)
		}
		CloseDescriptor(null)
		w.until("it is reset", r.done(2))
		w.start(OperationSpec{Kind: OpSendAll, FD: ours, Buffer: []byte("x")}, 3, r)
		w.until("sending fails", r.done(3))
		if r.result[1] != -int(syscall.EBADF) || r.result[2] != -int(syscall.ECONNRESET) || r.result[3] != -int(syscall.EPIPE) {
			w.t.Errorf("results: %v", r.result)
		}
		w.nonePending()
	})
}

func TestOperationsThatAreNone(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		for _, spec := range []OperationSpec{
			{}, {Kind: OpReceiveOnce}, {Kind: OpReceiveInto}, {Kind: OpSendAll}, {Kind: OpPoll},
			{Kind: OpAccept}, {Kind: OpCancel},
		} {
			if _, err := w.e.Start(spec, 1, newOutcomes(t)); err != syscall.EINVAL {
				t.Errorf("%+v: %v", spec, err)
			}
		}
		w.nonePending()
	})
}

func TestOperationCancelled(t *testing.T) {
	everyMode(t, func(w *world) {
		ours, peer := w.sockets()
		r := newOutcomes(w.t)
		fill := pattern(2, 16<<20)
		var all []*Operation
		for tag := uint64(1); tag <= 1000; tag++ {
			all = append(all, w.start(OperationSpec{Kind: OpReceiveOnce, FD: ours, Limit: 10}, tag, r))
		}
		all = append(all, w.start(OperationSpec{Kind: OpSendAll, FD: ours, Buffer: fill}, 2001, r),
			w.start(OperationSpec{Kind: OpPoll, FD: ours, Events: unix.POLLIN}, 2002, r))
		w.quiet()
		// One that the kernel has not seen yet.
		all = append(all, w.start(OperationSpec{Kind: OpReceiveInto, FD: ours, Buffer: make([]byte, 1)}, 2003, r))
		for _, o := range all {
			o.Cancel()
			o.Cancel()
		}
		w.until("all have ended", func() bool { return len(r.result) == len(all) })
		for tag, result := range r.result {
			if tag != 2001 && result != -int(syscall.ECANCELED) {
				w.t.Errorf("operation %d: %d", tag, result)
			}
		}
		if n := r.result[2001]; n != -int(syscall.ECANCELED) {
			w.t.Errorf("a send that was not complete answers %d", n)
		}
		mustWrite(w.t, peer, []byte("still there"))
		w.start(OperationSpec{Kind: OpReceiveOnce, FD: ours, Limit: 100}, 3000, r)
		w.until("it is received", r.done(3000))
		if string(r.data[3000]) != "still there" {
			w.t.Errorf("received %q", r.data[3000])
		}
		w.nonePending()
	})
}

// TestOperationThatIsDoneWhenCancelled: what the kernel had done before is told, not lost.
func TestOperationThatIsDoneWhenCancelled(t *testing.T) {
	everyMode(t, func(w *world) {
		ours, peer := w.sockets()
		r := newOutcomes(w.t)
		got := 0
		for tag := uint64(1); tag <= 50; tag++ {
			o := w.start(OperationSpec{Kind: OpReceiveOnce, FD: ours, Limit: 1}, tag, r)
			w.quiet()
			mustWrite(w.t, peer, []byte("x"))
			w.e.Flush()
			if err := w.driver.Wait(int64(patience)); err != nil {
				w.t.Fatal(err)
			}
			o.Cancel()
			w.until("it is over", r.done(tag))
			got += len(r.data[tag])
			if r.result[tag] < 0 && r.result[tag] != -int(syscall.ECANCELED) {
				w.t.Errorf("result %d", r.result[tag])
			}
		}
		rest := make([]byte, 100)
		n, err := unix.Read(ours, rest)
		if err == nil {
			got += n
		}
		if got != 50 {
			w.t.Errorf("%d of 50 bytes", got)
		}
	})
}

func TestOperationPolls(t *testing.T) {
	everyMode(t, func(w *world) {
		ours, peer := w.sockets()
		r := newOutcomes(w.t)
		w.start(OperationSpec{Kind: OpPoll, FD: ours, Events: unix.POLLIN}, 1, r)
		w.quiet()
		if r.done(1)() {
			w.t.Error("ready with nothing to read")
		}
		mustWrite(w.t, peer, []byte("x"))
		w.until("it is ready", r.done(1))
		if r.result[1] != unix.POLLIN {
			w.t.Errorf("events %#x", r.result[1])
		}
		w.nonePending()
	})
}

func TestOperationWithoutReceiveBuffers(t *testing.T) {
	w := newWorld(t, mode{UringOptions: UringOptions{Buffers: 1, BufferSize: 4096, SQPollCPU: -1}})
	r := newOutcomes(t)
	const pairs = 8
	for tag := uint64(1); tag <= pairs; tag++ {
		ours, peer := w.sockets()
		mustWrite(t, peer, []byte("x"))
		w.start(OperationSpec{Kind: OpReceiveOnce, FD: ours, Limit: 10}, tag, r)
	}
	w.until("all are done", func() bool { return len(r.result) == pairs })
	for tag, result := range r.result {
		if result != 1 {
			t.Errorf("operation %d: %d", tag, result)
		}
	}
	if w.e.Stats().NoBufs == 0 {
		t.Error("there was a buffer each time")
	}
}

func TestOperationsAcrossThreads(t *testing.T) {
	everyMode(t, func(w *world) {
		ours, peer := w.sockets()
		r := newOutcomes(w.t)
		want := pattern(3, 12<<20)
		into := make([]byte, 5)
		w.inThread(func() {
			w.start(OperationSpec{Kind: OpSendAll, FD: ours, Buffer: want}, 1, r)
			w.start(OperationSpec{Kind: OpReceiveInto, FD: ours, Buffer: into}, 2, r)
			w.start(OperationSpec{Kind: OpPoll, FD: ours, Events: unix.POLLRDHUP}, 3, r)
			w.quiet()
			w.e.Leave()
		})
		// Nobody polls meanwhile.
		got := mustRead(w.t, peer, 1<<20)
		mustWrite(w.t, peer, []byte("first"))
		w.inThread(func() {
			w.until("what came meanwhile is received", r.done(2))
			w.start(OperationSpec{Kind: OpReceiveOnce, FD: ours, Limit: 100}, 4, r)
			w.quiet()
			mustWrite(w.t, peer, []byte("second"))
			w.e.Flush()
			if err := w.driver.Wait(int64(patience)); err != nil {
				w.t.Error(err)
			}
			w.e.Leave() // with a completion that nobody has handled
		})
		w.inThread(func() {
			rest := make(chan []byte)
			go func() { rest <- mustRead(w.t, peer, len(want)-len(got)) }()
			w.until("all is sent", r.done(1))
			got = append(got, <-rest...)
			w.until("it is received", r.done(4))
			_ = unix.Shutdown(peer, unix.SHUT_WR)
			w.until("the poll is done", r.done(3))
			w.e.Leave()
		})
		if string(into) != "first" || string(r.data[4]) != "second" || !bytes.Equal(got, want) {
			w.t.Errorf("received %q and %q, the peer %d bytes, or other ones", into, r.data[4], len(got))
		}
	})
}

func TestOperationsOfAThreadThatEndsWithoutLeave(t *testing.T) {
	w := newWorld(t, modes["ring"])
	ours, peer := w.sockets()
	r := newOutcomes(t)
	w.inThread(func() {
		w.start(OperationSpec{Kind: OpSendAll, FD: ours, Buffer: pattern(4, 12<<20)}, 1, r)
		w.start(OperationSpec{Kind: OpReceiveOnce, FD: ours, Limit: 10}, 2, r)
		w.quiet()
	})
	w.inThread(func() {
		mustWrite(t, peer, []byte("x"))
		w.until("the receive goes on", r.done(2))
		w.until("the send has ended", r.done(1))
		w.e.Leave()
	})
	// What the kernel took of the send nobody knows, unless its answer had come.
	if string(r.data[2]) != "x" || r.result[1] != -int(errUnknownProgress) {
		t.Errorf("received %q, sending: %d", r.data[2], r.result[1])
	}
}

func TestOperationsEndWithTheEngine(t *testing.T) {
	everyMode(t, func(w *world) {
		ours, _ := w.sockets()
		r := newOutcomes(w.t)
		w.start(OperationSpec{Kind: OpReceiveOnce, FD: ours, Limit: 10}, 1, r)
		w.start(OperationSpec{Kind: OpSendAll, FD: ours, Buffer: pattern(5, 16<<20)}, 2, r)
		w.quiet()
		w.start(OperationSpec{Kind: OpPoll, FD: ours, Events: unix.POLLIN}, 3, r)
		if err := w.e.Close(); err != nil {
			w.t.Error(err)
		}
		for tag := uint64(1); tag <= 3; tag++ {
			if r.result[tag] != -int(syscall.ECANCELED) {
				w.t.Errorf("operation %d: %d", tag, r.result[tag])
			}
		}
		if _, err := w.e.Start(OperationSpec{Kind: OpPoll, Events: unix.POLLIN}, 4, r); err != ErrClosed {
			w.t.Errorf("after Close: %v", err)
		}
		w.nonePending()
	})
}

func TestOperationCancelThatFailsIsRepeated(t *testing.T) {
	w, d, _, _ := script(t)
	r := newOutcomes(t)
	o := w.start(OperationSpec{Kind: OpReceiveOnce, FD: 3, Limit: 10}, 1, r)
	w.poll(0)
	d.take(OpReceiveOnce)
	for range 3 {
		o.cancelled = false
		o.Cancel()
		w.poll(0)
		if got := d.take(OpCancel); len(got) != 1 || got[0].Target != o.token() {
			t.Fatalf("cancels: %+v", got)
		}
		d.done = append(d.done, Completion{Token: makeToken(OpCancel, o.id), Res: -int32(syscall.EALREADY)})
		w.poll(0)
	}
	d.finish(o.token())
	w.poll(0)
	if r.result[1] != -int(syscall.ECANCELED) {
		t.Errorf("result %d", r.result[1])
	}
	w.nonePending()
}
