package uring

import (
	"testing"

	"golang.org/x/sys/unix"
)

// bigSend is more than any socket takes at once.
const bigSend = 8 << 20

// quick makes s a quick send without a CQE for success.
func quick(s *SQE, fd int, p []byte, flags uint32) {
	s.PrepSend(fd, p, flags)
	s.SetFlags(IOSQE_CQE_SKIP_SUCCESS)
	s.SetUserData(1)
}

func TestQuickSend(t *testing.T) {
	r := newRing(t, anyCPU)
	a, b := tcpPair(t)
	p := pattern(1000)
	quick(r.NextSQE(), a, p, QuickSendFlags)
	noMore(t, r) // success says nothing
	same(t, readAll(t, b, 1000), p)

	big := pattern(bigSend)
	quick(r.NextSQE(), a, big, QuickSendFlags)
	short := awaitOne(t, r, 1)
	if short.Res <= 0 || short.Res >= bigSend {
		t.Fatalf("short send: %+v", short)
	}
	quick(r.NextSQE(), a, p, QuickSendFlags)
	if c := awaitOne(t, r, 1); c.Res != -int32(unix.EAGAIN) {
		t.Errorf("send to a full socket: %+v, want EAGAIN", c)
	}
	same(t, readAll(t, b, int(short.Res)), big[:short.Res])
}

