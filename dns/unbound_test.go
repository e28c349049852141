package dns

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"kloop/ktls/tlsconn"
)

// unboundOf runs Debian's unbound in front of an authoritative server, over UDP, TCP and TLS.
func unboundOf(t *testing.T, authoritative *scripted, certificate tls.Certificate) (plain, secured netip.AddrPort) {
	t.Helper()
	path, err := exec.LookPath("unbound")
	if err != nil {
		path = "/usr/sbin/unbound" // which is not on everyone's PATH
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("SKIPPED: no unbound (Debian package: unbound)")
	}
	dir := t.TempDir()
	writeKey(t, dir, certificate)
	plain, secured = freePort(t), freePort(t)
	big := ""
	for i := range 100 {
		big += fmt.Sprintf("local-data: \"big.local.test. 60 A 192.0.2.%d\"\n", i)
	}
	config := fmt.Sprintf(`server:
directory: "%[1]s"
chroot: ""
username: ""
pidfile: ""
use-syslog: no
do-daemonize: no
num-threads: 1
interface: 127.0.0.1@%[2]d
interface: 127.0.0.1@%[3]d
tls-port: %[3]d
tls-service-key: "%[1]s/key.pem"
tls-service-pem: "%[1]s/cert.pem"
do-not-query-localhost: no
module-config: "iterator"
local-zone: "local.test." static
local-data: "local.test. 60 SOA ns.local.test. root.local.test. 1 2 3 4 30"
local-data: "one.local.test. 60 A 192.0.2.1"
%[4]sstub-zone:
name: "example."
stub-addr: 127.0.0.1@%[5]d
`, dir, plain.Port(), secured.Port(), big, authoritative.addr.Port())
	if err := os.WriteFile(dir+"/unbound.conf", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(path, "-d", "-c", dir+"/unbound.conf")
	output := &lockedBuffer{}
	command.Stdout, command.Stderr = output, output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	end := time.Now().Add(patience)
	for {
		c, err := net.Dial("tcp", secured.String())
		if err == nil {
			_ = c.Close()
			return plain, secured
		}
		if time.Now().After(end) {
			t.Fatalf("unbound does not start:\n%s", output)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// freePort is one that is free now for UDP and TCP.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 100 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := udp.LocalAddr().(*net.UDPAddr).AddrPort()
		tcp, err := net.Listen("tcp", at.String())
		_ = udp.Close()
		if err == nil {
			_ = tcp.Close()
			return at
		}
	}
	t.Fatal("no port is free")
	return netip.AddrPort{}
}

func writeKey(t *testing.T, dir string, certificate tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"key.pem": {Type: "PRIVATE KEY", Bytes: key}, "cert.pem": {Type: "CERTIFICATE", Bytes: certificate.Certificate[0]},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A real recursive server between us and a scripted authoritative one.
func TestWithUnbound(t *testing.T) {
	authoritative := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		m := example.reply(t, q)
		m.Authoritative, m.RecursionAvailable = true, false
		for _, rr := range append(m.Answer, m.Ns...) { // as they come back: in the case of the question
			if strings.EqualFold(rr.Header().Name, q.Question[0].Name) {
				rr.Header().Name = q.Question[0].Name
			}
		}
		return packed(t, m)
	})
	certificate, pool := selfSigned(t)
	plain, secured := unboundOf(t, authoritative, certificate)
	for name, change := range map[string]func(c *Config){
		"UDP":   func(*Config) {},
		"EDNS0": func(c *Config) { c.EDNS0 = true },
		"TCP":   func(c *Config) { c.UseTCP = true },
		"TLS": func(c *Config) {
			c.Servers, c.TLS = []netip.AddrPort{secured}, &tls.Config{RootCAs: pool, ServerName: "dns.test"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := resolverOf(t, func(c *Config) {
				c.Servers, c.Timeout = []netip.AddrPort{plain}, patience
				change(c)
			})
			for _, c := range []struct {
				name   string
				rrtype uint16
				want   string
			}{
				{"one.local.test", wire.TypeA, "192.0.2.1"},
				{"four.example", wire.TypeA, "192.0.2.4"},
				{"www.example", wire.TypeAAAA, "2001:db8::1"},
				{"example", wire.TypeMX, "10 mail.example."},
				{"text.example", wire.TypeTXT, `"one" "two"`},
				{"example", wire.TypeHTTPS, `1 . alpn="h2"`},
			} {
				a, err := r.ask(t, c.name, c.rrtype)
				wantAnswer(t, a, err, c.want)
			}
			a, err := r.ask(t, "alias.example", wire.TypeA)
			if err != nil || len(a.Records) != 2 || !strings.EqualFold(a.Name, "www.example.") || len(a.Aliases) != 2 {
				t.Errorf("%+v, %v", a, err)
			}
			a, err = r.ask(t, "big.local.test", wire.TypeA)
			if err != nil || len(a.Records) != 100 {
				t.Errorf("%+v, %v", a, err)
			}
			_, err = r.ask(t, "nowhere.example", wire.TypeA)
			wantError(t, err, ErrNotFound)
			_, err = r.ask(t, "nowhere.local.test", wire.TypeA)
			wantError(t, err, ErrNotFound)
			_, err = r.ask(t, "four.example", wire.TypeAAAA)
			wantError(t, err, ErrNoData)
			s := r.Stats()
			if s.Case+s.Foreign+s.Malformed+s.Timeouts != 0 || s.Entries != 11 {
				t.Errorf("%+v", s)
			}
			if want := map[bool]string{true: tlsconn.Go}[name == "TLS"]; s.Servers[0].Records != want {
				t.Errorf("records: %q, want %q", s.Servers[0].Records, want)
			}
			if udp := name == "UDP" || name == "EDNS0"; udp && s.Truncated != 1 || !udp && s.UDP != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}
