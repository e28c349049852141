package tlsconn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kloop/ktls"
)

// ends are the ways to have this package at one end at least.
func ends() (list [][2]string) {
	for _, m := range modes() {
		list = append(list, [2]string{m, ""}, [2]string{"", m}, [2]string{m, m})
	}
	if modes()[len(modes())-1] == Kernel {
		list = append(list, [2]string{Go, Kernel}, [2]string{Kernel, Go})
	}
	return list
}

// each runs a test for every version and pair of ends.
func each(t *testing.T, test func(t *testing.T, version uint16, clientMode, serverMode string)) {
	for _, v := range versions {
		for _, e := range ends() {
			t.Run(fmt.Sprintf("%s/client=%s/server=%s", strings.ReplaceAll(tls.VersionName(v), " ", ""), e[0], e[1]),
				func(t *testing.T) { test(t, v, e[0], e[1]) })
		}
	}
}

func TestSizes(t *testing.T) {
	each(t, func(t *testing.T, version uint16, clientMode, serverMode string) {
		serverConfig, clientConfig := configs(version)
		client, server := pair(t, clientConfig, serverConfig, clientMode, serverMode)
		for _, n := range []int{0, 1, 2, 100, 16383, 16384, 16385, 100_000, 1 << 20, 16 << 20} {
			exchange(t, client, server, pattern(n))
		}
		check(t, client.Close())
		atEnd(t, server)
		check(t, server.Close())
	})
}

// TestSuites: every suite that crypto/tls offers and this package takes over.
func TestSuites(t *testing.T) {
	for _, c := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if _, err := ktls.SuiteOf(c.ID, ktls.TLS12); err != nil {
			continue
		}
		for _, e := range ends() {
			serverConfig, clientConfig := configs(tls.VersionTLS12)
			serverConfig.CipherSuites, clientConfig.CipherSuites = []uint16{c.ID}, []uint16{c.ID}
			client, server := pair(t, clientConfig, serverConfig, e[0], e[1])
			if got := client.ConnectionState().CipherSuite; got != c.ID {
				t.Fatalf("%s instead of %s", tls.CipherSuiteName(got), c.Name)
			}
			exchange(t, client, server, pattern(100_000))
			check(t, server.Close())
			atEnd(t, client)
		}
	}
}

// TestFallback: what can't be taken over stays with crypto/tls, and says why.
func TestFallback(t *testing.T) {
	for _, id := range []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256} {
		serverConfig, clientConfig := configs(tls.VersionTLS12)
		serverConfig.CipherSuites, clientConfig.CipherSuites = []uint16{id}, []uint16{id}
		a, b := tcpPair(t)
		ours, theirs := side(t, a, clientConfig, true, Go), side(t, b, serverConfig, false, Kernel)
		shake(t, ours, theirs, Auto, Auto)
		for _, c := range []*Conn{ours.(*Conn), theirs.(*Conn)} {
			o := c.Offload()
			var u *ktls.UnsupportedError
			if o.TX != TLS || o.RX != TLS || !errors.As(o.Why, &u) || !strings.Contains(u.Reason, "0xC0") {
				t.Errorf("%s: %+v", tls.CipherSuiteName(id), o)
			}
		}
		exchange(t, ours, theirs, pattern(100_000))
		n, err := ours.(*Conn).ReadFrom(strings.NewReader("through ReadFrom"))
		if n != 16 || err != nil {
			t.Fatal(n, err)
		}
		check(t, ours.CloseWrite())
		var out bytes.Buffer
		if n, err := theirs.(*Conn).WriteTo(&out); n != 16 || err != nil || out.String() != "through ReadFrom" {
			t.Fatal(n, err, out.String())
		}
	}
}

// TestAuto: the kernel where it has TLS; else the reason is named.
func TestAuto(t *testing.T) {
	has := modes()[len(modes())-1] == Kernel
	for _, v := range versions {
		for mode, without := range map[string]string{Auto: Go, Kernel: TLS} {
			serverConfig, clientConfig := configs(v)
			a, b := tcpPair(t)
			config, err := NewConfig(clientConfig, Options{Records: mode})
			check(t, err)
			ours, theirs := config.Client(a), tls.Server(b, serverConfig)
			shake(t, ours, theirs, Auto, "")
			want := without
			if has {
				want = Kernel
			}
			if o := ours.Offload(); o.TX != want || o.RX != want || errors.Is(o.Why, ktls.ErrNotSupported) == has {
				t.Errorf("%q: %+v", mode, o)
			}
			exchange(t, ours, theirs, pattern(1000))
		}
	}
}

