package dns

import (
	"net/netip"
	"reflect"
	"testing"
	"time"
)

func TestParseResolvConf(t *testing.T) {
	for text, change := range map[string]func(c *ResolvConf){
		"": func(*ResolvConf) {},
		"# nameserver 192.0.2.1\n; nameserver 192.0.2.1\n nameserver 192.0.2.1\nnameserver\n": func(*ResolvConf) {},
		"nameserver 192.0.2.1\nnameserver 2001:db8::1 trailing\r\nnameserver fe80::1%eth0\nnameserver 192.0.2.4": func(c *ResolvConf) {
			c.Servers = []netip.AddrPort{
				netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("[2001:db8::1]:53"), netip.MustParseAddrPort("[fe80::1%eth0]:53"),
			}
		},
		"nameserver nonsense\nnameserver 127.1\nnameserver [::1]:5353": func(c *ResolvConf) {
			c.Servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("[::1]:5353")}
		},
		"domain one.test\nsearch two.test three.test.": func(c *ResolvConf) { c.Search = []string{"two.test", "three.test"} },
		"search two.test\ndomain one.test other":       func(c *ResolvConf) { c.Search = []string{"one.test"} },
		"search .\n":                                   func(c *ResolvConf) { c.Search = []string{} },
		"options ndots:3 timeout:7 attempts:4 rotate use-vc edns0 trust-ad": func(c *ResolvConf) {
			c.Ndots, c.Timeout, c.Attempts = 3, 7*time.Second, 4
			c.Rotate, c.UseTCP, c.EDNS0, c.TrustAD = true, true, true, true
		},
		"options single-request no-aaaa no-tld-query\noptions no-reload": func(c *ResolvConf) {
			c.SingleRequest, c.NoAAAA, c.NoTLDQuery, c.NoReload = true, true, true, true
		},
		"options ndots:99 timeout:99 attempts:99": func(c *ResolvConf) { c.Ndots, c.Timeout, c.Attempts = 15, 30*time.Second, 5 },
		"options ndots:x timeout:0 attempts:":     func(c *ResolvConf) { c.Ndots, c.Timeout, c.Attempts = 0, time.Second, 1 },
		"options ndots:99999999999999999999999":   func(c *ResolvConf) { c.Ndots = 15 },
		"sortlist 10.0.0.0 172.16.1.2&255.255.0.0 x 192.0.2.0/255.255.255.128\t192.0.2.0/x 172.16.0.0 ; 1.2.3.4\nsortlist 1.2.3.4 x/1": func(c *ResolvConf) {
			for _, pair := range [][2]string{
				{"10.0.0.0", "255.0.0.0"}, {"172.16.1.2", "255.255.0.0"}, {"192.0.2.0", "255.255.255.128"}, {"192.0.2.0", "255.255.255.0"},
				{"172.16.0.0", "255.255.0.0"}, {"1.2.3.4", "255.0.0.0"},
			} {
				c.Sortlist = append(c.Sortlist, Network{netip.MustParseAddr(pair[0]), netip.MustParseAddr(pair[1])})
			}
		},
		"options what:ever inet6\nfamily inet4": func(c *ResolvConf) {
			c.Unknown = []string{"what:ever", "inet6", "family"}
		},
	} {
		want := DefaultResolvConf()
		change(&want)
		if got := ParseResolvConf(text); !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\n%+v\n%+v", text, got, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	file := hostsOf(t, "search file.test\nnameserver 192.0.2.1\noptions ndots:2 rotate\n")
	t.Setenv("LOCALDOMAIN", "one.test two.test")
	t.Setenv("RES_OPTIONS", "ndots:4 wonder")
	for _, uses := range []bool{false, true} {
		c := DefaultConfig()
		c.File, c.Environment = file, uses
		r, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		want := ParseResolvConf("search file.test\nnameserver 192.0.2.1\noptions ndots:2 rotate\n")
		if uses {
			want.Search, want.Ndots, want.Unknown = []string{"one.test", "two.test"}, 4, []string{"wonder"}
		}
		if got := r.ResolvConf(); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v\n%+v", got, want)
		}
		r.Close()
	}
}

func TestParseServices(t *testing.T) {
	s := parseServices("# no\nhttp 80/tcp www  # web\nhttp\t80/udp\nbad x/tcp\nbig 70000/tcp\nnone\nwww 81/tcp\nhttp 8080/tcp\nalso 80/tcp\n")
	for key, want := range map[service]uint16{{"http", "tcp"}: 80, {"www", "tcp"}: 80, {"http", "udp"}: 80, {"also", "tcp"}: 80} {
		if got, there := s.ports[key]; !there || got != want {
			t.Errorf("%v: %d", key, got)
		}
	}
	if len(s.ports) != 4 || s.names[servicePort{80, "tcp"}] != "http" || s.names[servicePort{81, "tcp"}] != "www" {
		t.Errorf("%+v", s)
	}
}

func TestParseInetAton(t *testing.T) {
	for text, want := range map[string]string{
		"1.2.3.4": "1.2.3.4", "1.2.3": "1.2.0.3", "1.2": "1.0.0.2", "1": "0.0.0.1", "0x7f.1": "127.0.0.1", "017.0.0.1": "15.0.0.1",
		"4294967295": "255.255.255.255", "1.65535": "1.0.255.255", "0": "0.0.0.0", "0X7F000001": "127.0.0.1",
	} {
		if got, ok := parseInetAton(text); !ok || got.String() != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	for _, bad := range []string{"", ".", "1.", ".1", "1.2.3.4.5", "256.1.1.1", "1.2.3.256", "4294967296", "0x", "08", "1.2.3.4 ", "-1", "a", "1..2", "1_0", "+1"} {
		if got, ok := parseInetAton(bad); ok {
			t.Errorf("%q is %v", bad, got)
		}
	}
}
