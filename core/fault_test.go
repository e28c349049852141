package core

import (
	"bytes"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReceiveIsArmedAgainWhenItEnds(t *testing.T) {
	for name, end := range map[string]func(d *scripted, c *Conn){
		"no more follow":  func(d *scripted, c *Conn) { d.data(c, "x", false) },
		"no buffers":      func(d *scripted, c *Conn) { d.fail(OpReceive, c, syscall.ENOBUFS) },
		"EINTR":           func(d *scripted, c *Conn) { d.fail(OpReceive, c, syscall.EINTR) },
		"EAGAIN":          func(d *scripted, c *Conn) { d.fail(OpReceive, c, syscall.EAGAIN) },
		"thread has died": func(d *scripted, c *Conn) { d.fail(OpReceive, c, syscall.ECANCELED) },
	} {
		t.Run(name, func(t *testing.T) {
			w, d, c, r := script(t)
			end(d, c)
			w.poll(0)
			w.poll(0)
			if got := d.take(OpReceive); len(got) != 1 {
				t.Errorf("%d receives armed again, not 1", len(got))
			}
			if r.closed || w.e.Stats().Rearms != 1 {
				t.Errorf("closed %v, %d re-arms", r.closed, w.e.Stats().Rearms)
			}
		})
	}
}

func TestBuffersComeBackWithTheNextFlush(t *testing.T) {
	w, d, c, r := script(t)
	d.data(c, "ab", true)
	d.data(c, "cd", true)
	w.poll(0)
	if r.got.String() != "abcd" || len(d.recycled) != 0 {
		t.Fatalf("got %q, %d buffers given back while handlers may look at them", r.got.String(), len(d.recycled))
	}
	w.poll(0)
	if len(d.recycled) != 2 {
		t.Errorf("%d buffers given back", len(d.recycled))
	}
}

func TestBytesAfterAnAbortAreDroppedAndTheirBufferIsNot(t *testing.T) {
	w, d, c, r := script(t)
	c.Abort()
	d.data(c, "late", true)
	w.poll(0)
	if r.size != 0 || r.closed {
		t.Errorf("%d bytes, closed %v", r.size, r.closed)
	}
	if got := d.take(OpCancel); len(got) != 1 || got[0].Target != makeToken(OpReceive, c.id) {
		t.Fatalf("cancels: %v", got)
	}
	d.finish(makeToken(OpReceive, c.id))
	w.poll(0)
	w.poll(0)
	if !r.closed || r.err != nil || len(d.recycled) != 1 {
		t.Errorf("closed %v, %v, %d buffers back", r.closed, r.err, len(d.recycled))
	}
}

func TestCancelThatFindsNothingIsRepeated(t *testing.T) {
	w, d, c, r := script(t)
	c.Close()
	w.poll(0)
	d.take(OpCancel)
	d.fail(OpCancel, c, syscall.ENOENT)
	d.data(c, "the receive goes on", true)
	w.poll(0)
	w.poll(0)
	if got := d.take(OpCancel); len(got) != 1 {
		t.Fatalf("%d cancels", len(got))
	}
	d.finish(makeToken(OpReceive, c.id))
	d.fail(OpCancel, c, syscall.ENOENT)
	w.poll(0)
	if !r.closed {
		t.Error("not closed")
	}
}

func TestQuickSendWithoutAnswerIsASuccess(t *testing.T) {
	w, d, c, r := script(t)
	d.settled = false
	w.write(c, []byte("one"))
	w.poll(0)
	if len(w.released) != 0 {
		t.Fatal("released before the kernel has the operation")
	}
	d.settled = true
	w.poll(0)
	if w.released[1] != 1 || c.Queued() != 0 || len(r.backlog) != 0 {
		t.Errorf("released %v, %d queued, backlog %v", w.released, c.Queued(), r.backlog)
	}
}

func TestShortQuickSendGoesOnPolled(t *testing.T) {
	for name, first := range map[string]struct {
		answer func(d *scripted, c *Conn)
		queued int
	}{
		"short":    {func(d *scripted, c *Conn) { d.sent(c, 4) }, 6},
		"refused":  {func(d *scripted, c *Conn) { d.fail(OpSend, c, syscall.EAGAIN) }, 10},
		"EINTR":    {func(d *scripted, c *Conn) { d.fail(OpSend, c, syscall.EINTR) }, 10},
		"one part": {func(d *scripted, c *Conn) { d.sent(c, 3) }, 7},
	} {
		t.Run(name, func(t *testing.T) {
			w, d, c, r := script(t)
			w.write(c, []byte("one"))
			w.write(c, []byte("seven67"))
			w.e.Flush()
			first.answer(d, c)
			w.poll(0)
			if !slices.Equal(r.backlog, []int{first.queued}) {
				t.Fatalf("backlog %v", r.backlog)
			}
			d.take(OpSend)
			w.poll(0)
			sends := d.take(OpSend)
			if len(sends) != 1 || sends[0].Quick {
				t.Fatalf("sends: %v", sends)
			}
			if got := bytes.Join(sends[0].Parts, nil); string(got) != "oneseven67"[10-first.queued:] {
				t.Fatalf("it goes on with %q", got)
			}
			w.write(c, []byte("!"))
			w.poll(0)
			if got := d.take(OpSend); len(got) != 0 {
				t.Fatalf("a second send under way: %v", got)
			}
			d.sent(c, first.queued)
			w.poll(0)
			w.poll(0)
			if sends = d.take(OpSend); len(sends) != 1 || string(sends[0].Parts[0]) != "!" {
				t.Fatalf("sends: %v", sends)
			}
			d.sent(c, 1)
			w.poll(0)
			if last := r.backlog[len(r.backlog)-1]; last != 0 || r.sent != first.queued+1 {
				t.Errorf("backlog %v, %d bytes told as sent", r.backlog, r.sent)
			}
			if w.released[1] != 1 || w.released[2] != 1 || w.released[3] != 1 {
				t.Errorf("released %v", w.released)
			}
		})
	}
}

func TestSendNowEndsABacklog(t *testing.T) {
	w, d, c, r := script(t)
	w.write(c, []byte("one"))
	w.e.Flush()
	d.sent(c, 1)
	w.poll(0)
	w.poll(0) // the polled send
	d.sent(c, 1)
	w.poll(0)
	d.takes = 1
	if left, errno := c.SendNow(); left != 0 || errno != 0 {
		t.Fatalf("%d bytes left, %v", left, errno)
	}
	d.take(OpSend)
	w.write(c, []byte("two"))
	w.e.Flush()
	if sends := d.take(OpSend); len(sends) != 1 || !sends[0].Quick {
		t.Errorf("sends: %v", sends)
	}
	w.poll(0)
	if !slices.Equal(r.backlog, []int{2, 1}) || w.released[2] != 1 {
		t.Errorf("backlog %v, released %v", r.backlog, w.released)
	}
}

func TestErrorsEndTheConnection(t *testing.T) {
	for name, test := range map[string]struct {
		kind  OpKind
		errno syscall.Errno
		op    string
	}{
		"reset while receiving": {OpReceive, syscall.ECONNRESET, "read"},
		"timeout":               {OpReceive, syscall.ETIMEDOUT, "read"},
		"broken pipe":           {OpSend, syscall.EPIPE, "write"},
		"reset while sending":   {OpSend, syscall.ECONNRESET, "write"},
	} {
		t.Run(name, func(t *testing.T) {
			w, d, c, r := script(t)
			w.write(c, []byte("unsent"))
			w.e.Flush()
			if test.kind == OpReceive {
				// Its send is answered, or not, as ever.
				d.settled = true
			}
			d.fail(test.kind, c, test.errno)
			w.poll(0)
			w.poll(0)
			if test.kind == OpSend {
				d.finish(makeToken(OpReceive, c.id))
				w.poll(0)
			}
			if !r.closed || r.err == nil || r.err.Err != test.errno || r.err.Op != test.op {
				t.Errorf("closed %v with %v", r.closed, r.err)
			}
			if w.released[1] != 1 {
				t.Errorf("released %v", w.released)
			}
		})
	}
}

// refusedSend makes a polled send of c fail while its receive is armed.
func refusedSend(w *world, d *scripted, c *Conn) {
	w.write(c, []byte("some and more"))
	w.e.Flush()
	d.sent(c, 4)
	w.poll(0)
	w.poll(0)
	d.take(OpSend)
	d.fail(OpSend, c, syscall.EPIPE)
	w.poll(0)
}

func TestBytesThatCameBeforeAFailedSendAreDelivered(t *testing.T) {
	w, d, c, r := script(t)
	refusedSend(w, d, c)
	if r.closed || w.released[1] != 1 {
		t.Fatalf("closed %v, released %v", r.closed, w.released)
	}
	w.poll(0)
	if got := d.take(OpCancel); len(got) != 1 || got[0].Target != makeToken(OpReceive, c.id) {
		t.Fatalf("cancels: %v", got)
	}
	w.write(c, []byte("nobody's"))
	d.data(c, "answer", true)
	d.finish(makeToken(OpReceive, c.id))
	w.poll(0)
	w.poll(0)
	if got := r.got.String(); got != "answer" {
		t.Errorf("received %q", got)
	}
	if !r.closed || r.err == nil || r.err.Op != "write" || r.err.Err != syscall.EPIPE {
		t.Errorf("closed %v with %v", r.closed, r.err)
	}
	if w.released[2] != 1 || len(d.take(OpSend)) != 0 {
		t.Errorf("released %v", w.released)
	}
}

func TestTheEndOfAConnectionWhoseSendFailed(t *testing.T) {
	for name, test := range map[string]struct {
		act func(d *scripted, c *Conn)
		op  string
	}{
		"end of file":    {func(d *scripted, c *Conn) { d.data(c, "", false) }, "write"},
		"receive failed": {func(d *scripted, c *Conn) { d.fail(OpReceive, c, syscall.ECONNRESET) }, "read"},
		"closed":         {func(d *scripted, c *Conn) { c.Close(); d.finish(makeToken(OpReceive, c.id)) }, "write"},
		"aborted":        {func(d *scripted, c *Conn) { c.Abort(); d.finish(makeToken(OpReceive, c.id)) }, ""},
		"paused":         {func(d *scripted, c *Conn) { c.Pause(); d.finish(makeToken(OpReceive, c.id)) }, "write"},
	} {
		t.Run(name, func(t *testing.T) {
			w, d, c, r := script(t)
			refusedSend(w, d, c)
			test.act(d, c)
			w.poll(0)
			w.poll(0)
			op := ""
			if r.err != nil {
				op = r.err.Op
			}
			if !r.closed || op != test.op || r.eof {
				t.Errorf("closed %v with %v, end of file %v", r.closed, r.err, r.eof)
			}
		})
	}
}

func TestRefusedSendWhoseReceiveGoesWithItsRing(t *testing.T) {
	w, d, c, r := script(t)
	refusedSend(w, d, c)
	d.data(c, "answer", true)
	d.moved = true
	if err := w.e.Attach(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.poll(0)
	}
	if got := r.got.String(); got != "answer" {
		t.Errorf("received %q", got)
	}
	if !r.closed || r.err == nil || r.err.Op != "write" || r.err.Err != syscall.EPIPE {
		t.Errorf("closed %v with %v", r.closed, r.err)
	}
}

func TestRefusedSendOfWhatOnlyWritesEndsItAtOnce(t *testing.T) {
	w, d, c, r := script(t)
	c.kind = SocketWriter
	refusedSend(w, d, c)
	w.poll(0)
	d.finish(makeToken(opReadable, c.id))
	w.poll(0)
	if !r.closed || r.err == nil || r.err.Op != "write" {
		t.Errorf("closed %v with %v", r.closed, r.err)
	}
}

func TestOwnersOfASendUnderWayAreKeptThroughAnAbort(t *testing.T) {
	w, d, c, r := script(t)
	w.write(c, []byte("under way"))
	w.e.Flush()
	d.sent(c, 1)
	w.poll(0)
	w.poll(0) // the polled send
	c.Abort()
	w.poll(0)
	if len(w.released) != 0 {
		t.Fatal("released with a send under way")
	}
	d.finish(makeToken(OpReceive, c.id))
	w.poll(0)
	if r.closed {
		t.Fatal("closed with a send under way")
	}
	d.finish(makeToken(OpSend, c.id))
	w.poll(0)
	if !r.closed || w.released[1] != 1 {
		t.Errorf("closed %v, released %v", r.closed, w.released)
	}
}

func TestASignalEndsAPollAndLosesNothing(t *testing.T) {
	w, d, c, r := script(t)
	d.waits = []error{syscall.EINTR}
	d.data(c, "x", true)
	if err := w.e.Poll(-1); err != syscall.EINTR {
		t.Errorf("Poll answers %v", err)
	}
	if r.got.String() != "x" {
		t.Error("a completion is lost")
	}
}

func TestAWaitThatTheKernelRefusesForNowIsNoError(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EAGAIN, syscall.EBUSY} {
		w, d, c, r := script(t)
		d.waits = []error{errno}
		d.data(c, "x", true)
		if err := w.e.Poll(0); err != nil || r.got.String() != "x" {
			t.Errorf("%v: Poll answers %v, got %q", errno, err, r.got.String())
		}
	}
}

