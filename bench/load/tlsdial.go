package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"os"
	_ "unsafe" // for linkname

	"golang.org/x/sys/unix"

	"kloop/ktls/tlsconn"
)

// suite is the only one that is offered, so that every server, whatever its
// preference, encrypts alike. crypto/tls has no setting for the suites of TLS 1.3, only
// these two variables, which it keeps open to go:linkname.
const suite = tls.TLS_AES_128_GCM_SHA256

//go:linkname suitesWithAES crypto/tls.defaultCipherSuitesTLS13
var suitesWithAES []uint16

//go:linkname suitesWithoutAES crypto/tls.defaultCipherSuitesTLS13NoAES
var suitesWithoutAES []uint16

// curves is one group for all peers: the newest OpenSSL would else choose another than an
// older one, at ten times the cost.
var curves = []tls.CurveID{tls.X25519}

func init() {
	suitesWithAES = []uint16{suite}
	suitesWithoutAES = []uint16{suite}
}

// tlsFlags parses the command line of a client that sends messages over TLS: its limits, the
// message size in bytes, and the file of the server's certificate.
func tlsFlags(name string, args []string, size int) (l limits, bytes int, trusted string, err error) {
	f := flag.NewFlagSet(name, flag.ExitOnError)
	l.register(f)
	f.IntVar(&bytes, "size", size, "message `bytes`")
	f.StringVar(&trusted, "trusted", certificateFile, "the server's certificate, a PEM `file`")
	f.Parse(args)
	if err := l.check(); err != nil {
		return l, 0, "", err
	}
	if bytes < 1 || bytes > maxChunk {
		return l, 0, "", fmt.Errorf("-size must be 1 to %d", maxChunk)
	}
	return l, bytes, trusted, nil
}

// tlsRamp makes one connection after the other: handshakes are not what is measured.
type tlsRamp struct {
	started int
	proven  int // connections that exchanged a message
}

// rampOne begins the next of count connections once all before it are proven; it answers
// whether all are.
func (r *tlsRamp) rampOne(count int, connect func(i int) error, fail func(format string, args ...any)) bool {
	if i := r.started; i < count && i == r.proven {
		r.started++
		if err := connect(i); err != nil {
			fail("connection %d: %v", i, err)
		}
	}
	return r.proven == count
}

// tlsDialer makes TLS connections to one server.
type tlsDialer struct {
	to     peer
	config *tls.Config
	// carried makes those that messages go through. crypto/tls makes their handshakes, and package
	// ktls protects their records, at half the cost: with crypto/tls's own, the load generator and not
	// the server would be at its limit.
	carried *tlsconn.Config
}

// newTLSDialer trusts the certificate in the file trusted, and no other.
func newTLSDialer(addr, trusted string) (tlsDialer, error) {
	to, err := parsePeer(addr)
	if err != nil {
		return tlsDialer{}, err
	}
	roots := x509.NewCertPool()
	text, err := os.ReadFile(trusted)
	if err != nil {
		return tlsDialer{}, err
	}
	if !roots.AppendCertsFromPEM(text) {
		return tlsDialer{}, fmt.Errorf("%s: no certificate in it", trusted)
	}
	config := &tls.Config{
		RootCAs:          roots,
		ServerName:       serverName,
		MinVersion:       tls.VersionTLS13,
		CurvePreferences: curves,
	}
	carried, err := tlsconn.NewConfig(config, tlsconn.Options{Records: tlsconn.Go, Workers: 1})
	return tlsDialer{to, config, carried}, err
}

// dial connects and shakes hands, and answers a socket for the engine.
func (d *tlsDialer) dial() (*tlsWire, *tlsconn.Conn, error) {
	fd, err := d.to.dial()
	if err != nil {
		return nil, nil, err
	}
	wire, err := newTLSWire(fd)
	if err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	secure := d.carried.Client(wire)
	if err := secure.Handshake(); err != nil {
		unix.Close(fd)
		return nil, nil, fmt.Errorf("handshake: %w", err)
	}
	err = asAgreed(secure.ConnectionState())
	if o := secure.Offload(); err == nil && (o.TX != tlsconn.Go || o.RX != tlsconn.Go) {
		err = fmt.Errorf("records: %w", o.Why)
	}
	if err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	if err := wire.carry(); err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	return wire, secure, nil
}

// asAgreed says what a finished handshake is not: full, TLS 1.3, and of our suite.
func asAgreed(s tls.ConnectionState) error {
	if s.Version != tls.VersionTLS13 || s.CipherSuite != suite || s.DidResume {
		return fmt.Errorf("handshake: %s, %s, resumed %t", tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite), s.DidResume)
	}
	return nil
}

// tlsPipe is a TLS connection over an engine, as far as sending is concerned.
type tlsPipe struct {
	engine engine
	index  int // of its slot
	wire   *tlsWire
	secure *tlsconn.Conn
	moving bool // the kernel has not taken all that was sent
	due    bool // something is to be sent when it has
}

// push sends what has been sealed. The engine may need those bytes until
// it has sent them, so what is written in the meantime goes to another buffer.
func (p *tlsPipe) push() {
	if p.due = p.moving; p.due || len(p.wire.out) == 0 {
		return
	}
	out := p.wire.out
	if p.moving = !p.engine.send(p.index, out); p.moving {
		p.wire.out, p.wire.spare = p.wire.spare[:0], out
	} else {
		p.wire.out = out[:0]
	}
}

// taken goes on when the kernel has taken what was pushed.
func (p *tlsPipe) taken() {
	p.moving = false
	if p.due {
		p.push()
	}
}
