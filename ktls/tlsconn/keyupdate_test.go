package tlsconn

import (
	"crypto/tls"
	"errors"
	"testing"

	"kloop/ktls"
)

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
