package core

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"kloop/epoll"
)

func epollWorld(t *testing.T) (*world, *EpollDriver) {
	t.Helper()
	w := newWorld(t, modes["epoll"])
	return w, w.driver.(*EpollDriver)
}

// TestManyWaitersOfOneDescriptor: each is told, and ends, on its own.
func TestManyWaitersOfOneDescriptor(t *testing.T) {
	everyMode(t, func(w *world) {
		ours, peer := w.sockets()
		r := newOutcomes(w.t)
		w.start(OperationSpec{Kind: OpPoll, FD: ours, Events: unix.POLLIN}, 1, r)
		w.start(OperationSpec{Kind: OpPoll, FD: ours, Events: unix.POLLRDHUP}, 2, r)
		w.start(OperationSpec{Kind: OpPoll, FD: ours, Events: unix.POLLIN | unix.POLLOUT}, 3, r)
		w.start(OperationSpec{Kind: OpReceiveOnce, FD: ours, Limit: 10}, 4, r)
		w.until("there is room", r.done(3))
		w.quiet()
		if len(r.result) != 1 || r.result[3] != unix.POLLOUT {
			w.t.Fatalf("results: %v", r.result)
		}
		mustWrite(w.t, peer, []byte("x"))
		w.until("it is readable", r.done(1))
		w.until("it is received", r.done(4))
		if string(r.data[4]) != "x" || r.done(2)() {
			w.t.Errorf("received %q, results %v", r.data[4], r.result)
		}
		_ = unix.Shutdown(peer, unix.SHUT_WR)
		w.until("the peer has ended", r.done(2))
		if r.result[2] != unix.POLLRDHUP {
			w.t.Errorf("results: %v", r.result)
		}
	})
}

// TestDescriptorThatIsAnotherFile: a number is closed and used again, with and without an
// operation left on the old file.
func TestDescriptorThatIsAnotherFile(t *testing.T) {
	for name, left := range map[string]bool{"nothing left": false, "a receive left": true} {
		t.Run(name, func(t *testing.T) {
			w, _ := epollWorld(t)
			ours, peer := w.sockets()
			r := newOutcomes(t)
			w.start(OperationSpec{Kind: OpReceiveOnce, FD: ours, Limit: 10}, 1, r)
			mustWrite(t, peer, []byte("old"))
			w.until("it is received", r.done(1))
			var stale *Operation
			if left {
				stale = w.start(OperationSpec{Kind: OpReceiveOnce, FD: ours, Limit: 10}, 2, r)
				w.quiet()
			}
			for tag := uint64(10); tag < 20; tag++ {
				other, otherPeer := w.sockets()
				if err := unix.Dup3(other, ours, unix.O_CLOEXEC); err != nil {
					t.Fatal(err)
				}
				w.start(OperationSpec{Kind: OpReceiveOnce, FD: ours, Limit: 10}, tag, r)
				w.quiet()
				mustWrite(t, otherPeer, []byte("new"))
				w.until("the new file is received from", r.done(tag))
			}
			if left {
				if r.done(2)() {
					t.Fatalf("the receive of the closed socket: %d", r.result[2])
				}
				stale.Cancel()
				w.until("it is cancelled", r.done(2))
			}
		})
	}
}

