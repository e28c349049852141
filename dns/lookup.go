package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	wire "github.com/miekg/dns"
)

// families says which addresses are wanted, and whether the canonical name is.
type families struct{ v4, v6, canonical bool }

// one says that it is one of both.
func (f families) one() bool { return f.v4 != f.v6 }

// addresses are what a name has.
type addresses struct {
	canonical string
	ips       []netip.Addr
}

// LookupIP answers the addresses of a host, as sources and order of nsswitch.conf(5) have it,
// sorted by RFC 6724; it fits core.Dialer.Lookup. The host may be an address. The order of
// names that are tried is that of resolv.conf(5)'s search list.
func (r *Resolver) LookupIP(ctx context.Context, host string) ([]netip.Addr, error) {
	return r.LookupNetIP(ctx, "ip", host)
}

// LookupNetIP is LookupIP for "ip", "ip4" or "ip6".
func (r *Resolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	want := families{v4: network != "ip6", v6: network != "ip4"}
	if network != "ip" && want.v4 && want.v6 {
		return nil, net.UnknownNetworkError(network)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Is4() && !want.v4 || ip.Is6() && !want.v6 {
			return nil, &Error{Name: host, Err: ErrNoData}
		}
		return []netip.Addr{ip}, nil
	}
	found, err := r.addresses(ctx, host, want)
	if err != nil {
		return nil, err
	}
	return r.routes.sort(found.ips, r.gaiConf.get(ctx)), nil
}

// addresses asks the sources of nsswitch.conf in their order.
func (r *Resolver) addresses(ctx context.Context, host string, want families) (*addresses, error) {
	var last error = &Error{Name: host, Err: ErrNotFound}
	for _, source := range r.nsswitch.get(ctx).hosts {
		var found *addresses
		var err error
		if source.name == "files" {
			found, err = r.hostAddresses(ctx, host, want)
		} else {
			found, err = r.searchAddresses(ctx, host, want)
		}
		if err == nil {
			return found, nil
		}
		last = err
		if source.ends[nssStatusOf(err)] || ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

func nssStatusOf(err error) nssStatus {
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrNoData), errors.Is(err, ErrName):
		return nssNotFound
	}
	return nssTryAgain
}

// hostAddresses looks into the hosts file.
func (r *Resolver) hostAddresses(ctx context.Context, host string, want families) (*addresses, error) {
	found := &addresses{}
	for _, line := range r.hosts.get(ctx).find(host) {
		if len(found.ips) > 0 && want.one() && !r.hostConf.get(ctx) {
			break
		}
		ip := line.ip
		if want.v4 && !want.v6 && ip == netip.IPv6Loopback() {
			ip = netip.AddrFrom4([4]byte{127, 0, 0, 1}) // libc does so: a file may have ::1 only
		}
		if ip.Is4In6() && !want.v6 {
			ip = ip.Unmap()
		}
		if ip.Is4() && want.v4 || ip.Is6() && want.v6 {
			if found.canonical == "" {
				found.canonical = line.names[0]
			}
			found.ips = append(found.ips, ip)
		}
	}
	if len(found.ips) == 0 {
		return nil, &Error{Name: host, Err: ErrNotFound}
	}
	r.counters.hosts.Add(1)
	return found, nil
}

// candidates are the names that are tried for a host, in order, as resolv.conf(5) has it.
func candidates(host string, conf *ResolvConf) []string {
	if strings.HasSuffix(host, ".") {
		return []string{host}
	}
	dots := strings.Count(host, ".")
	own := host + "."
	var names []string
	if dots >= conf.Ndots {
		names = append(names, own)
	}
	for _, domain := range conf.Search {
		names = append(names, own+domain+".")
	}
	if dots < conf.Ndots && (dots > 0 || len(conf.Search) == 0 || !conf.NoTLDQuery) {
		names = append(names, own)
	}
	return names
}

