package dns

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

// failing answers every question with a code.
func failing(t testing.TB, rcode int) *scripted {
	return serveDNS(t, func(q *wire.Msg, _ bool) [][]byte { return packed(t, new(wire.Msg).SetRcode(q, rcode)) })
}

func TestAnotherServerIsAskedWhenOneFails(t *testing.T) {
	good := zone{"www.example. 100 A 192.0.2.1"}.serve(t)
	dead := &scripted{addr: netip.MustParseAddrPort("127.0.0.1:1")} // nothing listens
	silent := serveDNS(t, func(*wire.Msg, bool) [][]byte { return nil })
	for name, bad := range map[string]*scripted{
		"dead": dead, "silent": silent, "SERVFAIL": failing(t, wire.RcodeServerFailure), "REFUSED": failing(t, wire.RcodeRefused),
		"NOTIMP": failing(t, wire.RcodeNotImplemented), "FORMERR": failing(t, wire.RcodeFormatError),
		"lame": failing(t, wire.RcodeSuccess),
	} {
		t.Run(name, func(t *testing.T) {
			// Who answers with a failure is not waited for; who is silent is, for a second.
			servers, most := []*scripted{bad, bad, bad, bad, bad, good}, 3*patienceFirst
			if name == "silent" {
				servers, most = []*scripted{bad, good}, patience/2
			}
			r := resolverOf(t, func(c *Config) { c.Timeout = patience }, servers...)
			began := time.Now()
			a, err := r.ask(t, "www.example", wire.TypeA)
			wantAnswer(t, a, err, "192.0.2.1")
			if took := time.Since(began); took > most {
				t.Errorf("took %v", took)
			}
		})
		t.Run(name+" alone", func(t *testing.T) {
			kind, limit := ErrServer, patience
			if name == "dead" || name == "silent" {
				kind, limit = ErrTimeout, time.Second/10
			}
			r := resolverOf(t, func(c *Config) { c.Timeout = limit }, bad)
			_, err := r.ask(t, "www.example", wire.TypeA)
			wantError(t, err, kind)
			var timeout interface{ Timeout() bool }
			if !errors.As(err, &timeout) || timeout.Timeout() != (kind == ErrTimeout) {
				t.Errorf("Timeout() of %v", err)
			}
		})
	}
}

// One that is still awaited does not make others' failures cost time.
func TestFailuresBesideASilentServer(t *testing.T) {
	silent := serveDNS(t, func(*wire.Msg, bool) [][]byte { return nil })
	bad, good := failing(t, wire.RcodeRefused), zone{"www.example. 100 A 192.0.2.1"}.serve(t)
	r := resolverOf(t, func(c *Config) { c.Timeout = patience }, silent, bad, bad, bad, bad, bad, good)
	began := time.Now()
	a, err := r.ask(t, "www.example", wire.TypeA)
	wantAnswer(t, a, err, "192.0.2.1")
	if took := time.Since(began); took > 3*patienceFirst {
		t.Errorf("took %v", took)
	}
}

// A server that failed is asked last for a while, and a first answer ends that.
func TestFailuresAreRemembered(t *testing.T) {
	down := make(chan bool, 1)
	down <- true
	first := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		is := <-down
		down <- is
		if is {
			return packed(t, new(wire.Msg).SetRcode(q, wire.RcodeRefused))
		}
		return packed(t, replyWith(t, q, q.Question[0].Name+" 9 A 192.0.2.1"))
	})
	second := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		return packed(t, replyWith(t, q, q.Question[0].Name+" 9 A 192.0.2.2"))
	})
	r := resolverOf(t, func(c *Config) { c.CacheEntries = 0 }, first, second)
	for range 5 {
		a, err := r.ask(t, "www.example", wire.TypeA)
		wantAnswer(t, a, err, "192.0.2.2")
	}
	if n := len(first.questions()); n != 1 {
		t.Errorf("the server that failed was asked %d times", n)
	}
	if s := r.Stats().Servers[0]; !s.Down || s.Failures != 1 || s.RTT == 0 {
		t.Errorf("%+v", s)
	}
	<-down
	down <- false
	server := r.setup.Load().servers[0]
	server.mu.Lock()
	server.up = time.Now() // its second has passed
	server.mu.Unlock()
	a, err := r.ask(t, "www.example", wire.TypeA)
	wantAnswer(t, a, err, "192.0.2.1")
	if s := r.Stats().Servers[0]; s.Down || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

// What a slow server says after another was asked still counts.
func TestALateAnswerCounts(t *testing.T) {
	asked := make(chan struct{})
	slow := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		<-asked
		return packed(t, replyWith(t, q, "www.example. 100 A 192.0.2.1"))
	})
	silent := serveDNS(t, func(*wire.Msg, bool) [][]byte {
		select {
		case <-asked:
		default:
			close(asked)
		}
		return nil
	})
	r := resolverOf(t, func(c *Config) { c.Timeout = time.Hour }, slow, silent)
	a, err := r.ask(t, "www.example", wire.TypeA)
	wantAnswer(t, a, err, "192.0.2.1")
}

