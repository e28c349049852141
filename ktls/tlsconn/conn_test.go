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
