package uring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// datagramSocket makes a socket, bound to a loopback address of its own.
func datagramSocket(t testing.TB, at unix.Sockaddr) (fd int, bound unix.Sockaddr) {
	t.Helper()
	family := unix.AF_INET
	switch at.(type) {
	case *unix.SockaddrInet6:
		family = unix.AF_INET6
	case *unix.SockaddrUnix:
		family = unix.AF_UNIX
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	closeLater(t, fd)
	check(t, unix.Bind(fd, at))
	bound, err = unix.Getsockname(fd)
	check(t, err)
	return fd, bound
}

var loopback4 = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}

// datagramRing arms a multishot receive on fd, with buffers of so many bytes.
func datagramRing(t *testing.T, fd int, bufferSize uint32) (*Ring, *BufRing) {
	t.Helper()
	r := newRing(t, anyCPU)
	b, err := r.NewBufRing(3, 4, bufferSize, false)
	check(t, err)
	t.Cleanup(func() { check(t, b.Close()) })
	arena, err := NewMsgArena()
	check(t, err)
	t.Cleanup(arena.Close)
	s := r.NextSQE()
	s.PrepRecvMsgMultishot(fd, arena.DatagramMsg(), 3)
	s.SetUserData(1)
	_, err = r.Enter(r.Publish(), 0, 0)
	check(t, err)
	arena.Reset() // the kernel has the header
	return r, b
}

// received answers the datagram of a completion.
func received(t *testing.T, b *BufRing, c CQE) (from, p []byte, truncated bool) {
	t.Helper()
	id, ok := c.Buffer()
	if !ok || c.Res < DatagramHeader {
		t.Fatalf("no datagram: %+v", c)
	}
	return SplitDatagram(b.Bytes(id, 0, int(c.Res)))
}

func TestRecvMsgMultishotTellsSenders(t *testing.T) {
	fd, at := datagramSocket(t, loopback4)
	r, b := datagramRing(t, fd, 2048)
	for i := range 3 {
		peer, peerAt := datagramSocket(t, loopback4)
		want := bytes.Repeat([]byte{byte(i + 1)}, 100*i+1)
		check(t, unix.Sendto(peer, want, 0, at))
		c := awaitOne(t, r, 1)
		from, p, truncated := received(t, b, c)
		same(t, p, want)
		addr, err := SockaddrOf(from)
		check(t, err)
		port := int(addr.raw[portOffset])<<8 | int(addr.raw[portOffset+1])
		if port != peerAt.(*unix.SockaddrInet4).Port || truncated || !c.More() {
			t.Errorf("from port %d, want that of %+v; truncated %v, %+v", port, peerAt, truncated, c)
		}
	}
}

// TestRecvMsgMultishotEnds checks what ends it: an empty datagram, as the kernel takes
// the 0 for the end of a stream, and an error of the socket.
func TestRecvMsgMultishotEnds(t *testing.T) {
	fd, at := datagramSocket(t, loopback4)
	r, b := datagramRing(t, fd, 2048)
	peer, _ := datagramSocket(t, loopback4)
	check(t, unix.Sendto(peer, nil, 0, at))
	c := awaitOne(t, r, 1)
	if _, p, _ := received(t, b, c); len(p) != 0 || c.More() {
		t.Errorf("empty datagram: %d bytes, %+v", len(p), c)
	}
	check(t, unix.Connect(fd, goneAddress(t)))
	arena, err := NewMsgArena()
	check(t, err)
	defer arena.Close()
	s := r.NextSQE()
	s.PrepRecvMsgMultishot(fd, arena.DatagramMsg(), 3)
	s.SetUserData(2)
	check(t, SendToNow(fd, []byte{1}, nil))
	if c := awaitOne(t, r, 2); c.Res != -int32(unix.ECONNREFUSED) || c.More() {
		t.Errorf("refused: %+v", c)
	}
}

// goneAddress answers an address at which nobody listens any more.
func goneAddress(t *testing.T) unix.Sockaddr {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	check(t, unix.Bind(fd, loopback4))
	at, err := unix.Getsockname(fd)
	check(t, err)
	check(t, unix.Close(fd))
	return at
}

func TestRecvMsgMultishotTruncates(t *testing.T) {
	fd, at := datagramSocket(t, loopback4)
	r, b := datagramRing(t, fd, DatagramHeader+10)
	peer, _ := datagramSocket(t, loopback4)
	check(t, unix.Sendto(peer, []byte("0123456789abc"), 0, at))
	_, p, truncated := received(t, b, awaitOne(t, r, 1))
	same(t, p, []byte("0123456789"))
	if !truncated {
		t.Error("truncation is not told")
	}
}

func TestRecvMsgMultishotUnix(t *testing.T) {
	fd, at := datagramSocket(t, &unix.SockaddrUnix{Name: t.TempDir() + "/at"})
	r, b := datagramRing(t, fd, 2048)
	nameless, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	closeLater(t, nameless)
	check(t, unix.Sendto(nameless, []byte{7}, 0, at))
	if from, p, _ := received(t, b, awaitOne(t, r, 1)); len(from) != 0 || !bytes.Equal(p, []byte{7}) {
		t.Errorf("from % x: % x", from, p)
	}
	name := "\x00kloop-" + t.Name()
	named, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	closeLater(t, named)
	check(t, unix.Bind(named, &unix.SockaddrUnix{Name: "@" + name[1:]}))
	check(t, unix.Sendto(named, []byte{8}, 0, at))
	from, _, _ := received(t, b, awaitOne(t, r, 1))
	if want, _ := SockaddrUnix(name); !bytes.Equal(from, want.Bytes()) {
		t.Errorf("from %q, want %q", from, want.Bytes())
	}
}

func rawInet4(at *unix.SockaddrInet4) []byte {
	raw := make([]byte, unix.SizeofSockaddrInet4)
	binary.NativeEndian.PutUint16(raw, unix.AF_INET)
	raw[portOffset], raw[portOffset+1] = byte(at.Port>>8), byte(at.Port)
	copy(raw[addr4Offset:], at.Addr[:])
	return raw
}

func TestSendToNow(t *testing.T) {
	peer, at := datagramSocket(t, loopback4)
	fd, _ := datagramSocket(t, loopback4)
	addr := rawInet4(at.(*unix.SockaddrInet4))
	got := make([]byte, 10)
	for _, want := range [][]byte{{1, 2, 3}, {}} {
		check(t, SendToNow(fd, want, addr))
		n, err := unix.Read(peer, got)
		check(t, err)
		same(t, got[:n], want)
	}
	if err := SendToNow(fd, make([]byte, 70000), addr); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("a datagram of 70000 bytes: %v", err)
	}
	p := []byte{1}
	if n := testing.AllocsPerRun(100, func() { check(t, SendToNow(fd, p, addr)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