// TestDescriptorThatComesBack: the same file under the same number again, while its old
// registration lives on in a copy.
func TestDescriptorThatComesBack(t *testing.T) {
	w, _ := epollWorld(t)
	ours, peer := w.sockets()
	other, otherPeer := w.sockets()
	r := newOutcomes(t)
	copied, err := unix.FcntlInt(uintptr(ours), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseDescriptor(copied)
	for i, step := range []struct{ file, peer int }{{copied, peer}, {other, otherPeer}, {copied, peer}} {
		tag := uint64(i + 1)
		if err := unix.Dup3(step.file, ours, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		w.start(OperationSpec{Kind: OpReceiveOnce, FD: ours, Limit: 10}, tag, r)
		w.quiet()
		mustWrite(t, step.peer, []byte{byte(i)})
		w.until("it is received", r.done(tag))
		if r.data[tag][0] != byte(i) {
			t.Errorf("step %d: received % x", i, r.data[tag])
		}
	}
}

// TestCopiesOfADescriptor: each number has its own operations.
func TestCopiesOfADescriptor(t *testing.T) {
	everyMode(t, func(w *world) {
		ours, peer := w.sockets()
		copied, err := unix.FcntlInt(uintptr(ours), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		defer CloseDescriptor(copied)
		r := newOutcomes(w.t)
		w.start(OperationSpec{Kind: OpPoll, FD: ours, Events: unix.POLLIN}, 1, r)
		w.start(OperationSpec{Kind: OpReceiveOnce, FD: copied, Limit: 10}, 2, r)
		w.quiet()
		mustWrite(w.t, peer, []byte("x"))
		w.until("the copy receives", r.done(2))
		w.until("the other is polled", func() bool {
			if !r.done(1)() {
				_, _ = unix.Write(peer, []byte("y"))
			}
			return r.done(1)()
		})
	})
}

// TestFilesThatAreAlwaysReady: epoll takes no regular file, which poll(2) calls ready.
func TestFilesThatAreAlwaysReady(t *testing.T) {
	everyMode(t, func(w *world) {
		path := filepath.Join(w.t.TempDir(), "file")
		if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
			w.t.Fatal(err)
		}
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		defer CloseDescriptor(fd)
		r := newOutcomes(w.t)
		for tag := uint64(1); tag <= 3; tag++ {
			w.start(OperationSpec{Kind: OpPoll, FD: fd, Events: unix.POLLIN | unix.POLLOUT}, tag, r)
		}
		for tag := uint64(1); tag <= 3; tag++ {
			w.until("it is ready", r.done(tag))
			if r.result[tag] != unix.POLLIN|unix.POLLOUT {
				w.t.Errorf("events %#x", r.result[tag])
			}
		}
		w.start(OperationSpec{Kind: OpReceiveOnce, FD: fd, Limit: 1}, 4, r)
		w.until("it is no socket", r.done(4))
		if r.result[4] != -int(syscall.ENOTSOCK) {
			w.t.Errorf("result %d", r.result[4])
		}
		h := &watcher{}
		watch, err := w.e.Watch(fd, unix.POLLIN, h)
		if err != nil {
			w.t.Fatal(err)
		}
		w.until("it is ready again and again", func() bool { return h.ready >= 3 })
		watch.Cancel()
		w.until("it is unwatched", func() bool { return h.over })
	})
}

// TestSocketsThatBlock: nothing waits in a system call for what a socket does not have.
func TestSocketsThatBlock(t *testing.T) {
	everyMode(t, func(w *world) {
		ours, peer := w.sockets()
		if err := unix.SetNonblock(ours, false); err != nil {
			w.t.Fatal(err)
		}
		r := newOutcomes(w.t)
		big := pattern(1, 8<<20)
		w.start(OperationSpec{Kind: OpReceiveInto, FD: ours, Buffer: make([]byte, 10)}, 1, r)
		w.start(OperationSpec{Kind: OpSendAll, FD: ours, Buffer: big}, 2, r)
		w.quiet()
		if len(r.result) > 0 {
			w.t.Errorf("results: %v", r.result)
		}
		got := make(chan []byte)
		go func() { got <- mustRead(w.t, peer, len(big)) }()
		w.until("it is sent", r.done(2))
		mustWrite(w.t, peer, []byte("x"))
		w.until("it is received", r.done(1))
		if !bytes.Equal(<-got, big) {
			w.t.Error("other bytes")
		}
	})
}

// TestPipeThatBlocks: another process may have cleared O_NONBLOCK, which belongs to the open file.
func TestPipeThatBlocks(t *testing.T) {
	everyMode(t, func(w *world) {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			w.t.Fatal(err)
		}
		r := &recorder{t: w.t, keep: true}
		c, err := w.e.AdoptPipe(fds[0], PipeReader, r)
		if err != nil {
			w.t.Fatal(err)
		}
		c.ownsFD = true
		c.Resume()
		w.quiet()
		for i := range 3 {
			mustWrite(w.t, fds[1], []byte("x"))
			w.until("it arrives", func() bool { return r.size == i+1 })
			w.quiet()
		}
		CloseDescriptor(fds[1])
		w.until("the end", func() bool { return r.eof })
		c.Abort()
		w.until("it is closed", func() bool { return r.closed })
	})
}

// TestListenerThatBlocks: what has taken a connection away leaves nothing to wait for.
func TestListenerThatBlocks(t *testing.T) {
	w, _ := epollWorld(t)
	fd, at := tcpListener(t)
	defer CloseDescriptor(fd)
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	h := &acceptor{}
	l, err := w.e.Listen(fd, h)
	if err != nil {
		t.Fatal(err)
	}
	w.quiet()
	peer := peerOf(t, at)
	defer CloseDescriptor(peer)
	w.until("it is accepted", func() bool { return len(h.fds) == 1 })
	CloseDescriptor(h.fds[0])
	// It is set for good: between an event and accept(2) others may accept.
	if nonblocking, errno := epoll.Nonblocking(fd); errno != 0 || !nonblocking {
		t.Errorf("non-blocking: %v, %v", nonblocking, errno)
	}
	l.Close()
}

// TestStreamsEndBehindWhatEndsAShortReceive: urgent data, and descriptors on a unix socket. Not with a submission
// thread, where urgent data may end a multishot receive without a completion (Linux 6.18).
func TestStreamsEndBehindWhatEndsAShortReceive(t *testing.T) {
	bothDrivers(t, func(_ *testing.T, w *world) {
		c, r, peer := w.conn()
		w.quiet()
		mustWrite(w.t, peer, []byte("before"))
		if err := unix.Sendto(peer, []byte("!"), unix.MSG_OOB, nil); err != nil {
			w.t.Fatal(err)
		}
		mustWrite(w.t, peer, []byte("behind"))
		w.until("all arrives", func() bool { return r.got.String() == "beforebehind" })
		CloseDescriptor(peer)
		w.until("the end", func() bool { return r.eof })
		c.Abort()
		w.until("it is closed", func() bool { return r.closed })

		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		r = &recorder{t: w.t}
		if c, err = w.e.Adopt(fds[0], r); err != nil {
			w.t.Fatal(err)
		}
		c.ownsFD = true
		c.Resume()
		w.quiet()
		mustWrite(w.t, fds[1], []byte("before"))
		if err := unix.Sendmsg(fds[1], []byte("with"), unix.UnixRights(fds[1]), nil, 0); err != nil {
			w.t.Fatal(err)
		}
		mustWrite(w.t, fds[1], []byte("behind"))
		CloseDescriptor(fds[1])
		w.until("the end", func() bool { return r.closed })
		if r.got.String() != "beforewithbehind" {
			w.t.Errorf("received %q", r.got.String())
		}
	})
}

// TestOneBusyConnectionHoldsUpNoOther: a stream without end leaves the others their turn.
func TestOneBusyConnectionHoldsUpNoOther(t *testing.T) {
	w, d := epollWorld(t)
	_, busy, busyPeer := w.conn()
	_, quiet, quietPeer := w.conn()
	busy.discard = true
	if err := unix.SetNonblock(busyPeer, true); err != nil {
		t.Fatal(err)
	}
	w.quiet()
	fill := pattern(1, 4<<20)
	feed := func() { _, _ = unix.Write(busyPeer, fill) }
	feed()
	mustWrite(t, quietPeer, []byte("x"))
	before := d.Stats().Enters
	for quiet.size == 0 {
		feed()
		w.poll(0)
	}
	if turns := d.Stats().Enters - before; turns > 3 {
		t.Errorf("a byte waited for %d turns", turns)
	}
	if most := receivesPerTurn * bufferSizeDefault; busy.size > 4*most {
		t.Errorf("the busy one got %d bytes meanwhile", busy.size)
	}
	CloseDescriptor(busyPeer)
	CloseDescriptor(quietPeer)
}

// TestEventsThatNobodyWaitsFor end after a few: a paused connection does not wake the loop.
func TestEventsThatNobodyWaitsFor(t *testing.T) {
	w, d := epollWorld(t)
	c, r, peer := w.conn()
	defer CloseDescriptor(peer)
	w.quiet()
	c.Pause()
	w.quiet()
	for range 3 * unwantedMax {
		mustWrite(t, peer, []byte("x"))
		w.poll(0)
	}
	if events := d.fds[c.fd].interest; events != 0 {
		t.Errorf("still registered for %#x", events)
	}
	c.Resume()
	w.until("all arrives", func() bool { return r.size == 3*unwantedMax })
	mustWrite(t, peer, []byte("x"))
	w.until("the next arrives", func() bool { return r.size == 3*unwantedMax+1 })
}

// TestCancelOfNothing is answered, if anybody wants to know.
func TestCancelOfNothing(t *testing.T) {
	_, d := epollWorld(t)
	for token, want := range map[Token]int{0: 0, makeToken(OpCancel, 5): 1} {
		if err := d.Submit(&Op{Kind: OpCancel, Target: makeToken(OpReceive, 5), Token: token}); err != nil {
			t.Fatal(err)
		}
		var done [4]Completion
		n := d.Reap(done[:])
		if n != want || n == 1 && (done[0].Token != token || done[0].Res != -int32(syscall.ENOENT)) {
			t.Errorf("%v: %+v", token, done[:n])
		}
	}
}

func TestPackedBuffers(t *testing.T) {
	var b packedBuffers
	if err := b.open(1, 2, 1024, 512); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}()
	var ids []BufferID
	for _, want := range []int{1024, 960, 1024, 576, 0} {
		room := b.room()
		if len(room) != want {
			t.Fatalf("room for %d bytes, not %d", len(room), want)
		}
		if want > 0 {
			ids = append(ids, b.take(map[int]int{1024: 60, 960: 500, 576: 100}[want]))
		}
		if len(ids) == 3 { // half of the second buffer
			ids = append(ids, b.take(330))
		}
	}
	for _, id := range ids {
		if !b.owns(id) || b.owns(id+1<<bufferEpochShift) {
			t.Error("whose is it?")
		}
		b.give(id)
	}
	if room := b.room(); len(room) != 1024 || len(b.free) != 1 {
		t.Errorf("after all, room for %d bytes, %d free", len(room), len(b.free))
	}
}