// TestPipe: a connection that is no socket.
func TestPipe(t *testing.T) {
	serverConfig, clientConfig := configs(tls.VersionTLS13)
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	config, err := NewConfig(clientConfig, Options{})
	check(t, err)
	client := config.Client(a)
	server := tls.Server(b, serverConfig)
	shake(t, client, server, Auto, "")
	var u *ktls.UnsupportedError
	if o := client.Offload(); o.TX != Go || !errors.As(o.Why, &u) && !errors.Is(o.Why, ktls.ErrNotSupported) {
		t.Errorf("%+v", o)
	}
	exchange(t, client, server, pattern(100_000))
}

func TestOptions(t *testing.T) {
	if _, err := NewConfig(nil, Options{Records: "hardware"}); !errors.Is(err, ErrRecords) {
		t.Error(err)
	}
	serverConfig, clientConfig := configs(tls.VersionTLS13)
	client, server := pair(t, clientConfig, serverConfig, TLS, TLS)
	if o := client.(*Conn).Offload(); o != (Offload{TX: TLS, RX: TLS}) {
		t.Errorf("%+v", o)
	}
	exchange(t, client, server, pattern(1000))
}

// TestHandshakeFeatures: what a handshake may have works, and what it found out
// is kept.
func TestHandshakeFeatures(t *testing.T) {
	each(t, func(t *testing.T, version uint16, clientMode, serverMode string) {
		serverConfig, clientConfig := configs(version)
		clientConfig.Certificates = []tls.Certificate{certificates().ecdsa}
		serverConfig.ClientAuth, serverConfig.ClientCAs = tls.RequireAndVerifyClientCert, certificates().roots
		clientConfig.NextProtos, serverConfig.NextProtos = []string{"x", "h2"}, []string{"h2"}
		if version == tls.VersionTLS13 {
			serverConfig.CurvePreferences = []tls.CurveID{tls.CurveP521} // no key share: a HelloRetryRequest
		}
		chosen := 0
		outer := serverConfig.Clone()
		outer.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			if _, ok := h.Conn.(*net.TCPConn); !ok || h.ServerName != "localhost" {
				return nil, fmt.Errorf("%T, %q", h.Conn, h.ServerName)
			}
			chosen++
			return serverConfig, nil
		}
		outer.Certificates = nil
		var logs [2]lockedBuffer
		serverConfig.KeyLogWriter, clientConfig.KeyLogWriter = &logs[0], &logs[1]
		client, server := pair(t, clientConfig, outer, clientMode, serverMode)
		exchange(t, client, server, pattern(50_000))
		for _, c := range []tlsConn{client, server} {
			s := c.ConnectionState()
			if !s.HandshakeComplete || s.Version != version || s.NegotiatedProtocol != "h2" || len(s.VerifiedChains) != 1 {
				t.Errorf("%+v", s)
			}
			if version == tls.VersionTLS13 && !s.HelloRetryRequest {
				t.Error("no HelloRetryRequest")
			}
			key, err := s.ExportKeyingMaterial("label", nil, 32)
			if err != nil || len(key) != 32 {
				t.Error(err)
			}
		}
		if logs[0].String() == "" || logs[0].String() != logs[1].String() || chosen != 1 {
			t.Errorf("the user's own key logs: %d and %d bytes; configuration chosen %d times", logs[0].Len(), logs[1].Len(), chosen)
		}
		if c, ok := client.(*Conn); ok {
			check(t, c.VerifyHostname("localhost"))
			if c.VerifyHostname("example.org") == nil {
				t.Error("another name is verified")
			}
			if _, ok := c.NetConn().(*net.TCPConn); !ok || c.LocalAddr() == nil || c.RemoteAddr() == nil {
				t.Error("the connection below")
			}
		}
		if s, ok := server.(*Conn); ok && s.VerifyHostname("localhost") == nil {
			t.Error("a server verifies a hostname")
		}
	})
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// TestHandshakeFails as it does without this package, and leaves no key log.
func TestHandshakeFails(t *testing.T) {
	each(t, func(t *testing.T, version uint16, clientMode, serverMode string) {
		serverConfig, clientConfig := configs(version)
		clientConfig.ServerName = "example.org"
		a, b := tcpPair(t)
		client, server := side(t, a, clientConfig, true, clientMode), side(t, b, serverConfig, false, serverMode)
		done := make(chan error, 1)
		go func() {
			_, err := server.Read(make([]byte, 1))
			done <- err
		}()
		var wrong *tls.CertificateVerificationError
		if err := client.Handshake(); !errors.As(err, &wrong) {
			t.Errorf("client: %v", err)
		}
		if err := client.Handshake(); !errors.As(err, &wrong) {
			t.Errorf("client, again: %v", err)
		}
		if a, ok := alertOf(<-done); !ok || a != 42 {
			t.Errorf("the server sees alert %v", a)
		}
		if c, ok := client.(*Conn); ok && (c.tap.log.lines != nil || c.Offload().TX != TLS) {
			t.Errorf("%+v", c.Offload())
		}
	})
}

