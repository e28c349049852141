package epoll

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestReceiveFrom(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fds[0]); _ = unix.Close(fds[1]) }()
	p, from := make([]byte, 4), make([]byte, 128)
	if _, _, _, errno := ReceiveFrom(fds[0], p, from); errno != unix.EAGAIN {
		t.Errorf("from an empty socket that may block: %v", errno)
	}
	for _, sent := range []string{"abc", "", "abcdef"} {
		send(t, fds[1], sent, 0)
		n, size, flags, errno := ReceiveFrom(fds[0], p, from)
		truncated := flags&unix.MSG_TRUNC != 0
		if errno != 0 || string(p[:n]) != sent[:min(len(sent), 4)] || size != 0 || truncated != (len(sent) > 4) {
			t.Errorf("%q from %d bytes, flags %#x, %v", p[:n], size, flags, errno)
		}
	}
	udp := udpSocket(t)
	at, err := unix.Getsockname(udp)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(udp, []byte("x"), 0, at); err != nil {
		t.Fatal(err)
	}
	if n, size, _, errno := ReceiveFrom(udp, p, from); errno != 0 || n != 1 || size != unix.SizeofSockaddrInet4 {
		t.Errorf("%d bytes from %d, %v", n, size, errno)
	}
}

func udpSocket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestNonblocking(t *testing.T) {
	fd := udpSocket(t)
	for _, want := range []bool{true, false} {
		must(t, SetNonblocking(fd, want))
		if got, errno := Nonblocking(fd); errno != 0 || got != want {
			t.Errorf("non-blocking: %v, %v", got, errno)
		}
	}
	if _, errno := Nonblocking(-1); errno != unix.EBADF {
		t.Errorf("no descriptor: %v", errno)
	}
	if errno := SetNonblocking(-1, true); errno != unix.EBADF {
		t.Errorf("no descriptor: %v", errno)
	}
}

func TestReadAndOption(t *testing.T) {
	a, b := pair(t, unix.AF_INET)
	send(t, b, "x", 0)
	p := make([]byte, 2)
	if n, errno := Read(a, p); errno != 0 || n != 1 {
		t.Errorf("%d bytes, %v", n, errno)
	}
	if _, errno := Read(a, p); errno != unix.EAGAIN {
		t.Errorf("from an empty socket: %v", errno)
	}
	if value, errno := Option(a, unix.SOL_SOCKET, unix.SO_PROTOCOL); errno != 0 || value != unix.IPPROTO_TCP {
		t.Errorf("protocol %d, %v", value, errno)
	}
	if errno := Connect(a, []byte{1, 0, 0}); errno == 0 {
		t.Error("a connected socket can be connected")
	}
}
