package core

import (
	"bytes"
	"syscall"

	"golang.org/x/sys/unix"
)

// simWatch is a watch, and what is known of it.
type simWatch struct {
	base
	w         *Watch
	events    uint32
	cancelled bool
	ended     bool
}

var (
	_ actor        = (*simWatch)(nil)
	_ WatchHandler = (*simWatch)(nil)
)

func (s *simulation) addWatch() {
	p := &simWatch{base: base{s, s.k.add(flagFile)}, events: []uint32{unix.POLLIN, unix.POLLOUT, 7}[s.random.IntN(3)]}
	var err error
	if p.w, err = s.e.Watch(p.f.fd, p.events, p); err != nil {
		violate("Watch: %v", err)
	}
	p.f.actor = p
	s.actors = append(s.actors, p)
	p.f.peer.begin(s.k.between(0, 10))
}

func (p *simWatch) over() bool { return p.ended }

func (p *simWatch) act() {
	if p.s.k.chance(0.2) {
		p.end()
	}
}

func (p *simWatch) Ready(_ *Watch, events uint32) {
	switch {
	case p.cancelled || p.ended:
		violate("fd %d: Ready after Cancel", p.f.fd)
	case events == 0 || events&^(p.events|alwaysPolled) != 0:
		violate("fd %d: a watch for %#x tells of %#x", p.f.fd, p.events, events)
	}
	if p.s.k.calm || p.s.k.chance(0.7) {
		p.f.ready &^= events // as a reader does
	}
	p.s.react(p)
}

func (p *simWatch) Unwatched(_ *Watch, errno syscall.Errno) {
	if p.ended {
		violate("fd %d: Unwatched twice", p.f.fd)
	}
	if errno != 0 && !p.f.told[errno] || errno == 0 && !p.cancelled && !p.s.closing {
		violate("fd %d: Unwatched with %v, which is not so", p.f.fd, errno)
	}
	p.ended = true
	p.s.k.close(p.f.fd)
}

// check implements actor.
func (p *simWatch) check() {
	if p.cancelled || p.f.ready&(p.events|alwaysPolled) != 0 {
		violate("fd %d: a watch has something to tell, and the engine sleeps", p.f.fd)
	}
}

func (p *simWatch) end() {
	if !p.ended {
		p.cancelled = true
		p.w.Cancel()
	}
}

// simListener is a listener, and what is known of it.
type simListener struct {
	base
	l       *Listener
	stopped bool
	ended   bool
}

var (
	_ actor         = (*simListener)(nil)
	_ AcceptHandler = (*simListener)(nil)
)

func (s *simulation) addListener() {
	p := &simListener{base: base{s, s.k.add(listenerFile)}}
	var err error
	if p.l, err = s.e.Listen(p.f.fd, p); err != nil {
		violate("Listen: %v", err)
	}
	p.f.actor = p
	s.actors = append(s.actors, p)
}

func (p *simListener) over() bool { return p.ended }

func (p *simListener) act() {
	switch n := p.s.random.IntN(100); {
	case p.ended:
	case n < 40:
		p.f.backlog += p.s.k.between(1, 3)
	case n < 85:
		p.s.k.after(peerPause, func() { p.f.backlog += p.s.k.between(1, 3) })
	case n < 95:
		p.resume()
	case p.s.d.thread == p.s.d.current:
		p.end()
	}
}

func (p *simListener) resume() {
	if p.stopped && !p.ended {
		p.stopped = false
		p.l.Resume()
	}
}

func (p *simListener) submitted(*Op) {
	if p.stopped || p.ended {
		violate("fd %d: accepts though nobody wants it", p.f.fd)
	}
}

func (p *simListener) Accepted(_ *Listener, fd int) {
	f := p.s.k.file(fd)
	if p.ended || f.kind != streamFile || f.actor != nil {
		violate("fd %d: gives fd %d, which it has not accepted", p.f.fd, fd)
	}
	if p.s.k.chance(0.5) || len(p.s.actors) > 2*actorsMost {
		p.s.k.close(fd)
	} else {
		p.s.adopt(f, notPipe)
	}
	p.s.react(p)
}

func (p *simListener) AcceptFailed(_ *Listener, errno syscall.Errno) {
	if p.ended || p.stopped || !p.f.told[errno] || acceptTransient(errno) {
		violate("fd %d: AcceptFailed with %v, which is not so", p.f.fd, errno)
	}
	p.stopped = true
	if p.s.k.chance(0.5) && !p.s.closing {
		p.s.afterFunc(acceptPause/100, p.resume)
	}
	p.s.react(p)
}

// check implements actor.
func (p *simListener) check() {
	if !p.stopped && p.f.backlog > 0 {
		violate("fd %d: connections wait to be accepted, and the engine sleeps", p.f.fd)
	}
}

func (p *simListener) settle() { p.resume() }

func (p *simListener) end() {
	if !p.ended {
		p.s.block(p.l.Close)
		p.ended = true
		p.s.k.close(p.f.fd)
	}
}

// simConnect is a connect, and what is known of it.
type simConnect struct {
	base
	x         *Connect
	cancelled bool
	ended     bool
}

var (
	_ actor          = (*simConnect)(nil)
	_ ConnectHandler = (*simConnect)(nil)
)

func (s *simulation) addConnect() {
	p := &simConnect{base: base{s, s.k.add(streamFile)}}
	p.f.connect = connectUnbegun
	var err error
	if p.x, err = s.e.Connect(p.f.fd, p.f.address(), p); err != nil {
		violate("Connect: %v", err)
	}
	p.f.actor = p
	s.actors = append(s.actors, p)
}

func (p *simConnect) over() bool { return p.ended }

func (p *simConnect) act() {
	if p.s.k.chance(0.1) {
		p.end()
	}
}

func (p *simConnect) submitted(op *Op) {
	if op.Kind == OpConnect && !bytes.Equal(op.Addr, p.f.address()) {
		violate("fd %d is connected to another address", p.f.fd)
	}
}

func (p *simConnect) Connected(_ *Connect, err error) {
	if p.ended {
		violate("fd %d: Connected twice", p.f.fd)
	}
	p.ended = true
	errno, isErrno := err.(syscall.Errno)
	switch {
	case p.s.d.under(p.f) != nil:
		violate("fd %d: Connected with the connect under way", p.f.fd)
	case err == nil && p.f.connect != connectDone:
		violate("fd %d: Connected, which is not so", p.f.fd)
	case err == ErrCanceled && !p.cancelled && !p.s.closing:
		violate("fd %d: canceled, though nobody asked for it", p.f.fd)
	case isErrno && !p.f.told[errno]:
		violate("fd %d: Connected fails with %v, which is not so", p.f.fd, err)
	}
	if err == nil && p.s.k.chance(0.7) && !p.s.closing {
		p.f.connect = connectNone
		p.s.adopt(p.f, notPipe)
	} else {
		p.s.k.close(p.f.fd)
	}
	p.s.react(p)
}

// check implements actor.
func (p *simConnect) check() {
	if p.cancelled || p.f.connect != connectUnderWay {
		violate("fd %d: a connect is over, and the engine sleeps", p.f.fd)
	}
}

func (p *simConnect) end() {
	if !p.ended {
		p.cancelled = true
		p.x.Cancel()
	}
}