// TestResumption: tickets reach crypto/tls, also those that come when records
// have been taken over. Resumed connections of TLS 1.2 are not taken over:
// crypto/tls writes no key log for them.
func TestResumption(t *testing.T) {
	each(t, func(t *testing.T, version uint16, clientMode, serverMode string) {
		serverConfig, clientConfig := configs(version)
		clientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		clients, err := NewConfig(clientConfig, Options{Records: clientMode})
		check(t, err)
		servers, err := NewConfig(serverConfig, Options{Records: serverMode})
		check(t, err)
		for round := range 4 {
			a, b := tcpPair(t)
			var client tlsConn = tls.Client(a, clientConfig)
			var server tlsConn = tls.Server(b, serverConfig)
			if clientMode != "" {
				client = clients.Client(a)
			}
			if serverMode != "" {
				server = servers.Server(b)
			}
			if version == tls.VersionTLS12 && round > 0 {
				shake(t, client, server, Auto, Auto)
				for _, c := range []tlsConn{client, server} {
					var u *ktls.UnsupportedError
					if ours, ok := c.(*Conn); ok && (ours.Offload().TX != TLS || !errors.As(ours.Offload().Why, &u)) {
						t.Errorf("%+v", ours.Offload())
					}
				}
			} else {
				shake(t, client, server, clientMode, serverMode)
			}
			exchange(t, client, server, pattern(1000))
			if got := client.ConnectionState().DidResume; got != (round > 0) {
				t.Errorf("connection %d resumes: %v", round, got)
			}
		}
	})
}

// TestKeyUpdates: by either end, with and without a request, in between of data.
func TestKeyUpdates(t *testing.T) {
	for _, e := range ends() {
		if e[0] == "" || e[1] == "" {
			continue // crypto/tls updates only when asked: see below
		}
		serverConfig, clientConfig := configs(tls.VersionTLS13)
		c, s := pair(t, clientConfig, serverConfig, e[0], e[1])
		client, server := c.(*Conn), s.(*Conn)
		for round := range 8 {
			check(t, client.UpdateKey(round&1 == 0))
			if round&2 == 0 {
				check(t, server.UpdateKey(round&4 == 0))
			}
			exchange(t, client, server, pattern(40_000))
		}
		check(t, client.Close())
		atEnd(t, server)
	}
}

// TestKeyUpdateOfCryptoTLS: it answers a request, and its answer is taken.
func TestKeyUpdateOfCryptoTLS(t *testing.T) {
	for _, mode := range modes() {
		for _, e := range [][2]string{{mode, ""}, {"", mode}} {
			serverConfig, clientConfig := configs(tls.VersionTLS13)
			client, server := pair(t, clientConfig, serverConfig, e[0], e[1])
			ours, ok := client.(*Conn)
			if !ok {
				ours = server.(*Conn)
			}
			for round := range 6 {
				check(t, ours.UpdateKey(round%2 == 0))
				exchange(t, client, server, pattern(30_000))
			}
		}
	}
}

