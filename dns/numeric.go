package dns

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// parseInetAton reads an IPv4 address in any of the forms of inet_aton(3): one to four
// parts, each decimal, octal (0...) or hexadecimal (0x...), the last one filling up.
func parseInetAton(s string) (netip.Addr, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return netip.Addr{}, false // as most names are
	}
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var value uint64
	for i, part := range parts {
		if part == "" || part[0] < '0' || part[0] > '9' {
			return netip.Addr{}, false
		}
		n, err := strconv.ParseUint(cNumber(part))
		if err != nil {
			return netip.Addr{}, false
		}
		last := i == len(parts)-1
		room := uint(8)
		if last {
			room = 8 * uint(4-i)
		}
		if n >= 1<<room {
			return netip.Addr{}, false
		}
		value = value<<room | n
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), true
}

// cNumber splits a number of C's into what strconv.ParseUint takes.
func cNumber(s string) (digits string, base, bits int) {
	switch {
	case strings.HasPrefix(s, "0x"), strings.HasPrefix(s, "0X"):
		return s[2:], 16, 32
	case len(s) > 1 && s[0] == '0':
		return s[1:], 8, 32
	}
	return s, 10, 32
}

// parseIPv6 reads an IPv6 address with or without a scope (%). scopeOK is false if the scope
// is no interface's name or number.
func parseIPv6(s string) (ip netip.Addr, scope uint32, isIPv6, scopeOK bool) {
	if strings.IndexByte(s, ':') < 0 {
		return netip.Addr{}, 0, false, false
	}
	address, zone, scoped := strings.Cut(s, "%")
	ip, err := netip.ParseAddr(address)
	if err != nil || !ip.Is6() {
		return netip.Addr{}, 0, false, false
	}
	if !scoped {
		return ip, 0, true, true
	}
	scope, ok := scopeID(ip, zone)
	return ip, scope, true, ok
}

// scopeID is the interface that a zone names. Names mean something for link-local addresses
// only.
func scopeID(ip netip.Addr, zone string) (uint32, bool) {
	if ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsInterfaceLocalMulticast() {
		if ifi, err := net.InterfaceByName(zone); err == nil {
			return uint32(ifi.Index), true
		}
	}
	if zone == "" || zone[0] < '0' || zone[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(zone, 10, 32)
	return uint32(n), err == nil
}
