package core

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

// answering sends datagrams back, prefixed, and ends the loop after the first that ends in "!".
type answering struct {
	mailbox
	loop *Loop
}

func (a *answering) ReceivedFrom(d *Datagram, p, from []byte) {
	a.mailbox.ReceivedFrom(d, p, from)
	if len(p) > 0 && p[len(p)-1] == '!' {
		a.loop.Stop()
		return
	}
	if err := d.SendTo(append([]byte("re: "), p...), from); err != nil {
		a.t.Error(err)
	}
}

func newLoop(t *testing.T, driver DriverName) *Loop {
	t.Helper()
	loop, err := NewLoop(LoopOptions{Driver: driver, Uring: UringOptions{SQPollCPU: -1}})
	if err != nil {
		t.Fatal(err)
	}
	return loop
}

func forBothDrivers(t *testing.T, name string, test func(t *testing.T, driver DriverName)) {
	for _, driver := range []DriverName{DriverIOUring, DriverEpoll} {
		t.Run(name+" "+string(driver), func(t *testing.T) { test(t, driver) })
	}
}

func TestListenPacket(t *testing.T) {
	for _, c := range []struct{ network, address, dial string }{
		{"udp", "127.0.0.1:0", "udp4"},
		{"udp4", ":0", "udp4"},
		{"udp", ":0", "udp4"},
		{"udp6", "[::1]:0", "udp6"},
	} {
		forBothDrivers(t, c.network+" "+c.address, func(t *testing.T, driver DriverName) {
			fds := openFDs(t)
			loop := newLoop(t, driver)
			a := &answering{mailbox: mailbox{t: t}, loop: loop}
			d, err := loop.ListenPacket(c.network, c.address, a)
			if err != nil {
				t.Fatal(err)
			}
			host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
			if c.dial == "udp6" {
				host = netip.IPv6Loopback()
			}
			peer, err := net.DialUDP(c.dial, nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, d.Addr().Port())))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				p := make([]byte, 100)
				_, err := peer.Write([]byte("hello"))
				n, err2 := peer.Read(p)
				_, err3 := peer.Write([]byte("!"))
				if err := errors.Join(err, err2, err3); err != nil || string(p[:n]) != "re: hello" {
					t.Errorf("peer: %q, %v", p[:n], err)
				}
			}()
			if err := loop.Run(context.Background()); err != nil {
				t.Error(err)
			}
			from := AddrOf(a.from[0])
			if want := peer.LocalAddr().(*net.UDPAddr).AddrPort(); from.Port() != want.Port() || from.Addr().Unmap() != want.Addr().Unmap() {
				t.Errorf("from %v, want %v", from, want)
			}
			if err := errors.Join(loop.Close(), peer.Close()); err != nil || !a.closed {
				t.Errorf("closed %v, %v", a.closed, err)
			}
			if got := openFDs(t); got > fds {
				t.Errorf("%d file descriptors before, %d after", fds, got)
			}
		})
	}
}

func TestListenPacketErrors(t *testing.T) {
	loop := newLoop(t, DriverAuto)
	defer func() {
		if err := loop.Close(); err != nil {
			t.Error(err)
		}
	}()
	taken, err := loop.ListenPacket("udp", "127.0.0.1:0", &mailbox{t: t})
	if err != nil {
		t.Fatal(err)
	}
	var unknown net.UnknownNetworkError
	if _, err := loop.ListenPacket("tcp", ":0", nil); !errors.As(err, &unknown) {
		t.Errorf("network tcp: %v", err)
	}
	if _, err := loop.ListenPacket("udp", "127.0.0.1", nil); err == nil {
		t.Error("an address without a port")
	}
	if _, err := loop.ListenPacket("udp", taken.Addr().String(), nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a port in use: %v", err)
	}
}

func TestRawAddr(t *testing.T) {
	for text, want := range map[string]string{
		"1.2.3.4:5":            "1.2.3.4:5",
		"[::1]:65535":          "[::1]:65535",
		"[fe80::1%7]:9":        "[fe80::1%7]:9",
		"[fe80::1%lo]:9":       "[fe80::1%1]:9",
		"[::ffff:1.2.3.4]:123": "[::ffff:1.2.3.4]:123",
	} {
		raw, err := RawAddr(netip.MustParseAddrPort(text))
		if err != nil || AddrOf(raw).String() != want {
			t.Errorf("%s: %v, %v", text, AddrOf(raw), err)
		}
	}
	if _, err := RawAddr(netip.MustParseAddrPort("[fe80::1%nothing]:9")); err == nil {
		t.Error("a zone that does not exist")
	}
	if AddrOf([]byte("\x01\x00/a/path")).IsValid() || AddrOf(nil).IsValid() {
		t.Error("a Unix socket's address is valid")
	}
}
