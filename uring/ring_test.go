package uring

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestFullSQ(t *testing.T) {
	r := newRing(t, Options{Entries: 8, SQPollCPU: -1})
	for round := range uint64(3) { // the second round wraps around
		for i := range uint32(8) {
			if got := r.SQSpace(); got != 8-i {
				t.Fatalf("space %d, want %d", got, 8-i)
			}
			s := r.NextSQE()
			if *s != (SQE{}) {
				t.Fatalf("SQE is not zeroed: %+v", *s)
			}
			s.PrepNop()
			s.SetUserData(round*8 + uint64(i))
		}
		if r.NextSQE() != nil || r.SQReady() != 8 {
			t.Fatalf("a ninth SQE, or %d ready instead of 8", r.SQReady())
		}
		if !r.Consumed() {
			t.Fatal("nothing is published, so nothing is unconsumed")
		}
		if n := r.Publish(); n != 8 || r.Consumed() {
			t.Fatalf("published %d, consumed %v", n, r.Consumed())
		}
		n, err := r.Enter(8, 0, 0)
		if err != nil || n != 8 || !r.Consumed() || r.SQReady() != 0 {
			t.Fatalf("enter: %d, %v; consumed %v, ready %d", n, err, r.Consumed(), r.SQReady())
		}
		for i, c := range await(t, r, 8) {
			if want := round*8 + uint64(i); c.UserData != want || c.Res != 0 {
				t.Errorf("%+v, want user data %d", c, want)
			}
		}
	}
}

// TestReapInPieces reads the CQ in pieces of every size, around its end.
func TestReapInPieces(t *testing.T) {
	r := newRing(t, Options{Entries: 8, CQEntries: 8, SQPollCPU: -1})
	var sent, seen uint64
	out := make([]CQE, 8)
	for size := 1; size <= 8; size++ {
		for range 20 {
			for range 5 {
				s := r.NextSQE()
				s.PrepNop()
				s.SetUserData(sent)
				sent++
			}
			_, err := r.Enter(r.Publish(), 0, IORING_ENTER_GETEVENTS)
			check(t, err)
			for seen < sent {
				n := r.Reap(out[:size])
				if n == 0 || n > size {
					t.Fatalf("reaped %d into %d slots, %d are missing", n, size, sent-seen)
				}
				for _, c := range out[:n] {
					if c.UserData != seen {
						t.Fatalf("CQE %d, want %d", c.UserData, seen)
					}
					seen++
				}
			}
		}
	}
	if r.Reap(out) != 0 || r.Reap(nil) != 0 {
		t.Error("CQEs out of nothing")
	}
}

// TestOverflow has three times as many completions as the CQ holds: all come, in
// order, once there is room.
func TestOverflow(t *testing.T) {
	r := newRing(t, Options{Entries: 8, CQEntries: 8, SQPollCPU: -1})
	const total = 24
	for i := range uint64(total) {
		s := r.NextSQE()
		s.PrepNop()
		s.SetUserData(i)
		if r.SQSpace() == 0 {
			_, err := r.Enter(r.Publish(), 0, 0)
			check(t, err)
		}
	}
	if !r.Overflowed() || r.CQReady() != 8 {
		t.Fatalf("overflowed %v, %d ready; want true, 8", r.Overflowed(), r.CQReady())
	}
	var seen uint64
	out := make([]CQE, 5)
	for range total {
		n := r.Reap(out)
		for _, c := range out[:n] {
			if c.UserData != seen {
				t.Fatalf("CQE %d, want %d", c.UserData, seen)
			}
			seen++
		}
		_, err := r.Enter(0, 0, IORING_ENTER_GETEVENTS)
		check(t, err)
	}
	if seen != total || r.Overflowed() || r.Dropped() != 0 {
		t.Errorf("%d of %d completions; overflowed %v, dropped %d", seen, total, r.Overflowed(), r.Dropped())
	}
}

func TestWords(t *testing.T) {
	r := newRing(t, anyCPU)
	w := r.Words()
	load := func(address uintptr) uint32 {
		for _, p := range []*uint32{r.cq.head, r.cq.tail, r.sq.flags, r.sq.head, r.sq.tail} {
			if uintptr(unsafe.Pointer(p)) == address {
				return *p
			}
		}
		t.Fatalf("%#x is no word of the ring", address)
		return 0
	}
	r.NextSQE().PrepNop()
	if load(w.SQTail) != 0 {
		t.Error("visible before Publish")
	}
	r.Publish()
	if load(w.SQTail) != 1 || load(w.SQHead) != 0 {
		t.Error("not visible after Publish")
	}
	_, err := r.Enter(1, 0, IORING_ENTER_GETEVENTS)
	check(t, err)
	if load(w.SQHead) != 1 || load(w.CQTail)-load(w.CQHead) != 1 || load(w.SQFlags) != 0 || w.FD != r.FD() {
		t.Errorf("words after a completion: %+v", w)
	}
	r.Reap(make([]CQE, 1))
	if load(w.CQTail) != load(w.CQHead) {
		t.Error("CQ is not empty after Reap")
	}
}

// TestTaskrunPending sees the flag that tells of completions which need an enter.
func TestTaskrunPending(t *testing.T) {
	r := newRing(t, anyCPU)
	if r.Flags()&IORING_SETUP_DEFER_TASKRUN == 0 {
		t.Skip(Have(FeatureDeferTaskrun))
	}
	a, b := unixPair(t)
	s := r.NextSQE()
	s.PrepPollAdd(a, unix.POLLIN)
	s.SetUserData(1)
	_, err := r.Enter(r.Publish(), 0, 0)
	check(t, err)
	if r.TaskrunPending() {
		t.Fatal("pending before anything happened")
	}
	_, err = unix.Write(b, []byte{1})
	check(t, err)
	if !r.TaskrunPending() || r.CQReady() != 0 {
		t.Fatalf("pending %v, %d ready; want true, 0", r.TaskrunPending(), r.CQReady())
	}
	_, err = r.Enter(0, 0, IORING_ENTER_GETEVENTS)
	check(t, err)
	if r.TaskrunPending() || r.CQReady() != 1 {
		t.Errorf("pending %v, %d ready; want false, 1", r.TaskrunPending(), r.CQReady())
	}
}
