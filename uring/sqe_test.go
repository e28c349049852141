package uring

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// operation is one row of TestOperations: prep makes the fds and the SQE and
// answers what is to be seen once the CQE is there.
type operation struct {
	name string
	prep func(t *testing.T, s *SQE) (after func(c CQE))
	res  int32
}

const anyRes = -1 << 31

func TestOperations(t *testing.T) {
	for i, op := range slices.Concat(socketOperations(), fileOperations(), pathOperations()) {
		t.Run(op.name, func(t *testing.T) {
			r := newRing(t, anyCPU)
			s := r.NextSQE()
			userData := uint64(i + 1)
			after := op.prep(t, s)
			s.SetUserData(userData)
			c := awaitOne(t, r, userData)
			if op.res != anyRes && c.Res != op.res {
				t.Errorf("result %d, want %d", c.Res, op.res)
			}
			if after != nil {
				after(c)
			}
		})
	}
}

func socketOperations() []operation {
	return []operation{
		{"accept", func(t *testing.T, s *SQE) func(CQE) {
			l, addr := listen(t)
			connectTo(t, addr)
			s.PrepAccept(l, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return func(c CQE) {
				fd := closeLater(t, int(c.Res))
				flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
				check(t, err)
				if flags&unix.O_NONBLOCK == 0 {
					t.Error("the accepted socket is blocking")
				}
			}
		}, anyRes},
		{"connect", func(t *testing.T, s *SQE) func(CQE) {
			_, addr := listen(t)
			s.PrepConnect(tcpSocket(t), addr)
			return nil
		}, 0},
		{"connect refused", func(t *testing.T, s *SQE) func(CQE) {
			l, addr := listen(t)
			check(t, unix.Close(l))
			s.PrepConnect(tcpSocket(t), addr)
			return nil
		}, -int32(unix.ECONNREFUSED)},
		{"send", func(t *testing.T, s *SQE) func(CQE) {
			a, b := tcpPair(t)
			p := pattern(1000)
			s.PrepSend(a, p, unix.MSG_NOSIGNAL)
			return func(CQE) { same(t, readAll(t, b, 1000), p) }
		}, 1000},
		{"send to a closed peer", func(t *testing.T, s *SQE) func(CQE) {
			a, b := unixPair(t)
			check(t, unix.Close(b))
			s.PrepSend(a, pattern(1), unix.MSG_NOSIGNAL)
			return nil
		}, -int32(unix.EPIPE)},
		{"receive", func(t *testing.T, s *SQE) func(CQE) {
			a, b := tcpPair(t)
			p, into := pattern(1000), make([]byte, 2000)
			write(t, b, p)
			s.PrepRecv(a, into, 0)
			return func(c CQE) { same(t, into[:c.Res], p) }
		}, 1000},
		{"receive at the end", func(t *testing.T, s *SQE) func(CQE) {
			a, b := tcpPair(t)
			check(t, unix.Shutdown(b, unix.SHUT_WR))
			s.PrepRecv(a, make([]byte, 1), 0)
			return nil
		}, 0},
		{"shutdown", func(t *testing.T, s *SQE) func(CQE) {
			a, b := tcpPair(t)
			s.PrepShutdown(a, unix.SHUT_WR)
			return func(CQE) {
				if n, err := unix.Read(b, make([]byte, 1)); n != 0 || err != nil {
					t.Errorf("peer reads %d, %v; want the end of the stream", n, err)
				}
			}
		}, 0},
		{"poll", func(t *testing.T, s *SQE) func(CQE) {
			a, b := unixPair(t)
			write(t, b, []byte{1})
			s.PrepPollAdd(a, unix.POLLIN)
			return nil
		}, unix.POLLIN},
		{"poll with a high event", func(t *testing.T, s *SQE) func(CQE) {
			a, b := unixPair(t)
			check(t, unix.Shutdown(b, unix.SHUT_WR))
			s.PrepPollAdd(a, unix.POLLRDHUP)
			return nil
		}, unix.POLLRDHUP},
	}
}

func fileOperations() []operation {
	return []operation{
		{"nop", func(_ *testing.T, s *SQE) func(CQE) { s.PrepNop(); return nil }, 0},
		{"close", func(t *testing.T, s *SQE) func(CQE) {
			a, b := unixPair(t)
			s.PrepClose(a)
			return func(CQE) {
				if n, err := unix.Read(b, make([]byte, 1)); n != 0 || err != nil {
					t.Errorf("peer reads %d, %v; want the end of the stream", n, err)
				}
			}
		}, 0},
		{"close of no fd", func(_ *testing.T, s *SQE) func(CQE) { s.PrepClose(1 << 20); return nil }, -int32(unix.EBADF)},
		{"write at an offset", func(t *testing.T, s *SQE) func(CQE) {
			fd, path := tempFile(t, []byte("0123456789"))
			s.PrepWrite(fd, []byte("abc"), 4)
			return func(CQE) {
				got, err := os.ReadFile(path)
				check(t, err)
				same(t, got, []byte("0123abc789"))
			}
		}, 3},
		{"read at an offset", func(t *testing.T, s *SQE) func(CQE) {
			fd, _ := tempFile(t, []byte("0123456789"))
			into := make([]byte, 20)
			s.PrepRead(fd, into, 4)
			return func(c CQE) { same(t, into[:c.Res], []byte("456789")) }
		}, 6},
		{"read at the position", func(t *testing.T, s *SQE) func(CQE) {
			fd, _ := tempFile(t, []byte("0123456789"))
			_, err := unix.Seek(fd, 7, 0)
			check(t, err)
			into := make([]byte, 20)
			s.PrepRead(fd, into, CurrentOffset)
			return func(c CQE) {
				same(t, into[:c.Res], []byte("789"))
				if at, err := unix.Seek(fd, 0, 1); at != 10 || err != nil {
					t.Errorf("position %d, %v; want 10", at, err)
				}
			}
		}, 3},
		{"timeout", func(_ *testing.T, s *SQE) func(CQE) { s.PrepTimeout(&Timespec{Nsec: 1000}, 0, 0); return nil }, -int32(unix.ETIME)},
		{"message to a ring", func(t *testing.T, s *SQE) func(CQE) {
			other, err := New(anyCPU)
			check(t, err)
			t.Cleanup(func() { check(t, other.Close()) })
			s.PrepMsgRing(other.FD(), 77, -5)
			return func(CQE) {
				if c := await(t, other, 1)[0]; c.UserData != 77 || c.Res != -5 {
					t.Errorf("the other ring got %+v", c)
				}
			}
		}, 0},
		{"poll remove of nothing", func(_ *testing.T, s *SQE) func(CQE) { s.PrepPollRemove(1 << 40); return nil }, -int32(unix.ENOENT)},
		{"timeout remove of nothing", func(_ *testing.T, s *SQE) func(CQE) { s.PrepTimeoutRemove(1 << 40); return nil }, -int32(unix.ENOENT)},
		{"cancel of nothing", func(_ *testing.T, s *SQE) func(CQE) { s.PrepCancel(1<<40, 0); return nil }, -int32(unix.ENOENT)},
	}
}

// TestSetFlagsAdds sees that SetFlags keeps what Prep methods set.
func TestSetFlagsAdds(t *testing.T) {
	var s SQE
	s.PrepRecvMultishot(3, 9)
	s.SetFlags(IOSQE_IO_LINK)
	s.SetFlags(IOSQE_CQE_SKIP_SUCCESS)
	if want := uint8(IOSQE_BUFFER_SELECT | IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS); s.Flags != want {
		t.Errorf("flags %#x, want %#x", s.Flags, want)
	}
}

func TestPollEventsInMemory(t *testing.T) {
	// poll32_events: the low half first on every machine, each half in its order.
	events := pollEvents(1<<28 | unix.POLLIN)
	first := *(*[2]uint16)(unsafe.Pointer(&events))
	if first != [2]uint16{unix.POLLIN, 1 << 12} {
		t.Errorf("halves in memory: %#x", first)
	}
}

// TestLink has a failing operation cancel the one linked behind it.
func TestLink(t *testing.T) {
	r := newRing(t, anyCPU)
	s := r.NextSQE()
	s.PrepClose(1 << 20)
	s.SetFlags(IOSQE_IO_LINK)
	s = r.NextSQE()
	s.PrepNop()
	s.SetUserData(1)
	cs := await(t, r, 2)
	if cs[0].Res != -int32(unix.EBADF) || cs[1].Res != -int32(unix.ECANCELED) {
		t.Errorf("%+v, want EBADF and ECANCELED", cs)
	}
}

// TestBuffersSurviveStackGrowth prepares a send of a local variable, has the stack
// move, and writes to the variable before the kernel reads it: it must not have been
// on the stack. It runs on a goroutine of its own, whose stack is small.
func TestBuffersSurviveStackGrowth(t *testing.T) {
	a, b := unixPair(t)
	errs := make(chan error)
	go func() { errs <- sendLocal(a) }()
	check(t, <-errs)
	if got := readAll(t, b, 5); string(got) != "after" {
		t.Errorf("sent %q", got)
	}
}

func sendLocal(fd int) error {
	return withRing(func(r *Ring) error {
		var local [5]byte
		r.NextSQE().PrepSend(fd, local[:], 0)
		growStack(1 << 12)
		copy(local[:], "after")
		_, err := answer(r)
		return err
	})
}

func growStack(depth int) byte {
	var frame [256]byte
	frame[depth%256] = byte(depth)
	if depth == 0 {
		runtime.GC()
		return frame[0]
	}
	return growStack(depth-1) + frame[depth%256]
}

func TestBufferBeyondTheLimit(t *testing.T) {
	m, err := mapRegion(-1, 0, MaxLen+4096) // never touched, so it costs no memory
	check(t, err)
	defer m.unmap()
	defer func() {
		if recover() == nil {
			t.Error("a buffer longer than MaxLen was accepted")
		}
	}()
	var s SQE
	s.PrepSend(0, unsafe.Slice((*byte)(m.base), m.size), 0)
}

func same(t *testing.T, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("got %d bytes that differ from the %d wanted", len(got), len(want))
	}
}

func write(t *testing.T, fd int, p []byte) {
	t.Helper()
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err == unix.EINTR {
			continue
		}
		check(t, err)
		p = p[n:]
	}
}

func tempFile(t *testing.T, content []byte) (fd int, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(path, content, 0o600))
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	check(t, err)
	return closeLater(t, fd), path
}

func tcpSocket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	return closeLater(t, fd)
}

// connectTo answers a socket connected to a listener.
func connectTo(t testing.TB, addr *Sockaddr) int {
	t.Helper()
	r, err := New(anyCPU)
	check(t, err)
	defer func() { check(t, r.Close()) }()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	r.NextSQE().PrepConnect(closeLater(t, fd), addr)
	if c := await(t, r, 1)[0]; c.Res != 0 {
		t.Fatalf("connect: %v", unix.Errno(-c.Res))
	}
	return fd
}