// TestShortSendWithoutWaitAll is why QuickSendFlags has MSG_WAITALL: bytes vanish
// without a CQE.
func TestShortSendWithoutWaitAll(t *testing.T) {
	r := newRing(t, anyCPU)
	a, _ := tcpPair(t)
	quick(r.NextSQE(), a, pattern(bigSend), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	noMore(t, r)
}

// TestSendUnderSQPoll has a CQE for every send, as the poller's thread runs at
// any time.
func TestSendUnderSQPoll(t *testing.T) {
	r := newRing(t, Options{Entries: 4, SQPoll: true, SQPollIdleMS: 1, SQPollCPU: -1})
	a, b := tcpPair(t)
	p := pattern(1000)
	s := r.NextSQE()
	s.PrepSend(a, p, QuickSendFlags)
	s.SetUserData(1)
	r.Publish()
	if r.NeedWakeup() {
		_, err := r.Enter(0, 0, IORING_ENTER_SQ_WAKEUP)
		check(t, err)
	}
	eventually(t, "the send completes", func() bool { return r.CQReady() == 1 })
	if c := awaitOne(t, r, 1); c.Res != 1000 {
		t.Errorf("send: %+v", c)
	}
	same(t, readAll(t, b, 1000), p)
}

// TestPolledSend waits in the kernel for the peer to read, and sends everything.
func TestPolledSend(t *testing.T) {
	r := newRing(t, anyCPU)
	a, b := tcpPair(t)
	big := pattern(bigSend)
	s := r.NextSQE()
	s.PrepSend(a, big, unix.MSG_WAITALL|unix.MSG_NOSIGNAL)
	s.SetUserData(1)
	_, err := r.Enter(r.Publish(), 0, 0)
	check(t, err)
	if r.CQReady() != 0 {
		t.Fatal("sent before anything was read")
	}
	got := make(chan []byte, 1)
	go func() { got <- readAll(t, b, bigSend) }()
	if c := awaitOne(t, r, 1); c.Res != bigSend {
		t.Errorf("send: %+v", c)
	}
	same(t, <-got, big)
}

func TestSendMsg(t *testing.T) {
	r := newRing(t, anyCPU)
	a, err := NewMsgArena()
	check(t, err)
	defer a.Close()
	tx, rx := tcpPair(t)
	p := pattern(3000)
	for range 3 {
		s := r.NextSQE()
		m := a.Msg([][]byte{p[:1], nil, p[1:2000], p[2000:]})
		s.PrepSendMsg(tx, m, QuickSendFlags)
		s.SetFlags(IOSQE_CQE_SKIP_SUCCESS)
		noMore(t, r)
		a.Reset()
		same(t, readAll(t, rx, 3000), p)
	}
	big := pattern(bigSend)
	s := r.NextSQE()
	s.PrepSendMsg(tx, a.Msg([][]byte{big[:100], big[100:]}), QuickSendFlags)
	s.SetFlags(IOSQE_CQE_SKIP_SUCCESS)
	s.SetUserData(1)
	c := awaitOne(t, r, 1)
	if c.Res <= 0 || c.Res >= bigSend {
		t.Fatalf("short send: %+v", c)
	}
	same(t, readAll(t, rx, int(c.Res)), big[:c.Res])
}

// TestMessageIsReadAtSubmission overwrites a message once its SQE is consumed,
// while the send still waits: IORING_FEAT_SUBMIT_STABLE.
func TestMessageIsReadAtSubmission(t *testing.T) {
	r := newRing(t, anyCPU)
	a, err := NewMsgArena()
	check(t, err)
	defer a.Close()
	tx, rx := tcpPair(t)
	big := pattern(bigSend)
	s := r.NextSQE()
	s.PrepSendMsg(tx, a.Msg([][]byte{big[:bigSend/2], big[bigSend/2:]}), unix.MSG_WAITALL|unix.MSG_NOSIGNAL)
	s.SetUserData(1)
	_, err = r.Enter(r.Publish(), 0, 0)
	check(t, err)
	if !r.Consumed() || r.CQReady() != 0 {
		t.Fatalf("consumed %v, %d ready; want a send that waits", r.Consumed(), r.CQReady())
	}
	a.Reset()
	a.Msg([][]byte{{1, 2, 3}})
	got := make(chan []byte, 1)
	go func() { got <- readAll(t, rx, bigSend) }()
	if c := awaitOne(t, r, 1); c.Res != bigSend {
		t.Errorf("send: %+v", c)
	}
	same(t, <-got, big)
}

func TestSendNow(t *testing.T) {
	a, b := tcpPair(t)
	p := pattern(1000)
	if n, err := SendNow(a, p, 0); n != 1000 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	same(t, readAll(t, b, 1000), p)
	if n, err := SendNow(a, nil, 0); n != 0 || err != nil {
		t.Errorf("nothing sent: %d, %v", n, err)
	}
	big := pattern(bigSend)
	n, err := SendNow(a, big, 0)
	if n <= 0 || n >= bigSend || err != nil {
		t.Fatalf("short send: %d, %v", n, err)
	}
	if n, err := SendNow(a, p, 0); n != 0 || err != unix.EAGAIN {
		t.Errorf("send to a full socket: %d, %v; want EAGAIN", n, err)
	}
	same(t, readAll(t, b, n), big[:n])
	if _, err := SendNow(1<<20, p, 0); err != unix.EBADF {
		t.Errorf("no such fd: %v, want EBADF", err)
	}
	check(t, unix.Shutdown(a, unix.SHUT_WR))
	if _, err := SendNow(a, p, 0); err != unix.EPIPE { // and no SIGPIPE
		t.Errorf("after shutdown: %v, want EPIPE", err)
	}
}

func TestSendMsgNow(t *testing.T) {
	a, b := tcpPair(t)
	for _, count := range []int{0, 1, 2, 63, 64, 65, 200} {
		p := pattern(count * 10)
		parts := make([][]byte, count)
		for i := range parts {
			parts[i] = p[i*10 : i*10+10]
		}
		if n, err := SendMsgNow(a, parts, 0); n != len(p) || err != nil {
			t.Fatalf("%d parts: %d, %v", count, n, err)
		}
		same(t, readAll(t, b, len(p)), p)
	}
	big := pattern(bigSend)
	parts := make([][]byte, 128) // the socket is full before the second call
	for i := range parts {
		parts[i] = big[i*bigSend/128 : (i+1)*bigSend/128]
	}
	n, err := SendMsgNow(a, parts, 0)
	if n <= 0 || n >= bigSend || err != nil {
		t.Fatalf("short send: %d, %v", n, err)
	}
	if n, err := SendMsgNow(a, parts, 0); n != 0 || err != unix.EAGAIN {
		t.Errorf("send to a full socket: %d, %v; want EAGAIN", n, err)
	}
	same(t, readAll(t, b, n), big[:n])
	check(t, unix.Shutdown(a, unix.SHUT_WR))
	if _, err := SendMsgNow(a, parts, 0); err != unix.EPIPE {
		t.Errorf("after shutdown: %v, want EPIPE", err)
	}
}

// TestSendMsgNowLeavesNoGaps sends while the peer reads, so that room appears
// between the system calls of one SendMsgNow: it must have stopped at a short one.
func TestSendMsgNowLeavesNoGaps(t *testing.T) {
	a, b := unixPair(t)
	const total, part = 64 << 20, 32 << 10
	p := pattern(total)
	got := make(chan []byte, 1)
	go func() { got <- readAll(t, b, total) }()
	poll := []unix.PollFd{{Fd: int32(a), Events: unix.POLLOUT}}
	parts := make([][]byte, 0, 2*sendNowParts)
	for sent := 0; sent < total; {
		parts = parts[:0]
		for at := sent; at < total && len(parts) < cap(parts); at += part {
			parts = append(parts, p[at:min(at+part, total)])
		}
		n, err := SendMsgNow(a, parts, 0)
		if err == unix.EAGAIN {
			_, err = unix.Poll(poll, -1)
		}
		if err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
		sent += n
	}
	same(t, <-got, p)
}
