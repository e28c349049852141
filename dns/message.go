package dns

import (
	"bytes"
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
// believes nothing else. It may change the packet.
func (q *query) judge(packet []byte) (*wire.Msg, verdict) {
	if len(packet) < headerSize || binary.BigEndian.Uint16(packet) != q.id {
		return nil, verdictForeign
	}
	asked := q.question()
	echoed := len(packet) >= headerSize+len(asked) && bytes.Equal(packet[headerSize:headerSize+len(asked)], asked)
	if echoed {
		// Other names may end in a pointer to this one (RFC 1035 section 4.1.4): they must not
		// have letters in the case that was drawn for it.
		lowerNames(packet[headerSize : headerSize+len(asked)-questionTail])
	}
	m := new(wire.Msg)
	err := m.Unpack(packet)
	switch {
	case !m.Response || m.Opcode != wire.OpcodeQuery:
		return nil, verdictForeign
	case len(m.Question) == 0 && refusesFormat(m) && err == nil:
		return m, verdictAnswer // what does not understand a query may not repeat it
	case err != nil && len(m.Question) != 1, err != nil && echoed && !m.Truncated:
		return nil, verdictMalformed
	case len(m.Question) != 1:
		return nil, verdictForeign
	case echoed:
		return m, verdictAnswer
	}
	question := m.Question[0]
	if question.Qtype != q.rrtype || question.Qclass != wire.ClassINET || !equalNames(question.Name, q.name) {
		return nil, verdictForeign
	}
	if err != nil && !m.Truncated {
		return nil, verdictMalformed
	}
	return m, verdictCase
}

// questionTail are a question's type and class.
const questionTail = 4

// question is the question section, as it was sent.
func (q *query) question() []byte {
	end := headerSize
	for q.packed[end] != 0 {
		end += 1 + int(q.packed[end])
	}
	return q.packed[headerSize : end+1+questionTail]
}

// lowerNames has the labels of a name without pointers in lower case.
func lowerNames(name []byte) {
	for len(name) > 0 && name[0] != 0 {
		size := int(name[0])
		for i, c := range name[1 : 1+size] {
			if 'A' <= c && c <= 'Z' {
				name[1+i] = c - 'A' + 'a'
			}
		}
		name = name[1+size:]
	}
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