// searchAddresses asks the DNS for each candidate until one has addresses.
func (r *Resolver) searchAddresses(ctx context.Context, host string, want families) (*addresses, error) {
	r.reloadIfChanged(ctx)
	conf := &r.setup.Load().conf
	sorted := want.v4 && !want.v6 // libc sorts where IPv4 addresses alone are asked for, not where no-aaaa leaves these
	if conf.NoAAAA {
		want.v6 = false
		if !want.v4 {
			return nil, &Error{Name: host, Type: wire.TypeAAAA, Err: ErrNoData}
		}
	}
	noData, failed := false, false
	var first error // of the name itself, if it was tried first: that is what is told
	names := candidates(host, conf)
	for i := 0; i < len(names); i++ {
		found, err := r.domainAddresses(ctx, names[i], want, conf.SingleRequest)
		if err == nil {
			if sorted && len(conf.Sortlist) > 0 {
				sortByNetworks(found.ips, conf.Sortlist)
			}
			return found, nil
		}
		if i == 0 && isHost(names[i], host) {
			first = err
		}
		switch {
		case ctx.Err() != nil:
			return nil, err
		case errors.Is(err, ErrNoData):
			noData = true
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrName):
		case errors.Is(err, ErrServer):
			failed = true
		case first == nil && i < len(names)-1 && isHost(names[len(names)-1], host):
			// Servers that don't answer won't for another domain. What is left is the name
			// itself.
			i = len(names) - 2
			failed = true
		default:
			return nil, err
		}
	}
	switch {
	case first != nil:
		return nil, first
	case noData:
		return nil, &Error{Name: host, Err: ErrNoData}
	case failed:
		return nil, &Error{Name: host, Err: ErrServer}
	}
	return nil, &Error{Name: host, Err: ErrNotFound}
}

// isHost says that a candidate is the host's name itself.
func isHost(candidate, host string) bool {
	return candidate == host || candidate == host+"."
}

// domainAddresses asks for A and AAAA, side by side. What one of them has is enough.
func (r *Resolver) domainAddresses(ctx context.Context, name string, want families, oneByOne bool) (*addresses, error) {
	full, err := absolute(name)
	if err != nil {
		return nil, err
	}
	// glibc does not believe what it is told of names that are none of a host's; but where one family and
	// the canonical name are wanted, that there is nothing it does.
	none := &Error{Name: name, Err: ErrNotFound}
	if !isHostName(full) && !(want.canonical && want.one()) {
		return nil, none
	}
	var types []uint16
	if want.v4 {
		types = append(types, wire.TypeA)
	}
	if want.v6 {
		types = append(types, wire.TypeAAAA)
	}
	entries, errs := make([]*cached, len(types)), make([]error, len(types))
	var both sync.WaitGroup
	for i, rrtype := range types {
		ask := func() {
			entries[i], errs[i] = contained(func() (*cached, error) {
				entry, _, err := r.find(ctx, full, rrtype)
				return entry, err
			})
			if errs[i] == nil {
				errs[i] = entries[i].found.kind
			}
		}
		if oneByOne && ctx.Err() != nil {
			errs[i] = ctx.Err()
			continue
		}
		if oneByOne || i == len(types)-1 || isAtOnce(ctx) || r.knows(full, rrtype) {
			ask()
		} else {
			both.Go(ask)
		}
	}
	both.Wait()
	found, err := joinAddresses(name, types, entries, errs)
	switch {
	case err == nil && !isHostName(full):
		return nil, none
	case errors.Is(err, ErrLoop), errors.Is(err, ErrNoData) && want.one() && entries[0].found.leadsAstray():
		if want.one() && want.v4 && !want.canonical {
			return nil, &Error{Name: name, Err: ErrNoData}
		}
		return nil, none
	}
	return found, err
}

// knows says that the cache answers, so that it takes no goroutine to ask.
func (r *Resolver) knows(name string, rrtype uint16) bool {
	_, fresh := r.cache.get(name, rrtype, time.Now())
	return fresh
}

