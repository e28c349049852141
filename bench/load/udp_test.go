package main

import (
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// startUDPServer hands each datagram to answer, which answers what is sent back.
func startUDPServer(t *testing.T, answer func(number int, p []byte) [][]byte) string {
	t.Helper()
	s, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	go func() {
		defer close(done)
		b := make([]byte, maxDatagram)
		for number := 0; ; number++ {
			n, from, err := s.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			for _, p := range answer(number, b[:n]) {
				if _, err := s.WriteToUDPAddrPort(p, from); err != nil {
					return
				}
			}
		}
	}()
	return s.LocalAddr().String()
}

func runTestUDP(t *testing.T, engine, addr string, conns, size int) *result {
	t.Helper()
	l := limits{addr: addr, conns: conns, duration: 800 * time.Millisecond, warmup: 50 * time.Millisecond}
	l.stall, l.engine = time.Second, engine
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := newUDPClient(l, size)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.run(c, finished); err != nil {
		t.Fatal(err)
	}
	c.judgeLosses()
	if err := c.engine.close(); err != nil {
		t.Fatal(err)
	}
	return &c.result
}

func TestUDP(t *testing.T) {
	addr := startUDPServer(t, func(_ int, p []byte) [][]byte { return [][]byte{p} })
	for _, c := range []struct{ conns, size int }{{1, datagramHead}, {10, 1024}, {5, 16 << 10}} {
		for _, engine := range engines(t) {
			r := runTestUDP(t, engine, addr, c.conns, c.size)
			if r.failed() || r.Messages == 0 || r.Lost > 0 || r.Engine != engine {
				t.Errorf("%s: %d of %d bytes: %+v", engine, c.conns, c.size, r)
			}
		}
	}
}

func TestUDPLossesAreCounted(t *testing.T) {
	const one = 700 // far less than the limit, often enough to be seen
	for _, engine := range engines(t) {
		addr := startUDPServer(t, func(number int, p []byte) [][]byte {
			if number%one == one-1 {
				return nil
			}
			return [][]byte{p}
		})
		if r := runTestUDP(t, engine, addr, 10, 512); r.failed() || r.Lost == 0 || r.Late > 0 {
			t.Errorf("%s: %+v", engine, r)
		}
	}
}

func TestLateDatagramsAreToldFromDuplicates(t *testing.T) {
	for _, engine := range engines(t) {
		var kept []byte
		addr := startUDPServer(t, func(number int, p []byte) [][]byte {
			switch {
			case number == 200:
				kept = append([]byte(nil), p...)
				return nil
			case kept != nil:
				late := kept
				kept = nil
				return [][]byte{late, p}
			}
			return [][]byte{p}
		})
		// One socket: the next datagram is sent when that one is given up, and
		// the late answer comes before the next one's.
		if r := runTestUDP(t, engine, addr, 1, 512); r.failed() || r.Lost != 1 || r.Late != 1 {
			t.Errorf("%s: %+v", engine, r)
		}
	}
}

func TestUDPFaultsAreSeen(t *testing.T) {
	const from = 100
	others := map[byte][]byte{} // the last datagram of each connection
	for _, f := range []struct {
		text   string
		answer func(number int, p []byte) [][]byte
	}{
		{"never sent here", func(number int, p []byte) [][]byte {
			if number >= from {
				p[len(p)-1] ^= 1
			}
			return [][]byte{p}
		}},
		{"bytes instead of", func(number int, p []byte) [][]byte {
			return [][]byte{p[:len(p)-number/from]}
		}},
		{"came again", func(number int, p []byte) [][]byte {
			if number == from {
				return [][]byte{p, p}
			}
			return [][]byte{p}
		}},
		{"never sent here", func(number int, p []byte) [][]byte { // the answer of another connection
			index := p[datagramHead-1]
			others[index] = append([]byte(nil), p...)
			if number >= from {
				return [][]byte{others[1-index]}
			}
			return [][]byte{p}
		}},
		{"were lost", func(number int, p []byte) [][]byte {
			if number%10 == 0 && number > from {
				return nil
			}
			return [][]byte{p}
		}},
		{"in a row were lost", func(number int, p []byte) [][]byte {
			if number > from {
				return nil
			}
			return [][]byte{p}
		}},
		{"empty datagram", func(number int, p []byte) [][]byte {
			if number == from {
				return [][]byte{{}}
			}
			return [][]byte{p}
		}},
	} {
		for _, engine := range engines(t) {
			t.Run(engine+" "+f.text, func(t *testing.T) {
				r := runTestUDP(t, engine, startUDPServer(t, f.answer), 2, 1024)
				if !r.failed() || !strings.Contains(r.FirstError, f.text) {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}
