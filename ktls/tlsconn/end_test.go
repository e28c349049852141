package tlsconn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"kloop/ktls"
)

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
