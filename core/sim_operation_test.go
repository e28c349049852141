package core

import (
	"bytes"
	"syscall"

	"golang.org/x/sys/unix"
)

// simSocket is a socket on which operations are asked for one by one.
type simSocket struct {
	base
	runs   [3]*run // receive, send, poll
	got    int
	ending bool
	ended  bool
}

// run is an operation under way.
type run struct {
	o         *Operation
	spec      OperationSpec
	token     Token
	at        int // offset in the flow
	cancelled bool
}

var (
	_ actor            = (*simSocket)(nil)
	_ OperationHandler = (*simSocket)(nil)
)

// What may run at once on a socket.
const (
	runReceive = iota
	runSend
	runPoll
)

func (s *simulation) addSocket() {
	f := s.k.add(streamFile)
	p := &simSocket{base: base{s, f}}
	f.actor = p
	s.actors = append(s.actors, p)
	f.peer.begin(s.k.between(0, 20))
}

func (p *simSocket) over() bool { return p.ended }

func (p *simSocket) act() {
	which := p.s.random.IntN(len(p.runs))
	switch r := p.runs[which]; {
	case p.ending:
	case r == nil:
		p.start(which)
	case p.s.k.chance(0.3):
		r.cancelled = true
		r.o.Cancel()
	case p.s.k.chance(0.05):
		p.end()
	}
}

func (p *simSocket) start(which int) {
	k := p.s.k
	spec := OperationSpec{FD: p.f.fd}
	at := 0
	switch which {
	case runReceive:
		at = p.got
		if spec.Kind = OpReceiveOnce; k.chance(0.5) {
			spec.Limit = uint32(k.size(20 << 10))
		} else {
			spec.Kind, spec.Buffer = OpReceiveInto, make([]byte, k.size(20<<10))
		}
	case runSend:
		at = p.f.out.given
		spec.Kind = OpSendAll
		spec.Buffer = bytes.Clone(patternOf(p.f.out.key, at, k.size(20<<10)))
	case runPoll:
		spec.Kind, spec.Events = OpPoll, []uint32{unix.POLLIN, unix.POLLOUT, unix.POLLRDHUP}[p.s.random.IntN(3)]
	}
	o, err := p.s.e.Start(spec, uint64(which), p)
	if err != nil {
		violate("Start: %v", err)
	}
	p.runs[which] = &run{o: o, spec: spec, token: o.token(), at: at}
}

func (p *simSocket) Done(o *Operation, result int, data []byte) {
	which := int(o.Tag)
	r := p.runs[which]
	if r == nil || r.o != o {
		violate("fd %d: an operation is answered twice, or was not asked for", p.f.fd)
	}
	p.runs[which] = nil
	if op := p.s.d.find(r.token); op != nil && !p.s.d.closed {
		violate("fd %d: %v is answered before its end", p.f.fd, r.token)
	}
	if result < 0 {
		p.failed(r, syscall.Errno(-result))
	} else {
		p.succeeded(r, result, data)
	}
	for i := range r.spec.Buffer {
		r.spec.Buffer[i] = poison
	}
	p.s.react(p)
}

func (p *simSocket) failed(r *run, errno syscall.Errno) {
	switch {
	case errno == syscall.ECANCELED && (r.cancelled || p.s.closing):
	case errno == errUnknownProgress && p.s.lost && r.spec.Kind == OpSendAll:
	case !p.f.told[errno]:
		violate("fd %d: %v fails with %v, which is not so", p.f.fd, r.token, errno)
	}
	if p.got != p.f.in.taken && which(r) == runReceive && !p.s.closing {
		violate("fd %d: %v fails with %v, and bytes are lost", p.f.fd, r.token, errno)
	}
}

func which(r *run) int {
	switch r.spec.Kind {
	case OpSendAll:
		return runSend
	case OpPoll:
		return runPoll
	}
	return runReceive
}

func (p *simSocket) succeeded(r *run, result int, data []byte) {
	f := p.f
	switch r.spec.Kind {
	case OpReceiveInto:
		data = r.spec.Buffer[:result]
		fallthrough
	case OpReceiveOnce:
		if len(data) != result || !bytes.Equal(data, patternOf(f.in.key, r.at, result)) {
			violate("fd %d: other bytes are received than were sent, from byte %d on", f.fd, r.at)
		}
		if result == 0 && (!f.in.ended || p.got != f.in.taken) {
			violate("fd %d: an end that is none", f.fd)
		}
		p.got += result
		if r.spec.Kind == OpReceiveOnce {
			p.s.seen = append(p.s.seen, sight{data, f.in.key, r.at})
		}
	case OpSendAll:
		if result != len(r.spec.Buffer) || f.out.given != r.at+result {
			violate("fd %d: %d of %d bytes are sent, Done says %d", f.fd, f.out.given-r.at, len(r.spec.Buffer), result)
		}
	case OpPoll:
		if result == 0 || uint32(result)&^(r.spec.Events|alwaysPolled) != 0 {
			violate("fd %d: a poll for %#x answers %#x", f.fd, r.spec.Events, result)
		}
	}
}

// check implements actor.
func (p *simSocket) check() {
	f := p.f
	for _, r := range p.runs {
		if r == nil {
			continue
		}
		ready := false
		switch which(r) {
		case runReceive:
			ready = f.in.left() > 0 || f.in.ended || f.errno != 0
		case runSend:
			ready = f.out.room() > 0 || f.broken || f.errno != 0
		case runPoll:
			ready = f.events(p.s.k)&(r.spec.Events|alwaysPolled) != 0
		}
		if ready || r.cancelled {
			violate("fd %d: %v could end, and the engine sleeps", f.fd, r.token)
		}
	}
}

func (p *simSocket) end() {
	p.ending = true
	running := false
	for _, r := range p.runs {
		if r != nil {
			running = true
			r.cancelled = true
			r.o.Cancel()
		}
	}
	if !running && !p.ended {
		p.ended = true
		p.s.k.close(p.f.fd)
	}
}
