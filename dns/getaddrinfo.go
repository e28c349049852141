package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Flags of Hints (netdb.h).
const (
	AI_PASSIVE     = 0x1
	AI_CANONNAME   = 0x2
	AI_NUMERICHOST = 0x4
	AI_V4MAPPED    = 0x8
	AI_ALL         = 0x10
	AI_ADDRCONFIG  = 0x20
	AI_IDN         = 0x40
	AI_CANONIDN    = 0x80
	AI_NUMERICSERV = 0x400

	// aiObsolete were AI_IDN_ALLOW_UNASSIGNED and AI_IDN_USE_STD3_ASCII_RULES.
	aiObsolete = 0x300
	aiAll      = AI_PASSIVE | AI_CANONNAME | AI_NUMERICHOST | AI_V4MAPPED | AI_ALL | AI_ADDRCONFIG |
		AI_IDN | AI_CANONIDN | AI_NUMERICSERV | aiObsolete
)

// Hints are those of getaddrinfo(3), with the numbers of Linux.
type Hints struct {
	Flags, Family, SockType, Protocol int
}

// AddrInfo is one result of getaddrinfo(3).
type AddrInfo struct {
	Family, SockType, Protocol int
	CanonName                  string // of the first result, with AI_CANONNAME
	Addr                       netip.AddrPort
	ScopeID                    uint32 // of IPv6: the number of an interface
}

// Getaddrinfo answers what libc's getaddrinfo(3) does, in the same order. host and service are
// nil where C has NULL. Errors are a GAIError as libc's; ErrAskLibc, wrapped with the reason,
// where libc knows a source of names that this package is not; or a context's. Numeric hosts
// and ports never need libc, nor waiting.
func (r *Resolver) Getaddrinfo(ctx context.Context, host, service *string, hints Hints) ([]AddrInfo, error) {
	infos, err := r.getaddrinfo(ctx, host, service, hints)
	if errors.Is(err, ErrAskLibc) {
		r.counters.askedLibc.Add(1)
	}
	return infos, err
}

func (r *Resolver) getaddrinfo(ctx context.Context, host, service *string, hints Hints) ([]AddrInfo, error) {
	host, service = notStar(host), notStar(service)
	if err := checkHints(host, service, hints); err != nil {
		return nil, err
	}
	if hints.Flags&AI_ADDRCONFIG != 0 {
		if err := r.narrow(&hints); err != nil {
			return nil, err
		}
	}
	endpoints, err := r.endpoints(ctx, service, hints)
	if err != nil {
		return nil, err
	}
	var hostInfo *hostInfo
	if host == nil {
		hostInfo = anyHost(hints)
	} else if hostInfo, err = r.hostInfo(ctx, *host, hints); err != nil {
		return nil, err
	}
	if len(hostInfo.ips) > 1 {
		hostInfo.ips = r.routes.sort(hostInfo.ips, r.gaiConf.get(ctx))
	}
	return hostInfo.join(endpoints, hints), nil
}

// notStar makes a "*" what NULL is, as glibc does.
func notStar(s *string) *string {
	if s != nil && *s == "*" {
		return nil
	}
	return s
}

func checkHints(host, service *string, hints Hints) error {
	switch {
	case host == nil && service == nil:
		return EAI_NONAME
	case hints.Flags&^aiAll != 0, hints.Flags&AI_CANONNAME != 0 && host == nil:
		return EAI_BADFLAGS
	}
	switch hints.Family {
	case unix.AF_UNSPEC, unix.AF_INET, unix.AF_INET6:
		return nil
	}
	return EAI_FAMILY
}

// narrow does what AI_ADDRCONFIG asks for: no addresses of a family of which this host has
// none but the loopback one.
func (r *Resolver) narrow(hints *Hints) error {
	v4, v6 := r.routes.families()
	switch {
	case hints.Family == unix.AF_INET && !v4, hints.Family == unix.AF_INET6 && !v6:
		return EAI_NONAME
	case hints.Family != unix.AF_UNSPEC || v4 == v6:
	case v4:
		hints.Family = unix.AF_INET
	default:
		hints.Family = unix.AF_INET6
	}
	return nil
}

// configured says of which families this host has addresses besides 127.0.0.1 and ::1.
func configured() (v4, v6 bool) {
	all := ownAddresses()
	if all == nil {
		return true, true // as glibc, when it can't know
	}
	for ip := range all {
		switch {
		case ip.Is4() && ip != netip.AddrFrom4([4]byte{127, 0, 0, 1}):
			v4 = true
		case ip.Is6() && ip != netip.IPv6Loopback():
			v6 = true
		}
	}
	return v4, v6
}

// hostInfo is what is known of a host.
type hostInfo struct {
	canonical string
	ips       []netip.Addr
	scope     uint32 // of the only address
}

