package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// gaiResolver has files of its own.
func gaiResolver(t *testing.T, nsswitch string) *Resolver {
	return resolverOf(t, func(c *Config) {
		c.Hosts = hostsOf(t, "10.0.0.1 own alias\n10.0.0.2 own\nfd00::1 six\n::1 loop6\n")
		c.Services = hostsOf(t, "http 80/tcp www\nhttp 81/udp\nraw 9/raw\n")
		c.NSSwitch = hostsOf(t, nsswitch)
		c.HostConf = hostsOf(t, "order hosts,bind\nmulti on # all\n")
	}, example.serve(t))
}

// What holds on any machine; oracle_test.go compares all the rest with libc.
func TestGetaddrinfo(t *testing.T) {
	r := gaiResolver(t, "hosts: files dns\nservices: files\n")
	null := "NULL"
	for _, c := range []struct {
		host, service string
		hints         Hints
		want          string
	}{
		{"own", "http", Hints{SockType: 1}, "10.0.0.1:80/1/6 10.0.0.2:80/1/6"},
		{"alias", "www", Hints{Flags: AI_CANONNAME, Family: unix.AF_INET, SockType: 1}, "own=10.0.0.1:80/1/6"},
		{"alias", "http", Hints{}, "10.0.0.1:80/1/6 10.0.0.1:81/2/17"},
		{"alias", "7", Hints{}, "10.0.0.1:7/1/6 10.0.0.1:7/2/17 10.0.0.1:7/3/0"},
		{"alias", null, Hints{SockType: 3, Protocol: 255}, "10.0.0.1:0/3/255"},
		{"own", "1", Hints{Flags: AI_V4MAPPED, Family: unix.AF_INET6, SockType: 1}, "[::ffff:10.0.0.1]:1/1/6 [::ffff:10.0.0.2]:1/1/6"},
		{"loop6", "1", Hints{Family: unix.AF_INET, SockType: 1}, "127.0.0.1:1/1/6"},
		{"six", "1", Hints{SockType: 2}, "[fd00::1]:1/2/17"},
		{"alias.example", "1", Hints{Flags: AI_CANONNAME, Family: unix.AF_INET6, SockType: 1}, "www.example=[2001:db8::1]:1/1/6"},
		{"fe80::1%lo", "1", Hints{SockType: 1}, "[fe80::1]:1/1/6%1"},
		{"0x7f.1", "1", Hints{Flags: AI_NUMERICHOST, SockType: 1}, "127.0.0.1:1/1/6"},
		{null, "1", Hints{Flags: AI_PASSIVE, Family: unix.AF_INET6, SockType: 1}, "[::]:1/1/6"},
		{null, "1", Hints{Family: unix.AF_INET, SockType: 1}, "127.0.0.1:1/1/6"},
		{"*", "1", Hints{Flags: AI_PASSIVE, Family: unix.AF_INET, SockType: 1}, "0.0.0.0:1/1/6"},
		{null, null, Hints{}, "Name or service not known"},
		{null, "1", Hints{Flags: AI_CANONNAME}, "Bad value for ai_flags"},
		{"own", "1", Hints{Flags: 0x800}, "Bad value for ai_flags"},
		{"own", "1", Hints{Family: unix.AF_UNIX}, "ai_family not supported"},
		{"own", "1", Hints{SockType: 99}, "ai_socktype not supported"},
		{"own", "1", Hints{Protocol: unix.IPPROTO_DCCP, SockType: 1}, "ai_socktype not supported"},
		{"own", "nosuch", Hints{}, "Servname not supported for ai_socktype"},
		{"own", "raw", Hints{SockType: 3}, "Servname not supported for ai_socktype"},
		{"own", "http", Hints{Flags: AI_NUMERICSERV}, "Name or service not known"},
		{"own", "1", Hints{Flags: AI_NUMERICHOST}, "Name or service not known"},
		{"nowhere.example", "1", Hints{}, "Name or service not known"},
		{"four.example", "1", Hints{Family: unix.AF_INET6}, "No address associated with hostname"},
		{"127.0.0.1", "1", Hints{Family: unix.AF_INET6}, "Address family for hostname not supported"},
		{"::1", "1", Hints{Family: unix.AF_INET}, "Address family for hostname not supported"},
		{"fe80::1%nothing", "1", Hints{}, "Name or service not known"},
		{"grün.example", "1", Hints{}, "libc must be asked: a name that is not ASCII"},
	} {
		var host, service *string
		if c.host != null {
			host = &c.host
		}
		if c.service != null {
			service = &c.service
		}
		infos, err := r.Getaddrinfo(context.Background(), host, service, c.hints)
		got := fmt.Sprint(err)
		if err == nil {
			got = describe(infos)
		}
		if got != c.want {
			t.Errorf("%s %s %+v:\n got %s\nwant %s", c.host, c.service, c.hints, got, c.want)
		}
	}
	if s := r.Stats(); s.AskedLibc != 1 {
		t.Errorf("%+v", s)
	}
}

