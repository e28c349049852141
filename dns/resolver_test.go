package dns

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

var example = zone{
	"example. 300 SOA ns.example. root.example. 1 2 3 4 60",
	"example. 300 MX 10 mail.example.",
	"www.example. 100 A 192.0.2.1",
	"www.example. 200 A 192.0.2.2",
	"www.example. 100 AAAA 2001:db8::1",
	"four.example. 100 A 192.0.2.4",
	"alias.example. 50 CNAME next.example.",
	"next.example. 400 CNAME www.example.",
	"text.example. 9 TXT \"one\" \"two\"",
	"_sip._tcp.example. 9 SRV 1 2 5060 www.example.",
	"example. 9 CAA 0 issue \"ca.example\"",
	"example. 9 HTTPS 1 . alpn=\"h2\"",
	"example. 9 NS ns.example.",
	"_dns.example. 9 SVCB 1 www.example. port=853",
	"1.2.0.192.in-addr.arpa. 9 PTR www.example.",
	"to-nowhere.example. 9 CNAME nowhere.example.",
}

func TestResolvesEachType(t *testing.T) {
	r := resolverOf(t, nil, example.serve(t))
	for _, c := range []struct {
		name   string
		rrtype uint16
		want   string
	}{
		{"www.example", wire.TypeA, "192.0.2.1, 192.0.2.2"},
		{"WWW.Example.", wire.TypeAAAA, "2001:db8::1"},
		{"example", wire.TypeMX, "10 mail.example."},
		{"alias.example", wire.TypeCNAME, "next.example."},
		{"alias.example", wire.TypeA, "192.0.2.1, 192.0.2.2"},
		{"text.example", wire.TypeTXT, `"one" "two"`},
		{"_sip._tcp.example", wire.TypeSRV, "1 2 5060 www.example."},
		{"example", wire.TypeCAA, `0 issue "ca.example"`},
		{"example", wire.TypeHTTPS, `1 . alpn="h2"`},
		{"example", wire.TypeNS, "ns.example."},
		{"example", wire.TypeSOA, "ns.example. root.example. 1 2 3 4 60"},
		{"_dns.example", wire.TypeSVCB, `1 www.example. port="853"`},
		{"1.2.0.192.in-addr.arpa", wire.TypePTR, "www.example."},
	} {
		a, err := r.ask(t, c.name, c.rrtype)
		wantAnswer(t, a, err, c.want)
	}
	a, err := r.ask(t, "alias.example", wire.TypeA)
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != "www.example." || fmt.Sprint(a.Aliases) != "[alias.example. next.example.]" || a.TTL != 50*time.Second {
		t.Errorf("%+v", a)
	}
	_, err = r.ask(t, "nowhere.example", wire.TypeA)
	wantError(t, err, ErrNotFound)
	_, err = r.ask(t, "four.example", wire.TypeAAAA)
	wantError(t, err, ErrNoData)
	_, err = r.ask(t, "to-nowhere.example", wire.TypeA)
	wantError(t, err, ErrNotFound)
	for _, bad := range []string{"", "a..b", ".a", strings.Repeat("x", 64), strings.Repeat("abc.", 64), `a\`} {
		_, err = r.ask(t, bad, wire.TypeA)
		wantError(t, err, ErrName)
	}
}

func TestTruncatedOverUDPIsAskedOverTCP(t *testing.T) {
	s := serveDNS(t, func(q *wire.Msg, overTCP bool) [][]byte {
		if !overTCP {
			m := replyWith(t, q, "www.example. 100 A 203.0.113.66") // which is not believed
			m.Truncated = true
			p := packed(t, m)[0]
			return [][]byte{p[:len(p)-2]} // cut in the middle of a record
		}
		var records []string
		for i := range 200 {
			records = append(records, fmt.Sprintf("www.example. 100 A 192.0.2.%d", i))
		}
		return packed(t, replyWith(t, q, records...))
	})
	r := resolverOf(t, nil, s)
	for _, name := range []string{"www.example", "www.example"} {
		r.Cache().Clear()
		a, err := r.ask(t, name, wire.TypeA)
		if err != nil || len(a.Records) != 200 {
			t.Fatalf("%v, %v", a, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if stats := r.Stats(); stats.Truncated != 2 || stats.TCP != 2 || s.conns != 1 {
		t.Errorf("%+v, %d connections", stats, s.conns)
	}
}

func TestFollowsAliasesAcrossResponses(t *testing.T) {
	hops := map[string]string{
		"a.example.": "a.example. 90 CNAME b.example.", "b.example.": "b.example. 40 CNAME c.example.",
		"c.example.":   "c.example. 60 A 192.0.2.3",
		"one.example.": "one.example. 9 CNAME two.example.", "two.example.": "two.example. 9 CNAME one.example.",
		"self.example.": "self.example. 9 CNAME SELF.example.",
	}
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		name := lowerASCII(q.Question[0].Name)
		record, there := hops[name]
		var n int
		if _, err := fmt.Sscanf(name, "hop%d.example.", &n); err == nil {
			record, there = fmt.Sprintf("%s 9 CNAME hop%d.example.", name, n+1), true
		}
		if !there {
			t.Errorf("asked for %s", name)
			return nil
		}
		return packed(t, replyWith(t, q, record))
	})
	r := resolverOf(t, nil, s)
	a, err := r.ask(t, "a.example", wire.TypeA)
	wantAnswer(t, a, err, "192.0.2.3")
	if a.Name != "c.example." || len(a.Aliases) != 2 || a.TTL != 40*time.Second {
		t.Errorf("%+v", a)
	}
	for _, name := range []string{"one.example", "self.example", "hop0.example"} {
		_, err = r.ask(t, name, wire.TypeA)
		wantError(t, err, ErrLoop)
	}
}

func TestNegativeAnswersAreKeptAsTheirSOASays(t *testing.T) {
	soas := map[string]string{
		"with.example.": "example. 300 SOA ns. root. 1 2 3 4 60",
		"less.example.": "example. 20 SOA ns. root. 1 2 3 4 60",
		"more.example.": "example. 90000 SOA ns. root. 1 2 3 4 90000",
		"out.example.":  "other.test. 300 SOA ns. root. 1 2 3 4 60",
	}
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		m := new(wire.Msg).SetReply(q)
		m.RecursionAvailable = true
		name := lowerASCII(q.Question[0].Name)
		if soa := soas[strings.TrimPrefix(name, "nx-")]; soa != "" {
			m.Ns = zone{soa}.records(t)
		}
		if strings.HasPrefix(name, "nx-") {
			m.Rcode = wire.RcodeNameError
		}
		return packed(t, m)
	})
	r := resolverOf(t, nil, s)
	for name, want := range map[string]time.Duration{
		"with.example": time.Minute, "less.example": 20 * time.Second, "more.example": time.Hour,
		"out.example": 0, "without.example": 0,
	} {
		for prefix, kind := range map[string]error{"": ErrNoData, "nx-": ErrNotFound} {
			r.Cache().Clear()
			_, err := r.ask(t, prefix+name, wire.TypeA)
			wantError(t, err, kind)
			before := len(s.questions())
			_, err = r.ask(t, prefix+name, wire.TypeA)
			wantError(t, err, kind)
			again := len(s.questions()) > before
			entries := r.Cache().Entries()
			if want == 0 {
				if len(entries) != 0 || !again {
					t.Errorf("%s%s is kept: %+v", prefix, name, entries)
				}
				continue
			}
			if len(entries) != 1 || again || entries[0].Left > want || entries[0].Left < want-patience || !errors.Is(entries[0].Err, kind) {
				t.Errorf("%s%s: %+v, asked again: %v", prefix, name, entries, again)
			}
			// That there is no such name holds for every type.
			_, err = r.ask(t, prefix+name, wire.TypeMX)
			wantError(t, err, kind)
			if asked := len(s.questions()) > before; asked != (kind == ErrNoData) {
				t.Errorf("%s%s MX asked: %v", prefix, name, asked)
			}
		}
	}
}

func TestOthersJoinALookup(t *testing.T) {
	release := make(chan struct{})
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		<-release
		return packed(t, example.reply(t, q))
	})
	r := resolverOf(t, func(c *Config) { c.Timeout = patience }, s)
	const callers = 20
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			a, err := r.ask(t, "www.example", wire.TypeA)
			wantAnswer(t, a, err, "192.0.2.1, 192.0.2.2")
			a.Records[0].Header().Ttl = 77 // their own copies
		})
	}
	r.until(t, func(s Stats) bool { return s.Lookups == callers })
	close(release)
	all.Wait()
	if n := len(s.questions()); n > 2 { // patience may have asked a second time
		t.Errorf("%d questions", n)
	}
}

// until waits for the counters to be so.
func (r *Resolver) until(t testing.TB, so func(s Stats) bool) {
	t.Helper()
	end := time.Now().Add(patience)
	for !so(r.Stats()) {
		if time.Now().After(end) {
			t.Fatalf("never: %+v", r.Stats())
		}
		time.Sleep(time.Millisecond)
	}
}

// Who has looked at the cache before the answer was there, and asks when nobody asks any more, finds it.
func TestAnAnswerThatCameMeanwhileIsNotAskedFor(t *testing.T) {
	s := zone{"www.example. 100 A 192.0.2.1"}.serve(t)
	r := resolverOf(t, nil, s)
	if _, err := r.ask(t, "www.example", wire.TypeA); err != nil {
		t.Fatal(err)
	}
	entry, err := r.fly(context.Background(), "www.example.", wire.TypeA)
	if err != nil || len(entry.found.records) != 1 {
		t.Fatalf("%+v, %v", entry, err)
	}
	if asked := len(s.questions()); asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// Who gives up does not end the work of others; the last one does.
func TestTheLastCallerEndsTheWork(t *testing.T) {
	silent := serveDNS(t, func(*wire.Msg, bool) [][]byte { return nil })
	r := resolverOf(t, func(c *Config) { c.Timeout = time.Hour }, silent)
	first, leave := context.WithCancel(context.Background())
	second, leaveToo := context.WithCancel(context.Background())
	ended := make(chan error)
	for _, ctx := range []context.Context{first, second} {
		go func() {
			_, err := r.Resolve(ctx, "www.example", wire.TypeA)
			ended <- err
		}()
	}
	r.until(t, func(s Stats) bool { return s.Lookups == 2 && s.UDP > 0 })
	leave()
	wantError(t, <-ended, context.Canceled)
	if s := r.Stats(); s.Running != 1 || s.Canceled != 0 {
		t.Errorf("after the first: %+v", s)
	}
	leaveToo()
	wantError(t, <-ended, context.Canceled)
	r.until(t, func(s Stats) bool { return s.Running == 0 && s.Canceled == 1 })
	if s := r.Stats(); s.Timeouts != 0 || s.Servers[0].Failures != 0 {
		t.Errorf("the server is blamed: %+v", s)
	}
}

func TestConcurrencyIsBoundAndInOrder(t *testing.T) {
	release := make(chan struct{}, 100)
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		<-release
		return packed(t, replyWith(t, q, q.Question[0].Name+" 9 A 192.0.2.1"))
	})
	r := resolverOf(t, func(c *Config) { c.Concurrency, c.Queue, c.Timeout, c.KeepCase = 1, 3, patience, true }, s)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			if _, err := r.ask(t, fmt.Sprintf("n%d.example", i), wire.TypeA); err != nil {
				t.Error(err)
			}
		})
		r.until(t, func(s Stats) bool { return s.Waiting+s.Running == i+1 })
	}
	_, err := r.ask(t, "fifth.example", wire.TypeA)
	wantError(t, err, ErrBusy)
	if s := r.Stats(); s.Running != 1 || s.Waiting != 3 {
		t.Errorf("%+v", s)
	}
	for range 100 {
		release <- struct{}{}
	}
	all.Wait()
	var order []string
	for _, q := range s.questions() {
		if len(order) == 0 || order[len(order)-1] != q.name {
			order = append(order, q.name)
		}
	}
	if fmt.Sprint(order) != "[n0.example. n1.example. n2.example. n3.example.]" {
		t.Errorf("%v", order)
	}
}

func TestStaleAnswersServeWhenNoServerDoes(t *testing.T) {
	var down sync.Mutex // held: the server is silent
	isDown := false
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		down.Lock()
		defer down.Unlock()
		if isDown {
			return nil
		}
		return packed(t, example.reply(t, q))
	})
	r := resolverOf(t, func(c *Config) { c.ServeStale, c.Timeout, c.Attempts = time.Hour, time.Second/10, 1 }, s)
	if _, err := r.ask(t, "www.example", wire.TypeA); err != nil {
		t.Fatal(err)
	}
	age := func() {
		for _, e := range r.cache.all() {
			e.fresh = time.Now().Add(-time.Second)
		}
	}
	age()
	down.Lock()
	isDown = true
	down.Unlock()
	a, err := r.ask(t, "www.example", wire.TypeA)
	wantAnswer(t, a, err, "192.0.2.1, 192.0.2.2")
	if !a.Stale || a.TTL != staleTTL*time.Second || r.Stats().Stale != 1 {
		t.Errorf("%+v", a)
	}
	down.Lock()
	isDown = false
	down.Unlock()
	before := len(s.questions())
	if a, err = r.ask(t, "www.example", wire.TypeA); err != nil || !a.Stale || len(s.questions()) != before {
		t.Errorf("asked again too soon: %+v, %v", a, err)
	}
	for _, e := range r.cache.all() {
		e.retry.Store(0) // the 30 s have passed
	}
	a, err = r.ask(t, "www.example", wire.TypeA)
	wantAnswer(t, a, err, "192.0.2.1, 192.0.2.2")
	if a.Stale {
		t.Error("stale, though the server answers")
	}
}

// A stale answer is not held back for longer than 1.8 s for a server that takes its time; what
// that says in the end is kept.
func TestStaleAnswersDoNotWait(t *testing.T) {
	release := make(chan struct{})
	asked := make(chan struct{}, 100)
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		asked <- struct{}{}
		if len(asked) > 1 {
			<-release
		}
		return packed(t, replyWith(t, q, fmt.Sprintf("www.example. 100 A 192.0.2.%d", len(asked))))
	})
	r := resolverOf(t, func(c *Config) { c.ServeStale, c.Timeout, c.UseTCP, c.Attempts = time.Hour, patience, true, 1 }, s)
	if _, err := r.ask(t, "www.example", wire.TypeA); err != nil {
		t.Fatal(err)
	}
	for _, e := range r.cache.all() {
		e.fresh = time.Now().Add(-time.Second)
	}
	began := time.Now()
	a, err := r.ask(t, "www.example", wire.TypeA)
	wantAnswer(t, a, err, "192.0.2.1")
	if took := time.Since(began); !a.Stale || took < staleWait || took > patience/2 {
		t.Errorf("%+v after %v", a, took)
	}
	close(release)
	r.until(t, func(s Stats) bool { return s.Running == 0 })
	a, err = r.ask(t, "www.example", wire.TypeA)
	wantAnswer(t, a, err, "192.0.2.2")
	if a.Stale {
		t.Error("what came late was not kept")
	}
}

func TestTrustAD(t *testing.T) {
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		m := example.reply(t, q)
		m.AuthenticatedData = true
		return packed(t, m)
	})
	for _, trust := range []bool{false, true} {
		r := resolverOf(t, func(c *Config) { c.TrustAD = trust }, s)
		if a, err := r.ask(t, "www.example", wire.TypeA); err != nil || a.Authenticated != trust {
			t.Errorf("%+v, %v", a, err)
		}
		if q := s.questions(); q[len(q)-1].msg.AuthenticatedData != trust {
			t.Errorf("AD in the question with TrustAD %v", trust)
		}
	}
}

func TestReloadsAChangedResolvConf(t *testing.T) {
	one := zone{"www.example. 100 A 192.0.2.1"}.serve(t)
	two := zone{"www.example. 100 A 192.0.2.2"}.serve(t)
	file := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(s *scripted) {
		if err := os.WriteFile(file, []byte("nameserver "+s.addr.String()+"\noptions attempts:1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(one)
	c := DefaultConfig()
	c.File = file
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	a, err := r.ask(t, "www.example", wire.TypeA)
	wantAnswer(t, a, err, "192.0.2.1")
	write(two)
	r.checked.Store(0) // the second has passed
	a, err = r.ask(t, "www.example", wire.TypeA)
	wantAnswer(t, a, err, "192.0.2.2")
	write(one)
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	a, err = r.ask(t, "www.example", wire.TypeA)
	wantAnswer(t, a, err, "192.0.2.1")
	if s := r.Stats(); s.Reloads != 2 || s.Servers[0].Addr != one.addr {
		t.Errorf("%+v", s)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := r.ResolvConf().Servers; len(got) != 1 || got[0] != netip.MustParseAddrPort("127.0.0.1:53") {
		t.Errorf("without a file: %v", got)
	}
	r.Close()
	_, err = r.ask(t, "www.example", wire.TypeA)
	wantError(t, err, ErrClosed)
}

func TestBadConfigs(t *testing.T) {
	for _, change := range []func(c *Config){
		func(c *Config) { c.Concurrency = 0 }, func(c *Config) { c.Queue = -1 }, func(c *Config) { c.Timeout = 0 },
		func(c *Config) { c.Attempts = 0 }, func(c *Config) { c.MaxTTL = -1 }, func(c *Config) { c.File = "/" },
	} {
		c := DefaultConfig()
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%+v", c)
		}
	}
}

func TestOverTLS(t *testing.T) {
	certificate, pool := selfSigned(t)
	s := example.serve(t)
	secured := tlsProxy(t, s, certificate)
	ask := func(config *tls.Config) (*Resolver, *Answer, error) {
		r := resolverOf(t, func(c *Config) {
			c.Servers, c.TLS, c.Timeout, c.Attempts = []netip.AddrPort{secured}, config, patience, 1
		})
		a, err := r.ask(t, "www.example", wire.TypeA)
		return r, a, err
	}
	r, a, err := ask(&tls.Config{RootCAs: pool, ServerName: "dns.test"})
	wantAnswer(t, a, err, "192.0.2.1, 192.0.2.2")
	if s := r.Stats(); s.TLS != 1 || s.UDP+s.TCP != 0 {
		t.Errorf("%+v", s)
	}
	_, a, err = ask(&tls.Config{RootCAs: pool}) // its address, 127.0.0.1, is in the certificate
	wantAnswer(t, a, err, "192.0.2.1, 192.0.2.2")
	for _, wrong := range []*tls.Config{{RootCAs: pool, ServerName: "other.test"}, {ServerName: "dns.test"}} {
		before := len(s.questions())
		if _, _, err = ask(wrong); err == nil || len(s.questions()) != before {
			t.Errorf("a server with a wrong certificate was asked: %v", err)
		}
	}
}
