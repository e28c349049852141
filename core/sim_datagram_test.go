package core

import (
	"bytes"
	"syscall"
)

// simDatagrams is a datagram endpoint, and what is known of it.
type simDatagrams struct {
	base
	d       *Datagram
	sends   int // datagrams that the kernel has been, or will be, given
	direct  int // of these, those sent at once
	gone    int // of the queued ones, those that left
	got     int
	paused  bool
	closed  bool
	aborted bool
	ended   bool
	ownsFD  bool
	calling bool // SendTo or QueueOwned is running
}

var (
	_ actor           = (*simDatagrams)(nil)
	_ DatagramHandler = (*simDatagrams)(nil)
)

func (s *simulation) addDatagrams() {
	f := s.k.add(datagramFile)
	f.unix = s.k.chance(0.3)
	p := &simDatagrams{base: base{s, f}, paused: true, ownsFD: s.k.chance(0.5)}
	var err error
	if p.d, err = s.e.AdoptDatagram(f.fd, p); err != nil {
		if err != syscall.ENOMEM {
			violate("AdoptDatagram: %v", err)
		}
		s.k.close(f.fd)
		return
	}
	p.d.ownsFD = p.ownsFD
	f.actor = p
	s.actors = append(s.actors, p)
	f.peer.begin(s.k.between(0, 20))
	p.resume()
}

func (p *simDatagrams) over() bool { return p.ended }

func (p *simDatagrams) act() {
	if p.ended {
		return
	}
	switch n := p.s.random.IntN(100); {
	case n < 40:
		for range p.s.k.size(6) {
			p.sendTo()
		}
	case n < 60:
		for range p.s.k.size(6) {
			p.queueOwned()
		}
	case n < 70:
		p.d.Pause()
		p.paused = p.paused || !p.closed && !p.aborted
	case n < 90:
		p.resume()
	case n < 93:
		p.d.Close()
		p.closed = true
	case n < 95:
		p.abort()
	case n < 97 && p.s.d.thread == p.s.d.current:
		p.aborted = true
		if p.s.block(p.d.End); !p.ended {
			violate("fd %d: End has returned before DatagramClosed", p.f.fd)
		}
	}
}

func (p *simDatagrams) next() []byte {
	return patternOf(p.f.out.key, p.sends, p.s.random.IntN(datagramSizeMost))
}

func (p *simDatagrams) sendTo() {
	data := p.next()
	before := p.f.sent
	p.calling = true
	err := p.d.SendTo(data, p.f.address())
	p.calling = false
	errno, _ := err.(syscall.Errno)
	switch {
	case p.closed || p.aborted:
		if err != ErrClosed {
			violate("fd %d: SendTo answers %v after the end", p.f.fd, err)
		}
		return
	case err != nil && !p.f.told[errno]:
		violate("fd %d: SendTo answers %v, which is not so", p.f.fd, err)
	case err != nil && p.f.sent == before:
		violate("fd %d: SendTo answers %v for a datagram that the kernel did not see", p.f.fd, err)
	}
	p.sends++
	if p.f.sent > before {
		p.direct++
	}
}

func (p *simDatagrams) queueOwned() {
	data := p.next()
	refused := p.closed || p.aborted
	number := p.sends
	memory, owner := p.s.own(data, func() {
		if p.f.sent <= number && !refused && p.d.closing != closeAborting {
			violate("fd %d: a datagram is released before it is sent", p.f.fd)
		}
	})
	if !refused {
		p.sends++
	}
	p.d.QueueOwned(memory, p.f.address(), owner)
}

func (p *simDatagrams) resume() {
	p.d.Resume()
	p.paused = p.paused && (p.closed || p.aborted)
}

func (p *simDatagrams) abort() {
	p.d.Abort()
	p.aborted = true
}

func (p *simDatagrams) submitted(op *Op) {
	switch {
	case p.ended:
		violate("fd %d is used after its end", p.f.fd)
	case op.Kind == OpReceiveDatagrams && (p.paused || p.closed || p.aborted):
		violate("fd %d is received from though nobody wants it", p.f.fd)
	}
}

func (p *simDatagrams) alive() {
	if p.ended {
		violate("fd %d: a handler is called after DatagramClosed", p.f.fd)
	}
}

func (p *simDatagrams) ReceivedFrom(_ *Datagram, data, from []byte) {
	p.alive()
	if p.closed || p.aborted {
		violate("fd %d: a datagram after the end", p.f.fd)
	}
	if !bytes.Equal(from, p.f.address()) || !bytes.Equal(data, patternOf(p.f.in.key, p.got, len(data))) {
		violate("fd %d: another datagram than number %d is received", p.f.fd, p.got)
	}
	p.s.seen = append(p.s.seen, sight{data, p.f.in.key, p.got})
	p.got++
	p.s.react(p)
}

func (p *simDatagrams) Failed(_ *Datagram, err *OpError) {
	p.alive()
	if !p.f.told[err.Err] {
		violate("fd %d: %v is told, which is not so", p.f.fd, err)
	}
	p.s.react(p)
}

func (p *simDatagrams) Sent(_ *Datagram, datagrams, _ int) {
	p.alive()
	p.gone += datagrams
	if p.gone != p.f.sent-p.direct {
		violate("fd %d: %d queued datagrams have gone, Sent says %d", p.f.fd, p.f.sent-p.direct, p.gone)
	}
	p.s.react(p)
}

func (p *simDatagrams) DatagramClosed(*Datagram) {
	p.alive()
	p.ended = true
	graceful := !p.aborted && !p.s.closing
	switch op := p.s.d.under(p.f); {
	case op != nil:
		violate("fd %d: DatagramClosed with %v under way", p.f.fd, op.Token)
	case graceful && !p.closed:
		violate("fd %d: DatagramClosed though nobody asked for it", p.f.fd)
	case graceful && p.sends != p.f.sent:
		violate("fd %d: DatagramClosed with %d of %d datagrams sent", p.f.fd, p.f.sent, p.sends)
	}
	if !p.ownsFD {
		p.s.k.close(p.f.fd)
	} else if p.f.open {
		violate("fd %d is still open in DatagramClosed", p.f.fd)
	}
}

// check implements actor.
func (p *simDatagrams) check() {
	f := p.f
	switch {
	case p.aborted:
		violate("fd %d: it is to end, and the engine sleeps", f.fd)
	case !p.paused && !p.closed && (len(f.inbox) > 0 || f.errno != 0):
		violate("fd %d: there is a datagram to receive, and the engine sleeps", f.fd)
	case p.sends > f.sent && f.outbox < f.out.capacity:
		violate("fd %d: there is room for a datagram, and the engine sleeps", f.fd)
	case p.closed && p.sends == f.sent:
		violate("fd %d is to be closed, and the engine sleeps", f.fd)
	}
}

func (p *simDatagrams) settle() { p.resume() }

func (p *simDatagrams) end() {
	if !p.ended {
		p.abort()
	}
}
