package dns

import (
	"math/bits"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Scopes of RFC 4007 and RFC 6724 section 3.1.
const (
	scopeLinkLocal = 0x2
	scopeSiteLocal = 0x5
	scopeGlobal    = 0xe
)

// destination is an address to be sorted, and from where it would be reached.
type destination struct {
	ip       netip.Addr
	scope    int
	usable   bool       // there is a way
	source   netip.Addr // if usable
	own      ownAddress // the source
	label    int
	near     bool // the source has the same scope
	matching bool // the source has the same label
	rank     int  // precedence
}

// routes remembers from where addresses are reached: what the kernel says takes several system
// calls for each, and changes seldom.
type routes struct {
	mu     sync.Mutex
	made   time.Time // all of it
	policy *policy
	known  map[netip.Addr]destination
	own    map[netip.Addr]ownAddress

	tunnels map[uint32]bool // nil: it was not needed yet

	v4, v6     bool      // configured
	configured time.Time // when that was looked at
}

// routesMax bounds what is remembered.
const routesMax = 4096

// sort sorts addresses by what was known at most checkEvery ago.
func (r *routes) sort(ips []netip.Addr, p *policy) []netip.Addr {
	if len(ips) < 2 {
		return ips
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.made) > checkEvery || r.policy != p || len(r.known) > routesMax {
		r.made, r.policy, r.known, r.own, r.tunnels = now, p, map[netip.Addr]destination{}, ownAddresses(), nil
	}
	return sortBy(ips, func(ip netip.Addr) destination {
		d, known := r.known[ip]
		if !known {
			d = p.destination(ip, r.own)
			r.known[ip] = d
		}
		return d
	}, r.native)
}

// native says that an interface is known to be no tunnel.
func (r *routes) native(index uint32) bool {
	if r.tunnels == nil {
		r.tunnels = tunnels()
	}
	tunnel, known := r.tunnels[index]
	return known && !tunnel
}

func (r *routes) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made, r.configured = time.Time{}, time.Time{}
}

// families says of which families this host has addresses besides the loopback ones, at most
// checkEvery ago.
func (r *routes) families() (v4, v6 bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.configured) > checkEvery {
		r.configured = now
		r.v4, r.v6 = configured()
	}
	return r.v4, r.v6
}

// sortBy sorts addresses as RFC 6724 section 6 says, with what glibc does where that leaves a
// choice: see gai.conf(5). native is asked about an interface where that decides.
func sortBy(ips []netip.Addr, about func(ip netip.Addr) destination, native func(index uint32) bool) []netip.Addr {
	all := make([]destination, len(ips))
	for i, ip := range ips {
		all[i] = about(ip)
	}
	slices.SortStableFunc(all, func(a, b destination) int { return a.compare(&b, native) })
	sorted := make([]netip.Addr, len(ips))
	for i, d := range all {
		sorted[i] = d.ip
	}
	return sorted
}

func (p *policy) destination(ip netip.Addr, own map[netip.Addr]ownAddress) destination {
	d := destination{ip: ip, own: ownAddress{index: noIndex}, scope: p.scope(ip), label: p.labels.of(ip, -1), rank: p.precedences.of(ip, 0)}
	d.source, d.usable = sourceOf(ip)
	if d.usable {
		d.near = p.scope(d.source) == d.scope
		d.matching = p.labels.of(d.source, -1) == d.label
		source := d.source.WithZone("").Unmap()
		if source.Is4() && source.IsLoopback() {
			source = netip.AddrFrom4([4]byte{127, 0, 0, 1}) // which alone is an address of the interface
		}
		if found, is := own[source]; is {
			d.own = found
		}
	}
	return d
}

