package main

import (
	"net"
	"net/netip"
	"strings"

	wire "github.com/miekg/dns"
)

// record tells a record: its type's number, its TTL in seconds, and what the type has, in the
// order of its RFC. A type that the host has no class for is told by its data as text.
func (v *value) record(rr wire.RR) {
	fields := value{}
	n := fields.recordFields(rr)
	v.list(2 + n)
	v.int(int64(rr.Header().Rrtype))
	v.int(int64(rr.Header().Ttl))
	*v = append(*v, fields...)
}

func (v *value) records(all []wire.RR) {
	v.list(len(all))
	for _, rr := range all {
		v.record(rr)
	}
}

// name tells a domain name: without the dot at its end, as host names are written.
func (v *value) name(absolute string) {
	if absolute != "." {
		absolute = strings.TrimSuffix(absolute, ".")
	}
	v.text(absolute)
}

func (v *value) ip(p net.IP) {
	if len(p) == net.IPv6len {
		v.text(netip.AddrFrom16([16]byte(p)).String())
		return
	}
	ip, _ := netip.AddrFromSlice(p)
	v.text(ip.Unmap().String())
}

// recordFields answers how many there are.
func (v *value) recordFields(rr wire.RR) int {
	switch rr := rr.(type) {
	case *wire.A:
		v.ip(rr.A)
	case *wire.AAAA:
		v.ip(rr.AAAA.To16())
	case *wire.CNAME:
		v.name(rr.Target)
	case *wire.NS:
		v.name(rr.Ns)
	case *wire.PTR:
		v.name(rr.Ptr)
	case *wire.MX:
		v.int(int64(rr.Preference))
		v.name(rr.Mx)
		return 2
	case *wire.SOA:
		return v.soa(rr)
	case *wire.SRV:
		v.int(int64(rr.Priority))
		v.int(int64(rr.Weight))
		v.int(int64(rr.Port))
		v.name(rr.Target)
		return 4
	case *wire.TXT:
		v.list(len(rr.Txt))
		for _, part := range rr.Txt {
			v.bytes(unescape(part))
		}
	case *wire.CAA:
		v.int(int64(rr.Flag))
		v.text(rr.Tag)
		v.bytes(rr.Value)
		return 3
	case *wire.HTTPS:
		return v.service(&rr.SVCB)
	case *wire.SVCB:
		return v.service(rr)
	default:
		v.text(rr.String()[len(rr.Header().String()):])
	}
	return 1
}

func (v *value) soa(rr *wire.SOA) int {
	v.name(rr.Ns)
	v.name(rr.Mbox)
	for _, n := range [...]uint32{rr.Serial, rr.Refresh, rr.Retry, rr.Expire, rr.Minttl} {
		v.int(int64(n))
	}
	return 7
}

// service tells a record of RFC 9460. Of its parameters each is its key's number and its value:
// alpn's protocols, port's number, addresses as text, keys that are mandatory, else bytes.
func (v *value) service(rr *wire.SVCB) int {
	v.int(int64(rr.Priority))
	v.name(rr.Target)
	v.list(len(rr.Value))
	for _, parameter := range rr.Value {
		v.list(2)
		v.int(int64(parameter.Key()))
		v.parameter(parameter)
	}
	return 3
}

func (v *value) parameter(parameter wire.SVCBKeyValue) {
	switch p := parameter.(type) {
	case *wire.SVCBMandatory:
		v.list(len(p.Code))
		for _, key := range p.Code {
			v.int(int64(key))
		}
	case *wire.SVCBAlpn:
		v.list(len(p.Alpn))
		for _, protocol := range p.Alpn {
			v.bytes(protocol)
		}
	case *wire.SVCBNoDefaultAlpn, *wire.SVCBOhttp:
		v.bool(true) // that it is there says all
	case *wire.SVCBPort:
		v.int(int64(p.Port))
	case *wire.SVCBIPv4Hint:
		v.list(len(p.Hint))
		for _, ip := range p.Hint {
			v.ip(ip.To4())
		}
	case *wire.SVCBIPv6Hint:
		v.list(len(p.Hint))
		for _, ip := range p.Hint {
			v.ip(ip.To16())
		}
	case *wire.SVCBECHConfig:
		v.bytes(string(p.ECH))
	case *wire.SVCBDoHPath:
		v.text(p.Template)
	case *wire.SVCBLocal:
		v.bytes(string(p.Data))
	default:
		// What miekg/dns may come to know by a name of its own.
		v.text(parameter.String())
	}
}

// unescape is what a character string of miekg/dns' stands for: it writes bytes that do not
// print as \DDD, and quotes and backslashes behind a backslash (RFC 1035 section 5.1).
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	p := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s):
			p = append(p, s[i])
		case i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]):
			p = append(p, (s[i+1]-'0')*100+(s[i+2]-'0')*10+s[i+3]-'0')
			i += 3
		default:
			i++
			p = append(p, s[i])
		}
	}
	return string(p)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
