package ktls

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
)

// TestTakeOverLater takes every captured connection over behind each of its records, in both
// roles: as far as the key has not changed, what follows can then be opened.
func TestTakeOverLater(t *testing.T) {
	text, err := os.ReadFile(captureFile)
	check(t, err)
	var captures []capture
	check(t, json.Unmarshal(text, &captures))
	proofs := 0
	for _, c := range captures {
		s := suiteOf(t, c.Suite)
		t.Run(s.Name, func(t *testing.T) {
			_, fromC := c.split(t, s, c.FromC, LabelClientHandshake)
			_, fromS := c.split(t, s, c.FromS, LabelServerHandshake)
			tickets := 0
			if s.Version == TLS13 {
				tickets = len(recordsOf(fromS[:c.tickets(t, s, fromS)]))
			}
			proofs += c.takeOverLater(t, true, recordsOf(fromC), recordsOf(fromS))
			// A server's tickets are part of its handshake, as watched has it.
			proofs += c.takeOverLater(t, false, recordsOf(fromS)[tickets:], recordsOf(fromC))
		})
	}
	if proofs < 2*len(captures) {
		t.Errorf("only %d records of %d captures", proofs, len(captures))
	}
}

// takeOverLater does so behind each record that was sent, and each that was received.
//
// It answers how many of them are of the handshake's last key: some begin with a KeyUpdate.
func (c *capture) takeOverLater(t *testing.T, client bool, sent, received [][]byte) int {
	t.Helper()
	first, opener, err := TakeOver(watched(t, c, client, nil), c.secrets(t))
	check(t, err)
	out, in := *first.traffic, *opener.traffic
	outSeq, inSeq := first.Seq(), opener.Seq()
	goodOut, goodIn := keeping(t, &out, outSeq, sent), keeping(t, &in, inSeq, received)
	try := func(n, m, counted int) {
		t.Helper()
		sealer, opener, err := TakeOverLater(watched(t, c, client, nil), c.secrets(t),
			passed(sent, n, counted), passed(received, m, counted))
		if n > goodOut || m > goodIn || counted != 0 && n+m > 0 {
			var u *UnsupportedError
			if !errors.As(err, &u) || sealer != nil || opener != nil {
				t.Errorf("client %v: behind %d and %d records, miscounted by %d: %v", client, n, m, counted, err)
			}
			return
		}
		if err != nil {
			t.Errorf("client %v: behind %d and %d records: %v", client, n, m, err)
			return
		}
		if sealer.Seq() != outSeq+uint64(n) || opener.Seq() != inSeq+uint64(m) {
			t.Errorf("client %v: behind %d and %d records, %d and %d are next", client, n, m, sealer.Seq(), opener.Seq())
		}
		if m < goodIn {
			if _, err := opener.Open(append([]byte(nil), received[m]...)); err != nil {
				t.Errorf("client %v: the record behind %d: %v", client, m, err)
			}
		}
		// What is sealed next can be opened by whoever has opened what was sent before.
		record, err := sealer.Seal(nil, TypeData, []byte("next"))
		check(t, err)
		traffic := out
		peer, err := NewOpener(&traffic, outSeq+uint64(n))
		check(t, err)
		if r, err := peer.Open(record); err != nil || string(r.Content) != "next" {
			t.Errorf("client %v: the record sealed behind %d: %q, %v", client, n, r.Content, err)
		}
		if n > 0 && sealer.lane.explicit && explicitOf(record) != explicitOf(sent[n-1])+1 {
			t.Errorf("client %v: explicit nonce %x follows %x", client, explicitOf(record), explicitOf(sent[n-1]))
		}
	}
	for n := range len(sent) + 1 {
		try(n, 0, 0)
	}
	for m := range len(received) + 1 {
		try(0, m, 0)
	}
	try(goodOut, goodIn, 0)
	try(goodOut, 0, 1)
	try(0, goodIn, 1)
	try(0, goodIn, -1)
	return goodOut + goodIn
}

// keeping counts the records behind which the key is still the first one: data and tickets.
func keeping(t *testing.T, traffic *Traffic, seq uint64, records [][]byte) int {
	t.Helper()
	own := *traffic
	opener, err := NewOpener(&own, seq)
	check(t, err)
	for i, rec := range records {
		r, err := opener.Open(append([]byte(nil), rec...))
		if err != nil || r.Type == TypeAlert || r.Type == TypeHandshake && r.Content[0] != messageTicket {
			return i
		}
	}
	return len(records)
}

func passed(records [][]byte, n, counted int) Passed {
	p := Passed{Records: uint64(n)}
	if n > 0 {
		p.Last, p.Records = records[n-1], uint64(n+counted)
	}
	return p
}

func recordsOf(p []byte) (records [][]byte) {
	for len(p) > 0 {
		n := firstRecord(p)
		records, p = append(records, p[:n]), p[n:]
	}
	return records
}

func explicitOf(record []byte) uint64 {
	var n uint64
	for _, b := range record[HeaderSize : HeaderSize+explicitSize] {
		n = n<<8 | uint64(b)
	}
	return n
}

func TestKeepsKey(t *testing.T) {
	ticket := message(messageTicket, 3)
	update := KeyUpdateMessage(false)
	for name, x := range map[string]struct {
		p    []byte
		want bool
	}{
		"nothing":                     {nil, true},
		"two tickets":                 {append(message(messageTicket, 9), ticket...), true},
		"half a ticket":               {ticket[:5], false},
		"half a header":               {append(message(messageTicket, 9), 4, 0), false},
		"a KeyUpdate":                 {update[:], false},
		"a KeyUpdate behind a ticket": {append(message(messageTicket, 9), update[:]...), false},
	} {
		if keepsKey(x.p) != x.want {
			t.Errorf("%s: %v", name, !x.want)
		}
	}
}
