package epoll

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const readable = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET

func newSet(t *testing.T) *Set {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// event is what Next answers.
type event struct {
	fd     int
	tag    int32
	events uint32
}

// look takes everything there is now.
func look(t *testing.T, s *Set) []event {
	t.Helper()
	if err := s.Look(); err != nil {
		t.Fatal(err)
	}
	var found []event
	for {
		fd, tag, events, ok := s.Next()
		if !ok {
			return found
		}
		found = append(found, event{fd, tag, events})
	}
}

func mustSee(t *testing.T, s *Set, want ...event) {
	t.Helper()
	found := look(t, s)
	if len(found) != len(want) {
		t.Fatalf("%d events, not %d: %+v", len(found), len(want), found)
	}
	for i := range want {
		if found[i] != want[i] {
			t.Errorf("event %+v, not %+v", found[i], want[i])
		}
	}
}

func must(t *testing.T, errno unix.Errno) {
	t.Helper()
	if errno != 0 {
		t.Fatal(errno)
	}
}

// pair answers two connected sockets, closed after the test.
func pair(t *testing.T, domain int) (a, b int) {
	t.Helper()
	if domain == unix.AF_UNIX {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		a, b = fds[0], fds[1]
	} else {
		a, b = tcpPair(t)
	}
	t.Cleanup(func() { _ = unix.Close(a); _ = unix.Close(b) })
	return a, b
}

func tcpPair(t *testing.T) (a, b int) {
	t.Helper()
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(listener) }()
	if err := unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listener, 1); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(b, at); err != nil {
		t.Fatal(err)
	}
	a, errno := Accept(listener)
	must(t, errno)
	return a, b
}

func send(t *testing.T, fd int, p string, flags int) {
	t.Helper()
	if err := unix.Sendto(fd, []byte(p), flags, nil); err != nil {
		t.Fatal(err)
	}
}

func TestEdgesAndWords(t *testing.T) {
	s := newSet(t)
	a, b := pair(t, unix.AF_INET)
	must(t, s.Add(a, readable, 7))
	mustSee(t, s)
	send(t, b, "x", 0)
	mustSee(t, s, event{a, 7, unix.EPOLLIN})
	mustSee(t, s) // an edge is told once
	s.Owe(2)
	if !s.Pending() {
		t.Error("nothing pending, though two things are owed")
	}
	s.Paid(2)
	send(t, b, "y", 0)
	turn := s.Turn()
	if err := s.Look(); err != nil || !s.Pending() {
		t.Errorf("after a look: %v, pending %v", err, s.Pending())
	}
	if err := s.Look(); err != nil || s.Turn() != turn+2 {
		t.Errorf("a look with events left: %v, turn %d after %d", err, s.Turn(), turn)
	}
	if fd, _, _, ok := s.Next(); !ok || fd != a || s.Pending() {
		t.Errorf("the event of %d, %v, then pending %v", fd, ok, s.Pending())
	}
}

func TestWaits(t *testing.T) {
	for name, coarse := range map[string]bool{"epoll_pwait2": false, "epoll_pwait": true} {
		t.Run(name, func(t *testing.T) {
			s := newSet(t)
			s.coarse = coarse
			a, b := pair(t, unix.AF_INET)
			must(t, s.Add(a, readable, 1))
			const wait = 300 * time.Microsecond
			start := time.Now()
			if err := s.Wait(int64(wait)); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took < wait {
				t.Errorf("a wait of %v took %v", wait, took)
			}
			send(t, b, "x", 0)
			if err := s.Wait(-1); err != nil || !s.Pending() {
				t.Errorf("after an event: %v, pending %v", err, s.Pending())
			}
			if s.coarse != coarse {
				t.Error("this kernel has no epoll_pwait2")
			}
		})
	}
}

func TestMilliseconds(t *testing.T) {
	for ns, want := range map[int64]int{-1: -1, 0: 0, 1: 1, 1_000_000: 1, 1_000_001: 2, 1 << 62: maxMS} {
		if got := milliseconds(ns); got != want {
			t.Errorf("%d ns are %d ms, not %d", ns, got, want)
		}
	}
}

