package core

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// peer is the other end of a file: it reads, writes, ends and resets at random times.
type peer struct {
	k         *kernel
	f         *file
	actions   int // that are left
	scheduled bool
}

// Datagrams that wait for the engine at most, and the most bytes of one.
const (
	datagramsWaiting = 12
	datagramSizeMost = 512
)

// peerPause bounds the time between two actions of a peer.
const peerPause = 300 * time.Microsecond

// begin has the peer act a number of times.
func (p *peer) begin(actions int) {
	p.actions = actions
	p.wake()
}

// wake has the peer act once more.
func (p *peer) wake() {
	if !p.scheduled {
		p.scheduled = true
		p.k.after(peerPause, p.act)
	}
}

func (p *peer) act() {
	p.scheduled = false
	if !p.f.open {
		return
	}
	if p.k.calm {
		p.read(p.f.out.left())
		return
	}
	switch n := p.k.random.IntN(100); {
	case n < 40:
		p.write(p.k.size(8 << 10))
	case n < 80:
		p.read(p.k.size(16 << 10))
	case n < 88:
		p.read(p.f.out.left())
	case n < 91:
		p.end()
	case n < 93 && p.k.chance(10*p.k.faults.reset):
		p.reset()
	}
	if p.actions--; p.actions > 0 {
		p.wake()
	}
}

func (f *file) connected() bool { return f.connect == connectNone || f.connect == connectDone }

// write sends bytes, a datagram or an event.
func (p *peer) write(n int) {
	f := p.f
	switch f.kind {
	case streamFile, pipeReadFile, deviceFile:
		if !f.in.ended && f.connected() {
			f.noWriter = false
			f.in.given += max(min(n, f.in.room()), 0)
		}
	case datagramFile:
		if len(f.inbox) < datagramsWaiting {
			f.inbox = append(f.inbox, n%datagramSizeMost)
		}
	case flagFile:
		f.ready |= 1 << (n % 3) // POLLIN, POLLPRI, POLLOUT
	}
}

// read takes bytes, or datagrams: all if it can take all bytes.
func (p *peer) read(n int) {
	f := p.f
	n = min(n, f.out.left())
	f.out.taken += n
	if f.outbox > 0 {
		f.outbox = (f.outbox - 1) / 2
	}
	if p.k.calm && f.outbox > 0 {
		p.wake()
	}
}

// end says that the peer will send no more, or read no more.
func (p *peer) end() {
	switch f := p.f; f.kind {
	case streamFile:
		if f.connected() {
			f.in.ended = true
		}
	case pipeReadFile, deviceFile:
		f.in.ended, f.noWriter = true, false
	case pipeWriteFile:
		f.broken = true
	}
}

func (p *peer) reset() {
	switch f := p.f; f.kind {
	case streamFile:
		if f.connected() && !f.broken {
			f.reset(syscall.ECONNRESET)
		}
	case datagramFile:
		f.errno = syscall.ECONNREFUSED
	case flagFile:
		f.ready |= unix.POLLERR
	}
}
