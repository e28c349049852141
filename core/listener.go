package core

import "syscall"

// AcceptHandler is told what happens to a listener.
type AcceptHandler interface {
	// Accepted gives a new connected socket, non-blocking and close-on-exec. It is
	// the handler's to close.
	Accepted(l *Listener, fd int)
	// AcceptFailed says that accepting has stopped, for want of file descriptors
	// (EMFILE, ENFILE), memory or for a reason that will not go away by itself.
	// Listener.Resume tries again.
	AcceptFailed(l *Listener, errno syscall.Errno)
}

// Listener accepts connections on a listening socket.
type Listener struct {
	// Tag is for the handler's use.
	Tag uint64

	engine  *Engine
	handler AcceptHandler
	fd      int
	id      uint32
	armed   bool
	queued  bool // in Engine.rearm
	stopped bool // by an error
	gone    bool
}

// Listen accepts on fd, a listening socket, which stays the caller's, who may
// close it after Listener.Close.
func (e *Engine) Listen(fd int, handler AcceptHandler) (*Listener, error) {
	if e.closed || e.closing {
		return nil, ErrClosed
	}
	l := &Listener{engine: e, handler: handler, fd: fd}
	id, err := e.slots.add(l)
	if err != nil {
		return nil, err
	}
	l.id = id
	e.stats.Listeners++
	l.queueArm()
	return l, nil
}

// Listener answers the live listener with this id, or nil.
func (e *Engine) Listener(id uint32) *Listener {
	l, _ := e.slots.get(id).(*Listener)
	return l
}

// ID is unique among the engine's live objects; at most 31 bits.
func (l *Listener) ID() uint32 { return l.id }

// FD is the listening socket.
func (l *Listener) FD() int { return l.fd }

// Pause stops accepting until Resume. A connection that the kernel has accepted by then is
// still given to the handler; others wait in the kernel's backlog.
func (l *Listener) Pause() {
	if l.stopped || l.gone {
		return
	}
	l.stopped = true
	if l.armed {
		l.engine.cancel(l.token(), 0)
	}
}

// Resume starts accepting again after Pause or AcceptFailed.
func (l *Listener) Resume() {
	l.stopped = false
	l.queueArm()
}

func (l *Listener) queueArm() {
	if !l.queued && !l.armed && !l.gone && !l.stopped {
		l.queued = true
		l.engine.rearm = append(l.engine.rearm, l)
	}
}

func (l *Listener) token() Token { return makeToken(OpAccept, l.id) }

// arm implements armer.
func (l *Listener) arm() {
	l.queued = false
	if l.armed || l.gone || l.stopped {
		return
	}
	l.armed = true
	l.engine.submit(Op{Kind: OpAccept, FD: l.fd, Token: l.token()})
}

// accepted handles a completion of the accept.
func (l *Listener) accepted(done *Completion) {
	if !done.More {
		l.armed = false
	}
	if done.Res >= 0 {
		l.engine.stats.Accepts++
		l.handler.Accepted(l, int(done.Res))
	} else if errno := syscall.Errno(-done.Res); !acceptTransient(errno) {
		l.stopped = true
		l.handler.AcceptFailed(l, errno)
		return
	}
	if !done.More && !l.gone {
		l.engine.stats.Rearms++
		l.queueArm()
	}
}

// acceptTransient says whether an error concerns one connection only, or none:
// accept(2) passes on errors of the new socket's network, and asks to treat
// them like EAGAIN. ECANCELED: by Leave, or with the thread that armed it.
func acceptTransient(errno syscall.Errno) bool {
	switch errno {
	case syscall.ECONNABORTED, syscall.ECANCELED, syscall.ENETDOWN, syscall.EPROTO,
		syscall.ENOPROTOOPT, syscall.EHOSTDOWN, syscall.ENONET, syscall.EHOSTUNREACH,
		syscall.ENETUNREACH:
		return true
	}
	return transient(errno)
}

// Close ends accepting before it returns, so that the port is free once fd is
// closed. Connections accepted but not yet given to the handler are closed. The
// handler is not called again.
func (l *Listener) Close() {
	if l.gone {
		return
	}
	e := l.engine
	if l.armed {
		e.mustAttach()
	}
	if l.armed {
		e.awaitEnd(l.token(), func() bool { return l.armed }, func(done *Completion) {
			l.armed = l.armed && done.More
			l.discard(done)
		})
	}
	e.ready.each(func(done *Completion) bool {
		if done.Token != l.token() {
			return false
		}
		l.discard(done)
		return true
	})
	l.gone = true
	e.slots.remove(l.id)
	e.stats.Listeners--
}

func (l *Listener) discard(done *Completion) {
	if done.Res >= 0 {
		l.engine.calls.close(int(done.Res))
	}
}