// TestKeyUpdateInTime: an old key is replaced by itself, in both directions.
func TestKeyUpdateInTime(t *testing.T) {
	for _, e := range ends() {
		if e[0] == "" || e[1] == "" {
			continue
		}
		serverConfig, clientConfig := configs(tls.VersionTLS13)
		c, s := pair(t, clientConfig, serverConfig, e[0], e[1])
		client, server := c.(*Conn), s.(*Conn)
		if !client.out.kernel {
			continue // its numbers can't be set apart from the peer's
		}
		client.out.sealer.Advance(1 << 23)
		exchange(t, client, server, pattern(100))
		exchange(t, client, server, pattern(100))
		if client.out.sealer.Seq() > 10 {
			t.Errorf("%v: number %d", e, client.out.sealer.Seq())
		}
	}
}

func TestNoKeyUpdate(t *testing.T) {
	serverConfig, clientConfig := configs(tls.VersionTLS12)
	client, server := pair(t, clientConfig, serverConfig, Go, TLS)
	var use *ktls.UseError
	if err := client.(*Conn).UpdateKey(false); !errors.As(err, &use) {
		t.Error(err)
	}
	if err := server.(*Conn).UpdateKey(false); err == nil {
		t.Error("crypto/tls updates keys")
	}
}

// TestCloseWrite: each direction ends by itself.
func TestCloseWrite(t *testing.T) {
	each(t, func(t *testing.T, version uint16, clientMode, serverMode string) {
		serverConfig, clientConfig := configs(version)
		client, server := pair(t, clientConfig, serverConfig, clientMode, serverMode)
		exchange(t, client, server, pattern(10))
		check(t, client.CloseWrite())
		atEnd(t, server)
		atEnd(t, server)
		if n, err := client.Write([]byte("x")); n != 0 || err == nil {
			t.Errorf("%d bytes written behind close_notify: %v", n, err)
		}
		wait := send(server, pattern(100_000))
		got := make([]byte, 100_000)
		_, err := io.ReadFull(client, got)
		check(t, err)
		check(t, wait())
		equal(t, "the other direction", got, pattern(100_000))
		check(t, server.Close())
		atEnd(t, client)
		check(t, client.Close())
		if client.Close() == nil {
			t.Error("closed twice")
		}
		for _, c := range []tlsConn{client, server} {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("read after Close")
			}
			if _, err := c.Write([]byte("x")); err == nil {
				t.Error("written after Close")
			}
		}
	})
}

// TestStreamEnds without close_notify: between records it is an end, within one
// it is none.
func TestStreamEnds(t *testing.T) {
	for _, mode := range modes() {
		for _, v := range versions {
			for _, cut := range []bool{false, true} {
				serverConfig, clientConfig := configs(v)
				a, b := tcpPair(t)
				client, server := side(t, a, clientConfig, true, mode), tls.Server(b, serverConfig)
				shake(t, client, server, mode, "")
				exchange(t, client, server, pattern(10))
				if cut {
					_, err := b.Write([]byte{23, 3, 3, 0, 100, 1, 2, 3})
					check(t, err)
				}
				check(t, b.Close())
				_, err := client.Read(make([]byte, 100))
				want := io.EOF
				if cut {
					want = io.ErrUnexpectedEOF
				}
				if err != want && !(mode == Kernel && cut) { // the kernel says EOF for both
					t.Errorf("%s, cut %v: %v, want %v", mode, cut, err, want)
				}
			}
		}
	}
}

