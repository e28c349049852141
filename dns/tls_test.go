package dns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"kloop/ktls/tlsconn"
)

// selfSigned makes a certificate for dns.test and 127.0.0.1, and the pool that trusts it.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{"dns.test"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// tlsProxy puts TLS before a scripted server's TCP.
func tlsProxy(t *testing.T, s *scripted, certificate tls.Certificate) netip.AddrPort {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { join(c, s.addr.String()) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		s.mu.Lock()
		for _, c := range s.open {
			_ = c.Close()
		}
		s.mu.Unlock()
		running.Wait()
	})
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

// join copies between a connection and another to address, until either ends.
func join(c net.Conn, address string) {
	inner, err := net.Dial("tcp", address)
	if err != nil {
		_ = c.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(inner, c); _ = inner.Close() })
	both.Go(func() { _, _ = io.Copy(c, inner); _ = c.Close() })
	both.Wait()
}

// The records are package ktls's where it knows the suite, and else stay with crypto/tls.
func TestWhoProtectsTheRecords(t *testing.T) {
	certificate, pool := selfSigned(t)
	s := example.serve(t)
	secured := tlsProxy(t, s, certificate)
	cbc := &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}
	for _, c := range []struct {
		name    string
		config  *tls.Config
		records string
		want    string
	}{
		{"TLS 1.3", &tls.Config{RootCAs: pool}, "", tlsconn.Go},
		{"TLS 1.2", &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12}, "", tlsconn.Go},
		{"as told", &tls.Config{RootCAs: pool}, tlsconn.TLS, tlsconn.TLS},
		{"a suite that is not ours", cbc, "", tlsconn.TLS},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := resolverOf(t, func(o *Config) {
				o.Servers, o.TLS, o.TLSRecords = []netip.AddrPort{secured}, c.config, c.records
				o.Timeout, o.Attempts, o.CacheEntries = patience, 1, 0
			})
			var all sync.WaitGroup
			for range 50 { // on one connection
				all.Go(func() {
					a, err := r.ask(t, "www.example", wire.TypeA)
					wantAnswer(t, a, err, "192.0.2.1, 192.0.2.2")
				})
			}
			all.Wait()
			if got := r.Stats().Servers[0].Records; got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	c := DefaultConfig()
	c.TLSRecords = tlsconn.Kernel
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), `TLSRecords is "kernel"`) {
		t.Errorf("%v", err)
	}
}

// A server that closes a connection by close_notify is asked once more, on another one.
func TestAServerThatClosesTLS(t *testing.T) {
	certificate, pool := selfSigned(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	var conns atomic.Int32
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			go func() {
				defer func() { _ = c.Close() }()
				packet, err := readFrame(c)
				if err != nil {
					return
				}
				var q wire.Msg
				if err := q.Unpack(packet); err != nil {
					t.Error(err)
					return
				}
				answer := packed(t, example.reply(t, &q))[0]
				_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			}()
		}
	}()
	r := resolverOf(t, func(o *Config) {
		o.Servers, o.TLS = []netip.AddrPort{listener.Addr().(*net.TCPAddr).AddrPort()}, &tls.Config{RootCAs: pool}
		o.Timeout, o.Attempts, o.CacheEntries = patience, 1, 0
	})
	for range 5 {
		a, err := r.ask(t, "www.example", wire.TypeA)
		wantAnswer(t, a, err, "192.0.2.1, 192.0.2.2")
	}
	if conns.Load() < 5 || r.Stats().Servers[0].Records != tlsconn.Go {
		t.Errorf("%d connections, %+v", conns.Load(), r.Stats().Servers)
	}
}
