package core

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

func packetPair(t *testing.T, l *Loop) (server *NetPacketConn, client *NetPacketConn) {
	t.Helper()
	server, err := l.ListenPacketConn("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client, err = l.DialPacket(server.LocalAddr().(*net.UDPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = server.Close(), client.Close() })
	return server, client
}

func TestNetPacketConnKeepsDatagramsWhole(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		server, client := packetPair(t, l)
		p := make([]byte, 1<<16)
		for _, size := range []int{0, 1, 1200, 65507} {
			sent := pattern(size, size)
			if n, err := client.Write(sent); n != size || err != nil {
				t.Fatalf("Write: %d, %v", n, err)
			}
			n, from, err := server.ReadFrom(p)
			if err != nil || !bytes.Equal(p[:n], sent) || from.String() != client.LocalAddr().String() {
				t.Fatalf("%d bytes of %d from %v, %v", n, size, from, err)
			}
			if _, err := server.WriteTo(p[:n], from); err != nil {
				t.Fatal(err)
			}
			if n, err := client.Read(p[:100]); err != nil || !bytes.Equal(p[:n], sent[:min(size, 100)]) {
				t.Fatalf("the answer: %d bytes, %v", n, err)
			}
		}
		if _, err := client.Write(make([]byte, 65508)); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("a datagram too large: %v", err)
		}
		if _, err := client.WriteTo(nil, server.LocalAddr()); !errors.Is(err, net.ErrWriteToConnected) {
			t.Errorf("WriteTo: %v", err)
		}
		if _, err := server.Write(nil); !errors.Is(err, syscall.EDESTADDRREQ) {
			t.Errorf("Write without a peer: %v", err)
		}
	})
}

// closedDatagrams says whether the core has closed c's socket.
func (l *Loop) closedDatagrams(c *NetPacketConn) (gone bool) {
	l.call(func() { gone = c.endpoint.gone })
	return gone
}

func TestNetPacketConnTellsARefusal(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		server, client := packetPair(t, l)
		_ = server.Close()
		end := time.Now().Add(patience)
		for !l.closedDatagrams(server) {
			if time.Now().After(end) {
				t.Fatal("the server is never closed")
			}
		}
		if _, err := client.Write([]byte("anyone?")); err != nil {
			t.Fatal(err)
		}
		if err := client.SetReadDeadline(end); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Read(make([]byte, 9)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Read: %v", err)
		}
	})
}

func TestNetPacketConnWaitsUntilItsDeadlineOrClose(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		server, client := packetPair(t, l)
		if err := server.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := server.ReadFrom(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("ReadFrom: %v", err)
		}
		if err := server.SetWriteDeadline(time.Now().Add(-1)); err != nil {
			t.Fatal(err)
		}
		if _, err := server.WriteTo(nil, client.LocalAddr()); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("WriteTo: %v", err)
		}
		read := make(chan error)
		go func() { _, err := client.Read(nil); read <- err }()
		_ = client.Close()
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read: %v", err)
		}
		for _, err := range []error{client.Close(), client.SetDeadline(time.Time{}), client.send(nil, nil, nil)} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
	})
}

// A reader that is slow makes the kernel drop datagrams, and not the core hold them.
func TestNetPacketConnHoldsABound(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		server, client := packetPair(t, l)
		state := func() (held int, paused bool) {
			server.mu.Lock()
			defer server.mu.Unlock()
			return server.inSize, server.paused
		}
		// The kernel drops what comes while the loop has no core to run on.
		for _, paused := state(); !paused; _, paused = state() {
			if _, err := client.Write(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		var writers sync.WaitGroup
		for range 4 {
			writers.Go(func() {
				for range 1000 {
					if _, err := client.Write(make([]byte, 1000)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		writers.Wait()
		if held, paused := state(); !paused || held > 4*netHighWater {
			t.Errorf("%d bytes held, paused: %v", held, paused)
		}
		p := make([]byte, 2000)
		for range netHighWater / (1000 + packetOverhead) {
			if n, err := server.Read(p); n != 1000 || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
		}
	})
}

func TestNetPacketConnFamilies(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		both, err := l.ListenPacketConn("udp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = both.Close() }()
		port := both.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		for _, host := range []string{"127.0.0.1", "::1"} {
			client, err := l.DialPacket(netip.AddrPortFrom(netip.MustParseAddr(host), port))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			if _, err := client.Write([]byte(host)); err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 20)
			n, from, err := both.ReadFromUDPAddrPort(p)
			if err != nil || string(p[:n]) != host || from.Addr().Unmap().String() != host {
				t.Errorf("%q from %v, %v", p[:n], from, err)
			}
			if _, err := both.WriteToUDPAddrPort(p[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port())); err != nil {
				t.Error(err)
			}
			if n, err := client.Read(p); string(p[:n]) != host || err != nil {
				t.Errorf("%q, %v", p[:n], err)
			}
		}
	})
}