func TestModifyTellsWhatIsReady(t *testing.T) {
	s := newSet(t)
	a, b := pair(t, unix.AF_INET)
	must(t, s.Add(a, readable, 1))
	send(t, b, "x", 0)
	mustSee(t, s, event{a, 1, unix.EPOLLIN})
	must(t, s.Modify(a, readable|unix.EPOLLOUT, 2))
	mustSee(t, s, event{a, 2, unix.EPOLLIN | unix.EPOLLOUT})
}

func TestModifyTellsAnotherFile(t *testing.T) {
	s := newSet(t)
	a, _ := pair(t, unix.AF_INET)
	other, _ := pair(t, unix.AF_INET)
	must(t, s.Add(a, readable, 1))
	if errno := s.Add(a, readable, 1); errno != unix.EEXIST {
		t.Errorf("a second time: %v", errno)
	}
	if err := unix.Dup3(other, a, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if errno := s.Modify(a, readable, 1); errno != unix.ENOENT {
		t.Errorf("another file: %v", errno)
	}
	must(t, s.Add(a, readable, 2))
	if errno := s.Add(-1, readable, 1); errno != unix.EBADF {
		t.Errorf("no file: %v", errno)
	}
}

func TestEventsOfAClosedDescriptor(t *testing.T) {
	s := newSet(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	must(t, s.Add(fds[0], readable, 1))
	copied, err := unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(fds[0])
	send(t, fds[1], "x", 0)
	mustSee(t, s, event{fds[0], 1, unix.EPOLLIN})
	_ = unix.Close(copied)
	_ = unix.Close(fds[1])
	mustSee(t, s)
}

func TestUrgentDataEndsARead(t *testing.T) {
	s := newSet(t)
	a, b := pair(t, unix.AF_INET)
	must(t, s.Add(a, readable, 1))
	send(t, b, "before", 0)
	send(t, b, "!", unix.MSG_OOB)
	send(t, b, "behind", 0)
	mustSee(t, s, event{a, 1, unix.EPOLLIN | unix.EPOLLPRI})
	p := make([]byte, 100)
	for _, want := range []string{"before", "behind"} {
		if n, errno := Receive(a, p); errno != 0 || string(p[:n]) != want {
			t.Errorf("received %q, %v, not %q", p[:n], errno, want)
		}
	}
	if _, errno := Receive(a, p); errno != unix.EAGAIN {
		t.Errorf("then %v", errno)
	}
}

func TestAncillaryDataEndsARead(t *testing.T) {
	a, b := pair(t, unix.AF_UNIX)
	rights := unix.UnixRights(b)
	send(t, b, "before", 0)
	if err := unix.Sendmsg(b, []byte("with"), rights, nil, 0); err != nil {
		t.Fatal(err)
	}
	send(t, b, "behind", 0)
	p := make([]byte, 100)
	got := ""
	reads := 0
	for ; ; reads++ {
		n, errno := Receive(a, p)
		if errno == unix.EAGAIN {
			break
		}
		must(t, errno)
		got += string(p[:n])
	}
	if got != "beforewithbehind" || reads < 2 {
		t.Errorf("%q in %d reads", got, reads)
	}
}

func TestRegularFile(t *testing.T) {
	s := newSet(t)
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if errno := s.Add(int(file.Fd()), readable, 1); errno != unix.EPERM {
		t.Errorf("registered: %v", errno)
	}
	if events, errno := Poll(int(file.Fd()), unix.POLLIN); errno != 0 || events != unix.POLLIN {
		t.Errorf("poll: %#x, %v", events, errno)
	}
}

func TestNoAllocations(t *testing.T) {
	s := newSet(t)
	a, b := pair(t, unix.AF_INET)
	must(t, s.Add(a, readable, 1))
	p := make([]byte, 100)
	allocations := testing.AllocsPerRun(100, func() {
		_, _ = unix.Write(b, p[:1])
		_ = s.Look()
		fd, _, _, _ := s.Next()
		_, _ = Receive(fd, p)
		_ = s.Modify(fd, readable, 1)
		_, _ = Poll(fd, unix.POLLIN)
		_ = s.Wait(1)
		_, _, _, _ = s.Next()
		_, _, _, _ = ReceiveFrom(fd, p[:50], p[50:])
		_, _ = Option(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		_, _ = Nonblocking(fd)
	})
	if allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}
