package core

import (
	"bytes"
	"syscall"

	"golang.org/x/sys/unix"
)

// simConn is a connection or one direction of a pipe, and what is known of it.
type simConn struct {
	base
	c       *Conn
	kind    PipeKind
	written int
	got     int
	paused  bool
	keep    bool // it open after the peer's end
	eof     bool
	wantEOF bool
	closed  bool // Close was called, or is the engine's to call
	aborted bool
	ended   bool
	ownsFD  bool
	// backlog: the engine has told of one, and known are the bytes that it has told, or
	// answered, to be sent. short: it has one to tell of before it sends more.
	backlog bool
	known   int
	short   bool
	sending bool // SendNow is running
	writing bool // WriteOwned is running
}

var (
	_ actor   = (*simConn)(nil)
	_ Handler = (*simConn)(nil)
)

// pipeFiles are the files of each kind of connection.
var pipeFiles = [pipeKinds]fileKind{
	notPipe: streamFile, SocketReader: streamFile, SocketWriter: streamFile, PipeReader: pipeReadFile,
	PipeWriter: pipeWriteFile, DeviceReader: deviceFile, DeviceWriter: pipeWriteFile,
}

// addConn makes a connection of a kind.
func (s *simulation) addConn(kind PipeKind) {
	f := s.k.add(pipeFiles[kind])
	if f.kind == pipeWriteFile {
		f.out.capacity += pipeAtomicBytes
	}
	f.noWriter = kind == PipeReader && s.k.chance(0.5)
	s.adopt(f, kind)
}

// adopt has the engine take a file.
func (s *simulation) adopt(f *file, kind PipeKind) {
	p := &simConn{base: base{s, f}, kind: kind, paused: true, keep: s.k.chance(0.6), ownsFD: s.k.chance(0.5)}
	var err error
	if kind == notPipe {
		p.c, err = s.e.Adopt(f.fd, p)
	} else {
		p.c, err = s.e.AdoptPipe(f.fd, kind, p)
	}
	if err != nil {
		if !s.closing {
			violate("Adopt: %v", err)
		}
		s.k.close(f.fd)
		return
	}
	p.c.ownsFD = p.ownsFD
	f.actor = p
	s.actors = append(s.actors, p)
	f.peer.begin(s.k.between(0, 20))
	if s.k.chance(0.8) {
		p.resume()
	}
}

func (p *simConn) reads() bool {
	return p.kind != SocketWriter && p.kind != PipeWriter && p.kind != DeviceWriter
}
func (p *simConn) writes() bool { return p.kind == notPipe || !p.reads() }
func (p *simConn) over() bool   { return p.ended }

func (p *simConn) act() {
	if p.ended {
		return
	}
	switch n := p.s.random.IntN(100); {
	case n < 30:
		p.write(p.s.k.size(6<<10), p.s.k.chance(0.5))
	case n < 40:
		for range p.s.k.between(2, 20) {
			p.write(p.s.k.size(600), p.s.k.chance(0.7))
		}
	case n < 42:
		p.write(p.s.k.size(100<<10), p.s.k.chance(0.5))
	case n < 50:
		p.sendNow()
	case n < 60:
		p.pause()
	case n < 80:
		p.resume()
	case n < 85:
		p.writeEOF()
	case n < 90:
		p.close()
	case n < 92:
		p.abort()
	}
}

func (p *simConn) write(n int, ownedMemory bool) {
	if !p.writes() || p.wantEOF {
		return
	}
	data := patternOf(p.f.out.key, p.written, n)
	if !p.closed && !p.aborted {
		p.written += n
	}
	if !ownedMemory {
		p.c.Write(data)
		return
	}
	end := p.written
	refused := p.closed || p.aborted
	memory, owner := p.s.own(data, func() { p.released(end, refused) })
	p.writing = true
	p.c.WriteOwned(memory, owner)
	p.writing = false
}