// joinAddresses makes one result of those of several types.
func joinAddresses(name string, types []uint16, entries []*cached, errs []error) (*addresses, error) {
	found := &addresses{}
	var worst error
	for i := range types {
		if errs[i] == nil {
			if found.canonical == "" {
				found.canonical = canonicalOf(entries[i].found)
			}
			for _, rr := range entries[i].found.records {
				found.ips = append(found.ips, addressOf(rr))
			}
			continue
		}
		// A failure may hide addresses, and that there are none of one type says less than
		// that there is no such name.
		if worst == nil || nssStatusOf(worst) == nssNotFound && !errors.Is(errs[i], ErrNotFound) {
			worst = errs[i]
		}
	}
	if len(found.ips) == 0 {
		return nil, &Error{Name: name, Err: worst}
	}
	if found.canonical == "" {
		found.canonical = strings.TrimSuffix(name, ".") // with the case of its letters, as libc
	}
	return found, nil
}

// canonicalOf is the last name to which aliases lead that is one of a host, without its dot; "" if none does.
func canonicalOf(f *found) string {
	chain := f.chain()
	for _, name := range slices.Backward(chain[1:]) {
		if isHostName(name) {
			return strings.TrimSuffix(name, ".")
		}
	}
	return ""
}

// isHostName says whether libc looks up the addresses of such a name: letters, digits, hyphens and underscores, and no
// hyphen in front (res_hnok(3)). name is absolute, with escapes.
func isHostName(name string) bool {
	if name == "" || name[0] == '-' {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false // an escape too
		}
	}
	return true
}

// leadsAstray says that an alias is of what is no host name.
func (f *found) leadsAstray() bool { return slices.ContainsFunc(f.chain()[1:], isNoHostName) }

func isNoHostName(name string) bool { return !isHostName(name) }

func addressOf(rr wire.RR) netip.Addr {
	switch rr := rr.(type) {
	case *wire.A:
		ip, _ := netip.AddrFromSlice(rr.A)
		return ip.Unmap()
	case *wire.AAAA:
		ip, _ := netip.AddrFromSlice(rr.AAAA)
		return ip
	}
	return netip.Addr{}
}

// LookupAddr answers the names of an address, of the hosts file or of PTR records, without a
// dot at their end.
func (r *Resolver) LookupAddr(ctx context.Context, ip netip.Addr) ([]string, error) {
	var last error = &Error{Name: ip.String(), Err: ErrNotFound}
	for _, source := range r.nsswitch.get(ctx).hosts {
		if source.name == "files" {
			if names := r.hosts.get(ctx).names(ip); names != nil {
				r.counters.hosts.Add(1)
				return names, nil
			}
			if source.ends[nssNotFound] {
				break
			}
			continue
		}
		names, err := r.pointers(ctx, ip)
		if err == nil {
			return names, nil
		}
		last = err
		if source.ends[nssStatusOf(err)] || ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

func (r *Resolver) pointers(ctx context.Context, ip netip.Addr) ([]string, error) {
	ip = ip.WithZone("").Unmap()
	if p := ip.As16(); ip.Is6() && [12]byte(p[:12]) == [12]byte{} {
		ip = netip.AddrFrom4([4]byte(p[12:])) // IPv4-compatible: libc takes these for IPv4 ones
	}
	name, err := wire.ReverseAddr(ip.String())
	if err != nil {
		return nil, &Error{Name: ip.String(), Err: ErrName}
	}
	answer, err := r.Resolve(ctx, name, wire.TypePTR)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, rr := range answer.Records {
		if ptr, ok := rr.(*wire.PTR); ok {
			names = append(names, ptr.Ptr)
		}
	}
	if len(names) == 0 || isNoHostName(names[0]) {
		return nil, &Error{Name: ip.String(), Type: wire.TypePTR, Err: ErrNotFound} // as libc: it could be anything
	}
	names = slices.DeleteFunc(names, isNoHostName)
	for i, name := range names {
		if name != "." {
			names[i] = strings.TrimSuffix(name, ".")
		}
	}
	return names, nil
}
