package ktls

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"
)

var updateCaptures = flag.Bool("update", false, "capture OpenSSL's connections anew")

const captureFile = "testdata/openssl.json"

// capture is one connection between openssl s_client and s_server -rev: the
// client sends a line, and the server answers it reversed.
type capture struct {
	Suite  uint16
	FromC  []byte // from the client
	FromS  []byte
	KeyLog string
}

const (
	captureLine = "as seen in the wild\n"
	captureBack = "dliw eht ni nees sa\n"
)

// TestCaptures takes every connection over, in both roles, and opens what it
// then carried: lines, tickets, key updates and alerts.
func TestCaptures(t *testing.T) {
	if *updateCaptures {
		captureAll(t)
	}
	text, err := os.ReadFile(captureFile)
	check(t, err)
	var captures []capture
	check(t, json.Unmarshal(text, &captures))
	if len(captures) < 25 {
		t.Errorf("only %d captures", len(captures))
	}
	for _, c := range captures {
		s := suiteOf(t, c.Suite)
		t.Run(s.Name, func(t *testing.T) {
			handC, restC := c.split(t, s, c.FromC, LabelClientHandshake)
			handS, restS := c.split(t, s, c.FromS, LabelServerHandshake)
			var tickets []byte
			if s.Version == TLS13 {
				tickets, restS = restS[:c.tickets(t, s, restS)], restS[c.tickets(t, s, restS):]
			}
			c.replay(t, s, true, handC, handS, append(slices.Clone(tickets), restS...), captureBack)
			c.replay(t, s, false, append(slices.Clone(handS), tickets...), handC, restC, captureLine)
		})
	}
}

func suiteOf(t testing.TB, id uint16) *Suite {
	t.Helper()
	for _, v := range []Version{TLS12, TLS13} {
		if s, err := SuiteOf(id, v); err == nil {
			return s
		}
	}
	t.Fatalf("no suite %#x", id)
	return nil
}

// split finds where the handshake's records end: with TLS 1.2 behind the one
// that follows ChangeCipherSpec, with TLS 1.3 where Finished is found by the
// handshake's key, which shows that this key is right too.
func (c *capture) split(t testing.TB, s *Suite, stream []byte, l Label) (handshake, rest []byte) {
	t.Helper()
	var opener *Opener
	if s.Version == TLS13 {
		traffic, err := NewTraffic13(s, c.secrets(t).Get(l))
		check(t, err)
		opener, err = NewOpener(traffic, 0)
		check(t, err)
	}
	changed := false
	for at := 0; at < len(stream); {
		h, _ := ParseHeader(stream[at:])
		end := at + HeaderSize + h.Length
		if s.Version == TLS12 && changed {
			return stream[:end], stream[end:]
		}
		changed = changed || h.Type == TypeChangeCipherSpec
		if s.Version == TLS13 && h.Type == TypeData {
			r, err := opener.Open(slices.Clone(stream[at:end]))
			check(t, err)
			if r.Type == TypeHandshake && hasFinished(r.Content) {
				return stream[:end], stream[end:]
			}
		}
		at = end
	}
	t.Fatal("no Finished")
	return nil, nil
}

func hasFinished(messages []byte) bool {
	for len(messages) >= messageHeaderSize {
		if messages[0] == messageFinished {
			return true
		}
		messages = messages[messageHeaderSize+(int(messages[1])<<16|int(messages[2])<<8|int(messages[3])):]
	}
	return false
}

// tickets answers how many bytes at the beginning are tickets: s_server -rev
// sends two before anything else.
func (c *capture) tickets(t testing.TB, s *Suite, stream []byte) (n int) {
	t.Helper()
	traffic, err := NewTraffic13(s, c.secrets(t).Get(LabelServerTraffic))
	check(t, err)
	opener, err := NewOpener(traffic, 0)
	check(t, err)
	for range 2 {
		r, err := opener.Open(slices.Clone(stream[n:]))
		check(t, err)
		if r.Type != TypeHandshake || r.Content[0] != messageTicket {
			t.Fatalf("type %d", r.Type)
		}
		n += r.Size
	}
	return n
}

func (c *capture) secrets(t testing.TB) *Secrets {
	t.Helper()
	s := &Secrets{}
	check(t, s.ParseKeyLog([]byte(c.KeyLog), nil))
	return s
}

// replay takes one role over behind a handshake and opens what is received.
func (c *capture) replay(t *testing.T, s *Suite, client bool, sent, received, rest []byte, line string) {
	t.Helper()
	for _, size := range []int{1, 100_000} {
		w := NewWatch(client)
		// The hellos first, as it was: what follows them has its meaning from them.
		first, second, mine, theirs := w.Sent, w.Received, sent, received
		if !client {
			first, second, mine, theirs = second, first, theirs, mine
		}
		helloC, helloS := firstRecord(mine), firstRecord(theirs)
		feed(mine[:helloC], size, first)
		feed(theirs[:helloS], size, second)
		feed(mine[helloC:], size, first)
		feed(theirs[helloS:], size, second)
		sealer, opener, err := TakeOver(w, c.secrets(t))
		check(t, err)
		if sealer.Suite().ID != s.ID || !w.Boundary() {
			t.Fatalf("%s", sealer.Suite().Name)
		}
		want := uint64(0)
		switch {
		case s.Version == TLS12:
			want = 1
		case !client:
			want = 2 // tickets
		}
		if sealer.Seq() != want || opener.Seq() > 1 {
			t.Errorf("client %v: number %d is next, not %d", client, sealer.Seq(), want)
		}
		got, ended := receiveAll(t, NewControl(s.Version, client), opener, slices.Clone(rest))
		if got != line || !ended {
			t.Errorf("client %v: %q, closed: %v", client, got, ended)
		}
	}
}

func firstRecord(p []byte) int {
	h, _ := ParseHeader(p)
	return HeaderSize + h.Length
}

func feed(p []byte, size int, to func([]byte)) {
	for chunk := range slices.Chunk(p, size) {
		to(chunk)
	}
}

// receiveAll opens records, follows key updates, and answers the data.
func receiveAll(t *testing.T, control *Control, opener *Opener, p []byte) (string, bool) {
	t.Helper()
	var out bytes.Buffer
	ended := false
	for len(p) > 0 {
		r, err := opener.Open(p)
		check(t, err)
		if r.Size == 0 {
			t.Fatalf("%d bytes are left", len(p))
		}
		p = p[r.Size:]
		action, err := control.Receive(r.Type, r.Content)
		check(t, err)
		if action&ActionData != 0 {
			out.Write(r.Content)
		}
		if action&ActionNextKeyIn != 0 {
			check(t, opener.NextKey())
		}
		ended = ended || action&ActionClosed != 0
	}
	return out.String(), ended
}