// TestDeadlines: a Read may be repeated, also within a record.
func TestDeadlines(t *testing.T) {
	for _, mode := range modes() {
		for _, v := range versions {
			serverConfig, clientConfig := configs(v)
			a, b := tcpPair(t)
			slow := &gate{Conn: b}
			client, server := side(t, a, clientConfig, true, mode), tls.Server(slow, serverConfig)
			shake(t, client, server, mode, "")
			exchange(t, client, server, pattern(10))
			timeout := func() {
				t.Helper()
				check(t, client.SetReadDeadline(time.Now().Add(-time.Second)))
				if _, err := client.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("%s: %v", mode, err)
				}
				check(t, client.SetReadDeadline(time.Now().Add(testLimit)))
			}
			timeout()
			slow.hold = true
			_, err := server.Write(pattern(1000))
			check(t, err)
			slow.let(t, 500)
			timeout()
			slow.let(t, len(slow.held))
			got := make([]byte, 1000)
			_, err = io.ReadFull(client, got)
			check(t, err)
			equal(t, "data", got, pattern(1000))
			check(t, client.SetWriteDeadline(time.Now().Add(-time.Second)))
			if _, err := client.Write(pattern(100)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v", mode, err)
			}
			check(t, client.SetWriteDeadline(time.Now().Add(testLimit)))
			if _, err := client.Write(pattern(100)); mode == Go && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: a write after one that timed out: %v", mode, err)
			}
		}
	}
}

// gate holds what is written back.
type gate struct {
	net.Conn
	hold bool
	held []byte
}

func (g *gate) Write(p []byte) (int, error) {
	if !g.hold {
		return g.Conn.Write(p)
	}
	g.held = append(g.held, p...)
	return len(p), nil
}

func (g *gate) let(t *testing.T, n int) {
	t.Helper()
	_, err := g.Conn.Write(g.held[:n])
	check(t, err)
	g.held = g.held[n:]
}

// trickle delivers what is written a byte at a time.
type trickle struct{ net.Conn }

func (d trickle) Read(p []byte) (int, error) { return d.Conn.Read(p[:min(1, len(p))]) }

// TestOneByteDelivery: every read below answers one byte, from the handshake on.
func TestOneByteDelivery(t *testing.T) {
	for _, v := range versions {
		serverConfig, clientConfig := configs(v)
		a, b := tcpPair(t)
		client, server := side(t, trickle{a}, clientConfig, true, Go), side(t, trickle{b}, serverConfig, false, Go)
		shake(t, client, server, Go, Go)
		exchange(t, client, server, pattern(17_000))
		check(t, client.Close())
		atEnd(t, server)
	}
}

// TestCloseWakes: Close ends calls that wait, and wipes the keys.
func TestCloseWakes(t *testing.T) {
	for _, mode := range modes() {
		for _, v := range versions {
			serverConfig, clientConfig := configs(v)
			c, _ := pair(t, clientConfig, serverConfig, mode, mode)
			client := c.(*Conn)
			ended := make(chan error, 2)
			var waiting sync.WaitGroup
			waiting.Add(2)
			go func() {
				waiting.Done()
				_, err := client.Read(make([]byte, 100))
				ended <- err
			}()
			go func() {
				waiting.Done()
				for {
					if _, err := client.Write(pattern(1 << 20)); err != nil { // the peer does not read
						ended <- err
						return
					}
				}
			}()
			waiting.Wait()
			_ = client.Close()
			for range 2 {
				if err := <-ended; err == nil {
					t.Error("no error")
				}
			}
			client.in.mu.Lock()
			client.out.mu.Lock()
			if _, err := client.out.sealer.Seal(nil, ktls.TypeData, nil); err == nil {
				t.Error("the sealer has its key")
			}
			if _, err := client.in.opener.Open(make([]byte, 100)); err == nil {
				t.Error("the opener has its key")
			}
			client.out.mu.Unlock()
			client.in.mu.Unlock()
		}
	}
}

// flip changes one bit of a byte that is written.
type flip struct {
	net.Conn
	mu sync.Mutex
	at int // in the next write; -1: none
}

func (f *flip) arm(at int) { f.mu.Lock(); f.at = at; f.mu.Unlock() }

func (f *flip) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at >= 0 && f.at < len(p) {
		p = bytes.Clone(p)
		p[f.at] ^= 4
		f.at = -1
	}
	return f.Conn.Write(p)
}

