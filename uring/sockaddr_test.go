package uring

import (
	"bytes"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSockaddrInet(t *testing.T) {
	for _, c := range []struct {
		addr string
		want []byte
	}{
		{"127.0.0.1:258", []byte{2, 0, 1, 2, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"[::1]:258", append(append([]byte{10, 0, 1, 2, 0, 0, 0, 0}, netip.IPv6Loopback().AsSlice()...), 0, 0, 0, 0)},
		{"[fe80::1%7]:1", append(append([]byte{10, 0, 0, 1, 0, 0, 0, 0}, netip.MustParseAddr("fe80::1").AsSlice()...), 7, 0, 0, 0)},
		{"[fe80::1%lo]:1", append(append([]byte{10, 0, 0, 1, 0, 0, 0, 0}, netip.MustParseAddr("fe80::1").AsSlice()...), 1, 0, 0, 0)},
		{"[::ffff:1.2.3.4]:1", append(append([]byte{10, 0, 0, 1, 0, 0, 0, 0}, netip.MustParseAddr("::ffff:1.2.3.4").AsSlice()...), 0, 0, 0, 0)},
	} {
		a, err := SockaddrInet(netip.MustParseAddrPort(c.addr))
		check(t, err)
		if halves(1, 0) == 1 && !bytes.Equal(a.Bytes(), c.want) { // the rows are little-endian
			t.Errorf("%s: % x, want % x", c.addr, a.Bytes(), c.want)
		}
		again, err := SockaddrOf(a.Bytes())
		if err != nil || again != a {
			t.Errorf("%s: from its own bytes: %+v, %v", c.addr, again, err)
		}
	}
	if _, err := SockaddrInet(netip.AddrPort{}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("no address: %v, want EINVAL", err)
	}
	if _, err := SockaddrInet(netip.MustParseAddrPort("[fe80::1%nonexistent]:1")); err == nil {
		t.Error("a zone that names no interface was accepted")
	}
}

func TestSockaddrErrors(t *testing.T) {
	for _, size := range []int{0, 1, 129} {
		if _, err := SockaddrOf(make([]byte, size)); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%d bytes: %v, want EINVAL", size, err)
		}
	}
	for name, want := range map[string]error{
		strings.Repeat("a", 107):          nil,
		strings.Repeat("a", 108):          unix.ENAMETOOLONG,
		"\x00" + strings.Repeat("a", 107): nil,
		"\x00" + strings.Repeat("a", 108): unix.ENAMETOOLONG,
	} {
		if _, err := SockaddrUnix(name); !errors.Is(err, want) {
			t.Errorf("Unix name of %d bytes: %v, want %v", len(name), err, want)
		}
	}
}

// TestConnectFamilies connects to a listener of each family.
func TestConnectFamilies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	v4 := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	v6 := &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}
	for _, c := range []struct {
		name   string
		family int
		bind   unix.Sockaddr
	}{
		{"IPv4", unix.AF_INET, v4},
		{"IPv6", unix.AF_INET6, v6},
		{"Unix path", unix.AF_UNIX, &unix.SockaddrUnix{Name: path}},
		{"Unix abstract", unix.AF_UNIX, &unix.SockaddrUnix{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRing(t, anyCPU)
			l, err := unix.Socket(c.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			check(t, err)
			closeLater(t, l)
			if err := unix.Bind(l, c.bind); err == unix.EADDRNOTAVAIL {
				t.Skip("no loopback address of this family")
			} else {
				check(t, err)
			}
			check(t, unix.Listen(l, 1))
			fd, err := unix.Socket(c.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			check(t, err)
			addr := addressOf(t, l)
			r.NextSQE().PrepConnect(closeLater(t, fd), &addr)
			if c := await(t, r, 1)[0]; c.Res != 0 {
				t.Errorf("connect: %v", unix.Errno(-c.Res))
			}
		})
	}
}

func addressOf(t *testing.T, fd int) Sockaddr {
	t.Helper()
	name, err := unix.Getsockname(fd)
	check(t, err)
	var a Sockaddr
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		a, err = SockaddrInet(netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port)))
	case *unix.SockaddrInet6:
		a, err = SockaddrInet(netip.AddrPortFrom(netip.AddrFrom16(name.Addr), uint16(name.Port)))
	case *unix.SockaddrUnix:
		abstract := strings.Replace(name.Name, "@", "\x00", 1) // as package unix spells it
		a, err = SockaddrUnix(abstract)
	}
	check(t, err)
	return a
}
