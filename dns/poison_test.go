package dns

import (
	"testing"

	wire "github.com/miekg/dns"
)

// Responses that are not answers do not count, whoever sends them; the answer behind them does.
func TestRefusesWhatIsNoAnswer(t *testing.T) {
	elsewhere := zone{}.serve(t)
	lies := map[string]func(s *scripted, q, lie *wire.Msg) []byte{
		"wrong id":    func(_ *scripted, _, lie *wire.Msg) []byte { lie.Id ^= 1; return nil },
		"wrong name":  func(_ *scripted, _, lie *wire.Msg) []byte { lie.Question[0].Name = "other.example."; return nil },
		"wrong type":  func(_ *scripted, _, lie *wire.Msg) []byte { lie.Question[0].Qtype = wire.TypeMX; return nil },
		"wrong class": func(_ *scripted, _, lie *wire.Msg) []byte { lie.Question[0].Qclass = wire.ClassCHAOS; return nil },
		"no question": func(_ *scripted, _, lie *wire.Msg) []byte { lie.Question = nil; return nil },
		"two questions": func(_ *scripted, _, lie *wire.Msg) []byte {
			lie.Question = append(lie.Question, lie.Question[0])
			return nil
		},
		"not a response": func(_ *scripted, _, lie *wire.Msg) []byte { lie.Response = false; return nil },
		"another opcode": func(_ *scripted, _, lie *wire.Msg) []byte { lie.Opcode = wire.OpcodeUpdate; return nil },
		"too short":      func(_ *scripted, q, _ *wire.Msg) []byte { return []byte{byte(q.Id >> 8), byte(q.Id), 0x80} },
		"a loop of compression": func(_ *scripted, q, _ *wire.Msg) []byte {
			// A name that is a pointer to itself.
			return []byte{byte(q.Id >> 8), byte(q.Id), 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}
		},
		"another port": func(s *scripted, _, lie *wire.Msg) []byte {
			_, _ = elsewhere.udp.WriteTo(packed(t, lie)[0], s.lastFrom(t))
			return []byte{}
		},
	}
	for name, twist := range lies {
		t.Run(name, func(t *testing.T) {
			s := serveDNS(t, nil)
			s.setHandle(func(q *wire.Msg, _ bool) [][]byte {
				lie := replyWith(t, q, "www.example. 100 A 203.0.113.66")
				p := twist(s, q, lie)
				if p == nil {
					p = packed(t, lie)[0]
				}
				honest := packed(t, replyWith(t, q, "www.example. 100 A 192.0.2.1"))
				if len(p) == 0 {
					return honest
				}
				return append([][]byte{p, p}, honest...)
			})
			r := resolverOf(t, nil, s)
			a, err := r.ask(t, "www.example", wire.TypeA)
			wantAnswer(t, a, err, "192.0.2.1")
			stats := r.Stats()
			if name != "another port" && stats.Foreign+stats.Malformed != 2 {
				t.Errorf("%+v", stats)
			}
		})
	}
}

// An attacker who sends many guesses drives the question to TCP.
func TestGuessesLeadToTCP(t *testing.T) {
	s := serveDNS(t, func(q *wire.Msg, overTCP bool) [][]byte {
		honest := replyWith(t, q, "www.example. 100 A 192.0.2.1")
		if overTCP {
			return packed(t, honest)
		}
		var guesses [][]byte
		for i := range foreignMax {
			guess := replyWith(t, q, "www.example. 100 A 203.0.113.66")
			guess.Id += uint16(i + 1)
			guesses = append(guesses, packed(t, guess)...)
		}
		return guesses
	})
	r := resolverOf(t, nil, s)
	a, err := r.ask(t, "www.example", wire.TypeA)
	wantAnswer(t, a, err, "192.0.2.1")
	if n := r.Stats().Foreign; n != foreignMax {
		t.Errorf("%d guesses", n)
	}
}

// Records that the question does not lead to are neither answered nor kept.
func TestTakesNoRecordsOfOtherNames(t *testing.T) {
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		m := replyWith(t, q, "bank.example. 1000 A 203.0.113.66", "www.example. 100 A 192.0.2.1",
			"victim.test. 1000 CNAME evil.test.", "www.example. 100 AAAA ::66")
		m.Ns = zone{"example. 1000 NS evil.test."}.records(t)
		m.Extra = zone{"www.example. 1000 A 203.0.113.66", "evil.test. 1000 A 203.0.113.66"}.records(t)
		if name := lowerASCII(q.Question[0].Name); name != "www.example." {
			m = replyWith(t, q, name+" 10 A 192.0.2.9")
		}
		return packed(t, m)
	})
	r := resolverOf(t, nil, s)
	a, err := r.ask(t, "www.example", wire.TypeA)
	wantAnswer(t, a, err, "192.0.2.1")
	if entries := r.Cache().Entries(); len(entries) != 1 || entries[0].Name != "www.example." || len(entries[0].Records) != 1 {
		t.Errorf("%+v", entries)
	}
	for _, name := range []string{"bank.example", "victim.test", "evil.test"} {
		a, err := r.ask(t, name, wire.TypeA)
		wantAnswer(t, a, err, "192.0.2.9")
	}
}