func TestABrokenDriverIsAnError(t *testing.T) {
	w, d, _, _ := script(t)
	d.waits = []error{syscall.EBADF}
	if err := w.e.Poll(0); err != syscall.EBADF {
		t.Errorf("Poll answers %v", err)
	}
}

func TestCompletionsOfAnOldRingChangeNoStateOfTheNew(t *testing.T) {
	w, d, c, r := script(t)
	d.data(c, "old", true)
	d.data(c, " ring", false)
	d.fail(OpReceive, c, syscall.ECANCELED)
	d.moved = true
	if err := w.e.Attach(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.poll(0)
	}
	if got := d.take(OpReceive); len(got) != 1 {
		t.Errorf("%d receives armed in the new ring, not 1", len(got))
	}
	if r.got.String() != "old ring" {
		t.Errorf("got %q", r.got.String())
	}
}

func TestAnEndInAnOldRingIsMetAgain(t *testing.T) {
	w, d, c, r := script(t)
	end := Completion{Token: c.receiveToken}
	d.done = append(d.done, end)
	d.moved = true
	if err := w.e.Attach(); err != nil {
		t.Fatal(err)
	}
	w.poll(0)
	if got := d.take(OpReceive); len(got) != 1 || r.eof {
		t.Fatalf("%d receives armed, end %v", len(got), r.eof)
	}
	d.data(c, "of a FIFO's first writer", true)
	d.done = append(d.done, end)
	w.poll(0)
	if !r.eof || r.got.String() != "of a FIFO's first writer" {
		t.Errorf("end %v, got %q", r.eof, r.got.String())
	}
}

