package tlsconn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"kloop/ktls"
)

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
