package core

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// stream is n bytes from offset at of an endless stream that is different for each
// seed: what is lost, repeated or swapped shows.
func stream(seed, at, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		word := uint64(at+i)/8 + uint64(seed)<<40
		word = (word ^ word>>30) * 0xbf58476d1ce4e5b9
		word = (word ^ word>>27) * 0x94d049bb133111eb
		p[i] = byte((word ^ word>>31) >> (8 * (uint64(at+i) % 8)))
	}
	return p
}

// party is one connection of the random test, and what is known of it.
type party struct {
	seed     int
	c        *Conn
	r        *recorder
	peer     int
	written  int // by us
	peerGot  int
	peerSent int
	ourEnd   bool // WriteEOF, Close or Abort
	aborted  bool // bytes may be lost
	peerEnd  bool
	peerGone bool
	checked  int // bytes received and compared
}

// randomWorld does random things to connections and compares every byte.
type randomWorld struct {
	*world
	random  *rand.Rand
	parties []*party
	made    int
}

const (
	randomSeeds    = 2
	randomParties  = 12
	randomSteps    = 4000
	randomSizeMax  = 300_000
	randomTransfer = 1 << 30 // read what is there
)

func TestRandomOperations(t *testing.T) {
	for name, options := range modes {
		for seed := range uint64(randomSeeds) {
			t.Run(fmt.Sprintf("%s/seed %d", name, seed), func(t *testing.T) {
				options.Buffers, options.BufferSize = 8, 4096
				w := &randomWorld{world: newWorld(t, options), random: rand.New(rand.NewPCG(seed, 1))}
				for range randomParties {
					w.add()
				}
				for range randomSteps {
					w.step()
				}
				w.finish()
			})
		}
	}
}

func (w *randomWorld) add() {
	c, r, peer := w.conn()
	if err := unix.SetNonblock(peer, true); err != nil {
		w.t.Fatal(err)
	}
	w.made++
	w.parties = append(w.parties, &party{seed: w.made, c: c, r: r, peer: peer})
}

func (w *randomWorld) size() int {
	if w.random.IntN(4) == 0 {
		return w.random.IntN(randomSizeMax)
	}
	return w.random.IntN(2000)
}

// step does one random thing.
func (w *randomWorld) step() {
	p := w.parties[w.random.IntN(len(w.parties))]
	switch n := w.random.IntN(1000); {
	case n < 250:
		w.ourWrite(p, false)
	case n < 300:
		w.ourWrite(p, true)
	case n < 350:
		p.c.SendNow()
	case n < 500:
		w.peerWrite(p)
	case n < 650:
		w.peerRead(p, w.size())
	case n < 690:
		p.c.Pause()
	case n < 740:
		p.c.Resume()
	case n < 990:
		w.poll(0)
	case n < 992:
		w.e.Leave()
	default:
		w.end(p, n-992)
	}
	w.check(p)
	if p.r.closed {
		w.replace(p)
	}
}

// end begins the end of a connection, in one of many ways.
func (w *randomWorld) end(p *party, how int) {
	switch how {
	case 0, 1:
		p.ourEnd = true
		p.c.WriteEOF()
	case 2, 3:
		p.ourEnd = true
		p.c.Close()
	case 4:
		p.ourEnd, p.aborted = true, true
		p.c.Abort()
	case 5, 6:
		if !p.peerGone && !p.peerEnd {
			p.peerEnd = true
			_ = unix.Shutdown(p.peer, unix.SHUT_WR)
		}
	case 7:
		if !p.peerGone {
			p.peerGone, p.aborted = true, true
			reset(w.t, p.peer)
		}
	}
}

func (w *randomWorld) ourWrite(p *party, owned bool) {
	if p.ourEnd || p.c.Queued() > 4*randomSizeMax {
		return
	}
	data := stream(p.seed, p.written, w.size())
	p.written += len(data)
	if owned {
		w.write(p.c, data)
	} else {
		p.c.Write(data)
	}
}

func (w *randomWorld) peerWrite(p *party) {
	if p.peerEnd || p.peerGone {
		return
	}
	n, err := unix.Write(p.peer, stream(-p.seed, p.peerSent, w.size()))
	if err == nil {
		p.peerSent += n
	} else if err != unix.EAGAIN && !p.ourEnd && !p.aborted {
		w.t.Fatalf("peer: write: %v", err)
	}
}

func (w *randomWorld) peerRead(p *party, n int) (end bool) {
	if p.peerGone {
		return true
	}
	buffer := make([]byte, min(n, 1<<20)+1)
	n, err := unix.Read(p.peer, buffer)
	if err != nil {
		if err != unix.EAGAIN && !p.ourEnd {
			w.t.Fatalf("peer: read: %v", err)
		}
		return err != unix.EAGAIN
	}
	if !bytes.Equal(buffer[:n], stream(p.seed, p.peerGot, n)) {
		w.t.Fatalf("the peer of %d got other bytes than were sent, from byte %d on", p.seed, p.peerGot)
	}
	p.peerGot += n
	return n == 0
}

// check compares what was received since the last check.
func (w *randomWorld) check(p *party) {
	got := p.r.got.Bytes()
	if !bytes.Equal(got, stream(-p.seed, p.checked, len(got))) {
		w.t.Fatalf("connection %d got other bytes than were sent, from byte %d on", p.seed, p.checked)
	}
	p.checked += len(got)
	p.r.got.Reset()
}

// replace puts a new connection in the place of one that is closed.
func (w *randomWorld) replace(old *party) {
	if !old.peerGone {
		if !old.aborted && old.r.err == nil {
			w.drain(old)
		}
		CloseDescriptor(old.peer)
	}
	w.add()
	last := len(w.parties) - 1
	for i, p := range w.parties {
		if p == old {
			w.parties[i] = w.parties[last]
		}
	}
	w.parties = w.parties[:last]
}

// drain reads what was sent before an end that was asked for. A reset may stand in
// for the end of the stream when we closed with bytes unread.
func (w *randomWorld) drain(p *party) {
	for p.peerGot < p.written {
		before := p.peerGot
		if w.peerRead(p, randomTransfer) && p.peerGot == before {
			break
		}
	}
	if p.peerGot != p.written && p.checked == p.peerSent {
		w.t.Fatalf("connection %d closed with %d of %d bytes sent", p.seed, p.peerGot, p.written)
	}
}

// finish has every stream arrive in full, then closes everything.
func (w *randomWorld) finish() {
	for _, p := range w.parties {
		p.c.Resume()
		if p.aborted || p.c.closing != closeOpen {
			continue
		}
		w.until("all bytes arrive", func() bool {
			w.peerRead(p, randomTransfer)
			w.check(p)
			return p.peerGot == p.written && p.checked == p.peerSent || p.r.closed
		})
		if p.r.closed {
			w.t.Fatalf("connection %d ended by itself: %v", p.seed, p.r.err)
		}
	}
	for _, p := range w.parties {
		p.c.Abort()
		w.until("it closes", func() bool { return p.r.closed })
		if !p.peerGone {
			CloseDescriptor(p.peer)
		}
	}
}