func describe(infos []AddrInfo) string {
	var all []string
	for _, info := range infos {
		text := fmt.Sprintf("%v/%d/%d", info.Addr, info.SockType, info.Protocol)
		if info.CanonName != "" {
			text = info.CanonName + "=" + text
		}
		if info.ScopeID != 0 {
			text += fmt.Sprintf("%%%d", info.ScopeID)
		}
		if (info.Family == unix.AF_INET) != info.Addr.Addr().Is4() {
			text += " of another family"
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// Where libc knows more it is to be asked, but for what needs no source of names.
func TestSaysWhenLibcMustBeAsked(t *testing.T) {
	r := gaiResolver(t, "hosts: files mdns4_minimal [NOTFOUND=return] dns\nservices: files sss\n")
	ctx := context.Background()
	own, address, http, port := "own", "127.0.0.1", "http", "80"
	for _, c := range []struct{ host, service, want string }{
		{own, port, "libc must be asked: hosts: mdns4_minimal"},
		{own, http, "libc must be asked: services: sss"},
		{address, http, "libc must be asked: services: sss"},
		{address, port, "<nil>"},
	} {
		_, err := r.Getaddrinfo(ctx, &c.host, &c.service, Hints{})
		if fmt.Sprint(err) != c.want || (err != nil) != errors.Is(err, ErrAskLibc) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	at := netip.MustParseAddrPort("127.0.0.1:80")
	for flags, want := range map[int]string{
		0: "libc must be asked: hosts: mdns4_minimal", NI_NUMERICHOST: "libc must be asked: services: sss", NI_NUMERICHOST | NI_NUMERICSERV: "<nil>",
	} {
		if _, _, err := r.Getnameinfo(ctx, at, 0, flags); fmt.Sprint(err) != want {
			t.Errorf("%d: %v", flags, err)
		}
	}
	if n := r.Stats().AskedLibc; n < 4 {
		t.Errorf("counted %d times", n)
	}
}

func TestGetnameinfo(t *testing.T) {
	r := gaiResolver(t, "")
	for _, c := range []struct {
		at    string
		scope uint32
		flags int
		want  string
	}{
		{"10.0.0.1:80", 0, 0, "own http <nil>"},
		{"192.0.2.1:81", 0, NI_DGRAM, "www.example http <nil>"},
		{"192.0.2.1:81", 0, 0, "www.example 81 <nil>"},
		{"192.0.2.99:80", 0, NI_NUMERICSERV, "192.0.2.99 80 <nil>"},
		{"192.0.2.99:80", 0, NI_NAMEREQD, "  Name or service not known"},
		{"10.0.0.1:80", 0, NI_NAMEREQD | NI_NUMERICHOST, "  Name or service not known"},
		{"10.0.0.1:80", 0, 0x8000, "  Bad value for ai_flags"},
		{"[fe80::9]:80", 1, NI_NUMERICHOST, "fe80::9%lo http <nil>"},
		{"[2001:db8::9]:80", 7, NI_NUMERICHOST, "2001:db8::9%7 http <nil>"},
		{"[::192.0.2.7]:80", 0, NI_NUMERICHOST, "::192.0.2.7 http <nil>"},
	} {
		host, service, err := r.Getnameinfo(context.Background(), netip.MustParseAddrPort(c.at), c.scope, c.flags)
		if got := fmt.Sprint(host, " ", service, " ", err); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestLookupsThatFailAsLibcSays(t *testing.T) {
	for err, want := range map[error]error{
		ErrNotFound: EAI_NONAME, ErrName: EAI_NONAME, ErrNoData: EAI_NODATA, ErrServer: EAI_AGAIN, ErrTimeout: EAI_AGAIN, ErrBusy: EAI_AGAIN,
		ErrClosed: ErrClosed, context.Canceled: context.Canceled, context.DeadlineExceeded: context.DeadlineExceeded,
	} {
		if got := gaiError(&Error{Name: "x", Err: err}); !errors.Is(got, want) {
			t.Errorf("%v: %v", err, got)
		}
	}
	if EAI_AGAIN.Error() != "Temporary failure in name resolution" || GAIError(77).Error() != "Unknown error" {
		t.Error("other texts than libc's")
	}
	e := &Error{Name: "x.example", Type: 28, Err: ErrServer}
	if e.Error() != "dns: x.example AAAA: the servers failed" || !e.Temporary() || e.Timeout() {
		t.Errorf("%v", e)
	}
	if e = (&Error{Name: "x", Err: ErrNotFound}); e.Error() != "dns: x: no such name" || e.Temporary() {
		t.Errorf("%v", e)
	}
}

// Without "multi on" a name has the addresses of its first line, where one family is asked for.
func TestHostConf(t *testing.T) {
	for text, want := range map[string]string{"": "[10.0.0.1]", "multi off": "[10.0.0.1]", "multi on": "[10.0.0.1 10.0.0.2]"} {
		r := resolverOf(t, func(c *Config) {
			c.Hosts, c.HostConf = hostsOf(t, "10.0.0.1 own\n10.0.0.2 own\n"), hostsOf(t, text)
		}, &scripted{addr: netip.MustParseAddrPort("127.0.0.1:1")})
		if got, err := r.lookup(t, "ip4", "own"); fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if got, err := r.lookup(t, "ip", "own"); fmt.Sprint(got) != "[10.0.0.1 10.0.0.2]" {
			t.Errorf("%q, both families: %v, %v", text, got, err)
		}
	}
}
