package main

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"kloop/uring"
)

// engines answers the engines that this kernel allows.
func engines(t *testing.T) []string {
	t.Helper()
	switch err := uring.Available(); {
	case err == nil:
		return []string{engineRing, engineEpoll}
	case errors.Is(err, uring.ErrNotSupported):
		t.Logf("without io_uring: %v", err)
		return []string{engineEpoll}
	default:
		t.Fatal(err)
		return nil
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// recorder is a handler that keeps what it is told.
type recorder struct {
	connects, ends, sends int
	bytes                 []byte
	losses                []error
}

func (r *recorder) connected(int)                       { r.connects++ }
func (r *recorder) sent(int)                            { r.sends++ }
func (r *recorder) received(_ int, p []byte)            { r.bytes = append(r.bytes, p...) }
func (r *recorder) ended(int)                           { r.ends++ }
func (r *recorder) lost(_ int, _ string, because error) { r.losses = append(r.losses, because) }

// until runs an engine until done holds.
func until(t *testing.T, e engine, h handler, done func() bool) {
	t.Helper()
	const rounds, roundMS = 2000, 5
	for range rounds {
		if done() {
			return
		}
		found, err := e.look()
		if err == nil && !found {
			err = e.wait(roundMS)
		}
		if err == nil {
			err = e.deliver(h)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("not in time: %+v", h)
}

// eachEngine runs a test on every engine, with one slot that is one end of a
// pair of sockets; the other end is given to the test.
func eachEngine(t *testing.T, test func(t *testing.T, e engine, r *recorder, other int)) {
	for _, name := range engines(t) {
		t.Run(name, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			before := openFiles(t)
			ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			e, _, err := newEngine(name, shape{slots: 1})
			if err != nil {
				t.Fatal(err)
			}
			var r recorder
			if err := e.add(0, ends[0]); err != nil {
				t.Fatal(err)
			}
			until(t, e, &r, func() bool { return r.connects == 1 })
			test(t, e, &r, ends[1])
			if err := e.close(); err != nil {
				t.Error(err)
			}
			unix.Close(ends[1])
			// Earlier tests' servers may still be closing theirs.
			if after := openFiles(t); after > before {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
		})
	}
}

func TestNothingIsHeardAfterShut(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine, r *recorder, other int) {
		if _, err := unix.Write(other, []byte("unheard")); err != nil {
			t.Fatal(err)
		}
		e.shut(0)
		// The other end is told of the close, so the socket really is closed.
		b := make([]byte, 1)
		var n int
		err := error(unix.EAGAIN)
		until(t, e, r, func() bool {
			n, err = unix.Read(other, b)
			return err != unix.EAGAIN
		})
		if n > 0 {
			t.Errorf("%d bytes came out of a closed socket", n)
		}
		if len(r.bytes) > 0 || r.ends > 0 || len(r.losses) > 0 {
			t.Errorf("after shut: %+v", r)
		}
	})
}

func TestSendWaitsForRoom(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine, r *recorder, other int) {
		const size = 4 << 20
		sent := newPattern()
		message := make([]byte, 0, size)
		for len(message) < size {
			message = append(message, sent.at(1, uint64(len(message)), maxChunk)...)
		}
		if e.send(0, message) {
			t.Fatal("4 MiB went into a socket that nobody reads")
		}
		got := make([]byte, 0, size)
		buffer := make([]byte, maxChunk)
		until(t, e, r, func() bool {
			for {
				n, err := unix.Read(other, buffer)
				if err != nil {
					return r.sends == 1
				}
				got = append(got, buffer[:n]...)
			}
		})
		if string(got) != string(message) {
			t.Errorf("%d bytes of %d came, or others", len(got), size)
		}
	})
}

func TestEndAndBytesBeforeIt(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine, r *recorder, other int) {
		const text = "the last words"
		if _, err := unix.Write(other, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := unix.Shutdown(other, unix.SHUT_WR); err != nil {
			t.Fatal(err)
		}
		until(t, e, r, func() bool { return r.ends == 1 })
		if string(r.bytes) != text {
			t.Errorf("%q before the end", r.bytes)
		}
	})
}

func TestBytesBeforeTheFirstLookAreReceived(t *testing.T) {
	for _, name := range engines(t) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(ends[1])
		if _, err := unix.Write(ends[1], []byte("early")); err != nil {
			t.Fatal(err)
		}
		e, _, err := newEngine(name, shape{slots: 1})
		if err != nil {
			t.Fatal(err)
		}
		var r recorder
		if err := e.add(0, ends[0]); err != nil {
			t.Fatal(err)
		}
		until(t, e, &r, func() bool { return string(r.bytes) == "early" })
		if err := e.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSendToNobodyIsALoss(t *testing.T) {
	eachEngine(t, func(t *testing.T, e engine, r *recorder, other int) {
		if err := unix.Shutdown(e.fd(0), unix.SHUT_WR); err != nil {
			t.Fatal(err)
		}
		e.send(0, []byte("x"))
		until(t, e, r, func() bool { return len(r.losses) > 0 })
		if r.losses[0] != unix.EPIPE {
			t.Errorf("%v", r.losses)
		}
	})
}

func TestUnknownEngine(t *testing.T) {
	if _, _, err := newEngine("kqueue", shape{slots: 1}); err == nil {
		t.Error("an engine of another system was made")
	}
}

func TestMoreAtOnceThanTheQueueHolds(t *testing.T) {
	const count = ringEntries + ringEntries/2
	if err := raiseFileLimit(count + spareFiles); err != nil {
		t.Skip(err)
	}
	for _, name := range engines(t) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		before := openFiles(t)
		e, _, err := newEngine(name, shape{slots: count, datagrams: true})
		if err != nil {
			t.Fatal(err)
		}
		var r recorder
		for slot := range count {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				err = e.add(slot, fd)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		until(t, e, &r, func() bool { return r.connects == count })
		if err := e.close(); err != nil {
			t.Error(err)
		}
		if after := openFiles(t); after > before {
			t.Errorf("%s: %d descriptors before, %d after", name, before, after)
		}
	}
}