func TestServersAdaptTheirPatience(t *testing.T) {
	s := &server{}
	most := 5 * time.Second
	if got := s.patience(0, most); got != patienceFirst {
		t.Errorf("unknown: %v", got)
	}
	s.answered(10 * time.Millisecond)
	if got := s.patience(0, most); got != patienceLeast {
		t.Errorf("near: %v", got)
	}
	for range 50 {
		s.answered(time.Second)
	}
	if got := s.patience(0, most); got < time.Second || got > 1100*time.Millisecond {
		t.Errorf("far: %v", got)
	}
	if got := s.patience(1, most); got < 2*time.Second || got > 2200*time.Millisecond {
		t.Errorf("far, second round: %v", got)
	}
	if got := s.patience(4, most); got != most {
		t.Errorf("at most: %v", got)
	}
	now := time.Now()
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		s.failed(now)
		if got := s.up.Sub(now); got != want*time.Second {
			t.Errorf("down for %v, want %d s", got, want)
		}
	}
}

func TestRotate(t *testing.T) {
	servers := []*scripted{example.serve(t), example.serve(t), example.serve(t)}
	r := resolverOf(t, func(c *Config) { c.Rotate, c.CacheEntries = true, 0 }, servers...)
	for range 6 {
		if _, err := r.ask(t, "www.example", wire.TypeA); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range servers {
		if n := len(s.questions()); n != 2 {
			t.Errorf("server %d was asked %d times", i, n)
		}
	}
}

func TestEDNSIsGivenUpWhereItIsNotUnderstood(t *testing.T) {
	for name, refuse := range map[string]func(q *wire.Msg) *wire.Msg{
		"with the question": func(q *wire.Msg) *wire.Msg { return new(wire.Msg).SetRcodeFormatError(q) },
		"header alone": func(q *wire.Msg) *wire.Msg {
			m := new(wire.Msg).SetRcode(q, wire.RcodeNotImplemented)
			m.Question = nil
			return m
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
				if q.IsEdns0() != nil {
					return packed(t, refuse(q))
				}
				return packed(t, example.reply(t, q))
			})
			r := resolverOf(t, func(c *Config) { c.EDNS0, c.CacheEntries = true, 0 }, s)
			for range 2 {
				a, err := r.ask(t, "www.example", wire.TypeA)
				wantAnswer(t, a, err, "192.0.2.1, 192.0.2.2")
			}
			got := s.questions()
			if len(got) != 3 {
				t.Fatalf("%d questions", len(got))
			}
			if opt := got[0].msg.IsEdns0(); opt == nil || opt.UDPSize() != ednsSize {
				t.Errorf("the first question: %v", got[0].msg)
			}
			if got[1].msg.IsEdns0() != nil || got[2].msg.IsEdns0() != nil {
				t.Error("asked with EDNS0 again")
			}
		})
	}
}

func TestUseTCP(t *testing.T) {
	s := example.serve(t)
	r := resolverOf(t, func(c *Config) { c.UseTCP = true }, s)
	for _, rrtype := range []uint16{wire.TypeA, wire.TypeAAAA} {
		if _, err := r.ask(t, "www.example", rrtype); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range s.questions() {
		if !q.tcp {
			t.Error("asked over UDP")
		}
	}
	if s.conns != 1 {
		t.Errorf("%d connections", s.conns)
	}
}

// A server may close a connection at any time between questions, and may answer them in any
// order; one that closes it at once is not asked for ever.
func TestConnectionsThatServersClose(t *testing.T) {
	closing := make(chan bool, 1)
	closing <- false
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		if is := <-closing; is {
			closing <- false
			return [][]byte{nil}
		}
		closing <- false
		return packed(t, example.reply(t, q))
	})
	r := resolverOf(t, func(c *Config) { c.UseTCP, c.CacheEntries, c.Attempts, c.Timeout = true, 0, 1, patience }, s)
	if _, err := r.ask(t, "www.example", wire.TypeA); err != nil {
		t.Fatal(err)
	}
	<-closing
	closing <- true
	if _, err := r.ask(t, "www.example", wire.TypeA); err != nil {
		t.Errorf("a connection that had been of use: %v", err)
	}
	always := serveDNS(t, func(*wire.Msg, bool) [][]byte { return [][]byte{nil} })
	r = resolverOf(t, func(c *Config) { c.UseTCP, c.Attempts, c.Timeout = true, 1, patience }, always)
	_, err := r.ask(t, "www.example", wire.TypeA)
	wantError(t, err, ErrTimeout)
	if n := len(always.questions()); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestAnswersOverTCPInAnyOrder(t *testing.T) {
	first := make(chan *wire.Msg, 1)
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		if q.Question[0].Qtype == wire.TypeA {
			first <- q
			return nil
		}
		return packed(t, example.reply(t, q), example.reply(t, <-first))
	})
	r := resolverOf(t, func(c *Config) { c.UseTCP, c.Attempts, c.Timeout = true, 1, patience }, s)
	done := make(chan error)
	go func() {
		a, err := r.ask(t, "www.example", wire.TypeA)
		wantAnswer(t, a, err, "192.0.2.1, 192.0.2.2")
		done <- err
	}()
	r.until(t, func(Stats) bool { return len(s.questions()) == 1 })
	a, err := r.ask(t, "www.example", wire.TypeAAAA)
	wantAnswer(t, a, err, "2001:db8::1")
	<-done
}
