package dns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	wire "github.com/miekg/dns"
)

// insideVariable says that the test runs in namespaces of its own, in which it may put its
// own files over those in /etc and serve at port 53.
const insideVariable = "KLOOP_DNS_TEST_INSIDE"

// The libc of this machine is the oracle: Getaddrinfo and Getnameinfo answer what it does, with
// the same files, server and interfaces.
func TestAnswersAsLibcDoes(t *testing.T) {
	if os.Getenv(insideVariable) == "" {
		outside(t, etc, interfaces)
		return
	}
	libcServer(t)
	t.Run("getaddrinfo", compareGetaddrinfo)
	t.Run("getnameinfo", compareGetnameinfo)
}

// etc are the files that both see.
var etc = map[string]string{
	"resolv.conf":   "nameserver 127.0.0.1\nsearch example sub.example\nsortlist 192.0.2.2/255.255.255.255 10.9.0.0/255.255.0.0 203.0.113.0\noptions attempts:1 timeout:2\n",
	"nsswitch.conf": "hosts: files dns\nservices: files\n",
	"host.conf":     "multi on\n",
	"gai.conf":      "# nothing\n",
	"hosts": `127.0.0.1 localhost
::1 localhost ip6-localhost
10.0.0.1 own own-alias own.lan
10.0.0.2 own
fd00::77 own
10.0.0.3 only4
fd00::78 only6
::1 loop6
::ffff:10.0.0.9 mapped
10.0.0.4 Mixed.Case
1.2.3 short
`,
	"services": `tcpmux 1/tcp
http 80/tcp www
http 80/udp
domain 53/tcp
domain 53/udp
tftp 69/udp
sctponly 99/sctp
both 77/sctp
both 78/tcp
dccponly 5/dccp
`,
}

const interfaces = `ip link add kl0 type dummy || ip link add kl0 type veth peer name kl1 || ip link add kl0 type ifb || ip tuntap add kl0 mode tap
ip link set kl0 up; [ ! -e /sys/class/net/kl1 ] || ip link set kl1 up
ip addr add 10.8.0.14/24 dev kl0; ip addr add 10.9.0.7/16 dev kl0
ip addr add fd00::2/64 dev kl0 nodad; ip addr add 2001:db8:1:2::5/64 dev kl0 nodad
ip route add default via 10.8.0.1; ip -6 route add default via fd00::1`

var libcZone = zone{
	"example. 300 SOA ns.example. root.example. 1 2 3 4 60",
	"www.example. 100 A 192.0.2.1", "www.example. 200 A 192.0.2.2", "www.example. 100 AAAA 2001:db8::1",
	"four.example. 100 A 192.0.2.4", "six.example. 100 AAAA 2001:db8::6",
	"alias.example. 50 CNAME next.example.", "next.example. 400 CNAME www.example.",
	"empty.example. 9 TXT x", "under_score.example. 9 A 192.0.2.9",
	"deep.sub.example. 9 A 192.0.2.10", "UPPER.example. 9 A 192.0.2.11",
	"dangling.example. 9 CNAME nowhere.example.",
	"many.example. 9 A 10.9.0.1", "many.example. 9 A 10.8.0.200", "many.example. 9 A 127.0.0.5",
	"many.example. 9 A 169.254.1.1", "many.example. 9 A 10.8.0.14", "many.example. 9 A 203.0.113.1",
	"many.example. 9 AAAA fd00::9", "many.example. 9 AAAA 2001:db8:1::1", "many.example. 9 AAAA fec0::1",
	"many.example. 9 AAAA 2002:c000:201::1", "many.example. 9 AAAA 2001::1", "many.example. 9 AAAA ::1",
	"many.example. 9 AAAA 2001:db8:1:2:3::9", "many.example. 9 AAAA ::192.0.2.1", "many.example. 9 AAAA ff0e::1",
	"1.2.0.192.in-addr.arpa. 9 PTR www.example.",
	"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 9 PTR www.example.",
}

