package dns

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	wire "github.com/miekg/dns"
)

// fixedServer answers every question for A with one address, with as little work as can be.
func fixedServer(b *testing.B) *scripted {
	s := &scripted{}
	var err error
	if s.udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		b.Fatal(err)
	}
	s.addr = s.udp.LocalAddr().(*net.UDPAddr).AddrPort()
	b.Cleanup(func() { _ = s.udp.Close() })
	record := []byte{0xc0, headerSize, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 192, 0, 2, 1}
	go func() {
		p := make([]byte, 1<<12)
		for {
			n, from, err := s.udp.ReadFrom(p)
			if err != nil {
				return
			}
			p[2], p[3], p[7] = 0x81, 0x80, 1
			_, _ = s.udp.WriteTo(append(p[:n], record...), from)
		}
	}()
	return s
}

// Distinct names, none of them known, 256 at a time.
func BenchmarkNames(b *testing.B) {
	r := resolverOf(b, nil, fixedServer(b))
	places := make(chan struct{}, 256)
	var all sync.WaitGroup
	for i := range b.N {
		places <- struct{}{}
		all.Go(func() {
			if _, err := r.Resolve(context.Background(), fmt.Sprintf("n%d.example", i), wire.TypeA); err != nil {
				b.Error(err)
			}
			<-places
		})
	}
	all.Wait()
}

func BenchmarkCachedName(b *testing.B) {
	r := resolverOf(b, nil, fixedServer(b))
	ctx := context.Background()
	for b.Loop() {
		if _, err := r.Resolve(ctx, "www.example", wire.TypeA); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGetaddrinfoCached(b *testing.B) {
	r := resolverOf(b, nil, fixedServer(b))
	host, port := "www.example", "80"
	for b.Loop() {
		if _, err := r.Getaddrinfo(context.Background(), &host, &port, Hints{Family: 2, SockType: 1}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGetaddrinfoLocalhost(b *testing.B) {
	r := resolverOf(b, func(c *Config) { c.Hosts = hostsOf(b, "127.0.0.1 localhost\n::1 localhost\n") }, fixedServer(b))
	host, port := "localhost", "80"
	for b.Loop() {
		if _, err := r.Getaddrinfo(context.Background(), &host, &port, Hints{SockType: 1}); err != nil {
			b.Fatal(err)
		}
	}
}

// What the bridge does for a name that the hosts file knows.
func BenchmarkAtOnceLocalhost(b *testing.B) {
	r := resolverOf(b, func(c *Config) { c.Hosts = hostsOf(b, "127.0.0.1 localhost\n::1 localhost\n") }, fixedServer(b))
	host, port := "localhost", "80"
	r.readFiles()
	for b.Loop() {
		l := NewLookup(r, func(ctx context.Context) int {
			infos, err := r.Getaddrinfo(ctx, &host, &port, Hints{SockType: 1})
			if err != nil {
				b.Fatal(err)
			}
			return len(infos)
		})
		if n, known := l.AtOnce(); n != 2 || !known {
			b.Fatal(n, known)
		}
	}
}