// The case of letters is random, and has to come back. A server that loses it is asked over
// TCP, and then in lower case.
func TestCaseIsRandomAndChecked(t *testing.T) {
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		m := new(wire.Msg).SetReply(q)
		m.Question[0].Name = lowerASCII(q.Question[0].Name)
		m.Answer = zone{m.Question[0].Name + " 9 A 192.0.2.1"}.records(t)
		return packed(t, m)
	})
	r := resolverOf(t, nil, s)
	const long = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz.example"
	for _, prefix := range []string{"a.", "b."} {
		a, err := r.ask(t, prefix+long, wire.TypeA)
		wantAnswer(t, a, err, "192.0.2.1")
	}
	got := s.questions()
	if len(got) != 3 || got[0].tcp || !got[1].tcp || got[2].tcp {
		t.Fatalf("%+v", got)
	}
	if got[0].name == lowerASCII(got[0].name) || got[0].name != got[1].name || got[2].name != lowerASCII(got[2].name) {
		t.Errorf("%q, %q, %q", got[0].name, got[1].name, got[2].name)
	}
	r = resolverOf(t, func(c *Config) { c.KeepCase = true }, s)
	if a, err := r.ask(t, "c."+long, wire.TypeA); err != nil || r.Stats().TCP != 0 {
		t.Errorf("%v, %v", a, err)
	}
}

// The case that was drawn for a question does not show in what is answered, though names in
// the response end in pointers to it.
func TestTheDrawnCaseDoesNotShow(t *testing.T) {
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		name := q.Question[0].Name
		m := replyWith(t, q, name+" 9 CNAME next."+name, "next."+name+" 9 MX 1 mail."+name)
		m.Compress = true
		return packed(t, m)
	})
	r := resolverOf(t, nil, s)
	const name = "abcdefghijklmnopqrstuvwxyz.example."
	a, err := r.ask(t, name, wire.TypeMX)
	wantAnswer(t, a, err, "1 mail."+name)
	if a.Name != "next."+name || a.Aliases[0] != name || a.Records[0].Header().Name != a.Name {
		t.Errorf("%+v", a)
	}
	if sent := s.questions()[0].name; sent == name {
		t.Errorf("asked for %s", sent)
	}
}

func TestIDsAndPortsAreRandom(t *testing.T) {
	s := example.serve(t)
	r := resolverOf(t, func(c *Config) { c.CacheEntries = 0 }, s)
	const count = 64
	ports := map[uint16]bool{}
	for range count {
		if _, err := r.ask(t, "www.example", wire.TypeA); err != nil {
			t.Fatal(err)
		}
		ports[uint16(s.lastFrom(t).Port)] = true
	}
	ids := map[uint16]bool{}
	steps := map[uint16]bool{}
	var last uint16
	for _, q := range s.questions() {
		ids[q.msg.Id] = true
		steps[q.msg.Id-last] = true
		last = q.msg.Id
	}
	// Of 64 random ones of 65,536 two agree now and then, eight never. A port is for few questions.
	if len(ids) < count-8 || len(steps) < count-8 || len(ports) < count/portQuestions-1 {
		t.Errorf("%d ids with %d differences, %d ports, of %d questions", len(ids), len(steps), len(ports), count)
	}
}

// Over TCP too a response must belong to its question, and be whole.
func TestRefusesWhatIsNoAnswerOverTCP(t *testing.T) {
	for name, twist := range map[string]func(lie *wire.Msg) []byte{
		"wrong name": func(lie *wire.Msg) []byte { lie.Question[0].Name = "other.example."; return nil },
		"wrong type": func(lie *wire.Msg) []byte { lie.Question[0].Qtype = wire.TypeMX; return nil },
		"truncated":  func(lie *wire.Msg) []byte { lie.Truncated = true; return nil },
		"cut": func(lie *wire.Msg) []byte {
			p, err := lie.Pack()
			if err != nil {
				return nil
			}
			return p[:len(p)-1]
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
				lie := replyWith(t, q, "www.example. 100 A 203.0.113.66")
				if p := twist(lie); p != nil {
					return [][]byte{p}
				}
				return packed(t, lie)
			})
			r := resolverOf(t, func(c *Config) { c.UseTCP, c.Attempts, c.Timeout = true, 1, patience }, s)
			_, err := r.ask(t, "www.example", wire.TypeA)
			wantError(t, err, ErrServer)
			if stats := r.Stats(); stats.Foreign+stats.Malformed != 1 || stats.Answers != 0 || r.Cache().Len() != 0 {
				t.Errorf("%+v", stats)
			}
		})
	}
}

// A forwarder with a cache answers in the case that was drawn for an earlier question.
func TestDrawnCaseIsNoAnswers(t *testing.T) {
	for _, c := range []struct{ name, asked, want string }{
		{"www.ExAMplE.", "alias.example.", "www.example."},
		{"wWw.ExAMplE.", "www.example.", "www.example."},
		{"Mail.ExAMplE.", "example.", "Mail.example."},
		{"Xexample.", "example.", "Xexample."},
		{"ExAMplE.", "xexample.", "ExAMplE."},
		{"Other.Test.", "www.example.", "Other.Test."},
		{".", "www.example.", "."},
		{"www.ExAMplE.", ".", "www.ExAMplE."},
	} {
		if got := withoutDrawnCase(c.name, c.asked); got != c.want {
			t.Errorf("%s for %s: %s; want %s", c.name, c.asked, got, c.want)
		}
	}
}
