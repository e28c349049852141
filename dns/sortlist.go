package dns

import (
	"net/netip"
	"slices"
	"strings"
)

// addSortlist adds networks of IPv4: an address, and a mask behind a slash, or else that of the address's class.
func (c *ResolvConf) addSortlist(networks string) {
	networks, _, _ = strings.Cut(networks, ";")
	for _, network := range strings.Fields(networks) {
		text, maskText := network, ""
		if i := strings.IndexAny(network, "/&"); i >= 0 {
			text, maskText = network[:i], network[i+1:]
		}
		address, ok := parseInetAton(text)
		if !ok {
			continue
		}
		entry := Network{Address: address, Mask: classMask(address)}
		if mask, ok := parseInetAton(maskText); ok {
			entry.Mask = mask
		}
		c.Sortlist = append(c.Sortlist, entry)
	}
}

// classMask is the mask of an address's class (RFC 791 section 3.2).
func classMask(ip netip.Addr) netip.Addr {
	switch first := ip.As4()[0]; {
	case first < 0x80:
		return netip.AddrFrom4([4]byte{255, 0, 0, 0})
	case first < 0xc0:
		return netip.AddrFrom4([4]byte{255, 255, 0, 0})
	}
	return netip.AddrFrom4([4]byte{255, 255, 255, 0})
}

// Network is one of the sortlist.
type Network struct{ Address, Mask netip.Addr }

func (n Network) contains(ip netip.Addr) bool {
	return word(ip.AsSlice())&word(n.Mask.AsSlice()) == word(n.Address.AsSlice())
}

// sortlistMax is how many addresses of a name glibc sorts by the sortlist.
const sortlistMax = 48

// sortByNetworks sorts IPv4 addresses by the first network of the list that each is in.
func sortByNetworks(ips []netip.Addr, networks []Network) {
	rank := func(ip netip.Addr) int {
		if i := slices.IndexFunc(networks, func(n Network) bool { return n.contains(ip) }); i >= 0 {
			return i
		}
		return len(networks)
	}
	slices.SortStableFunc(ips[:min(len(ips), sortlistMax)], func(a, b netip.Addr) int { return rank(a) - rank(b) })
}
