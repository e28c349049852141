package dns

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	wire "github.com/miekg/dns"
)

// Whatever a server sends, what is taken from it belongs to the question.
func FuzzMessage(f *testing.F) {
	// The same each time, so that what was found can be tried again.
	q, err := ask{name: "wWw.eXample.", rrtype: wire.TypeA, keep: true}.pack()
	if err != nil {
		f.Fatal(err)
	}
	q.id = 0x1234
	binary.BigEndian.PutUint16(q.packed, q.id)
	asked := new(wire.Msg)
	if err := asked.Unpack(q.packed); err != nil {
		f.Fatal(err)
	}
	for _, records := range [][]string{
		nil, {"www.example. 9 A 192.0.2.1"}, {"www.example. 9 CNAME a.example.", "a.example. 9 A 192.0.2.1", "b.example. 9 A 192.0.2.2"},
		{"www.example. 9 CNAME www.example."},
	} {
		f.Add(packed(f, replyWith(f, asked, records...))[0])
	}
	negative := replyWith(f, asked)
	negative.Ns = zone{"example. 300 SOA ns. root. 1 2 3 4 60"}.records(f)
	f.Add(packed(f, negative)[0])
	compressed := replyWith(f, asked, "www.example. 9 A 192.0.2.1")
	compressed.Compress = true
	f.Add(packed(f, compressed)[0])
	f.Add([]byte{0, 0, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}) // a name that points to itself
	f.Add(append(q.packed[:len(q.packed):len(q.packed)], 0xc0, 0xff))
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) >= 2 {
			binary.BigEndian.PutUint16(packet, q.id) // so that more than the id is looked at
		}
		m, judged := q.judge(packet)
		if judged != verdictAnswer {
			return
		}
		if len(m.Question) == 1 && m.Question[0].Name != "www.example." || !m.Response {
			t.Fatalf("an answer to something else: %v", m)
		}
		found, err := follow(m, "www.example.", wire.TypeA)
		if err != nil {
			return
		}
		name := "www.example."
		for _, alias := range found.aliases {
			if !equalNames(alias, name) {
				t.Fatalf("%v leads to %v", found.aliases, alias)
			}
			name = targetOf(m, name)
		}
		for _, rr := range found.records {
			if rr.Header().Rrtype != wire.TypeA || !equalNames(rr.Header().Name, name) {
				t.Fatalf("%v is taken for %s", rr, name)
			}
		}
	})
}

func targetOf(m *wire.Msg, name string) string {
	for _, rr := range m.Answer {
		if c, ok := rr.(*wire.CNAME); ok && equalNames(c.Hdr.Name, name) && c.Hdr.Class == wire.ClassINET {
			return c.Target
		}
	}
	return ""
}

// A name that is accepted can be asked for, and stays what it is.
func FuzzName(f *testing.F) {
	for _, name := range []string{"www.example", "a..b", `\097.x`, `a\.b.c`, "*.x", strings.Repeat("a", 64), "ü.de", `\`, ".", "A.B."} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		full, err := absolute(name)
		if err != nil {
			return
		}
		q, err := ask{name: full, rrtype: wire.TypeA}.pack()
		if err != nil {
			t.Fatalf("%q as %q: %v", name, full, err)
		}
		m := new(wire.Msg)
		if err := m.Unpack(q.packed); err != nil || m.Question[0].Name != q.name || lowerASCII(q.name) != full {
			t.Fatalf("%q as %q is asked for as %q: %v", name, full, m.Question[0].Name, err)
		}
		if again, err := absolute(full); err != nil || again != full {
			t.Fatalf("%q is %q the second time, %v", full, again, err)
		}
	})
}

func FuzzResolvConf(f *testing.F) {
	f.Add("nameserver 192.0.2.1\nsearch a b\noptions ndots:3 timeout:7 attempts:4 what:1\n", "a b", "ndots:2")
	f.Add("nameserver fe80::1%eth0\ndomain x\n;\n#\n\n options\n", "", "timeout:99999999999999999999")
	f.Fuzz(func(t *testing.T, text, localDomain, resOptions string) {
		c := ParseResolvConf(text)
		c.ApplyEnvironment(localDomain, resOptions)
		if c.Ndots < 0 || c.Ndots > ndotsMax || c.Timeout <= 0 || c.Timeout > timeoutMax || c.Attempts < 1 || c.Attempts > attemptsMax ||
			len(c.Servers) > serversMax {
			t.Fatalf("%+v", c)
		}
		for _, at := range c.Servers {
			if !at.IsValid() {
				t.Fatalf("%v", at)
			}
		}
		if names := candidates("host", &c); len(names) > len(c.Search)+1 {
			t.Fatalf("%v", names)
		}
	})
}

func FuzzHosts(f *testing.F) {
	f.Add("127.0.0.1 localhost # x\n::1 a b c\nfe80::1%lo x\n1.2.3 y\n\tz\n", "localhost")
	f.Add("127.0.0.1 A a\r\n127.0.0.2 a", "a")
	f.Fuzz(func(t *testing.T, text, name string) {
		h := parseHosts(text)
		for _, line := range h.find(name) {
			if !line.ip.IsValid() || len(line.names) == 0 || !strings.Contains(text, line.names[0]) {
				t.Fatalf("%+v", line)
			}
			if len(h.names(line.ip)) == 0 {
				t.Fatalf("%v has no name", line.ip)
			}
		}
	})
}

func FuzzServices(f *testing.F) {
	f.Add("http 80/tcp www # x\nbad\nx 99999/tcp\ny 1/\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := parseServices(text)
		for at, name := range s.names {
			if _, there := s.ports[service{name, at.protocol}]; !there {
				t.Fatalf("%v has no port", at)
			}
		}
	})
}

func FuzzNSSwitch(f *testing.F) {
	f.Add("hosts: files [!UNAVAIL=return SUCCESS=merge] dns myhostname\nservices:db files\n")
	f.Add("hosts:[[]]x[=]")
	f.Fuzz(func(t *testing.T, text string) {
		for _, source := range parseNSSwitch(text).hosts {
			if source.name != "files" && source.name != "dns" {
				t.Fatalf("%q is ours", source.name)
			}
		}
	})
}

func FuzzGAIConf(f *testing.F) {
	f.Add("label ::1/128 0\nprecedence ::/0 40\nscopev4 10.0.0.0/8 5\nscopev4 ::ffff:10.0.0.0/104 5\n", "10.0.0.1")
	f.Fuzz(func(t *testing.T, text, address string) {
		ip, err := netip.ParseAddr(address)
		if err != nil {
			return
		}
		p := parseGAIConf(text)
		if p.labels.of(ip, -1) < 0 || p.precedences.of(ip, -1) < 0 || p.scope(ip) < 0 {
			t.Fatalf("%v has no place in %+v", ip, p)
		}
	})
}