// anyHost is for no host: the address to listen on, or the loopback one.
func anyHost(hints Hints) *hostInfo {
	v4, v6 := netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()
	if hints.Flags&AI_PASSIVE != 0 {
		v4, v6 = netip.IPv4Unspecified(), netip.IPv6Unspecified()
	}
	switch hints.Family {
	case unix.AF_INET:
		return &hostInfo{ips: []netip.Addr{v4}}
	case unix.AF_INET6:
		return &hostInfo{ips: []netip.Addr{v6}}
	}
	return &hostInfo{ips: []netip.Addr{v6, v4}}
}

func (r *Resolver) hostInfo(ctx context.Context, host string, hints Hints) (*hostInfo, error) {
	if found, err := numericHost(host, hints); found != nil || err != nil {
		return found, err
	}
	if hints.Flags&AI_NUMERICHOST != 0 {
		return nil, EAI_NONAME
	}
	if foreign := r.nsswitch.get(ctx).foreignHosts; foreign != "" {
		return nil, fmt.Errorf("%w: hosts: %s", ErrAskLibc, foreign)
	}
	if !isASCII(host) {
		return nil, fmt.Errorf("%w: a name that is not ASCII", ErrAskLibc)
	}
	if hints.Flags&AI_CANONIDN != 0 && hints.Flags&AI_CANONNAME != 0 {
		return nil, fmt.Errorf("%w: AI_CANONIDN", ErrAskLibc)
	}
	found, err := r.namedHost(ctx, host, hints)
	if err != nil {
		return nil, gaiError(err)
	}
	return found, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// numericHost answers nil if host is no address.
func numericHost(host string, hints Hints) (*hostInfo, error) {
	mapped := hints.Flags&AI_V4MAPPED != 0
	if ip, ok := parseInetAton(host); ok {
		switch {
		case hints.Family != unix.AF_INET6:
		case mapped:
			ip = netip.AddrFrom16(ip.As16())
		default:
			return nil, EAI_ADDRFAMILY
		}
		return &hostInfo{canonical: host, ips: []netip.Addr{ip}}, nil
	}
	ip, scope, isIPv6, scopeOK := parseIPv6(host)
	switch {
	case !isIPv6:
		return nil, nil
	case hints.Family == unix.AF_INET && ip.Is4In6():
		ip, scope = ip.Unmap(), 0
	case hints.Family == unix.AF_INET:
		return nil, EAI_ADDRFAMILY
	}
	if !scopeOK {
		return nil, EAI_NONAME
	}
	return &hostInfo{canonical: host, ips: []netip.Addr{ip}, scope: scope}, nil
}

// namedHost looks up a name: IPv6 addresses, IPv4 ones, or these as IPv6 ones where AI_V4MAPPED
// asks for that.
func (r *Resolver) namedHost(ctx context.Context, host string, hints Hints) (*hostInfo, error) {
	want := families{v4: hints.Family != unix.AF_INET6, v6: hints.Family != unix.AF_INET, canonical: hints.Flags&AI_CANONNAME != 0}
	mapping := hints.Family == unix.AF_INET6 && hints.Flags&AI_V4MAPPED != 0
	found, err := r.addresses(ctx, host, want)
	if !mapping && err != nil {
		return nil, err
	}
	if !mapping {
		return &hostInfo{canonical: found.canonical, ips: found.ips}, nil
	}
	if err == nil && hints.Flags&AI_ALL == 0 {
		// libc leaves mapped addresses out where it has not made them itself.
		found.ips = slices.DeleteFunc(found.ips, netip.Addr.Is4In6)
		if len(found.ips) == 0 {
			return nil, EAI_NONAME
		}
		return &hostInfo{canonical: found.canonical, ips: found.ips}, nil
	}
	also, alsoErr := r.addresses(ctx, host, families{v4: true, canonical: want.canonical})
	switch {
	case err == nil || alsoErr == nil:
	case errors.Is(err, ErrNotFound):
		return nil, err
	default:
		return nil, alsoErr
	}
	result := &hostInfo{}
	if err == nil {
		result.canonical, result.ips = found.canonical, found.ips
	}
	if alsoErr == nil {
		if err != nil {
			result.canonical = also.canonical
		}
		for _, ip := range also.ips {
			result.ips = append(result.ips, netip.AddrFrom16(ip.As16()))
		}
	}
	return result, nil
}

// join makes the results: for each address, in their order, each kind of endpoint.
func (h *hostInfo) join(endpoints []endpoint, hints Hints) []AddrInfo {
	infos := make([]AddrInfo, 0, len(h.ips)*len(endpoints))
	for _, ip := range h.ips {
		family := unix.AF_INET6
		if ip.Is4() {
			family = unix.AF_INET
		}
		for _, e := range endpoints {
			infos = append(infos, AddrInfo{
				Family: family, SockType: e.sockType, Protocol: e.protocol,
				Addr: netip.AddrPortFrom(ip, e.port), ScopeID: h.scope,
			})
		}
	}
	if hints.Flags&AI_CANONNAME != 0 && len(infos) > 0 {
		infos[0].CanonName = h.canonical
	}
	return infos
}

// endpoint is a kind of socket and its port.
type endpoint struct {
	sockType, protocol int
	port               uint16
}

// sockKind is a kind of socket that getaddrinfo knows, in glibc's order.
type sockKind struct {
	sockType, protocol int
	anyProtocol        bool // the protocol is the caller's
	noService          bool // has no ports
	byDefault          bool // a result where no kind is asked for
	name               string
}

// Not in package unix's vocabulary for sockets: DCCP, which has a type of its own.
const sockDCCP = 6

var sockKinds = [...]sockKind{
	{unix.SOCK_STREAM, unix.IPPROTO_TCP, false, false, true, "tcp"},
	{unix.SOCK_DGRAM, unix.IPPROTO_UDP, false, false, true, "udp"},
	{sockDCCP, unix.IPPROTO_DCCP, false, false, false, "dccp"},
	{unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE, false, false, false, "udplite"},
	{unix.SOCK_STREAM, unix.IPPROTO_SCTP, false, false, false, "sctp"},
	{unix.SOCK_SEQPACKET, unix.IPPROTO_SCTP, false, false, false, "sctp"},
	{unix.SOCK_RAW, 0, true, true, true, "raw"},
}

func (k *sockKind) fits(hints Hints) bool {
	return (hints.SockType == 0 || hints.SockType == k.sockType) &&
		(hints.Protocol == 0 || k.anyProtocol || hints.Protocol == k.protocol)
}

func (k *sockKind) endpoint(hints Hints, port uint16) endpoint {
	e := endpoint{k.sockType, k.protocol, port}
	if k.anyProtocol {
		e.protocol = hints.Protocol
	}
	return e
}

// endpoints answers the kinds of sockets that hints and service allow, with their ports.
func (r *Resolver) endpoints(ctx context.Context, service *string, hints Hints) ([]endpoint, error) {
	fitting := make([]*sockKind, 0, len(sockKinds))
	for i := range sockKinds {
		if k := &sockKinds[i]; k.fits(hints) {
			fitting = append(fitting, k)
		}
	}
	// The first that fits is what an explicit type or protocol means.
	explicit := hints.SockType != 0 || hints.Protocol != 0
	named := service != nil && *service != ""
	port, isPort, isNumber := uint16(0), true, true
	if named {
		port, isPort, isNumber = servicePortNumber(*service)
	}
	switch {
	case !isNumber && hints.Flags&AI_NUMERICSERV != 0:
		return nil, EAI_NONAME
	case len(fitting) == 0 && hints.SockType != 0:
		return nil, EAI_SOCKTYPE
	case len(fitting) == 0, explicit && fitting[0].noService && named:
		return nil, EAI_SERVICE
	case !isPort:
		return r.namedEndpoints(ctx, *service, fitting, explicit, hints)
	}
	if explicit {
		return []endpoint{fitting[0].endpoint(hints, port)}, nil
	}
	all := make([]endpoint, 0, len(fitting))
	for _, k := range fitting {
		if k.byDefault {
			all = append(all, k.endpoint(hints, port))
		}
	}
	return all, nil
}

// servicePortNumber reads a number as strtoul(3) does and glibc keeps it: its low 16 bits are
// the port, and a number whose low 32 bits are negative is none, but a name.
func servicePortNumber(s string) (port uint16, isPort, isNumber bool) {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	digits, negative := strings.CutPrefix(s, "-")
	if !negative {
		digits = strings.TrimPrefix(s, "+")
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false, false
	}
	if negative && err == nil {
		n = -n
	}
	return uint16(n), int32(n) >= 0, true
}

// namedEndpoints looks up a service: for the one kind that is asked for, or for all that have it.
func (r *Resolver) namedEndpoints(ctx context.Context, name string, fitting []*sockKind, explicit bool, hints Hints) ([]endpoint, error) {
	if foreign := r.nsswitch.get(ctx).foreignServices; foreign != "" {
		return nil, fmt.Errorf("%w: services: %s", ErrAskLibc, foreign)
	}
	if explicit {
		fitting = fitting[:1]
	}
	ports := r.services.get(ctx).ports
	var all []endpoint
	for _, k := range fitting {
		if port, there := ports[service{name, k.name}]; there && !k.noService {
			all = append(all, k.endpoint(hints, port))
		}
	}
	if len(all) == 0 {
		return nil, EAI_SERVICE
	}
	return all, nil
}
