package dns

import (
	"crypto/rand"
	"encoding/binary"

	wire "github.com/miekg/dns"
)

// ednsSize is the size in bytes of UDP responses that are asked for: what passes any network
// without fragments (DNS flag day 2020).
const ednsSize = 1232

// plainSize is the size of UDP responses without EDNS0 (RFC 1035 section 4.2.1).
const plainSize = 512

// headerSize is that of RFC 1035 section 4.1.1.
const headerSize = 12

// ask is what is asked, and how.
type ask struct {
	name    string // absolute, in lower case
	rrtype  uint16
	edns    bool
	trustAD bool
	keep    bool // the case of letters
}

// query is a message that was or will be sent.
type query struct {
	id     uint16
	name   string // with the case of its letters as it was sent
	rrtype uint16
	packed []byte
}

// pack makes a message of a, with an id of its own.
func (a ask) pack() (*query, error) {
	var random [2 + 256/8]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand
	q := &query{id: binary.NativeEndian.Uint16(random[:]), name: a.name, rrtype: a.rrtype}
	if !a.keep {
		q.name = randomCase(a.name, random[2:])
	}
	m := wire.Msg{
		MsgHdr:   wire.MsgHdr{Id: q.id, RecursionDesired: true, AuthenticatedData: a.trustAD},
		Question: []wire.Question{{Name: q.name, Qtype: a.rrtype, Qclass: wire.ClassINET}},
	}
	if a.edns {
		m.SetEdns0(ednsSize, false)
	}
	packed, err := m.Pack()
	q.packed = packed
	return q, err
}

// randomCase has each letter in upper or lower case, as a bit of random says. Escapes are
// left alone: a letter behind a backslash is one, digits are none.
func randomCase(name string, random []byte) string {
	p := []byte(name)
	for i, c := range p {
		if 'a' <= c && c <= 'z' && random[i/8%len(random)]>>(i%8)&1 != 0 {
			p[i] = c - 'a' + 'A'
		}
	}
	return string(p)
}

// verdict is what a packet is to a query.
type verdict uint8

const (
	verdictAnswer    verdict = iota
	verdictForeign           // not an answer to this query: it must not count
	verdictCase              // an answer but for the letters' case
	verdictMalformed         // an answer that can't be read
)

// judge looks whether a packet answers q. It is given what came from the right address, and
// believes nothing else.
func (q *query) judge(packet []byte) (*wire.Msg, verdict) {
	if len(packet) < headerSize || binary.BigEndian.Uint16(packet) != q.id {
		return nil, verdictForeign
	}
	m := new(wire.Msg)
	err := m.Unpack(packet)
	if !m.Response || m.Opcode != wire.OpcodeQuery {
		return nil, verdictForeign
	}
	if len(m.Question) == 0 && refusesFormat(m) && err == nil {
		return m, verdictAnswer // what does not understand a query may not repeat it
	}
	if len(m.Question) != 1 {
		if err != nil {
			return nil, verdictMalformed
		}
		return nil, verdictForeign
	}
	asked := m.Question[0]
	if asked.Qtype != q.rrtype || asked.Qclass != wire.ClassINET || !equalNames(asked.Name, q.name) {
		return nil, verdictForeign
	}
	switch {
	case asked.Name != q.name:
		return m, verdictCase
	case err != nil && !m.Truncated:
		return nil, verdictMalformed
	}
	return m, verdictAnswer
}

func refusesFormat(m *wire.Msg) bool {
	return m.Rcode == wire.RcodeFormatError || m.Rcode == wire.RcodeNotImplemented
}

// equalNames compares names in presentation form, but for the case of letters.
func equalNames(a, b string) bool { return len(a) == len(b) && lowerASCII(a) == lowerASCII(b) }

// lowerASCII is strings.ToLower for names, in which other bytes are no letters.
func lowerASCII(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return lowered(s)
		}
	}
	return s
}

func lowered(s string) string {
	p := []byte(s)
	for i, c := range p {
		if 'A' <= c && c <= 'Z' {
			p[i] = c - 'A' + 'a'
		}
	}
	return string(p)
}

// absolute answers a name as it is asked for: in lower case, with a dot at its end, and with
// escapes (RFC 4343 section 2.1) only where they are needed.
func absolute(name string) (string, error) {
	var buffer [256]byte
	if name != "" {
		end, err := wire.PackDomainName(wire.Fqdn(name), buffer[:], 0, nil, false)
		if err == nil {
			full, _, err := wire.UnpackDomainName(buffer[:end], 0)
			if err == nil {
				return lowerASCII(full), nil
			}
		}
	}
	return "", &Error{Name: name, Err: ErrName}
}