// outside runs this test again where it may do as it likes, with the interfaces that setup makes.
func outside(t *testing.T, etc map[string]string, setup string) {
	for _, tool := range []string{"unshare", "python3", "ip", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: no libc to compare with: %v", err)
		}
	}
	dir := t.TempDir()
	script := "set -e; mount --make-rprivate /; ip link set lo up\n"
	for name, text := range etc {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		script += fmt.Sprintf("[ -e /etc/%[1]s ] || touch /etc/%[1]s; mount --bind %[2]s/%[1]s /etc/%[1]s\n", name, dir)
	}
	script += setup + "\nexec \"$0\" -test.run='^" + t.Name() + "$' -test.v"
	if exec.Command("unshare", "--map-root-user", "--mount", "--net", "true").Run() != nil {
		t.Skip("SKIPPED: no namespaces here, in which to give libc files and a server")
	}
	command := exec.Command("unshare", "--map-root-user", "--mount", "--net", "sh", "-c", script, os.Args[0])
	command.Env = append(os.Environ(), insideVariable+"=1")
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if bytes.Contains(output, []byte("--- SKIP: "+t.Name())) {
		t.Skipf("%s", output)
	}
	if !bytes.Contains(output, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("it did not run:\n%s", output)
	}
	t.Logf("%s", output)
}

// libcServer serves libcZone where libc asks.
func libcServer(t *testing.T) {
	t.Helper()
	s := &wire.Server{Addr: "127.0.0.1:53", Net: "udp", Handler: wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		m := libcZone.reply(t, q)
		if strings.HasPrefix(lowerASCII(q.Question[0].Name), "broken.") {
			m = new(wire.Msg).SetRcode(q, wire.RcodeServerFailure)
		}
		_ = w.WriteMsg(m)
	})}
	ready := make(chan struct{})
	s.NotifyStartedFunc = func() { close(ready) }
	ended := make(chan error, 1)
	go func() { ended <- s.ListenAndServe() }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Shutdown() })
}

// gaiCase is one call of getaddrinfo.
type gaiCase struct {
	Host    *string `json:"host"`
	Service *string `json:"service"`
	Family  int     `json:"family"`
	Type    int     `json:"type"`
	Proto   int     `json:"proto"`
	Flags   int     `json:"flags"`
}

func (c gaiCase) String() string {
	text, _ := json.Marshal(c)
	return string(text)
}

type oracleAnswer struct {
	Results [][]any `json:"results"`
	Error   int     `json:"error"`
}

func askOracle(t *testing.T, cases any) []oracleAnswer {
	t.Helper()
	input, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command("python3", "testdata/oracle.py")
	command.Stdin, command.Stderr = bytes.NewReader(input), os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var answers []oracleAnswer
	if err := json.Unmarshal(output, &answers); err != nil {
		t.Fatal(err)
	}
	return answers
}

func pointers(texts ...string) []*string {
	all := []*string{nil}
	for _, text := range texts {
		all = append(all, &text)
	}
	return all
}

func gaiCases() []gaiCase {
	hosts := pointers("", "*", "localhost", "LOCALHOST", "127.0.0.1", "127.1", "0x7f.1", "017.1", "1.2.3.256", "::1", "fe80::1%lo", "fe80::1%kl0",
		"fe80::1%nothing", "fe80::1%7", "2001:db8::1%7", "2001:db8::1%kl0", "::ffff:1.2.3.4", "::ffff:1.2.3.4%1", "own", "own-alias", "own.lan", "only4", "only6", "loop6", "mapped",
		"mixed.case", "MIXED.CASE", "short", "www.example", "www.example.", "WWW.EXAMPLE", "www", "deep", "upper", "alias.example", "four.example", "six.example", "four", "six",
		"nowhere.example", "nowhere", "empty.example", "empty", "broken.example", "dangling.example", "under_score.example", "many.example", "many",
		"a..b", ".", "localhost.", "xn--nothing.example")
	flags := []int{0, AI_PASSIVE, AI_CANONNAME, AI_NUMERICHOST, AI_V4MAPPED, AI_ALL, AI_V4MAPPED | AI_ALL, AI_ADDRCONFIG, AI_ADDRCONFIG | AI_V4MAPPED,
		AI_V4MAPPED | AI_ALL | AI_CANONNAME, AI_V4MAPPED | AI_CANONNAME, AI_NUMERICSERV, AI_IDN, AI_CANONIDN, AI_PASSIVE | AI_CANONNAME | AI_NUMERICHOST, 0x100, 0x800}
	services := pointers("", "*", "0", "80", "http", "www", "HTTP", "domain", "tftp", "sctponly", "both", "dccponly", "nosuch", "-1", "65535", "65536", "99999999999999999999999",
		"0x50", " 80", "80 ", "+80")
	port := "80"
	var cases []gaiCase
	for _, host := range hosts {
		for _, family := range []int{0, 2, 10, 1} {
			for _, flag := range flags {
				cases = append(cases, gaiCase{host, &port, family, 1, 0, flag}, gaiCase{host, nil, family, 0, 0, flag})
			}
		}
	}
	address, name := "127.0.0.1", "own"
	for _, host := range []*string{&address, &name, nil} {
		for _, service := range services {
			for _, sockType := range []int{0, 1, 2, 3, 5, 6, 99} {
				for _, proto := range []int{0, 6, 17, 33, 132, 136, 255, 1} {
					for _, flag := range []int{0, AI_NUMERICSERV, AI_PASSIVE} {
						cases = append(cases, gaiCase{host, service, 0, sockType, proto, flag})
					}
				}
			}
		}
	}
	return cases
}

