package core

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// ListenPacket makes a UDP endpoint at address, which receives at once. network is "udp",
// "udp4" or "udp6"; see net.ListenPacket for address. An unspecified address of network
// "udp" takes IPv4 datagrams too, from IPv4-mapped addresses. Datagram.Close ends it.
func (l *Loop) ListenPacket(network, address string, handler DatagramHandler) (*Datagram, error) {
	at, zone, err := resolvePacket(network, address)
	if err != nil {
		return nil, err
	}
	fd, err := packetSocket(network, at, zone, l.options.ReusePort)
	if err != nil {
		return nil, err
	}
	d, err := l.engine.AdoptDatagram(fd, handler)
	if err != nil {
		CloseDescriptor(fd)
		return nil, err
	}
	d.ownsFD = true
	d.Resume()
	return d, nil
}

// Addr is the address that d is bound to; not valid for a Unix socket.
func (d *Datagram) Addr() netip.AddrPort { return localAddr(d.fd) }

// RawAddr is an address as Datagram.SendTo takes it. The zone of a link-local address is
// an interface's name or number; the error is about one that does not exist.
func RawAddr(at netip.AddrPort) ([]byte, error) {
	zone := at.Addr().Zone()
	if zone == "" {
		return rawSockaddr(at, 0), nil
	}
	if index, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return rawSockaddr(at, uint32(index)), nil
	}
	ifi, err := net.InterfaceByName(zone)
	if err != nil {
		return nil, fmt.Errorf("kloop: zone %q: %w", zone, err)
	}
	return rawSockaddr(at, uint32(ifi.Index)), nil
}

// AddrOf is the address in raw form that DatagramHandler.ReceivedFrom is given, with the
// number of its interface as its zone. It is not valid for a Unix socket's.
func AddrOf(raw []byte) netip.AddrPort {
	switch {
	case len(raw) == sockaddr4Size && binary.NativeEndian.Uint16(raw) == unix.AF_INET:
		ip := netip.AddrFrom4([4]byte(raw[sockaddr4Addr:]))
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(raw[sockaddrPort:]))
	case len(raw) == sockaddr6Size && binary.NativeEndian.Uint16(raw) == unix.AF_INET6:
		ip := netip.AddrFrom16([16]byte(raw[sockaddr6Addr:]))
		if scope := binary.NativeEndian.Uint32(raw[sockaddr6Scope:]); scope != 0 {
			ip = ip.WithZone(strconv.FormatUint(uint64(scope), 10))
		}
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(raw[sockaddrPort:]))
	}
	return netip.AddrPort{}
}

func resolvePacket(network, address string) (netip.AddrPort, uint32, error) {
	switch network {
	case "udp", "udp4", "udp6":
	default:
		return netip.AddrPort{}, 0, net.UnknownNetworkError(network)
	}
	udp, err := net.ResolveUDPAddr(network, address)
	if err != nil {
		return netip.AddrPort{}, 0, err
	}
	return resolved(network == "udp4", udp.IP, udp.AddrPort(), udp.Zone)
}

func packetSocket(network string, at netip.AddrPort, zone uint32, reusePort bool) (fd int, err error) {
	fd, err = unix.Socket(family(at), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("kloop: socket: %w", err)
	}
	if err := bindPacket(fd, network, at, zone, reusePort); err != nil {
		CloseDescriptor(fd)
		return -1, err
	}
	return fd, nil
}

func bindPacket(fd int, network string, at netip.AddrPort, zone uint32, reusePort bool) error {
	if reusePort {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fmt.Errorf("kloop: SO_REUSEPORT: %w", err)
		}
	}
	if at.Addr().Is6() {
		only := 1
		if network == "udp" && at.Addr().IsUnspecified() {
			only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return fmt.Errorf("kloop: IPV6_V6ONLY: %w", err)
		}
	}
	if err := unix.Bind(fd, sockaddrOf(at, zone)); err != nil {
		return fmt.Errorf("kloop: bind %s: %w", at, err)
	}
	return nil
}
