package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"kloop/core"
)

// lookup is LookupNetIP with a bound on the time.
func (r *Resolver) lookup(t testing.TB, network, host string) ([]netip.Addr, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return r.LookupNetIP(ctx, network, host)
}

func TestLookupIP(t *testing.T) {
	r := resolverOf(t, func(c *Config) {
		c.Hosts = hostsOf(t, "10.0.0.1 Own own.lan\n10.0.0.2 own\nfe80::1 six\n::ffff:10.0.0.9 mapped\n")
	}, example.serve(t))
	for _, c := range []struct{ network, host, want string }{
		{"ip4", "www.example", "[192.0.2.1 192.0.2.2]"},
		{"ip6", "www.example", "[2001:db8::1]"},
		{"ip4", "alias.example.", "[192.0.2.1 192.0.2.2]"},
		{"ip", "four.example", "[192.0.2.4]"},
		{"ip", "OWN", "[10.0.0.1 10.0.0.2]"},
		{"ip", "own.lan", "[10.0.0.1]"},
		{"ip6", "six", "[fe80::1]"},
		{"ip4", "mapped", "[10.0.0.9]"},
		{"ip", "192.0.2.77", "[192.0.2.77]"},
		{"ip", "2001:db8::7", "[2001:db8::7]"},
	} {
		got, err := r.lookup(t, c.network, c.host)
		slices.SortFunc(got, netip.Addr.Compare) // this host's own addresses decide on the order
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s %s: %v, %v", c.network, c.host, got, err)
		}
	}
	for _, c := range []struct {
		network, host string
		want          error
	}{
		{"ip6", "four.example", ErrNoData}, {"ip", "nowhere.example", ErrNotFound}, {"ip6", "192.0.2.1", ErrNoData},
		{"ip", "a..b", ErrName},
	} {
		_, err := r.lookup(t, c.network, c.host)
		wantError(t, err, c.want)
	}
	if _, err := r.lookup(t, "tcp", "www.example"); err == nil {
		t.Error("an unknown network")
	}
	both, err := r.LookupIP(context.Background(), "www.example")
	if err != nil || len(both) != 3 {
		t.Errorf("%v, %v", both, err)
	}
}