// failing says that the connection ends without what is queued: at once, or when what the peer
// had sent before a send failed is received.
func (p *simConn) failing() bool { return p.c.closing == closeAborting || p.c.refused != nil }

// released checks that memory may be released which ends before byte end.
func (p *simConn) released(end int, refused bool) {
	token := makeToken(OpSend, p.c.id)
	switch {
	case p.writing && (refused || p.c.closing != closeOpen || p.failing()), p.f.out.given >= end && !refused:
	case !p.failing():
		violate("fd %d: memory is released before the kernel has taken it", p.f.fd)
	case p.s.d.find(token) != nil:
		violate("fd %d: memory is released while the kernel sends it", p.f.fd)
	}
}

func (p *simConn) sendNow() {
	if !p.writes() {
		return
	}
	p.sending = true
	left, errno := p.c.SendNow()
	p.sending = false
	switch {
	case errno != 0:
		if !p.f.told[errno] {
			violate("fd %d: SendNow fails with %v, which is not so", p.f.fd, errno)
		}
	case p.failing() || p.ended:
	case left < p.written-p.f.out.given:
		violate("fd %d: %d bytes are queued, SendNow says %d", p.f.fd, p.written-p.f.out.given, left)
	default:
		p.backlog, p.known = left > 0, p.written-left
		p.short = p.short && left == 0
	}
}

func (p *simConn) pause() {
	p.c.Pause()
	p.paused = p.paused || !p.closed && !p.aborted
}

func (p *simConn) resume() {
	p.c.Resume()
	p.paused = p.paused && (p.closed || p.aborted)
}

func (p *simConn) writeEOF() {
	if p.writes() && !p.aborted {
		p.c.WriteEOF()
		p.closed = p.closed || p.kind != notPipe
		p.wantEOF = p.wantEOF || !p.closed
	}
}

func (p *simConn) close() {
	p.c.Close()
	p.closed = true
}

func (p *simConn) abort() {
	p.c.Abort()
	p.aborted = true
}

func (p *simConn) submitted(op *Op) {
	switch op.Token.kind() {
	case OpReceive, opReadable:
		if p.paused || p.closed || p.aborted || p.eof || p.ended {
			violate("fd %d is received from though nobody wants it", p.f.fd)
		}
	case OpSend, opWritable:
		if p.aborted || p.ended {
			violate("fd %d is sent to after its end", p.f.fd)
		}
		if p.short || p.backlog && p.known != p.f.out.given {
			violate("fd %d: the kernel took less than all, or more, and the handler is not told", p.f.fd)
		}
	}
}

func (p *simConn) sent(quick bool, n, wanted int, errno syscall.Errno) {
	p.short = !p.backlog && n < wanted
}

func (p *simConn) sentNow(n, wanted int, errno syscall.Errno) {
	if !p.sending {
		p.short = p.short || n < wanted && !p.backlog
	}
}

// alive says that a handler may be called.
func (p *simConn) alive(c *Conn) {
	if p.ended {
		violate("fd %d: a handler is called after Closed", p.f.fd)
	}
	if c != p.c {
		violate("fd %d: a handler is called with another connection", p.f.fd)
	}
}

func (p *simConn) Received(c *Conn, data []byte) {
	p.alive(c)
	if p.closed || p.aborted || p.eof {
		violate("fd %d: bytes after the end", p.f.fd)
	}
	if len(data) == 0 || !bytes.Equal(data, patternOf(p.f.in.key, p.got, len(data))) {
		violate("fd %d: other bytes are received than were sent, from byte %d on", p.f.fd, p.got)
	}
	p.s.seen = append(p.s.seen, sight{data, p.f.in.key, p.got})
	p.got += len(data)
	p.s.react(p)
}

