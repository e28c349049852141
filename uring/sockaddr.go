package uring

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// Sockaddr is a socket address as the kernel reads it: struct sockaddr_storage
// and the length that counts.
type Sockaddr struct {
	raw  [unix.SizeofSockaddrAny]byte
	size uint32
}

const (
	portOffset  = 2 // of sockaddr_in and sockaddr_in6: behind the family
	addr4Offset = 4
	addr6Offset = 8 // behind port and flow label
	scopeOffset = 24
	pathOffset  = 2 // of sockaddr_un

	pathMax = unix.SizeofSockaddrUnix - pathOffset
)

// SockaddrOf takes the bytes of a struct sockaddr of any family, as C callers
// have it. unix.EINVAL: shorter than a family, or longer than any address.
func SockaddrOf(raw []byte) (Sockaddr, error) {
	var a Sockaddr
	if len(raw) < pathOffset || len(raw) > len(a.raw) {
		return a, fmt.Errorf("uring: address of %d bytes: %w", len(raw), unix.EINVAL)
	}
	a.size = uint32(copy(a.raw[:], raw))
	return a, nil
}

// SockaddrInet is the address of an IPv4 or IPv6 endpoint. An IPv4-mapped
// address stays IPv6. The error is about a zone that names no interface, or an
// invalid address.
func SockaddrInet(ap netip.AddrPort) (Sockaddr, error) {
	var a Sockaddr
	if !ap.IsValid() {
		return a, fmt.Errorf("uring: no IP address: %w", unix.EINVAL)
	}
	binary.BigEndian.PutUint16(a.raw[portOffset:], ap.Port())
	if ap.Addr().Is4() {
		binary.NativeEndian.PutUint16(a.raw[:], unix.AF_INET)
		copy(a.raw[addr4Offset:], ap.Addr().AsSlice())
		a.size = unix.SizeofSockaddrInet4
		return a, nil
	}
	scope, err := scopeOf(ap.Addr().Zone())
	if err != nil {
		return a, err
	}
	binary.NativeEndian.PutUint16(a.raw[:], unix.AF_INET6)
	copy(a.raw[addr6Offset:], ap.Addr().AsSlice())
	binary.NativeEndian.PutUint32(a.raw[scopeOffset:], scope)
	a.size = unix.SizeofSockaddrInet6
	return a, nil
}

// scopeOf answers the index of an interface given by number or name.
func scopeOf(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	ifi, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("uring: zone %q: %w", zone, err)
	}
	return uint32(ifi.Index), nil
}

// SockaddrUnix is the address of a Unix socket: a path, or an abstract name with
// a leading NUL byte. unix.ENAMETOOLONG: more than 107 bytes of path or 108 of
// abstract name.
func SockaddrUnix(name string) (Sockaddr, error) {
	var a Sockaddr
	size := len(name)
	if name != "" && name[0] != 0 {
		size++ // a path ends with a NUL byte
	}
	if size > pathMax {
		return a, fmt.Errorf("uring: Unix socket name of %d bytes: %w", len(name), unix.ENAMETOOLONG)
	}
	binary.NativeEndian.PutUint16(a.raw[:], unix.AF_UNIX)
	copy(a.raw[pathOffset:], name)
	a.size = uint32(pathOffset + size)
	return a, nil
}

// Bytes answers the address as struct sockaddr.
func (a *Sockaddr) Bytes() []byte { return a.raw[:a.size] }
