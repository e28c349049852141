package uring

import (
	"errors"
	"math"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const testGroup = 5

func newBufRing(t *testing.T, r *Ring, count, size uint32, incremental bool) *BufRing {
	t.Helper()
	b, err := r.NewBufRing(testGroup, count, size, incremental)
	check(t, err)
	t.Cleanup(func() { check(t, b.Close()) })
	return b
}

// TestBufRingGoesRound takes every buffer many times, so that the 16-bit tail and
// entry 0 wrap around.
func TestBufRingGoesRound(t *testing.T) {
	r := newRing(t, anyCPU)
	b := newBufRing(t, r, 4, 64, false)
	if b.Count() != 4 || b.Size() != 64 || b.Group() != testGroup {
		t.Errorf("count %d, size %d, group %d", b.Count(), b.Size(), b.Group())
	}
	rx, tx := unixPair(t)
	s := r.NextSQE()
	s.PrepRecvMultishot(rx, testGroup)
	s.SetUserData(1)
	p := pattern(64)
	const rounds = 1<<16 + 100 // more than the tail can count
	for round := range rounds {
		if _, err := SendNow(tx, p[:1+round%64], 0); err != nil {
			t.Fatal(err)
		}
		c := awaitOne(t, r, 1)
		id, ok := c.Buffer()
		if int(c.Res) != 1+round%64 || !ok || !c.More() {
			t.Fatalf("round %d: %+v", round, c)
		}
		if got := b.Bytes(id, 0, int(c.Res)); string(got) != string(p[:c.Res]) {
			t.Fatalf("round %d: wrong bytes in buffer %d", round, id)
		}
		b.Recycle(id)
	}
	cancelAll(t, r)
}

// TestRecvSelect receives once each time, and no more than asked for.
func TestRecvSelect(t *testing.T) {
	r := newRing(t, anyCPU)
	b := newBufRing(t, r, 1, 64, false)
	rx, tx := unixPair(t)
	p := pattern(30)
	write(t, tx, p)
	for _, step := range []struct {
		max  uint32
		want []byte
	}{{10, p[:10]}, {0, append(p[10:30:30], 1)}} {
		s := r.NextSQE()
		s.PrepRecvSelect(rx, testGroup, step.max)
		s.SetUserData(1)
		c := awaitOne(t, r, 1)
		id, ok := c.Buffer()
		if !ok || c.More() {
			t.Fatalf("max %d: %+v", step.max, c)
		}
		same(t, b.Bytes(id, 0, int(c.Res)), step.want)
		// Without a buffer nothing is received.
		write(t, tx, []byte{1})
		s = r.NextSQE()
		s.PrepRecvSelect(rx, testGroup, 1)
		s.SetUserData(2)
		if c := awaitOne(t, r, 2); c.Res != -int32(unix.ENOBUFS) {
			t.Errorf("without a buffer: %+v", c)
		}
		b.Recycle(id)
		b.Publish()
	}
}

// TestBufRingKeepsOrder gives buffers back in another order than they came and
// expects them in that order.
func TestBufRingKeepsOrder(t *testing.T) {
	r := newRing(t, anyCPU)
	b := newBufRing(t, r, 4, 8, false)
	rx, tx := unixPair(t)
	order := []uint16{0, 1, 2, 3}
	write(t, tx, []byte{0}) // one byte too many, so that every round ends without buffers
	for range 3 {
		write(t, tx, pattern(32))
		r.NextSQE().PrepRecvMultishot(rx, testGroup)
		for i, c := range await(t, r, 5) { // the fifth: ENOBUFS
			id, ok := c.Buffer()
			switch {
			case i < 4 && (!ok || id != order[i] || c.Res != 8):
				t.Fatalf("receive %d: buffer %d (%v), want %d: %+v", i, id, ok, order[i], c)
			case i == 4 && c.Res != -int32(unix.ENOBUFS):
				t.Fatalf("a fifth buffer: %+v", c)
			}
		}
		order[0], order[1], order[2], order[3] = order[2], order[0], order[3], order[1]
		for _, id := range order {
			b.Add(id)
		}
		b.Publish()
	}
}

// TestBufRingGivenInPart receives with the buffers given at first, and goes on with
// one added when they have run out.
func TestBufRingGivenInPart(t *testing.T) {
	r := newRing(t, anyCPU)
	b, err := r.NewBufRingPart(testGroup, 4, 8, 2, false)
	check(t, err)
	defer func() { check(t, b.Close()) }()
	rx, tx := unixPair(t)
	p := pattern(24)
	write(t, tx, p)
	r.NextSQE().PrepRecvMultishot(rx, testGroup)
	cs := await(t, r, 3)
	if cs[0].Res != 8 || cs[1].Res != 8 || cs[2].Res != -int32(unix.ENOBUFS) {
		t.Fatalf("two buffers: %+v", cs)
	}
	b.Recycle(3)
	r.NextSQE().PrepRecvMultishot(rx, testGroup)
	c := await(t, r, 1)[0]
	if id, _ := c.Buffer(); id != 3 || c.Res != 8 {
		t.Fatalf("the buffer added: %d, %+v", id, c)
	}
	same(t, b.Bytes(3, 0, 8), p[16:])
	cancelAll(t, r)
}

func TestIncrementalBuffers(t *testing.T) {
	if err := Have(FeatureIncrementalBuffers); err != nil {
		t.Skip(err)
	}
	r := newRing(t, anyCPU)
	b := newBufRing(t, r, 2, 100, true)
	rx, tx := unixPair(t)
	s := r.NextSQE()
	s.PrepRecvMultishot(rx, testGroup)
	s.SetUserData(1)
	p := pattern(100)
	for offset := 0; offset < 100; offset += 25 {
		write(t, tx, p[offset:offset+25])
		c := awaitOne(t, r, 1)
		id, ok := c.Buffer()
		if c.Res != 25 || !ok || id != 0 || c.BufferMore() != (offset < 75) {
			t.Fatalf("at offset %d: buffer %d (%v, more %v): %+v", offset, id, ok, c.BufferMore(), c)
		}
		same(t, b.Bytes(id, offset, 25), p[offset:offset+25])
	}
	same(t, b.Bytes(0, 0, 100), p)
	b.Recycle(0)
	write(t, tx, p)
	if id, _ := awaitOne(t, r, 1).Buffer(); id != 1 {
		t.Errorf("buffer %d, want 1", id)
	}
	write(t, tx, p[:10])
	if id, _ := awaitOne(t, r, 1).Buffer(); id != 0 {
		t.Errorf("buffer %d, want 0, which was given back", id)
	}
	same(t, b.Bytes(0, 0, 10), p[:10])
	cancelAll(t, r)
}

func TestBufRingErrors(t *testing.T) {
	r := newRing(t, anyCPU)
	for _, bad := range [][2]uint32{{0, 64}, {3, 64}, {1 << 16, 64}, {4, 0}, {4, 1<<32 - 1}} {
		if _, err := r.NewBufRing(testGroup, bad[0], bad[1], false); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%d buffers of %d bytes: %v, want EINVAL", bad[0], bad[1], err)
		}
	}
	b := newBufRing(t, r, 4, 64, false)
	if _, err := r.NewBufRing(testGroup, 4, 64, false); !errors.Is(err, unix.EEXIST) {
		t.Errorf("a second ring of the group: %v, want EEXIST", err)
	}
	for name, beyond := range map[string]func(){
		"no such buffer":    func() { b.Bytes(4, 0, 1) },
		"beyond the end":    func() { b.Bytes(0, 60, 5) },
		"negative offset":   func() { b.Bytes(0, -1, 1) },
		"negative length":   func() { b.Bytes(0, 0, -1) },
		"add of no buffer":  func() { b.Add(4) },
		"no such address":   func() { b.Addr(4) },
		"offset overflows":  func() { b.Bytes(0, math.MaxInt/2+1, math.MaxInt/2+1) },
		"both sum to minus": func() { b.Bytes(0, math.MaxInt, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			beyond()
		})
	}
}

func TestBufRingAddresses(t *testing.T) {
	r := newRing(t, anyCPU)
	b := newBufRing(t, r, 4, 64, false)
	for id := range uint16(4) {
		if got := uintptr(unsafe.Pointer(unsafe.SliceData(b.Bytes(id, 0, 64)))); got != b.Addr(id) {
			t.Errorf("buffer %d: bytes at %#x, address %#x", id, got, b.Addr(id))
		}
	}
	if b.Addr(1)-b.Addr(0) != 64 {
		t.Errorf("buffers are %d bytes apart", b.Addr(1)-b.Addr(0))
	}
}