// inside makes a resolver that reads what libc does.
func inside(t *testing.T) *Resolver {
	t.Helper()
	r, err := New(SystemConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func compareGetaddrinfo(t *testing.T) { compareCases(t, gaiCases()) }

func compareCases(t *testing.T, cases []gaiCase) {
	t.Helper()
	r := inside(t)
	different := 0
	told := map[string]int{}
	for i, want := range askOracle(t, cases) {
		c := cases[i]
		infos, err := r.Getaddrinfo(context.Background(), c.Host, c.Service, Hints{c.Flags, c.Family, c.Type, c.Proto})
		got := oracleAnswer{Results: [][]any{}}
		for _, info := range infos {
			got.Results = append(got.Results, []any{info.Family, info.SockType, info.Protocol, info.CanonName,
				presentation(info.Addr.Addr()), int(info.Addr.Port()), int(info.ScopeID)})
		}
		var code GAIError
		if errors.As(err, &code) {
			got.Error = int(code)
		} else if err != nil {
			t.Errorf("%v: %v", c, err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			different++
			about := fmt.Sprint(text(c.Host), text(c.Service), c.Family)
			if told[about]++; told[about] == 1 {
				t.Errorf("%v:\n got %v\nlibc %v", c, got, want)
			}
		}
	}
	t.Logf("%d cases, %d differ", len(cases), different)
}

func text(s *string) string {
	if s == nil {
		return "NULL"
	}
	return *s
}

// gniCase is one call of getnameinfo.
type gniCase struct {
	Host  string `json:"host"`
	Port  int    `json:"port"`
	Scope int    `json:"scope"`
	Flags int    `json:"flags"`
}

func compareGetnameinfo(t *testing.T) {
	r := inside(t)
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	var cases []gniCase
	for _, host := range []string{"127.0.0.1", "::1", "10.0.0.1", "10.0.0.3", "192.0.2.1", "192.0.2.77", "2001:db8::1", "2001:db8::2", "fe80::1", "fd00::78", "::ffff:192.0.2.1", "::192.0.2.1", "::3:4", "::0.1.0.0", "2001:db8:0:0:1::", "2001:0:1:0:1:0:1:0"} {
		for _, port := range []int{0, 1, 80, 69, 53, 7777} {
			for flags := range 0x20 {
				cases = append(cases, gniCase{host, port, 0, flags})
			}
			if strings.Contains(host, ":") {
				cases = append(cases, gniCase{host, port, lo.Index, NI_NUMERICHOST}, gniCase{host, port, 77, NI_NUMERICHOST})
			}
		}
	}
	different := 0
	for i, want := range askOracle(t, cases) {
		c := cases[i]
		host, service, err := r.Getnameinfo(context.Background(), netip.AddrPortFrom(netip.MustParseAddr(c.Host), uint16(c.Port)), uint32(c.Scope), c.Flags)
		got := ""
		var code GAIError
		if errors.As(err, &code) {
			got = fmt.Sprint(int(code))
		} else {
			got = fmt.Sprint(host, " ", service, " ", err)
		}
		expected := fmt.Sprint(want.Error)
		if want.Error == 0 {
			expected = fmt.Sprint(want.Results[0][0], " ", want.Results[0][1], " <nil>")
		}
		if got != expected {
			if different++; different <= 20 {
				t.Errorf("%+v: got %s, libc %s", c, got, expected)
			}
		}
	}
	t.Logf("%d cases, %d differ", len(cases), different)
}
