package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func runTestOneWay(t *testing.T, engine, addr, folder string, to direction, conns int) *result {
	t.Helper()
	l := limits{addr: addr, conns: conns, duration: 300 * time.Millisecond, warmup: 50 * time.Millisecond}
	l.stall, l.engine = time.Second, engine
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := newOneWayClient(l, to, filepath.Join(folder, certificateFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.run(c, finished); err != nil {
		t.Fatal(err)
	}
	if err := c.engine.close(); err != nil {
		t.Fatal(err)
	}
	return &c.result
}

// sendPieces is the server of a download: it answers what change makes of each piece.
func sendPieces(c net.Conn, change func(number int, piece []byte) []byte) {
	table := make([]byte, patternPeriod)
	if _, err := io.ReadFull(c, table); err != nil {
		return
	}
	gone := make(chan struct{})
	go func() {
		io.Copy(io.Discard, c) // up to the client's goodbye
		close(gone)
	}()
	table = append(append(table, table...), table...)
	for number := 0; ; number++ {
		start := number * onewayPiece % downloadCycle % patternPeriod
		piece := change(number, table[start:start+onewayPiece:start+onewayPiece])
		if _, err := c.Write(piece); err != nil {
			return
		}
		select {
		case <-gone:
			return
		default:
		}
	}
}

// acknowledge is the server of an upload: it adds surplus to each number of bytes.
func acknowledge(c net.Conn, surplus func(position uint64) uint64) {
	p := make([]byte, mib)
	for position := uint64(mib); ; position += mib {
		if _, err := io.ReadFull(c, p); err != nil {
			return
		}
		if _, err := c.Write(binary.BigEndian.AppendUint64(nil, position+surplus(position))); err != nil {
			return
		}
	}
}

func TestOneWay(t *testing.T) {
	servers := map[direction]func(net.Conn){
		download: func(c net.Conn) { sendPieces(c, func(_ int, p []byte) []byte { return p }) },
		upload:   func(c net.Conn) { acknowledge(c, func(uint64) uint64 { return 0 }) },
	}
	for to, handle := range servers {
		addr, folder := startTLSServer(t, handle)
		for _, engine := range engines(t) {
			counts := []int{1}
			if engine == engineEpoll { // the ring's few buffers would be those of the connection that sends most
				counts = append(counts, 3)
			}
			for _, conns := range counts {
				r := runTestOneWay(t, engine, addr, folder, to, conns)
				if r.failed() || r.Messages == 0 || r.TotalBytes < r.Messages*mib {
					t.Errorf("%s, %s, %d: %+v", to, engine, conns, r)
				}
			}
		}
	}
}

// TestUploadIsThePattern: the server of the benchmark compares it with the table that comes first.
func TestUploadIsThePattern(t *testing.T) {
	var wrong atomic.Uint64
	addr, folder := startTLSServer(t, func(c net.Conn) {
		p := make([]byte, mib)
		var table []byte
		for position := uint64(0); ; position += mib {
			if _, err := io.ReadFull(c, p); err != nil {
				return
			}
			if position == 0 {
				table = bytes.Clone(p[:patternPeriod])
			}
			for i := range p {
				if p[i] != table[(position+uint64(i))%patternPeriod] {
					wrong.Add(1)
				}
			}
			c.Write(binary.BigEndian.AppendUint64(nil, position+mib))
		}
	})
	if r := runTestOneWay(t, engineEpoll, addr, folder, upload, 1); r.failed() || wrong.Load() > 0 {
		t.Errorf("%d bytes are wrong: %+v", wrong.Load(), r)
	}
}

func TestOneWayFaultsAreSeen(t *testing.T) {
	at := func(wanted int, change func([]byte) []byte) func(net.Conn) {
		return func(c net.Conn) {
			sendPieces(c, func(number int, piece []byte) []byte {
				if number == wanted {
					return change(piece)
				}
				return piece
			})
		}
	}
	for _, f := range []struct {
		name, text string
		to         direction
		handle     func(net.Conn)
	}{
		{"a bit", "came changed", download, at(20, func(p []byte) []byte {
			changed := append([]byte{}, p...)
			changed[5000] ^= 4
			return changed
		})},
		{"a piece lost", "came changed", download, at(40, func([]byte) []byte { return nil })},
		{"a piece twice", "came changed", download, at(17, func(p []byte) []byte { return append(p, p...) })},
		{"a byte too many", "came changed", download, at(3, func(p []byte) []byte { return append(p, 0) })},
		{"silence", "without progress", download, func(c net.Conn) { io.Copy(io.Discard, c) }},
		{"an end", "the server closed", download, func(c net.Conn) { io.CopyN(io.Discard, c, patternPeriod) }},
		{"too much acknowledged", "acknowledged", upload, func(c net.Conn) {
			acknowledge(c, func(position uint64) uint64 { return position / (3 * mib) })
		}},
		{"nothing acknowledged", "without progress", upload, func(c net.Conn) { io.Copy(io.Discard, c) }},
		{"an end", "the server closed", upload, func(c net.Conn) {
			p := make([]byte, mib)
			io.ReadFull(c, p)
			c.Write(binary.BigEndian.AppendUint64(nil, mib))
		}},
	} {
		for _, engine := range engines(t) {
			t.Run(string(f.to)+", "+f.name+", "+engine, func(t *testing.T) {
				addr, folder := startTLSServer(t, f.handle)
				r := runTestOneWay(t, engine, addr, folder, f.to, 1)
				// An end may also show up as a reset.
				reset := strings.Contains(r.FirstError, "reset") || strings.Contains(r.FirstError, "broken pipe")
				if !r.failed() || !strings.Contains(r.FirstError, f.text) && !reset {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}
