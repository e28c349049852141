package dns

import (
	"slices"

	wire "github.com/miekg/dns"
)

// hopsMax bounds the CNAME records that one lookup follows.
const hopsMax = 16

// ttlMax is the largest TTL; what is above is 0 (RFC 2181 section 8).
const ttlMax = 1<<31 - 1

// found is what a response says about a question.
type found struct {
	name    string   // the canonical one, as far as the response leads
	asked   string   // in the question that it answers
	aliases []string // the names that lead there
	records []wire.RR
	ttl     uint32 // the least of all that was followed
	kind    error  // nil, ErrNotFound or ErrNoData
	// keep is how long kind, if it is not nil, may be kept, in seconds (RFC 2308 section 5).
	keep uint32
	// more: name is an alias's target about which the response says nothing.
	more bool
	// authenticated: the server says that DNSSEC has proved all of it, and is trusted to.
	authenticated bool
}

// newFound is the beginning of a chain.
func newFound(name string) *found { return &found{name: name, ttl: ttlMax, authenticated: true} }

// chain are the names from the one that was asked for to the canonical one.
func (f *found) chain() []string { return append(slices.Clip(f.aliases), f.name) }

// follow reads a response: it takes from the answer section the records of the type that
// belong to the name, or to what its CNAME records lead to. Whatever else is there does not
// count.
func follow(m *wire.Msg, name string, rrtype uint16) (*found, error) {
	f := &found{name: name, asked: name, ttl: ttlMax}
	for range hopsMax {
		var alias *wire.CNAME
		for _, rr := range m.Answer {
			h := rr.Header()
			if h.Class != wire.ClassINET || !equalNames(h.Name, f.name) {
				continue
			}
			if h.Rrtype == rrtype || rrtype == wire.TypeANY {
				f.take(rr)
			} else if c, ok := rr.(*wire.CNAME); ok && alias == nil {
				alias = c
			}
		}
		if len(f.records) > 0 {
			return f, nil
		}
		if alias == nil {
			f.negative(m)
			return f, nil
		}
		if err := f.hop(alias); err != nil {
			return nil, err
		}
	}
	return nil, ErrLoop
}

// take adds a record, if it is not there yet.
func (f *found) take(rr wire.RR) {
	for _, other := range f.records {
		if wire.IsDuplicate(rr, other) {
			return
		}
	}
	f.limit(rr)
	rr.Header().Name = f.name // not in the case that was drawn for the question
	for _, name := range namesIn(rr) {
		*name = withoutDrawnCase(*name, f.asked)
	}
	f.records = append(f.records, rr)
}

func (f *found) limit(rr wire.RR) {
	ttl := rr.Header().Ttl
	if ttl > ttlMax {
		ttl = 0
	}
	f.ttl = min(f.ttl, ttl)
}

// hop goes from a name to what it is an alias of.
func (f *found) hop(alias *wire.CNAME) error {
	f.limit(alias)
	f.aliases = append(f.aliases, f.name)
	f.name = withoutDrawnCase(alias.Target, f.asked)
	for _, before := range f.aliases {
		if equalNames(before, f.name) {
			return ErrLoop
		}
	}
	return nil
}

// negative says that there is nothing, or that another question must tell.
func (f *found) negative(m *wire.Msg) {
	f.kind = ErrNoData
	if m.Rcode == wire.RcodeNameError {
		f.kind = ErrNotFound
	}
	for _, rr := range m.Ns {
		soa, ok := rr.(*wire.SOA)
		if ok && soa.Hdr.Class == wire.ClassINET && wire.IsSubDomain(lowerASCII(soa.Hdr.Name), lowerASCII(f.name)) {
			f.limit(soa)
			f.keep = min(f.ttl, soa.Minttl)
			return
		}
	}
	f.more = f.kind == ErrNoData && len(f.aliases) > 0
}

// namesIn are the names in a record's data that a server may have taken from a question, by a pointer.
func namesIn(rr wire.RR) []*string {
	switch rr := rr.(type) {
	case *wire.CNAME:
		return []*string{&rr.Target}
	case *wire.NS:
		return []*string{&rr.Ns}
	case *wire.PTR:
		return []*string{&rr.Ptr}
	case *wire.MX:
		return []*string{&rr.Mx}
	case *wire.SRV:
		return []*string{&rr.Target}
	case *wire.SOA:
		return []*string{&rr.Ns, &rr.Mbox}
	case *wire.SVCB:
		return []*string{&rr.Target}
	case *wire.HTTPS:
		return []*string{&rr.Target}
	}
	return nil
}

// withoutDrawnCase has the labels that a name shares with the question, at its end, in the case of the question as it was
// asked for. A server that keeps answers, as dnsmasq does, gives them in the case that was drawn for an earlier question.
func withoutDrawnCase(name, asked string) string {
	i, j, same := len(name), len(asked), len(name)
	for i > 0 && j > 0 && lowerByte(name[i-1]) == lowerByte(asked[j-1]) {
		i, j = i-1, j-1
		if (i == 0 || name[i-1] == '.') && (j == 0 || asked[j-1] == '.') {
			same = i
		}
	}
	return name[:same] + asked[len(asked)-(len(name)-same):]
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
