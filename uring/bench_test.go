package uring

import (
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkNop is the cost of a round through the kernel with one operation, as a
// raw system call and through Go's scheduler. (Entering by a registered ring fd
// saved 8 to 16 ns of 170, which is not worth a ring that outlives its Close.)
func BenchmarkNop(b *testing.B) {
	for _, c := range []struct {
		name  string
		enter func(r *Ring) error
	}{{"Enter", enterRaw}, {"EnterWait", enterWait}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRing(b, anyCPU)
			out := make([]CQE, 16)
			b.ReportAllocs()
			for b.Loop() {
				r.NextSQE().PrepNop()
				if err := c.enter(r); err != nil {
					b.Fatal(err)
				}
				if r.Reap(out) != 1 {
					b.Fatal("no completion")
				}
			}
		})
	}
}

func enterRaw(r *Ring) error {
	_, err := r.Enter(r.Publish(), 0, IORING_ENTER_GETEVENTS)
	return err
}

func enterWait(r *Ring) error {
	_, err := r.EnterWait(r.Publish(), 1, 0, int64(testLimit))
	return err
}

// BenchmarkPrepare is the cost of a quick send on our side of the ring.
func BenchmarkPrepare(b *testing.B) {
	r := newRing(b, anyCPU)
	p := pattern(64)
	b.ReportAllocs()
	for b.Loop() {
		s := r.NextSQE()
		s.PrepSend(3, p, QuickSendFlags)
		s.SetFlags(IOSQE_CQE_SKIP_SUCCESS)
		s.SetUserData(1)
		r.sq.prepared-- // never published
	}
}

func BenchmarkRecycle(b *testing.B) {
	r := newRing(b, anyCPU)
	buffers, err := r.NewBufRing(1, 64, 4096, false)
	check(b, err)
	defer func() { check(b, buffers.Close()) }()
	b.ReportAllocs()
	for b.Loop() {
		buffers.Add(3)
		buffers.Publish()
	}
}

// BenchmarkSendMsg sends 16 parts of 64 bytes, by the ring and at once.
func BenchmarkSendMsg(b *testing.B) {
	parts := make([][]byte, 16)
	for i := range parts {
		parts[i] = pattern(64)
	}
	into := make([]byte, 16*64)
	b.Run("ring", func(b *testing.B) {
		r := newRing(b, anyCPU)
		tx, rx := unixPair(b)
		a, err := NewMsgArena()
		check(b, err)
		defer a.Close()
		b.ReportAllocs()
		for b.Loop() {
			s := r.NextSQE()
			s.PrepSendMsg(tx, a.Msg(parts), QuickSendFlags)
			s.SetFlags(IOSQE_CQE_SKIP_SUCCESS)
			if _, err := r.Enter(r.Publish(), 0, 0); err != nil {
				b.Fatal(err)
			}
			a.Reset()
			if n, err := unix.Read(rx, into); n != len(into) || err != nil {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("now", func(b *testing.B) {
		tx, rx := unixPair(b)
		b.ReportAllocs()
		for b.Loop() {
			if n, err := SendMsgNow(tx, parts, 0); n != len(into) || err != nil {
				b.Fatal(n, err)
			}
			if n, err := unix.Read(rx, into); n != len(into) || err != nil {
				b.Fatal(n, err)
			}
		}
	})
}