// TestCorruption: whoever receives a corrupt record refuses it, and both ends
// see bad_record_mac.
func TestCorruption(t *testing.T) {
	for _, v := range versions {
		for _, mode := range modes() {
			for _, fromServer := range []bool{false, true} {
				for _, at := range []int{7, 20} {
					serverConfig, clientConfig := configs(v)
					a, b := tcpPair(t)
					bad := &flip{Conn: a, at: -1}
					clientMode, serverMode := "", mode
					var client, server tlsConn
					if fromServer {
						bad.Conn = b
						clientMode, serverMode = mode, ""
						client, server = side(t, a, clientConfig, true, clientMode), side(t, bad, serverConfig, false, "")
					} else {
						client, server = side(t, bad, clientConfig, true, ""), side(t, b, serverConfig, false, serverMode)
					}
					shake(t, client, server, clientMode, serverMode)
					exchange(t, client, server, pattern(100))
					sender, receiver := client, server
					if fromServer {
						sender, receiver = server, client
					}
					bad.arm(at)
					_, err := sender.Write(pattern(100))
					check(t, err)
					for what, c := range map[string]tlsConn{"receiver": receiver} {
						for range 2 {
							_, err := c.Read(make([]byte, 100))
							if a, ok := alertOf(err); !ok || a != ktls.AlertBadRecordMAC {
								t.Errorf("%s of %s: %v", what, mode, err)
							}
						}
					}
					if _, err := sender.Read(make([]byte, 100)); err == nil {
						t.Error("the sender reads on")
					} else if a, ok := alertOf(err); !ok || a != ktls.AlertBadRecordMAC {
						t.Errorf("sender, to %s: %v", mode, err)
					}
					if _, err := receiver.Write([]byte("x")); err == nil {
						t.Error("written after a bad record")
					}
				}
			}
		}
	}
}

// TestCopy: ReadFrom and WriteTo, from memory, a file and another connection.
func TestCopy(t *testing.T) {
	each(t, func(t *testing.T, version uint16, clientMode, serverMode string) {
		if clientMode == "" || serverMode == "" {
			return
		}
		serverConfig, clientConfig := configs(version)
		client, server := pair(t, clientConfig, serverConfig, clientMode, serverMode)
		data := pattern(3<<20 + 7)
		path := filepath.Join(t.TempDir(), "data")
		check(t, os.WriteFile(path, data, 0o600))
		file, err := os.Open(path)
		check(t, err)
		defer file.Close()
		front, back := pair(t, clientConfig, serverConfig, clientMode, serverMode)
		errs := make(chan error, 2)
		go func() { // file and memory -> client
			n, err := client.(*Conn).ReadFrom(file)
			if err == nil && n != int64(len(data)) {
				err = fmt.Errorf("%d bytes of the file", n)
			}
			if err == nil {
				_, err = client.(*Conn).ReadFrom(bytes.NewReader(data))
			}
			errs <- errors.Join(err, client.CloseWrite())
		}()
		go func() { // server -> front
			_, err := io.Copy(front, server)
			errs <- errors.Join(err, front.CloseWrite())
		}()
		var out bytes.Buffer
		_, err = back.(*Conn).WriteTo(&out)
		check(t, err)
		check(t, errors.Join(<-errs, <-errs))
		equal(t, "copied", out.Bytes(), append(bytes.Clone(data), data...))
	})
}

// TestManyGoroutines: both directions are used at once, with keys updated; run
// it with the race detector.
func TestManyGoroutines(t *testing.T) {
	for _, mode := range modes() {
		serverConfig, clientConfig := configs(tls.VersionTLS13)
		c, s := pair(t, clientConfig, serverConfig, mode, mode)
		var group sync.WaitGroup
		for _, conn := range []*Conn{c.(*Conn), s.(*Conn)} {
			for range 4 {
				group.Go(func() {
					for i := range 20 {
						if _, err := conn.Write(pattern(5000)); err != nil {
							t.Error(err)
						}
						// Few requests: their answers may come without data in between.
						if err := conn.UpdateKey(i%5 == 0); err != nil {
							t.Error(err)
						}
						_ = conn.Offload()
						_ = conn.ConnectionState()
					}
				})
			}
			group.Go(func() {
				if n, err := io.CopyN(io.Discard, struct{ io.Reader }{conn}, 4*20*5000); err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
			})
		}
		group.Wait()
	}
}
