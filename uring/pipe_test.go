package uring

import (
	"testing"

	"golang.org/x/sys/unix"
)

// pipePair makes a pipe, non-blocking at both ends.
func pipePair(t testing.TB) (reader, writer int) {
	t.Helper()
	var ends [2]int
	check(t, unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	return closeLater(t, ends[0]), ends[1]
}

func TestReadMultishot(t *testing.T) {
	if err := Have(FeatureMultishotRead); err != nil {
		t.Skip(err)
	}
	r := newRing(t, anyCPU)
	b := newBufRing(t, r, 4, 64, false)
	reader, writer := pipePair(t)
	s := r.NextSQE()
	s.PrepReadMultishot(reader, testGroup)
	s.SetUserData(1)
	for round := range 20 {
		p := pattern(1 + 3*round)
		write(t, writer, p)
		c := awaitOne(t, r, 1)
		id, ok := c.Buffer()
		if int(c.Res) != len(p) || !ok || !c.More() {
			t.Fatalf("round %d: %+v", round, c)
		}
		same(t, b.Bytes(id, 0, int(c.Res)), p)
		b.Recycle(id)
	}
	check(t, unix.Close(writer))
	if c := awaitOne(t, r, 1); c.Res != 0 || c.More() {
		t.Errorf("the end: %+v", c)
	}
}

func TestReadSelect(t *testing.T) {
	r := newRing(t, anyCPU)
	b := newBufRing(t, r, 2, 64, false)
	reader, writer := pipePair(t)
	for round := range 5 {
		s := r.NextSQE()
		s.PrepReadSelect(reader, testGroup)
		s.SetUserData(1)
		_, err := r.Enter(r.Publish(), 0, 0)
		check(t, err) // it waits now, though the pipe is O_NONBLOCK
		noMore(t, r)
		p := pattern(40 + round)
		write(t, writer, p)
		c := awaitOne(t, r, 1)
		id, ok := c.Buffer()
		if int(c.Res) != len(p) || !ok || c.More() {
			t.Fatalf("round %d: %+v", round, c)
		}
		same(t, b.Bytes(id, 0, int(c.Res)), p)
		b.Recycle(id)
	}
	check(t, unix.Close(writer))
}

func TestWriteNow(t *testing.T) {
	reader, writer := pipePair(t)
	parts := make([][]byte, WriteNowParts+1)
	for i := range parts {
		parts[i] = []byte{byte(i)}
	}
	n, err := WriteNow(writer, parts)
	if n != WriteNowParts || err != nil {
		t.Errorf("%d parts of %d: %v", n, WriteNowParts, err)
	}
	if got := readAll(t, reader, n); got[n-1] != byte(n-1) {
		t.Errorf("the last part is %d", got[n-1])
	}
	big := make([]byte, 1<<20)
	if n, err = WriteNow(writer, [][]byte{big}); n <= 0 || n >= len(big) || err != nil {
		t.Errorf("%d bytes of %d: %v", n, len(big), err)
	}
	if n, err = WriteNow(writer, [][]byte{big}); n != 0 || err != unix.EAGAIN {
		t.Errorf("a full pipe took %d bytes: %v", n, err)
	}
	check(t, unix.Close(writer))
}