func (p *simConn) ReceivedEOF(c *Conn) bool {
	p.alive(c)
	if p.closed || p.aborted || p.eof {
		violate("fd %d: an end after the end", p.f.fd)
	}
	switch {
	case p.reads() && (!p.f.in.ended || p.got < p.f.in.taken):
		violate("fd %d: an end that is none: %d bytes of %d, ended %v", p.f.fd, p.got, p.f.in.taken, p.f.in.ended)
	case !p.reads() && !p.f.in.ended && !p.f.broken:
		violate("fd %d: the end of a reader that goes on", p.f.fd)
	}
	p.eof = true
	p.s.react(p)
	if !p.keep {
		p.closed = true
	}
	return p.keep
}

func (p *simConn) Backlog(c *Conn, queued, sent int) {
	p.alive(c)
	if queued != p.written-p.f.out.given || queued != c.Queued() {
		violate("fd %d: a backlog of %d bytes, which are %d", p.f.fd, queued, p.written-p.f.out.given)
	}
	switch {
	case !p.backlog && (sent != 0 || queued == 0):
		violate("fd %d: a backlog begins with %d bytes queued, %d sent", p.f.fd, queued, sent)
	case p.backlog && (sent == 0 || sent != p.f.out.given-p.known):
		violate("fd %d: %d bytes were sent, Backlog says %d", p.f.fd, p.f.out.given-p.known, sent)
	}
	p.backlog, p.known, p.short = queued > 0, p.f.out.given, false
	p.s.react(p)
}

func (p *simConn) Closed(c *Conn, err *OpError) {
	p.alive(c)
	p.ended = true
	if op := p.s.d.under(p.f); op != nil {
		violate("fd %d: Closed with %v under way", p.f.fd, op.Token)
	}
	graceful := !p.aborted && !p.s.closing
	switch {
	case c.Queued() != 0:
		violate("fd %d: Closed with bytes queued", p.f.fd)
	case err != nil && !p.f.told[err.Err] && !(p.s.lost && err.Err == errUnknownProgress):
		violate("fd %d: Closed with %v, which is not so", p.f.fd, err)
	case err != nil:
	case graceful && !p.closed:
		violate("fd %d: Closed though nobody asked for it", p.f.fd)
	case graceful && p.f.out.given != p.written:
		violate("fd %d: Closed with %d of %d bytes sent", p.f.fd, p.f.out.given, p.written)
	case graceful && p.wantEOF && !p.f.out.ended && !p.f.broken:
		violate("fd %d: Closed and not shut down", p.f.fd)
	}
	if !p.ownsFD {
		p.s.k.close(p.f.fd)
	} else if p.f.open {
		violate("fd %d is still open in Closed", p.f.fd)
	}
}

// check implements actor.
func (p *simConn) check() {
	f, queued := p.f, p.written-p.f.out.given
	reading := !p.paused && !p.closed && !p.aborted && !p.eof
	room := f.out.room() > 0 && (f.kind != pipeWriteFile || f.out.room() >= pipeAtomicBytes)
	switch {
	case p.failing():
		violate("fd %d: it is to end, and the engine sleeps", f.fd)
	case reading && p.reads() && (f.in.left() > 0 || f.in.ended || f.errno != 0):
		violate("fd %d: there is something to receive, and the engine sleeps", f.fd)
	case reading && p.kind == SocketWriter && f.in.ended, reading && p.kind == PipeWriter && f.broken:
		violate("fd %d: its reader has gone, and the engine sleeps", f.fd)
	case queued > 0 && (room || f.broken || f.errno != 0):
		violate("fd %d: there is room for %d bytes, and the engine sleeps", f.fd, queued)
	case queued == 0 && p.wantEOF && !f.out.ended && !f.broken:
		violate("fd %d is to be shut down, and the engine sleeps", f.fd)
	case queued == 0 && p.closed:
		violate("fd %d is to be closed, and the engine sleeps", f.fd)
	}
}

func (p *simConn) settle() { p.resume() }

func (p *simConn) end() {
	if p.ended {
		return
	}
	if p.f.events(p.s.k)&unix.POLLOUT != 0 && p.s.k.chance(0.5) {
		p.close()
	} else {
		p.abort()
	}
}
