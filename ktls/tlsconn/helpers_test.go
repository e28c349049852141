package tlsconn

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"kloop/ktls"
)

// testLimit bounds every wait of these tests: none comes near it unless
// something is lost. The guest is slow.
const testLimit = 60 * time.Second

// inGuest: on the guest's kernel, which has TLS, only what needs it is tested.
func inGuest() bool { return os.Getenv("GUEST_RUN") != "" }

// modes answers where records are protected in these tests.
func modes() []string {
	switch {
	case inGuest():
		return []string{Kernel}
	case ktls.FeatureULP.Supported() && ktls.FeatureRekey.Supported():
		return []string{Go, Kernel}
	}
	return []string{Go}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes %.40x, want %d bytes %.40x", what, len(got), got, len(want), want)
	}
}

// patternBytes is what patterns are parts of.
var patternBytes = sync.OnceValue(func() []byte {
	p := make([]byte, 17<<20)
	x := uint32(1)
	for i := range p {
		x = x*1664525 + 1013904223
		p[i] = byte(x >> 24)
	}
	return p
})

// pattern answers n bytes that differ at every offset, and from those of another n.
func pattern(n int) []byte {
	start := n % (1 << 20)
	return bytes.Clone(patternBytes()[start : start+n])
}

// certificates are made once: one of each kind of key, which sign themselves.
var certificates = sync.OnceValue(func() (list struct {
	ecdsa, rsa tls.Certificate
	roots      *x509.CertPool
}) {
	list.roots = x509.NewCertPool()
	make := func(key interface{}, public interface{}) tls.Certificate {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
			DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign, IsCA: true,
			BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
		der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
		if err != nil {
			panic(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			panic(err)
		}
		list.roots.AddCert(parsed)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	list.ecdsa = make(e, &e.PublicKey)
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	list.rsa = make(r, &r.PublicKey)
	return list
})

// configs answers a server's and a client's configuration for a version.
func configs(version uint16) (server, client *tls.Config) {
	c := certificates()
	server = &tls.Config{Certificates: []tls.Certificate{c.ecdsa, c.rsa}, MinVersion: version, MaxVersion: version}
	client = &tls.Config{RootCAs: c.roots, ServerName: "localhost", MinVersion: version, MaxVersion: version}
	return server, client
}

var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

// tlsConn is what a *Conn and a *tls.Conn have in common.
type tlsConn interface {
	net.Conn
	Handshake() error
	CloseWrite() error
	ConnectionState() tls.ConnectionState
}

// tcpPair answers two ends of a TCP connection.
func tcpPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	a, err = net.Dial("tcp", l.Addr().String())
	check(t, err)
	b, err = l.Accept()
	check(t, err)
	for _, c := range []net.Conn{a, b} {
		check(t, c.SetDeadline(time.Now().Add(testLimit)))
		t.Cleanup(func() { c.Close() })
	}
	return a, b
}

// side makes one end, by this package in a mode or, with "", by crypto/tls.
func side(t testing.TB, nc net.Conn, c *tls.Config, isClient bool, mode string) tlsConn {
	t.Helper()
	switch {
	case mode == "" && isClient:
		return tls.Client(nc, c)
	case mode == "":
		return tls.Server(nc, c)
	}
	config, err := NewConfig(c, Options{Records: mode})
	check(t, err)
	if isClient {
		return config.Client(nc)
	}
	return config.Server(nc)
}

// shake makes the handshakes of both ends at once, and sees that records are
// where the modes want them.
func shake(t testing.TB, client, server tlsConn, clientMode, serverMode string) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	check(t, client.Handshake())
	check(t, <-done)
	for c, mode := range map[tlsConn]string{client: clientMode, server: serverMode} {
		if ours, ok := c.(*Conn); ok && mode != Auto {
			if o := ours.Offload(); o.TX != mode || o.RX != mode {
				t.Fatalf("%s wanted, got %+v", mode, o)
			}
		}
	}
}

// pair answers two ends whose handshake is made.
func pair(t testing.TB, clientConfig, serverConfig *tls.Config, clientMode, serverMode string) (client, server tlsConn) {
	t.Helper()
	a, b := tcpPair(t)
	client, server = side(t, a, clientConfig, true, clientMode), side(t, b, serverConfig, false, serverMode)
	shake(t, client, server, clientMode, serverMode)
	return client, server
}

// send writes p in a goroutine; what it answers is to be called in the end.
func send(w io.Writer, p []byte) (wait func() error) {
	done := make(chan error, 1)
	go func() {
		n, err := w.Write(p)
		if err == nil && n != len(p) {
			err = fmt.Errorf("%d of %d bytes written", n, len(p))
		}
		done <- err
	}()
	return func() error { return <-done }
}

// exchange sends p both ways at once, and compares.
func exchange(t testing.TB, a, b tlsConn, p []byte) {
	t.Helper()
	waitA, waitB := send(a, p), send(b, p)
	results := make(chan error, 2)
	for _, c := range []tlsConn{a, b} {
		go func() {
			got := make([]byte, len(p))
			_, err := io.ReadFull(c, got)
			if err == nil && !bytes.Equal(got, p) {
				err = errors.New("what came is not what was sent")
			}
			results <- err
		}()
	}
	check(t, errors.Join(<-results, <-results))
	check(t, errors.Join(waitA(), waitB()))
}

// atEnd sees that a stream is at its end.
func atEnd(t testing.TB, c io.Reader) {
	t.Helper()
	if n, err := c.Read(make([]byte, 100)); n != 0 || err != io.EOF {
		t.Fatalf("%d bytes, %v where the end was expected", n, err)
	}
}

// alertOf answers the alert that an error names, this side's or the peer's.
func alertOf(err error) (ktls.Alert, bool) {
	var record *ktls.RecordError
	var peer *ktls.PeerAlertError
	var theirs tls.AlertError
	var op *net.OpError
	switch {
	case errors.As(err, &record):
		return record.Alert, true
	case errors.As(err, &peer):
		return peer.Alert, true
	case errors.As(err, &theirs):
		return ktls.Alert(theirs), true
	case errors.As(err, &op) && op.Op == "remote error":
		for a := range ktls.Alert(255) {
			if op.Err.Error() == tls.AlertError(a).Error() {
				return a, true
			}
		}
	}
	return 0, false
}
