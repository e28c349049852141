package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// Flags of Getnameinfo (netdb.h).
const (
	NI_NUMERICHOST = 0x1
	NI_NUMERICSERV = 0x2
	NI_NOFQDN      = 0x4
	NI_NAMEREQD    = 0x8
	NI_DGRAM       = 0x10
	NI_IDN         = 0x20

	niAll = NI_NUMERICHOST | NI_NUMERICSERV | NI_NOFQDN | NI_NAMEREQD | NI_DGRAM | NI_IDN | 0xc0
)

// Getnameinfo answers what libc's getnameinfo(3) does about an address, with its errors;
// see Getaddrinfo.
func (r *Resolver) Getnameinfo(ctx context.Context, at netip.AddrPort, scopeID uint32, flags int) (host, service string, err error) {
	if flags&^niAll != 0 {
		return "", "", EAI_BADFLAGS
	}
	host, err = r.hostName(ctx, at.Addr(), scopeID, flags)
	if err != nil {
		if errors.Is(err, ErrAskLibc) {
			r.counters.askedLibc.Add(1)
		}
		return "", "", err
	}
	service, err = r.serviceName(ctx, at.Port(), flags)
	return host, service, err
}

func (r *Resolver) hostName(ctx context.Context, ip netip.Addr, scopeID uint32, flags int) (string, error) {
	if flags&NI_NUMERICHOST == 0 {
		if foreign := r.nsswitch.get(ctx).foreignHosts; foreign != "" {
			return "", fmt.Errorf("%w: hosts: %s", ErrAskLibc, foreign)
		}
		names, err := r.LookupAddr(ctx, ip)
		if err == nil && len(names) > 0 {
			if flags&NI_IDN != 0 && strings.Contains(names[0], "xn--") {
				return "", fmt.Errorf("%w: NI_IDN", ErrAskLibc)
			}
			return shortName(names[0], flags), nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		// libc takes a server that does not answer for no name, but for NI_NAMEREQD.
		if flags&NI_NAMEREQD != 0 {
			if err != nil && nssStatusOf(err) == nssTryAgain {
				return "", EAI_AGAIN
			}
			return "", EAI_NONAME
		}
	} else if flags&NI_NAMEREQD != 0 {
		return "", EAI_NONAME
	}
	return numericName(ip, scopeID), nil
}

// shortName leaves the domain of this host out, where NI_NOFQDN asks for that.
func shortName(name string, flags int) string {
	if flags&NI_NOFQDN != 0 {
		if own, err := os.Hostname(); err == nil {
			if _, domain, found := strings.Cut(own, "."); found {
				return strings.TrimSuffix(name, "."+domain)
			}
		}
	}
	return name
}

// numericName is an address, with its interface if it has one.
func numericName(ip netip.Addr, scopeID uint32) string {
	text := presentation(ip)
	if !ip.Is6() || scopeID == 0 {
		return text
	}
	if ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() {
		if ifi, err := net.InterfaceByIndex(int(scopeID)); err == nil {
			return text + "%" + ifi.Name
		}
	}
	return text + "%" + strconv.FormatUint(uint64(scopeID), 10)
}

func (r *Resolver) serviceName(ctx context.Context, port uint16, flags int) (string, error) {
	number := strconv.Itoa(int(port))
	if flags&NI_NUMERICSERV != 0 {
		return number, nil
	}
	if foreign := r.nsswitch.get(ctx).foreignServices; foreign != "" {
		return "", fmt.Errorf("%w: services: %s", ErrAskLibc, foreign)
	}
	protocol := "tcp"
	if flags&NI_DGRAM != 0 {
		protocol = "udp"
	}
	if name, there := r.services.get(ctx).names[servicePort{port, protocol}]; there {
		return name, nil
	}
	return number, nil
}

// presentation is an address in inet_ntop(3)'s form, which has IPv4-compatible addresses end as
// IPv4 ones do.
func presentation(ip netip.Addr) string {
	ip = ip.WithZone("")
	if p := ip.As16(); ip.Is6() && p[12]|p[13] != 0 && [12]byte(p[:12]) == [12]byte{} {
		return "::" + netip.AddrFrom4([4]byte(p[12:])).String()
	}
	return ip.String()
}
