package tlsconn

import (
	"crypto/tls"
	"fmt"
	"io"
	"testing"
)

// BenchmarkEcho compares with crypto/tls at both ends: "tls" is crypto/tls.
func BenchmarkEcho(b *testing.B) {
	for _, version := range versions {
		for _, size := range []int{1 << 10, 16 << 10, 100 << 10} {
			for _, mode := range append([]string{TLS}, modes()...) {
				b.Run(fmt.Sprintf("%x/%dKiB/%s", version, size>>10, mode), func(b *testing.B) { benchEcho(b, version, size, mode) })
			}
		}
	}
}

func benchEcho(b *testing.B, version uint16, size int, mode string) {
	serverConfig, clientConfig := configs(version)
	client, server := pair(b, clientConfig, serverConfig, mode, mode)
	go func() {
		p := make([]byte, size)
		for {
			if _, err := io.ReadFull(server, p); err != nil {
				return
			}
			if _, err := server.Write(p); err != nil {
				return
			}
		}
	}()
	p := pattern(size)
	b.SetBytes(2 * int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(client, p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStream is one way, 1 MiB at a time.
func BenchmarkStream(b *testing.B) {
	for _, mode := range append([]string{TLS}, modes()...) {
		b.Run(mode, func(b *testing.B) {
			serverConfig, clientConfig := configs(tls.VersionTLS13)
			client, server := pair(b, clientConfig, serverConfig, mode, mode)
			done := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, server)
				done <- err
			}()
			p := pattern(1 << 20)
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Write(p); err != nil {
					b.Fatal(err)
				}
			}
			check(b, client.CloseWrite())
			check(b, <-done)
		})
	}
}

// BenchmarkHandshake has what taking records over costs beside the handshake.
func BenchmarkHandshake(b *testing.B) {
	for _, version := range versions {
		for _, mode := range append([]string{TLS}, modes()...) {
			b.Run(fmt.Sprintf("%x/%s", version, mode), func(b *testing.B) {
				serverConfig, clientConfig := configs(version)
				for b.Loop() {
					client, server := pair(b, clientConfig, serverConfig, mode, mode)
					client.Close()
					server.Close()
				}
			})
		}
	}
}
