package uring

import (
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testLimit bounds every wait of these tests: none comes near it unless an event
// is lost. It is long because loopback TCP may lose packets when others flood the
// machine (/proc/net/softnet_stat, second column), and then backs off.
const testLimit = 60 * time.Second

// newRing makes a ring for a test, in a thread that stays the test's.
func newRing(t testing.TB, o Options) *Ring {
	t.Helper()
	runtime.LockOSThread()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	})
	return r
}

// anyCPU are the options of a small ring without SQPOLL.
var anyCPU = Options{Entries: 16, SQPollCPU: -1}

// await submits what is prepared and answers the next n CQEs.
func await(t testing.TB, r *Ring, n int) []CQE {
	t.Helper()
	out := make([]CQE, n)
	got := 0
	for deadline := time.Now().Add(testLimit); got < n; {
		_, err := r.EnterWait(r.Publish(), 1, 0, int64(testLimit))
		if err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatalf("waiting for completion %d of %d: %v", got+1, n, err)
		}
		got += r.Reap(out[got:])
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d completions in time", got, n)
		}
	}
	return out
}

// awaitOne is await for a single CQE of the operation with that user data.
func awaitOne(t testing.TB, r *Ring, userData uint64) CQE {
	t.Helper()
	c := await(t, r, 1)[0]
	if c.UserData != userData {
		t.Fatalf("CQE of %d, want one of %d: %+v", c.UserData, userData, c)
	}
	return c
}

// noMore fails when a CQE comes before that of a NOP submitted now.
func noMore(t testing.TB, r *Ring) {
	t.Helper()
	const marker = 1 << 60
	s := r.NextSQE()
	s.PrepNop()
	s.SetUserData(marker)
	if c := await(t, r, 1)[0]; c.UserData != marker {
		t.Fatalf("unexpected completion %+v", c)
	}
}

// eventually spins until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testLimit); !cond(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// closeLater closes fd at the test's end, if the test has not.
func closeLater(t testing.TB, fd int) int {
	t.Helper()
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// unixPair answers two connected Unix stream sockets.
func unixPair(t testing.TB) (a, b int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	return closeLater(t, pair[0]), closeLater(t, pair[1])
}

// listen answers a TCP listener on a free loopback port.
func listen(t testing.TB) (fd int, addr *Sockaddr) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	closeLater(t, fd)
	check(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	check(t, unix.Listen(fd, 16))
	return fd, sockname(t, fd)
}

func sockname(t testing.TB, fd int) *Sockaddr {
	t.Helper()
	name, err := unix.Getsockname(fd)
	check(t, err)
	in := name.(*unix.SockaddrInet4)
	ap := (&net.TCPAddr{IP: in.Addr[:], Port: in.Port}).AddrPort()
	a, err := SockaddrInet(ap)
	check(t, err)
	return &a
}

// tcpPair answers two connected TCP sockets.
func tcpPair(t testing.TB) (client, server int) {
	t.Helper()
	l, _ := listen(t)
	name, err := unix.Getsockname(l)
	check(t, err)
	client, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	closeLater(t, client)
	check(t, unix.Connect(client, name))
	server, _, err = unix.Accept4(l, unix.SOCK_CLOEXEC)
	check(t, err)
	return client, closeLater(t, server)
}

// readAll reads n bytes from a blocking socket.
func readAll(t testing.TB, fd, n int) []byte {
	t.Helper()
	buf := make([]byte, n)
	for got := 0; got < n; {
		m, err := unix.Read(fd, buf[got:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		check(t, err)
		if m == 0 {
			t.Fatalf("end of stream after %d of %d bytes", got, n)
		}
		got += m
	}
	return buf
}

// pattern answers n bytes that tell their position.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8*13)
	}
	return p
}

func TestMain(m *testing.M) {
	if err := Available(); err != nil {
		// Passing without having run anything would hide a broken set-up.
		println("these tests need io_uring:", err.Error())
		os.Exit(1)
	}
	os.Exit(m.Run())
}