func TestASendThatWentWithItsRingEndsTheConnection(t *testing.T) {
	w, d, c, r := script(t)
	w.write(c, []byte("who knows"))
	d.settled = false
	w.e.Flush()
	d.moved = true
	if err := w.e.Attach(); err != nil {
		t.Fatal(err)
	}
	w.poll(0)
	if !r.closed || r.err == nil || r.err.Op != "write" || w.released[1] != 1 {
		t.Errorf("closed %v with %v, released %v", r.closed, r.err, w.released)
	}
}

// closingOutcomes closes a listener when an operation is done.
type closingOutcomes struct {
	l       *Listener
	results []int
}

func (c *closingOutcomes) Done(_ *Operation, result int, _ []byte) {
	c.results = append(c.results, result)
	c.l.Close()
}

func TestListenerClosedByAHandlerWhenTheThreadChanges(t *testing.T) {
	for name, answered := range map[string]bool{"the send is done": true, "the send is lost": false} {
		t.Run(name, func(t *testing.T) {
			w, d, _, _ := script(t)
			l, err := w.e.Listen(-1, &acceptor{t: t})
			if err != nil {
				t.Fatal(err)
			}
			closing := &closingOutcomes{l: l}
			o, err := w.e.Start(OperationSpec{Kind: OpSendAll, FD: -1, Buffer: []byte("x")}, 0, closing)
			if err != nil {
				t.Fatal(err)
			}
			w.poll(0)
			want := -int(errUnknownProgress)
			if answered {
				want = 1
				d.done = append(d.done, Completion{Token: o.token(), Res: 1})
			}
			d.moved = true
			if err := w.e.Attach(); err != nil {
				t.Fatal(err)
			}
			if d.syncs != 0 {
				t.Error("an accept is cancelled that is gone")
			}
			w.poll(0)
			if !slices.Equal(closing.results, []int{want}) || w.e.Stats().Listeners != 0 {
				t.Errorf("results %v, %d listeners", closing.results, w.e.Stats().Listeners)
			}
		})
	}
}

