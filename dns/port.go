package dns

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"kloop/core"
)

// A port takes so many questions, and for so long; the next one has another number, which the kernel draws. Who finds
// out the number has no time to make use of it, and a socket for each question would be six system calls more.
const (
	portQuestions = 8
	portAge       = 200 * time.Millisecond
)

// port is a UDP socket that is connected to a server, whose kernel drops what comes from elsewhere. It is the loop's
// thread's alone.
type port struct {
	engine   *core.Engine
	endpoint *core.Datagram
	fd       int
	opened   time.Time
	asked    int // questions in all
	foreign  int // packets that answer none of them
	waiting  map[uint16]*quick
	retired  bool // takes no more questions
	idle     *core.Timer
	closed   func()
	counters *counters
}

var _ core.DatagramHandler = (*port)(nil)

// ports are a server's: the one that takes questions, and those whose questions are still under way.
type ports struct {
	loop    *core.Loop
	current *port
	open    map[*port]struct{}
	closing sync.WaitGroup
	ended   bool
}

// next answers the port for another question. It is the loop's thread's.
func (s *ports) next(loop *core.Loop, at netip.AddrPort, c *counters) (*port, error) {
	if s.ended {
		return nil, ErrClosed
	}
	s.belongTo(loop)
	if p := s.current; p != nil && p.asked < portQuestions && time.Since(p.opened) < portAge {
		return p, nil
	}
	p, err := openPort(loop, at)
	if err != nil {
		return nil, err
	}
	if s.open == nil {
		s.open = map[*port]struct{}{}
	}
	if s.current != nil {
		s.current.retire()
	}
	s.current, s.open[p] = p, struct{}{}
	s.closing.Add(1)
	p.counters = c
	p.closed = func() {
		delete(s.open, p)
		if s.current == p {
			s.current = nil
		}
		s.closing.Done()
	}
	return p, nil
}

// belongTo says whose thread this is. Sockets of another loop are those of one that has failed.
func (s *ports) belongTo(loop *core.Loop) {
	if s.loop != loop {
		s.abandon()
		s.loop = loop
	}
}

// abandon closes the sockets of a loop that has ended: nobody else is told of them any more.
func (s *ports) abandon() {
	for p := range s.open {
		core.CloseDescriptor(p.fd)
		p.closed()
	}
}

// abandonPorts is for servers whose loop has ended, and which no other loop asks.
func abandonPorts(servers []*server) {
	for _, s := range servers {
		s.ports.abandon()
	}
}

// retire closes what is open once its questions are answered. It is the loop's thread's.
func (s *ports) retire(loop *core.Loop) {
	s.belongTo(loop)
	for p := range s.open {
		p.retire()
	}
}

// end closes all of them. It is the loop's thread's.
func (s *ports) end(loop *core.Loop) {
	s.belongTo(loop)
	s.ended = true
	for p := range s.open {
		p.retired = true
		p.endpoint.Abort()
	}
}

func openPort(loop *core.Loop, at netip.AddrPort) (*port, error) {
	family := unix.AF_INET6
	var to unix.Sockaddr
	if ip := at.Addr(); ip.Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Addr: ip.As4(), Port: int(at.Port())}
	} else {
		zone, _ := scopeID(ip, ip.Zone())
		to = &unix.SockaddrInet6{Addr: ip.As16(), ZoneId: zone, Port: int(at.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	core.OwnDescriptor(fd)
	p := &port{engine: loop.Engine(), fd: fd, opened: time.Now(), waiting: map[uint16]*quick{}}
	if err = unix.Connect(fd, to); err == nil {
		p.endpoint, err = p.engine.AdoptDatagram(fd, p)
	}
	if err != nil {
		core.CloseDescriptor(fd)
		return nil, err
	}
	p.endpoint.Resume()
	return p, nil
}

// ask sends q's question, whose id is none of those under way.
func (p *port) ask(q *quick, a ask) (err error) {
	for {
		if q.query, err = a.pack(); err != nil {
			return err
		}
		if p.waiting[q.query.id] == nil {
			break
		}
	}
	if _, err := unix.Write(p.fd, q.query.packed); err != nil {
		if len(p.waiting) == 0 && p.idle == nil {
			p.idle = p.engine.AfterFunc(portAge, p.retire)
		}
		return err
	}
	p.waiting[q.query.id] = q
	p.asked++
	if p.idle != nil {
		p.idle.Stop()
		p.idle = nil
	}
	return nil
}

// forget ends the waiting of a question.
func (p *port) forget(q *quick) {
	if p.waiting[q.query.id] != q {
		return
	}
	delete(p.waiting, q.query.id)
	switch {
	case len(p.waiting) > 0:
	case p.retired:
		p.endpoint.Abort()
	default:
		p.idle = p.engine.AfterFunc(portAge, p.retire)
	}
}

// retire closes it once its questions are answered.
func (p *port) retire() {
	p.retired = true
	if len(p.waiting) == 0 {
		p.endpoint.Abort()
	}
}

// ReceivedFrom implements core.DatagramHandler.
func (p *port) ReceivedFrom(_ *core.Datagram, packet, _ []byte) {
	if len(packet) >= headerSize {
		if q := p.waiting[uint16(packet[0])<<8|uint16(packet[1])]; q != nil && q.received(packet) {
			return
		}
	}
	p.counters.foreign.Add(1)
	p.foreign++
	if p.foreign >= foreignMax { // an attempt to guess ids
		p.asked = portQuestions
		for _, q := range p.waiting {
			q.forget()
			q.askByStream()
		}
	}
}

// Failed implements core.DatagramHandler: nobody listens at the server's port, or it can't be reached.
func (p *port) Failed(_ *core.Datagram, err *core.OpError) { p.failAll(err.Err) }

func (p *port) failAll(err error) {
	p.asked = portQuestions
	for _, q := range p.waiting {
		q.failed(err)
	}
}

// Sent implements core.DatagramHandler.
func (p *port) Sent(*core.Datagram, int, int) {}

// DatagramClosed implements core.DatagramHandler.
func (p *port) DatagramClosed(*core.Datagram) {
	core.CloseDescriptor(p.fd)
	if p.idle != nil {
		p.idle.Stop()
	}
	p.retired = true
	for _, q := range p.waiting {
		q.failed(ErrClosed)
	}
	p.closed()
}
