package uring

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestAcceptMultishot(t *testing.T) {
	r := newRing(t, anyCPU)
	l, addr := listen(t)
	s := r.NextSQE()
	s.PrepAcceptMultishot(l, unix.SOCK_CLOEXEC)
	s.SetUserData(1)
	for range 3 {
		client := connectTo(t, addr)
		c := awaitOne(t, r, 1)
		if c.Res < 0 || !c.More() {
			t.Fatalf("accept: %+v", c)
		}
		server := closeLater(t, int(c.Res))
		write(t, client, []byte{42})
		same(t, readAll(t, server, 1), []byte{42})
	}
	s = r.NextSQE()
	s.PrepCancel(1, 0)
	s.SetUserData(2)
	ended(t, await(t, r, 2), 1, 0)
}

// ended checks the answers to a cancel (user data 2) and to what it cancelled.
func ended(t *testing.T, cs []CQE, cancelled uint64, cancelRes int32) {
	t.Helper()
	for _, c := range cs {
		switch c.UserData {
		case cancelled:
			if c.Res != -int32(unix.ECANCELED) || c.More() {
				t.Errorf("cancelled operation: %+v", c)
			}
		case 2:
			if c.Res != cancelRes {
				t.Errorf("cancel answered %d, want %d", c.Res, cancelRes)
			}
		default:
			t.Errorf("unexpected %+v", c)
		}
	}
}

// TestCloseEndsNoOperation has a closed listener accept.
func TestCloseEndsNoOperation(t *testing.T) {
	r := newRing(t, anyCPU)
	l, addr := listen(t)
	s := r.NextSQE()
	s.PrepAcceptMultishot(l, unix.SOCK_CLOEXEC)
	s.SetUserData(1)
	_, err := r.Enter(r.Publish(), 0, 0)
	check(t, err)
	check(t, unix.Close(l))
	connectTo(t, addr)
	c := awaitOne(t, r, 1)
	if c.Res < 0 || !c.More() {
		t.Fatalf("accept: %+v", c)
	}
	closeLater(t, int(c.Res))
	cancelAll(t, r)
}

// TestPortIsFreeAfterSyncCancel binds the port of a listener again, at once.
func TestPortIsFreeAfterSyncCancel(t *testing.T) {
	r := newRing(t, anyCPU)
	for range 20 {
		l, addr := listen(t)
		name, err := unix.Getsockname(l)
		check(t, err)
		s := r.NextSQE()
		s.PrepAcceptMultishot(l, unix.SOCK_CLOEXEC)
		s.SetUserData(1)
		_, err = r.Enter(r.Publish(), 0, 0)
		check(t, err)
		check(t, r.SyncCancel(l, 0, true, true, int64(testLimit)))
		check(t, unix.Close(l))
		again := tcpSocket(t)
		check(t, unix.Bind(again, name))
		check(t, unix.Listen(again, 1))
		check(t, unix.Close(again))
		if c := awaitOne(t, r, 1); c.Res != -int32(unix.ECANCELED) || c.More() {
			t.Errorf("accept on %v: %+v", addr.Bytes(), c)
		}
	}
}

func TestPollMultishot(t *testing.T) {
	r := newRing(t, anyCPU)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	check(t, err)
	closeLater(t, fd)
	s := r.NextSQE()
	s.PrepPollMultishot(fd, unix.POLLIN)
	s.SetUserData(1)
	one := []byte{1, 0, 0, 0, 0, 0, 0, 1}
	for range 3 {
		_, err := r.Enter(r.Publish(), 0, IORING_ENTER_GETEVENTS)
		check(t, err)
		write(t, fd, one)
		if c := awaitOne(t, r, 1); c.Res != unix.POLLIN || !c.More() {
			t.Fatalf("poll: %+v", c)
		}
		noMore(t, r) // edge-triggered: the eventfd still is readable
	}
	s = r.NextSQE()
	s.PrepPollRemove(1)
	s.SetUserData(2)
	ended(t, await(t, r, 2), 1, 0)
}

// TestMultishotEndsWhenCQIsFull sees why CQE.More must be looked at.
func TestMultishotEndsWhenCQIsFull(t *testing.T) {
	r := newRing(t, Options{Entries: 4, CQEntries: 4, SQPollCPU: -1})
	b := newBufRing(t, r, 8, 16, false)
	rx, tx := unixPair(t)
	s := r.NextSQE()
	s.PrepRecvMultishot(rx, b.Group())
	s.SetUserData(1)
	write(t, tx, pattern(6*16)) // six buffers, four CQEs
	_, err := r.Enter(r.Publish(), 0, IORING_ENTER_GETEVENTS)
	check(t, err)
	var got []byte
	var last CQE
	out := make([]CQE, 8)
	for range 3 {
		for _, c := range out[:r.Reap(out)] {
			id, ok := c.Buffer()
			if c.Res <= 0 || !ok {
				t.Fatalf("receive: %+v", c)
			}
			got = append(got, b.Bytes(id, 0, int(c.Res))...)
			last = c
		}
		_, err := r.Enter(0, 0, IORING_ENTER_GETEVENTS)
		check(t, err)
	}
	same(t, got, pattern(6 * 16)[:len(got)])
	if last.More() || len(got) >= 6*16 {
		t.Fatalf("%d bytes, last %+v: the receive did not end", len(got), last)
	}
	r.NextSQE().PrepRecvMultishot(rx, b.Group())
	for len(got) < 6*16 {
		c := await(t, r, 1)[0]
		id, _ := c.Buffer()
		if c.Res <= 0 {
			t.Fatalf("receive after preparing it again: %+v", c)
		}
		got = append(got, b.Bytes(id, 0, int(c.Res))...)
	}
	same(t, got, pattern(6*16))
	cancelAll(t, r)
}

