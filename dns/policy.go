package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// prefixValue is a line of a policy table.
type prefixValue struct {
	prefix netip.Prefix // IPv6; IPv4 addresses are mapped ones
	value  int
}

// prefixTable is a policy table, the longest prefixes first.
type prefixTable []prefixValue

// policy is what gai.conf(5) says about the order of addresses.
type policy struct {
	labels, precedences prefixTable
	scopes4             prefixTable // of IPv4 addresses, mapped
}

// defaultPolicy is glibc's, without a gai.conf.
var defaultPolicy = &policy{
	labels: prefixTable{
		{netip.MustParsePrefix("::1/128"), 0},
		{netip.MustParsePrefix("::/96"), 3},
		{netip.MustParsePrefix("::ffff:0:0/96"), 4},
		{netip.MustParsePrefix("2001::/32"), 7},
		{netip.MustParsePrefix("2002::/16"), 2},
		{netip.MustParsePrefix("fec0::/10"), 5},
		{netip.MustParsePrefix("fc00::/7"), 6},
		{netip.MustParsePrefix("::/0"), 1},
	},
	precedences: prefixTable{
		{netip.MustParsePrefix("::1/128"), 50},
		{netip.MustParsePrefix("::/96"), 20},
		{netip.MustParsePrefix("::ffff:0:0/96"), 10},
		{netip.MustParsePrefix("2002::/16"), 30},
		{netip.MustParsePrefix("::/0"), 40},
	},
	scopes4: prefixTable{
		{netip.MustParsePrefix("::ffff:169.254.0.0/112"), scopeLinkLocal},
		{netip.MustParsePrefix("::ffff:127.0.0.0/104"), scopeLinkLocal},
		{netip.MustParsePrefix("::ffff:0.0.0.0/96"), scopeGlobal},
	},
}

// of answers the value of the longest prefix that ip has, or other.
func (t prefixTable) of(ip netip.Addr, other int) int {
	ip = netip.AddrFrom16(ip.As16())
	for _, line := range t {
		if line.prefix.Contains(ip) {
			return line.value
		}
	}
	return other
}

// scope of an address. RFC 4291 section 2.5.3 has the loopback address treated as link-local.
func (p *policy) scope(ip netip.Addr) int {
	switch {
	case ip.Is4():
		return p.scopes4.of(ip, scopeGlobal)
	case ip.Is4In6():
		return scopeGlobal // for package netip a mapped address may be a loopback one
	case ip.IsMulticast():
		return int(ip.As16()[1] & 0xf)
	case ip.IsLinkLocalUnicast(), ip.IsLoopback():
		return scopeLinkLocal
	case siteLocal.Contains(ip.WithZone("")):
		return scopeSiteLocal
	}
	return scopeGlobal
}

var siteLocal = netip.MustParsePrefix("fec0::/10")

// parseGAIConf reads the text of a gai.conf. A table that it has lines of replaces the default
// one, but for what holds for all other addresses.
func parseGAIConf(text string) *policy {
	p := *defaultPolicy
	var labels, precedences, scopes prefixTable
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		switch fields[0] {
		case "label":
			labels = labels.with(fields[1], fields[2])
		case "precedence":
			precedences = precedences.with(fields[1], fields[2])
		case "scopev4":
			scopes = scopes.with(mappedPrefix(fields[1]), fields[2])
		}
	}
	if labels != nil {
		p.labels = labels.complete(1)
	}
	if precedences != nil {
		p.precedences = precedences.complete(40)
	}
	if scopes != nil {
		p.scopes4 = scopes.complete(scopeGlobal)
	}
	return &p
}

// mappedPrefix has an IPv4 prefix as one of mapped addresses.
func mappedPrefix(s string) string {
	address, size, sized := strings.Cut(s, "/")
	ip, err := netip.ParseAddr(address)
	if err != nil || !ip.Is4() {
		return s
	}
	n := 32
	if sized {
		if n, err = strconv.Atoi(size); err != nil {
			return s
		}
	}
	return "::ffff:" + address + "/" + strconv.Itoa(96+n)
}

func (t prefixTable) with(prefix, value string) prefixTable {
	if !strings.Contains(prefix, "/") {
		prefix += "/128"
	}
	parsed, err := netip.ParsePrefix(prefix)
	n, err2 := strconv.Atoi(value)
	if err != nil || err2 != nil || n < 0 || !parsed.Addr().Is6() {
		return t
	}
	return append(t, prefixValue{parsed.Masked(), n})
}

// complete sorts a table and has it hold for all addresses.
func (t prefixTable) complete(rest int) prefixTable {
	slices.SortStableFunc(t, func(a, b prefixValue) int { return b.prefix.Bits() - a.prefix.Bits() })
	return append(t, prefixValue{netip.PrefixFrom(netip.IPv6Unspecified(), 0), rest})
}