func hostsOf(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestHostsAreReadAgainWhenTheyChange(t *testing.T) {
	file := hostsOf(t, "10.0.0.1 own\n")
	r := resolverOf(t, func(c *Config) { c.Hosts = file }, zone{}.serve(t))
	want := func(text string) {
		t.Helper()
		if got, err := r.lookup(t, "ip", "own"); fmt.Sprint(got) != text {
			t.Errorf("%v, %v; want %s", got, err, text)
		}
	}
	want("[10.0.0.1]")
	if err := os.WriteFile(file, []byte("10.0.0.22 own\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want("[10.0.0.1]") // of this second
	r.hosts.checked.Store(clock() - int64(checkEvery))
	want("[10.0.0.22]")
	if err := os.Rename(hostsOf(t, "10.0.0.33 own\n"), file); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	want("[10.0.0.33]")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r.hosts.checked.Store(0)
	want("[]")
}

// The order of names that are tried, and what is told when none has addresses.
func TestSearchList(t *testing.T) {
	domains := map[string]string{"a.one.": "192.0.2.1", "a.b.two.": "192.0.2.2", "top.": "192.0.2.3", "a.b.": "192.0.2.4"}
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		name := lowerASCII(q.Question[0].Name)
		m := replyWith(t, q)
		m.Rcode = wire.RcodeNameError
		switch ip := domains[name]; {
		case ip != "":
			m = replyWith(t, q, name+" 9 A "+ip)
		case strings.HasPrefix(name, "empty"):
			m.Rcode = wire.RcodeSuccess
		case strings.HasPrefix(name, "broken") && strings.HasSuffix(name, "one."):
			m.Rcode = wire.RcodeServerFailure
		}
		return packed(t, m)
	})
	for _, c := range []struct {
		host  string
		ndots int
		noTLD bool
		asked string
		want  any
	}{
		{"a", 1, false, "a.one.", "192.0.2.1"},
		{"top", 1, false, "top.one. top.two. top.", "192.0.2.3"},
		{"top", 1, true, "top.one. top.two.", ErrNotFound},
		{"top.", 1, false, "top.", "192.0.2.3"},
		{"top", 0, false, "top.", "192.0.2.3"},
		{"a.b", 1, false, "a.b.", "192.0.2.4"},
		{"a.b", 2, false, "a.b.one. a.b.two.", "192.0.2.2"},
		{"a.c", 2, true, "a.c.one. a.c.two. a.c.", ErrNotFound},
		{"a.c", 1, false, "a.c. a.c.one. a.c.two.", ErrNotFound},
		{"empty", 1, false, "empty.one. empty.two. empty.", ErrNoData},
		{"empty.x", 1, false, "empty.x. empty.x.one. empty.x.two.", ErrNoData},
		{"broken", 1, true, "broken.one. broken.two.", ErrServer},
		{"broken", 1, false, "broken.one. broken.two. broken.", ErrServer},
	} {
		t.Run(fmt.Sprintf("%s ndots:%d", c.host, c.ndots), func(t *testing.T) {
			r := resolverOf(t, func(conf *Config) {
				conf.Search, conf.Ndots, conf.NoTLDQuery, conf.Attempts = []string{"one", "two"}, c.ndots, c.noTLD, 1
			}, s)
			before := len(s.questions())
			got, err := r.lookup(t, "ip4", c.host)
			if kind, ok := c.want.(error); ok {
				wantError(t, err, kind)
			} else if fmt.Sprint(got) != fmt.Sprintf("[%s]", c.want) {
				t.Errorf("%v, %v", got, err)
			}
			var asked []string
			for _, q := range s.questions()[before:] {
				asked = append(asked, lowerASCII(q.name))
			}
			if strings.Join(asked, " ") != c.asked {
				t.Errorf("asked for %v", asked)
			}
		})
	}
}

// Both types are asked for at the same time, or one by one; one that fails hides nothing.
func TestBothFamilies(t *testing.T) {
	for _, single := range []bool{false, true} {
		t.Run(fmt.Sprintf("single-request %v", single), func(t *testing.T) {
			other := make(chan struct{}, 2)
			s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte { return packed(t, example.reply(t, q)) })
			if !single {
				// Answered only when both have been asked for.
				var held [][]byte
				s.setHandle(func(q *wire.Msg, _ bool) [][]byte {
					held = append(held, packed(t, example.reply(t, q))...)
					other <- struct{}{}
					if len(other) < 2 {
						return nil
					}
					return held
				})
			}
			r := resolverOf(t, func(c *Config) { c.SingleRequest, c.UseTCP, c.Attempts, c.Timeout = single, true, 1, patience }, s)
			if got, err := r.lookup(t, "ip", "www.example"); len(got) != 3 {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	half := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		m := example.reply(t, q)
		if (q.Question[0].Qtype == wire.TypeAAAA) == (lowerASCII(q.Question[0].Name) == "www.example.") {
			m = new(wire.Msg).SetRcode(q, wire.RcodeServerFailure)
		}
		return packed(t, m)
	})
	r := resolverOf(t, func(c *Config) { c.Attempts = 1 }, half)
	if got, err := r.lookup(t, "ip", "www.example"); len(got) != 2 || !got[0].Is4() {
		t.Errorf("%v, %v", got, err)
	}
	_, err := r.lookup(t, "ip", "four.example") // no AAAA, and A failed
	wantError(t, err, ErrServer)
	r = resolverOf(t, func(c *Config) { c.NoAAAA = true }, example.serve(t))
	if got, err := r.lookup(t, "ip", "www.example"); len(got) != 2 {
		t.Errorf("no-aaaa: %v, %v", got, err)
	}
	_, err = r.lookup(t, "ip6", "www.example")
	wantError(t, err, ErrNoData)
}

func TestLookupAddr(t *testing.T) {
	r := resolverOf(t, func(c *Config) { c.Hosts = hostsOf(t, "10.0.0.1 own alias\n") }, example.serve(t))
	for ip, want := range map[string]string{"192.0.2.1": "[www.example]", "10.0.0.1": "[own alias]", "::ffff:192.0.2.1": "[www.example]"} {
		got, err := r.LookupAddr(context.Background(), netip.MustParseAddr(ip))
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v", ip, got, err)
		}
	}
	_, err := r.LookupAddr(context.Background(), netip.MustParseAddr("2001:db8::9"))
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestSourcesInTheOrderOfNSSwitch(t *testing.T) {
	s := zone{"own. 9 A 192.0.2.1", "dnsonly. 9 A 192.0.2.2"}.serve(t)
	for line, want := range map[string]string{
		"files dns":                    "10.0.0.1 192.0.2.2",
		"dns files":                    "192.0.2.1 192.0.2.2",
		"dns":                          "192.0.2.1 192.0.2.2",
		"files":                        "10.0.0.1 no such name",
		"files [NOTFOUND=return] dns":  "10.0.0.1 no such name",
		"files[!SUCCESS=return]dns":    "10.0.0.1 no such name",
		"files [unavail=return] dns":   "10.0.0.1 192.0.2.2",
		"dns [!UNAVAIL=return] files":  "192.0.2.1 192.0.2.2",
		"files mdns4_minimal dns":      "10.0.0.1 192.0.2.2",
		"files # dns":                  "10.0.0.1 no such name",
		"files dns\nservices: sss":     "10.0.0.1 192.0.2.2",
		"files [SUCCESS=continue] dns": "10.0.0.1 192.0.2.2", // libc would merge: NeedsLibc says so
	} {
		file := hostsOf(t, "hosts: "+line+"\n")
		r := resolverOf(t, func(c *Config) { c.NSSwitch, c.Hosts = file, hostsOf(t, "10.0.0.1 own") }, s)
		var got []string
		for _, name := range []string{"own", "dnsonly"} {
			ips, err := r.lookup(t, "ip4", name)
			text := strings.Trim(fmt.Sprint(ips), "[]")
			var full *Error
			if errors.As(err, &full) {
				text = full.Err.Error()
			}
			got = append(got, text)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

func TestNeedsLibc(t *testing.T) {
	for text, want := range map[string][2]string{
		"":                            {"", ""},
		"hosts: files dns":            {"", ""},
		"hosts: files myhostname dns": {"myhostname", ""},
		"hosts: files mdns4_minimal [NOTFOUND=return] dns": {"mdns4_minimal", ""},
		"hosts: files resolve [!UNAVAIL=return] dns":       {"resolve", ""},
		"HOSTS:\tfiles\tdns # ldap":                        {"", ""},
		"services: db files":                               {"", ""},
		"services: files sss\nhosts: files ldap":           {"ldap", "sss"},
		"hosts: files [SUCCESS=continue] dns":              {"[success=continue]", ""},
		"hosts: files [SUCCESS=merge] dns":                 {"[success=merge]", ""},
		"hosts: files [NOTFOUND=what] dns":                 {"[notfound=what]", ""},
	} {
		r := resolverOf(t, func(c *Config) { c.NSSwitch = hostsOf(t, text) }, &scripted{addr: netip.MustParseAddrPort("127.0.0.1:1")})
		if hosts, services := r.NeedsLibc(); hosts != want[0] || services != want[1] {
			t.Errorf("%q: %q, %q", text, hosts, services)
		}
	}
}

// A resolver is what core.Dialer looks names up with.
func TestDialerWithAResolver(t *testing.T) {
	listener, err := core.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r := resolverOf(t, nil, zone{"here.example. 9 CNAME loop.example.", "loop.example. 9 A 127.0.0.1"}.serve(t))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dialer := core.Dialer{Lookup: r.LookupIP}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("here.example", port))
	if err != nil {
		t.Fatal(err)
	}
	if conn.RemoteAddr().String() != listener.Addr().String() {
		t.Errorf("connected to %v", conn.RemoteAddr())
	}
	_ = conn.Close()
	_, err = dialer.DialContext(ctx, "tcp", "there.example:80")
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}