// TestRecvMultishotWithoutBuffers ends with ENOBUFS, is prepared again, and loses
// nothing.
func TestRecvMultishotWithoutBuffers(t *testing.T) {
	r := newRing(t, anyCPU)
	b := newBufRing(t, r, 2, 1000, false)
	rx, tx := unixPair(t)
	const total = 10_500
	write(t, tx, pattern(total))
	check(t, unix.Shutdown(tx, unix.SHUT_WR))
	arm := func() { r.NextSQE().PrepRecvMultishot(rx, b.Group()) }
	var got []byte
	var held []uint16
	nobufs := 0
	arm()
	for {
		c := await(t, r, 1)[0]
		id, ok := c.Buffer()
		switch {
		case c.Res > 0 && ok:
			got = append(got, b.Bytes(id, 0, int(c.Res))...)
			held = append(held, id)
			continue
		case c.Res == -int32(unix.ENOBUFS) && !c.More() && len(held) == 2:
			nobufs++
			b.Recycle(held...)
			held = held[:0]
			arm()
			continue
		case c.Res == 0 && !c.More():
		default:
			t.Fatalf("receive: %+v with %d buffers held", c, len(held))
		}
		break
	}
	same(t, got, pattern(total))
	if nobufs < total/2000 {
		t.Errorf("%d times without buffers, want at least %d", nobufs, total/2000)
	}
}

// TestRecvMultishotCancel ends armed receives in each way and gets their last CQE.
func TestRecvMultishotCancel(t *testing.T) {
	for name, cancel := range map[string]struct {
		prep func(s *SQE, fd int)
		res  int32
	}{
		"by user data":      {func(s *SQE, _ int) { s.PrepCancel(1, 0) }, 0},
		"by fd":             {func(s *SQE, fd int) { s.PrepCancelFD(fd, false) }, 0},
		"all by fd":         {func(s *SQE, fd int) { s.PrepCancelFD(fd, true) }, 1},
		"all of them there": {func(s *SQE, _ int) { s.PrepCancel(0, IORING_ASYNC_CANCEL_ANY) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRing(t, anyCPU)
			b := newBufRing(t, r, 2, 1000, false)
			rx, tx := tcpPair(t)
			s := r.NextSQE()
			s.PrepRecvMultishot(rx, b.Group())
			s.SetUserData(1)
			write(t, tx, []byte("x"))
			if c := awaitOne(t, r, 1); c.Res != 1 || !c.More() {
				t.Fatalf("receive: %+v", c)
			}
			s = r.NextSQE()
			cancel.prep(s, rx)
			s.SetUserData(2)
			ended(t, await(t, r, 2), 1, cancel.res)
			// What comes later stays in the socket.
			write(t, tx, []byte("later"))
			noMore(t, r)
			same(t, readAll(t, rx, 5), []byte("later"))
		})
	}
}

func TestSyncCancel(t *testing.T) {
	r := newRing(t, anyCPU)
	if err := r.SyncCancel(-1, 99, false, false, 0); err != unix.ENOENT {
		t.Errorf("nothing to cancel: %v, want ENOENT", err)
	}
	if err := r.SyncCancel(1<<20, 0, true, true, 0); err != unix.EBADF {
		t.Errorf("no such fd: %v, want EBADF", err)
	}
	rx, _ := unixPair(t)
	for i := range uint64(3) {
		s := r.NextSQE()
		s.PrepPollAdd(rx, unix.POLLIN)
		s.SetUserData(10 + i)
	}
	_, err := r.Enter(r.Publish(), 0, 0)
	check(t, err)
	check(t, r.SyncCancel(-1, 11, false, false, -1))
	if c := awaitOne(t, r, 11); c.Res != -int32(unix.ECANCELED) {
		t.Errorf("cancelled by user data: %+v", c)
	}
	noMore(t, r)
	check(t, r.SyncCancel(rx, 0, true, true, int64(testLimit)))
	seen := map[uint64]int32{}
	for _, c := range await(t, r, 2) {
		seen[c.UserData] = c.Res
	}
	if want := -int32(unix.ECANCELED); seen[10] != want || seen[12] != want {
		t.Errorf("cancelled by fd: %v", seen)
	}
}

// cancelAll ends everything in flight and reaps it.
func cancelAll(t *testing.T, r *Ring) {
	t.Helper()
	s := r.NextSQE()
	s.PrepCancel(0, IORING_ASYNC_CANCEL_ANY)
	s.SetUserData(2)
	out := make([]CQE, 16)
	pending := 1 // the cancel itself, then what it found
	for pending > 0 {
		_, err := r.EnterWait(r.Publish(), 1, 0, int64(testLimit))
		check(t, err)
		for _, c := range out[:r.Reap(out)] {
			pending--
			if c.UserData == 2 {
				pending += int(c.Res)
			}
		}
	}
}