// sourceOf asks the kernel which address it would use to reach another: connecting a UDP
// socket sends nothing.
func sourceOf(ip netip.Addr) (netip.Addr, bool) {
	family := unix.AF_INET6
	var at unix.Sockaddr
	if ip.Is4() {
		family, at = unix.AF_INET, &unix.SockaddrInet4{Addr: ip.As4(), Port: dnsPort}
	} else {
		zone, _ := scopeID(ip, ip.Zone())
		at = &unix.SockaddrInet6{Addr: ip.As16(), ZoneId: zone, Port: dnsPort}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return netip.Addr{}, false
	}
	defer func() { _ = unix.Close(fd) }()
	if unix.Connect(fd, at) != nil {
		return netip.Addr{}, false
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.Addr{}, false
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(name.Addr), true
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(name.Addr), true
	}
	return netip.Addr{}, false
}

// compare answers below 0 if d comes before other.
func (d *destination) compare(other *destination, native func(index uint32) bool) int {
	// Rule 1: avoid what can't be reached.
	if d.usable != other.usable {
		return prefer(d.usable)
	}
	if d.usable {
		if order := d.compareSources(other); order != 0 {
			return order
		}
	}
	// Rule 6: prefer higher precedence.
	if d.rank != other.rank {
		return prefer(d.rank > other.rank)
	}
	// Rule 7: prefer native transport. One interface has one.
	if d.usable && d.own.index != other.own.index {
		if mine, its := native(d.own.index), native(other.own.index); mine != its {
			return prefer(mine)
		}
	}
	// Rule 8: prefer smaller scope.
	if d.scope != other.scope {
		return prefer(d.scope < other.scope)
	}
	// Rule 9: prefer the longer prefix that is the source's too.
	if d.usable && d.ip.Is4() == other.ip.Is4() {
		return comparePrefixes(d, other)
	}
	return 0
}

// compareSources compares by what the source addresses are: rules 2 to 5.
func (d *destination) compareSources(other *destination) int {
	// Rule 2: prefer matching scope.
	if mine, its := d.near, other.near; mine != its {
		return prefer(mine)
	}
	// Rule 3: avoid deprecated sources.
	if mine, its := d.own.deprecated, other.own.deprecated; mine != its {
		return prefer(its)
	}
	// Rule 4: prefer home addresses.
	if mine, its := d.own.home, other.own.home; mine != its {
		return prefer(mine)
	}
	// Rule 5: prefer matching label.
	if d.matching != other.matching {
		return prefer(d.matching)
	}
	return 0
}

func prefer(first bool) int {
	if first {
		return -1
	}
	return 1
}

// comparePrefixes compares what destinations have in common with their sources. For IPv4 that
// means something only inside of the source's subnet, as glibc has it; and glibc compares
// IPv6 addresses by the first 32 bits in which either differs from its source.
func comparePrefixes(d, other *destination) int {
	var mine, its int
	if d.ip.Is4() {
		mine, its = d.common4(), other.common4()
	} else {
		for i := 0; i < 16; i += 4 {
			a, b := d.differing(i), other.differing(i)
			if a != 0 || b != 0 {
				mine, its = bits.LeadingZeros32(a), bits.LeadingZeros32(b)
				break
			}
		}
	}
	if mine != its {
		return prefer(mine > its)
	}
	return 0
}

// common4 is how many bits an IPv4 address has in common with its source.
func (d *destination) common4() int {
	differing := word(d.ip.AsSlice()) ^ word(d.source.AsSlice())
	// glibc shifts by 32 where it knows no prefix, which processors take for 0.
	if differing>>((32-d.own.prefix)%32) != 0 {
		return 0
	}
	return bits.LeadingZeros32(differing)
}

// differing is where an IPv6 address differs from its source, in the 4 bytes from i on.
func (d *destination) differing(i int) uint32 {
	a, b := d.ip.As16(), d.source.As16()
	return word(a[i:]) ^ word(b[i:])
}

func word(p []byte) uint32 {
	return uint32(p[0])<<24 | uint32(p[1])<<16 | uint32(p[2])<<8 | uint32(p[3])
}
