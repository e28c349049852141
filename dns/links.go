package dns

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// noIndex is the index of no interface, for addresses that are none of this host's.
const noIndex = 1<<32 - 1

// ownAddress is what is known of one of this host's addresses: struct ifaddrmsg, rtnetlink(7).
type ownAddress struct {
	prefix     int    // bits of its subnet
	index      uint32 // of its interface
	deprecated bool   // or optimistic: IFA_F_DEPRECATED, IFA_F_OPTIMISTIC
	home       bool   // IFA_F_HOMEADDRESS
}

// ownAddresses asks the kernel (RTM_GETADDR) for this host's addresses, IPv4 ones as such; nil: it does not say. That of a
// point-to-point interface is its peer's, as glibc has it.
func ownAddresses() map[netip.Addr]ownAddress {
	messages := routeDump(syscall.RTM_GETADDR)
	if messages == nil {
		return nil
	}
	all := map[netip.Addr]ownAddress{}
	for i := range messages {
		m := &messages[i]
		if m.Header.Type != syscall.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg {
			continue
		}
		ip, ok := addressOfMessage(m)
		if _, known := all[ip]; !ok || known {
			continue
		}
		flags := m.Data[2]
		all[ip] = ownAddress{
			prefix:     int(m.Data[1]),
			index:      binary.NativeEndian.Uint32(m.Data[4:]),
			deprecated: flags&(unix.IFA_F_DEPRECATED|unix.IFA_F_OPTIMISTIC) != 0,
			home:       flags&unix.IFA_F_HOMEADDRESS != 0,
		}
	}
	return all
}

func addressOfMessage(m *syscall.NetlinkMessage) (ip netip.Addr, ok bool) {
	attributes, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return ip, false
	}
	for _, a := range attributes {
		switch a.Attr.Type {
		case unix.IFA_LOCAL:
			ip, ok = netip.AddrFromSlice(a.Value)
		case unix.IFA_ADDRESS:
			ip, ok = netip.AddrFromSlice(a.Value)
			return ip.Unmap(), ok
		}
	}
	return ip.Unmap(), ok
}

// tunnels asks the kernel (RTM_GETLINK) which interfaces carry packets inside of others, by their indices: true; false: they don't.
func tunnels() map[uint32]bool {
	all := map[uint32]bool{}
	for _, m := range routeDump(syscall.RTM_GETLINK) {
		if m.Header.Type != syscall.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		tunnel := false
		switch binary.NativeEndian.Uint16(m.Data[2:]) {
		case unix.ARPHRD_TUNNEL, unix.ARPHRD_TUNNEL6, unix.ARPHRD_SIT:
			tunnel = true
		}
		all[binary.NativeEndian.Uint32(m.Data[4:])] = tunnel
	}
	return all
}

// routeDump asks for all objects of a kind (rtnetlink(7)); nil: the kernel does not say.
func routeDump(kind int) []syscall.NetlinkMessage {
	raw, err := syscall.NetlinkRIB(kind, unix.AF_UNSPEC)
	if err != nil {
		return nil
	}
	messages, err := syscall.ParseNetlinkMessage(raw)
	if err != nil {
		return nil
	}
	return messages
}
