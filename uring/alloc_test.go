package uring

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestNoAllocations measures everything that a loop does per operation or
// iteration.
func TestNoAllocations(t *testing.T) {
	r := newRing(t, anyCPU)
	b := newBufRing(t, r, 4, 64, false)
	a, err := NewMsgArena()
	check(t, err)
	defer a.Close()
	tx, rx := unixPair(t)
	listener, addr := listen(t)
	p, into, parts := pattern(8), make([]byte, 64), [][]byte{pattern(8), pattern(8)}
	out := make([]CQE, 8)
	sqe, ts := &SQE{}, &Timespec{Sec: 1}
	for name, step := range map[string]func(){
		"prepare": func() {
			sqe.PrepSend(tx, p, QuickSendFlags)
			sqe.PrepRecv(rx, into, 0)
			sqe.PrepConnect(tx, addr)
			sqe.PrepTimeout(ts, 0, 0)
			sqe.PrepAcceptMultishot(listener, 0)
			sqe.PrepSendMsg(tx, a.Msg(parts), QuickSendFlags)
			a.Reset()
		},
		"send, enter, receive": func() {
			s := r.NextSQE()
			s.PrepSend(tx, p, QuickSendFlags)
			s.SetFlags(IOSQE_CQE_SKIP_SUCCESS)
			r.NextSQE().PrepRecv(rx, into, 0)
			if _, err := r.EnterWait(r.Publish(), 1, 0, int64(testLimit)); err != nil {
				t.Fatal(err)
			}
			if r.Reap(out) != 1 || out[0].Res != 8 {
				t.Fatal(out[0])
			}
		},
		"poll without waiting": func() {
			if _, err := r.Enter(r.Publish(), 0, IORING_ENTER_GETEVENTS); err != nil || r.Reap(out) != 0 {
				t.Fatal(err)
			}
		},
		"time-out": func() {
			if _, err := r.EnterWait(0, 1, 0, 0); err != unix.ETIME && err != unix.EINTR {
				t.Fatal(err)
			}
		},
		"send at once": func() {
			if n, err := SendNow(tx, p, 0); n != 8 || err != nil {
				t.Fatal(err)
			}
			if n, err := SendMsgNow(tx, parts, 0); n != 16 || err != nil {
				t.Fatal(err)
			}
			if n, err := unix.Read(rx, into); n != 24 || err != nil {
				t.Fatal(err)
			}
		},
		"send at once fails": func() {
			if _, err := SendNow(-1, p, 0); err != unix.EBADF {
				t.Fatal(err)
			}
		},
		"synchronous cancel": func() {
			if err := r.SyncCancel(-1, 99, false, true, 0); err != nil && err != unix.ENOENT {
				t.Fatal(err)
			}
		},
		"recycle": func() {
			// Nobody receives, so the kernel does not mind getting them twice.
			b.Recycle(0, 1, 2)
			_ = b.Bytes(0, 0, 8)
		},
	} {
		if n := testing.AllocsPerRun(100, step); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
