package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// The rules of RFC 6724 section 6, each with two destinations of which the first is better.
func TestRulesOfOrder(t *testing.T) {
	at := func(ip string, change func(d *destination)) destination {
		d := destination{ip: netip.MustParseAddr(ip), usable: true, near: true, matching: true, scope: scopeGlobal, rank: 40}
		d.source = d.ip
		if change != nil {
			change(&d)
		}
		return d
	}
	const tunnelIndex = 3
	native := func(index uint32) bool { return index != tunnelIndex && index != noIndex }
	for name, pair := range map[string][2]destination{
		"1: usable":           {at("2001:db8::1", nil), at("::1", func(d *destination) { d.usable, d.rank = false, 50 })},
		"2: matching scope":   {at("2001:db8::1", nil), at("fe80::1", func(d *destination) { d.near = false })},
		"3: not deprecated":   {at("2001:db8::1", nil), at("2001:db8::2", func(d *destination) { d.own.deprecated = true })},
		"4: home":             {at("2001:db8::1", func(d *destination) { d.own.home = true }), at("2001:db8::2", nil)},
		"5: matching label":   {at("2001:db8::1", nil), at("2002::1", func(d *destination) { d.matching = false })},
		"6: precedence":       {at("2001:db8::1", nil), at("192.0.2.1", func(d *destination) { d.rank = 10 })},
		"7: native":           {at("2001:db8::1", func(d *destination) { d.own.index = 2 }), at("2001:db8::2", func(d *destination) { d.own.index = tunnelIndex })},
		"7: and not unknown":  {at("2001:db8::1", func(d *destination) { d.own.index = 2 }), at("2001:db8::2", func(d *destination) { d.own.index = noIndex })},
		"8: smaller scope":    {at("fe80::1", func(d *destination) { d.scope = scopeLinkLocal }), at("2001:db8::1", nil)},
		"9: longer prefix":    {at("2001:db8::1", nil), at("2001:db8:1::1", func(d *destination) { d.source = netip.MustParseAddr("2001:db8:2::1") })},
		"9: IPv4, one subnet": {at("10.0.0.1", func(d *destination) { d.own.prefix = 24 }), at("10.0.1.1", func(d *destination) { d.source, d.own.prefix = netip.MustParseAddr("10.0.0.9"), 24 })},
	} {
		if a, b := pair[0].compare(&pair[1], native), pair[1].compare(&pair[0], native); a >= 0 || b <= 0 {
			t.Errorf("%s: %d, %d", name, a, b)
		}
	}
	same := at("10.0.0.1", func(d *destination) { d.source = netip.MustParseAddr("192.0.2.1"); d.own.prefix = 24 })
	other := at("10.200.0.1", func(d *destination) { d.source = netip.MustParseAddr("192.0.2.1"); d.own.prefix = 24 })
	if c := same.compare(&other, native); c != 0 {
		t.Errorf("IPv4 outside of the subnet: %d", c)
	}
}

func TestDefaultPolicy(t *testing.T) {
	for ip, want := range map[string][3]int{ // label, precedence, scope
		"::1": {0, 50, scopeLinkLocal}, "2001:db8::1": {1, 40, scopeGlobal}, "192.0.2.1": {4, 10, scopeGlobal},
		"::ffff:192.0.2.1": {4, 10, scopeGlobal}, "2002::1": {2, 30, scopeGlobal}, "2001::1": {7, 40, scopeGlobal},
		"fc00::1": {6, 40, scopeGlobal}, "fec0::1": {5, 40, scopeSiteLocal}, "::192.0.2.1": {3, 20, scopeGlobal},
		"fe80::1": {1, 40, scopeLinkLocal}, "fe80::1%lo": {1, 40, scopeLinkLocal}, "127.0.0.1": {4, 10, scopeLinkLocal},
		"169.254.1.1": {4, 10, scopeLinkLocal}, "ff05::1": {1, 40, scopeSiteLocal}, "ff0e::1": {1, 40, scopeGlobal},
	} {
		p, a := defaultPolicy, netip.MustParseAddr(ip)
		if got := [3]int{p.labels.of(a, -1), p.precedences.of(a, 0), p.scope(a)}; got != want {
			t.Errorf("%s: %v, want %v", ip, got, want)
		}
	}
}

func TestGAIConf(t *testing.T) {
	p := parseGAIConf("# precedence ::ffff:0:0/96 1\nprecedence ::ffff:0:0/96 100 # IPv4 first\nlabel nonsense 1\nprecedence ::/200 1\n" +
		"scopev4 ::ffff:10.0.0.0/104 5\nscopev4 172.16.0.0/12 3\nreload yes\nlabel\n")
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	if p.precedences.of(four, 0) != 100 || p.precedences.of(six, 0) != 40 || len(p.precedences) != 2 {
		t.Errorf("%+v", p.precedences)
	}
	if !slices.Equal(p.labels, defaultPolicy.labels) {
		t.Errorf("%+v", p.labels)
	}
	for ip, want := range map[string]int{"10.1.1.1": 5, "172.31.0.1": 3, "127.0.0.1": scopeGlobal} {
		if got := p.scope(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s: %d", ip, got)
		}
	}
	if fmt.Sprint(parseGAIConf("")) != fmt.Sprint(defaultPolicy) {
		t.Error("an empty file is not the default")
	}
}

func TestLoopbackIsSorted(t *testing.T) {
	ips := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}
	source, usable := sourceOf(ips[1])
	if !usable {
		t.Skip("SKIPPED: no IPv6 here")
	}
	if source != ips[1] {
		t.Errorf("%v", source)
	}
	if got := new(routes).sort(ips, defaultPolicy); got[0] != ips[1] || got[1] != ips[0] {
		t.Errorf("%v", got)
	}
}
