package dns

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// Limits of resolv.conf(5).
const (
	serversMax  = 3 // MAXNS
	ndotsMax    = 15
	timeoutMax  = 30 * time.Second
	attemptsMax = 5
	dnsPort     = 53
)

// ResolvConf is what resolv.conf(5) can say, and RES_OPTIONS and LOCALDOMAIN.
type ResolvConf struct {
	// Servers are asked in this order. None: 127.0.0.1 is.
	Servers []netip.AddrPort
	// Search are the domains that LookupIP and Getaddrinfo append to a name with fewer dots
	// than Ndots, before they try the name itself, or else after.
	Search []string
	Ndots  int
	// Timeout is how long one question waits for its answer; Attempts how often each server
	// is asked.
	Timeout  time.Duration
	Attempts int

	Rotate        bool // each lookup begins with another server
	UseTCP        bool // use-vc: never UDP
	EDNS0         bool // ask with an OPT record, for larger responses (RFC 6891)
	TrustAD       bool // tell what the servers say about DNSSEC: see Answer.Authenticated
	SingleRequest bool // ask for A and AAAA one after the other
	NoAAAA        bool // answer no IPv6 addresses of the DNS
	NoTLDQuery    bool // a name without a dot is not tried by itself
	NoReload      bool // changes of the file are not looked for

	// Sortlist are networks: where IPv4 addresses alone are asked for, those in the first of them come first. The rules of RFC 6724
	// still count more.
	Sortlist []Network

	// Unknown are the options and keywords that this package does nothing about, as they
	// were written.
	Unknown []string
}

// DefaultResolvConf is what an empty file says.
func DefaultResolvConf() ResolvConf {
	return ResolvConf{Ndots: 1, Timeout: 5 * time.Second, Attempts: 2}
}

// ParseResolvConf reads the text of a resolv.conf. Lines that make no sense are left out, as
// libc does.
func ParseResolvConf(text string) ResolvConf {
	c := DefaultResolvConf()
	for line := range strings.Lines(text) {
		if line[0] == '#' || line[0] == ';' {
			continue
		}
		keyword, rest := cutField(line)
		if keyword == "" || line[0] == ' ' || line[0] == '\t' {
			continue // a keyword begins its line
		}
		switch keyword {
		case "nameserver":
			address, _ := cutField(rest)
			if at, ok := parseServer(address); ok && len(c.Servers) < serversMax {
				c.Servers = append(c.Servers, at)
			}
		case "domain":
			domain, _ := cutField(rest)
			c.setSearch(domain)
		case "search":
			c.setSearch(rest)
		case "options":
			c.setOptions(rest)
		case "sortlist":
			c.addSortlist(rest)
		default:
			c.Unknown = append(c.Unknown, keyword)
		}
	}
	return c
}

// cutField cuts off the first field that space separates.
func cutField(s string) (field, rest string) {
	s = strings.TrimLeft(s, " \t\r\n")
	if i := strings.IndexAny(s, " \t\r\n"); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// parseServer takes an address, and a port as in [::1]:5353 beyond what libc does.
func parseServer(s string) (netip.AddrPort, bool) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(ip, dnsPort), true
	}
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at, true
	}
	if ip, ok := parseInetAton(s); ok {
		return netip.AddrPortFrom(ip, dnsPort), true
	}
	return netip.AddrPort{}, false
}

// setSearch replaces the search list. "search ." is an empty one.
func (c *ResolvConf) setSearch(domains string) {
	fields := strings.Fields(domains)
	if len(fields) == 0 {
		return
	}
	c.Search = []string{}
	for _, d := range fields {
		if d = strings.TrimSuffix(d, "."); d != "" {
			c.Search = append(c.Search, d)
		}
	}
}

func (c *ResolvConf) setOptions(options string) {
	for _, option := range strings.Fields(options) {
		if !c.setOption(option) {
			c.Unknown = append(c.Unknown, option)
		}
	}
}

// setOption answers false if it does not know the option.
func (c *ResolvConf) setOption(option string) bool {
	name, value, _ := strings.Cut(option, ":")
	switch name {
	case "ndots":
		c.Ndots = optionNumber(value, ndotsMax)
	case "timeout":
		c.Timeout = max(time.Duration(optionNumber(value, int(timeoutMax/time.Second)))*time.Second, time.Second)
	case "attempts":
		c.Attempts = max(optionNumber(value, attemptsMax), 1)
	case "rotate":
		c.Rotate = true
	case "use-vc":
		c.UseTCP = true
	case "edns0":
		c.EDNS0 = true
	case "trust-ad":
		c.TrustAD = true
	case "single-request", "single-request-reopen":
		// Each question has a socket of its own here, which is what -reopen asks for; it
		// is for servers that can't do with two at a time, too.
		c.SingleRequest = true
	case "no-aaaa":
		c.NoAAAA = true
	case "no-tld-query", "no_tld_query":
		c.NoTLDQuery = true
	case "no-reload":
		c.NoReload = true
	default:
		return false
	}
	return true
}

// optionNumber reads a decimal as atoi(3) does, up to a limit.
func optionNumber(s string, limit int) int {
	digits := s
	for i := range s {
		if s[i] < '0' || s[i] > '9' {
			digits = s[:i]
			break
		}
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		n = 0
		if digits != "" {
			n = limit // too large for an int
		}
	}
	return min(n, limit)
}

// ApplyEnvironment does what LOCALDOMAIN and RES_OPTIONS say; empty: nothing.
func (c *ResolvConf) ApplyEnvironment(localDomain, resOptions string) {
	c.setSearch(localDomain)
	c.setOptions(resOptions)
}

// defaultSearch is the domain of the host's name, for a file that names none.
func defaultSearch() []string {
	host, err := os.Hostname()
	if err != nil {
		return nil
	}
	if _, domain, found := strings.Cut(host, "."); found && domain != "" {
		return []string{domain}
	}
	return nil
}