func TestListenerIsArmedAgainAfterLeave(t *testing.T) {
	w, d, _, _ := script(t)
	a := &acceptor{t: t}
	l, err := w.e.Listen(-1, a)
	if err != nil {
		t.Fatal(err)
	}
	w.poll(0)
	d.take(OpAccept)
	d.done = append(d.done, Completion{Token: l.token(), Res: 1000})
	w.e.Leave()
	w.poll(0)
	w.poll(0)
	if got := d.take(OpAccept); len(got) != 1 || !slices.Equal(a.fds, []int{1000}) {
		t.Errorf("%d accepts armed, accepted %v", len(got), a.fds)
	}
}

func TestCloseGivesBackTheLastBuffers(t *testing.T) {
	w, d, c, r := script(t)
	d.data(c, "late", true)
	d.finish(c.receiveToken)
	d.finish(makeToken(opWake, 0))
	if err := w.e.Close(); err != nil {
		t.Fatal(err)
	}
	if !r.closed || len(d.recycled) != 1 {
		t.Errorf("closed %v, %d buffers given back", r.closed, len(d.recycled))
	}
}

func TestCloseInAThreadThatGetsNoRing(t *testing.T) {
	w, d, c, r := script(t)
	l, err := w.e.Listen(-1, &acceptor{t: t})
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	d.data(c, "late", true)
	d.done = append(d.done, Completion{Token: l.token(), Res: int32(accepted), More: true})
	d.alone = syscall.ENOMEM
	if err := w.e.Close(); err != syscall.ENOMEM {
		t.Errorf("Close answers %v", err)
	}
	if !r.closed || len(d.recycled) != 1 {
		t.Errorf("closed %v, %d buffers given back", r.closed, len(d.recycled))
	}
	if err := unix.Close(accepted); err != unix.EBADF {
		t.Errorf("a socket that was accepted is left open: close(2) answers %v", err)
	}
}

