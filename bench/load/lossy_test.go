package main

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"
)

const tick = 10 * time.Microsecond // between two packets, and two looks at what is due

// arrivals sends count packets, numbered from 0, and answers the numbers as they come out, and when.
func arrivals(t *testing.T, l *lossy, count int) (numbers []uint64, delays []time.Duration) {
	t.Helper()
	var now time.Duration
	look := func() {
		err := l.handOut(now, func(packet []byte) error {
			n := binary.BigEndian.Uint64(packet)
			numbers = append(numbers, n)
			delays = append(delays, now-time.Duration(n)*tick)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	packet := make([]byte, 8)
	for n := range count {
		binary.BigEndian.PutUint64(packet, uint64(n))
		l.take(packet, now)
		clear(packet) // a copy is kept
		now += tick
		look()
	}
	for !l.idle() {
		now += tick
		look()
	}
	return numbers, delays
}

func TestPerfectLinkKeepsAllInOrder(t *testing.T) {
	const count = 5000
	l := newLossy(impairment{delay: 3 * time.Millisecond, jitter: time.Millisecond, limit: count}, 1, 0)
	numbers, delays := arrivals(t, l, count)
	if len(numbers) != count || !slices.IsSorted(numbers) {
		t.Fatalf("%d of %d came, sorted: %v", len(numbers), count, slices.IsSorted(numbers))
	}
	for n, delay := range delays {
		if delay < 2*time.Millisecond || delay > 4*time.Millisecond+tick {
			t.Fatalf("packet %d took %v, not 3 ms ± 1 ms", n, delay)
		}
	}
	if slices.Max(delays)-slices.Min(delays) < time.Millisecond {
		t.Errorf("delays of %v to %v: no jitter", slices.Min(delays), slices.Max(delays))
	}
	c := l.counts
	if c.Packets != count || c.Forwarded != count || c.Dropped+c.Duplicated+c.Reordered+c.Overflowed != 0 {
		t.Errorf("counts: %+v", c)
	}
}

func TestImpairmentsHappenAsOftenAsAsked(t *testing.T) {
	const count = 100_000
	i := impairment{delay: 2 * time.Millisecond, jitter: time.Millisecond, limit: count}
	i.loss, i.duplicate, i.reorder = 0.05, 0.02, 0.01
	l := newLossy(i, 7, 1)
	numbers, _ := arrivals(t, l, count)
	seen := make(map[uint64]int)
	passed, behind := uint64(0), uint64(0)
	for _, n := range numbers {
		seen[n]++
		if n < passed {
			behind++
		}
		passed = max(passed, n)
	}
	twice := uint64(len(numbers) - len(seen))
	c := l.counts
	if lost := uint64(count - len(seen)); lost != c.Dropped || twice != c.Duplicated || behind != c.Reordered {
		t.Errorf("lost %d, twice %d, behind %d; counted: %+v", lost, twice, behind, c)
	}
	for name, pair := range map[string][2]float64{
		"dropped":    {float64(c.Dropped), i.loss},
		"duplicated": {float64(c.Duplicated), i.duplicate * (1 - i.loss)},
		"reordered":  {float64(c.Reordered), i.reorder * (1 - i.loss)},
	} {
		if got, want := pair[0], pair[1]*count; got < 0.8*want || got > 1.2*want {
			t.Errorf("%s: %.0f, wanted about %.0f", name, got, want)
		}
	}
}

func TestSeedAloneDecides(t *testing.T) {
	i := impairment{delay: 2 * time.Millisecond, jitter: time.Millisecond, loss: 0.1, duplicate: 0.1, reorder: 0.1, limit: 1000}
	first, _ := arrivals(t, newLossy(i, 5, 0), 2000)
	if again, _ := arrivals(t, newLossy(i, 5, 0), 2000); !slices.Equal(first, again) {
		t.Error("the same seed did other things")
	}
	if other, _ := arrivals(t, newLossy(i, 6, 0), 2000); slices.Equal(first, other) {
		t.Error("another seed did the same")
	}
	if other, _ := arrivals(t, newLossy(i, 5, 1), 2000); slices.Equal(first, other) {
		t.Error("the other direction did the same")
	}
}

func TestFullLinkDropsTheNewest(t *testing.T) {
	l := newLossy(impairment{delay: time.Millisecond, limit: 3}, 1, 0)
	for n := range byte(5) {
		l.take([]byte{n}, 0)
	}
	var got []byte
	if err := l.handOut(time.Second, func(packet []byte) error { got = append(got, packet...); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, []byte{0, 1, 2}) || l.counts.Overflowed != 2 {
		t.Errorf("came: %v; counts: %+v", got, l.counts)
	}
}

func TestPacketThatCannotBeWrittenStays(t *testing.T) {
	l := newLossy(impairment{limit: 3}, 1, 0)
	l.take([]byte{1}, 0)
	refused := errors.New("no room")
	if err := l.handOut(0, func([]byte) error { return refused }); !errors.Is(err, refused) {
		t.Fatalf("error: %v", err)
	}
	if l.idle() || l.counts.Forwarded != 0 {
		t.Errorf("it is gone; counts: %+v", l.counts)
	}
}
