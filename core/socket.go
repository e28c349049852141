package core

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Lengths and offsets of sockaddr_in and sockaddr_in6 (ip(7), ipv6(7)).
const (
	sockaddr4Size  = unix.SizeofSockaddrInet4
	sockaddr6Size  = unix.SizeofSockaddrInet6
	sockaddrPort   = 2
	sockaddr4Addr  = 4
	sockaddr6Addr  = 8
	sockaddr6Scope = 24
	listenBacklog  = 1024
	socketFlags    = unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
)

// rawSockaddr is the kernel's form of an address.
func rawSockaddr(at netip.AddrPort, zone uint32) []byte {
	if at.Addr().Is4() {
		raw := make([]byte, sockaddr4Size)
		binary.NativeEndian.PutUint16(raw, unix.AF_INET)
		binary.BigEndian.PutUint16(raw[sockaddrPort:], at.Port())
		ip := at.Addr().As4()
		copy(raw[sockaddr4Addr:], ip[:])
		return raw
	}
	raw := make([]byte, sockaddr6Size)
	binary.NativeEndian.PutUint16(raw, unix.AF_INET6)
	binary.BigEndian.PutUint16(raw[sockaddrPort:], at.Port())
	ip := at.Addr().As16()
	copy(raw[sockaddr6Addr:], ip[:])
	binary.NativeEndian.PutUint32(raw[sockaddr6Scope:], zone)
	return raw
}

// resolve answers the address and the interface index of its zone. Names are
// looked up with package net, which may block.
func resolve(network, address string) (netip.AddrPort, uint32, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return netip.AddrPort{}, 0, net.UnknownNetworkError(network)
	}
	tcp, err := net.ResolveTCPAddr(network, address)
	if err != nil {
		return netip.AddrPort{}, 0, err
	}
	return resolved(network == "tcp4", tcp.IP, tcp.AddrPort(), tcp.Zone)
}

// resolved completes what package net answers: no IP is the unspecified address.
func resolved(only4 bool, ip net.IP, at netip.AddrPort, zoneName string) (netip.AddrPort, uint32, error) {
	host := at.Addr().Unmap().WithZone("")
	switch {
	case ip != nil:
	case only4:
		host = netip.IPv4Unspecified()
	default:
		host = netip.IPv6Unspecified()
	}
	zone := uint32(0)
	if zoneName != "" {
		ifi, err := net.InterfaceByName(zoneName)
		if err != nil {
			return netip.AddrPort{}, 0, err
		}
		zone = uint32(ifi.Index)
	}
	return netip.AddrPortFrom(host, at.Port()), zone, nil
}

func family(at netip.AddrPort) int {
	if at.Addr().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// listenSocket makes a listening socket. An unspecified IPv6 address of network
// "tcp" takes IPv4 connections too.
func listenSocket(network string, at netip.AddrPort, zone uint32, reusePort bool) (fd int, err error) {
	fd, err = unix.Socket(family(at), socketFlags, 0)
	if err != nil {
		return -1, fmt.Errorf("kloop: socket: %w", err)
	}
	if err := prepareListener(fd, network, at, zone, reusePort); err != nil {
		CloseDescriptor(fd)
		return -1, err
	}
	return fd, nil
}

func prepareListener(fd int, network string, at netip.AddrPort, zone uint32, reusePort bool) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("kloop: SO_REUSEADDR: %w", err)
	}
	if reusePort {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fmt.Errorf("kloop: SO_REUSEPORT: %w", err)
		}
	}
	if at.Addr().Is6() {
		only := 1
		if network == "tcp" && at.Addr().IsUnspecified() {
			only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return fmt.Errorf("kloop: IPV6_V6ONLY: %w", err)
		}
	}
	if err := unix.Bind(fd, sockaddrOf(at, zone)); err != nil {
		return fmt.Errorf("kloop: bind %s: %w", at, err)
	}
	if err := unix.Listen(fd, listenBacklog); err != nil {
		return fmt.Errorf("kloop: listen %s: %w", at, err)
	}
	return nil
}

func sockaddrOf(at netip.AddrPort, zone uint32) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16(), ZoneId: zone}
}

// localAddr answers what a socket is bound to.
func localAddr(fd int) netip.AddrPort {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPortOf(name)
}

func addrPortOf(name unix.Sockaddr) netip.AddrPort {
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr), uint16(name.Port))
	}
	return netip.AddrPort{}
}

// setNoDelay is best effort: a socket that is not TCP, or is gone, has no use for it.
func setNoDelay(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}