func TestCompletionsThatComeWhileOthersAreLookedThrough(t *testing.T) {
	var q completionQueue
	d := &scripted{}
	for range reapBatch + 1 {
		d.done = append(d.done, Completion{Token: makeToken(OpPoll, 1)})
	}
	if n := q.fill(d, reapBatch); n != reapBatch {
		t.Fatalf("%d completions", n)
	}
	seen := 0
	look := func(*Completion) bool {
		q.fillAll(d) // as a handler does that closes a listener
		seen++
		return true
	}
	q.each(look)
	q.each(look)
	if seen != reapBatch+1 {
		t.Errorf("%d of %d completions are seen once", seen, reapBatch+1)
	}
}

func TestLimitedReapLeavesTheRest(t *testing.T) {
	w, d, c, r := script(t)
	for range 10 {
		d.data(c, "x", true)
	}
	w.e.Reap(4)
	if r.size != 4 {
		t.Errorf("%d handled, not 4", r.size)
	}
	w.e.Reap(100)
	if r.size != 10 {
		t.Errorf("%d handled, not 10", r.size)
	}
}

func TestStaleIDsFindNothing(t *testing.T) {
	var s slots
	first, err := s.add("a")
	if err != nil {
		t.Fatal(err)
	}
	s.remove(first)
	second, err := s.add("b")
	if err != nil {
		t.Fatal(err)
	}
	if s.get(first) != nil || s.get(second) != "b" || s.get(1<<20) != nil {
		t.Errorf("ids %d and %d find %v and %v", first, second, s.get(first), s.get(second))
	}
}

func TestSendQueue(t *testing.T) {
	var q sendQueue
	var want []byte
	for i := range 100 {
		p := pattern(i, i+1)
		want = append(want, p...)
		q.push(part{p: p, owner: uint64(i + 1)})
	}
	parts, total := q.gather(nil)
	if total != len(want) || !bytes.Equal(bytes.Join(parts, nil), want) {
		t.Error("gathers other bytes than were pushed")
	}
	for i := range 100 {
		if p := q.pop(); p.owner != uint64(i+1) {
			t.Errorf("owner %d at %d", p.owner, i)
		}
	}
	if q.bytes != 0 || q.count != 0 || len(q.parts) > partsKept {
		t.Errorf("%d bytes, %d parts, room for %d", q.bytes, q.count, len(q.parts))
	}
}
