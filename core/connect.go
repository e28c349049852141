package core

import (
	"bytes"
	"syscall"

	"golang.org/x/sys/unix"
)

// ConnectHandler is told the outcome of a connect, once: err is nil, a
// syscall.Errno, or ErrCanceled.
type ConnectHandler interface {
	Connected(x *Connect, err error)
}

// Connect is a connect under way.
type Connect struct {
	// Tag is for the handler's use.
	Tag uint64

	engine    *Engine
	handler   ConnectHandler
	fd        int
	id        uint32
	addr      []byte
	armed     bool
	queued    bool // in Engine.rearm
	cancelled bool
	// started: the kernel goes on connecting though the operation is gone with
	// the ring it was in. A poll tells when it is done.
	started bool
}

// Connect connects fd, a non-blocking socket that stays the caller's, to addr, a
// raw sockaddr, which is copied. EINVAL: addr can't be one.
func (e *Engine) Connect(fd int, addr []byte, handler ConnectHandler) (*Connect, error) {
	if e.closed || e.closing {
		return nil, ErrClosed
	}
	if len(addr) < unix.SizeofShort || len(addr) > unix.SizeofSockaddrAny {
		return nil, syscall.EINVAL
	}
	x := &Connect{engine: e, handler: handler, fd: fd, addr: bytes.Clone(addr)}
	id, err := e.slots.add(x)
	if err != nil {
		return nil, err
	}
	x.id = id
	e.stats.Watches++
	x.queueArm()
	return x, nil
}

// ID is unique among the engine's live objects; at most 31 bits.
func (x *Connect) ID() uint32 { return x.id }

// FD is the socket.
func (x *Connect) FD() int { return x.fd }

func (x *Connect) queueArm() {
	if !x.queued {
		x.queued = true
		x.engine.rearm = append(x.engine.rearm, x)
	}
}

func (x *Connect) token() Token {
	if x.started {
		return makeToken(opConnectPoll, x.id)
	}
	return makeToken(OpConnect, x.id)
}

// arm implements armer.
func (x *Connect) arm() {
	x.queued = false
	switch {
	case x.cancelled && x.armed:
		x.engine.cancel(x.token(), 0)
	case x.cancelled:
		x.end(ErrCanceled)
	case x.armed:
	case x.started:
		x.armed = true
		x.engine.submit(Op{Kind: OpPoll, FD: x.fd, Events: unix.POLLOUT, Token: x.token()})
	default:
		x.armed = true
		x.engine.submit(Op{Kind: OpConnect, FD: x.fd, Addr: x.addr, Token: x.token()})
	}
}

// Cancel ends the connect. Connected(ErrCanceled) follows.
func (x *Connect) Cancel() {
	if x.cancelled {
		return
	}
	x.cancelled = true
	x.queueArm()
}

// finished handles the completion of the connect, or of the poll for its end.
func (x *Connect) finished(done *Completion, kind OpKind) {
	x.armed = false
	var errno syscall.Errno
	if done.Res < 0 {
		errno = syscall.Errno(-done.Res)
	}
	switch {
	case x.cancelled:
		if !x.queued {
			x.end(ErrCanceled)
		}
	case errno == syscall.ECANCELED, errno == syscall.EINPROGRESS, errno != 0 && transient(errno):
		// The thread that submitted it has ended, or a signal came: connect(2)
		// goes on by itself.
		x.started = true
		x.queueArm()
	case errno != 0:
		x.end(errno)
	case kind == opConnectPoll:
		x.finishedAlone()
	default:
		x.end(nil)
	}
}

// finishedAlone handles the end of a connect that went on without its operation.
func (x *Connect) finishedAlone() {
	err := x.engine.calls.connectOutcome(x.fd)
	if err == unix.ENOTCONN {
		// The operation went before the kernel had begun with it.
		x.started = false
		x.queueArm()
		return
	}
	x.end(err)
}

func (x *Connect) end(err error) {
	x.cancelled = true
	x.engine.slots.remove(x.id)
	x.engine.stats.Watches--
	x.handler.Connected(x, err)
}

// Cancel ends the watch or connect with this id. It answers false if there is none.
func (e *Engine) Cancel(id uint32) bool {
	switch object := e.slots.get(id).(type) {
	case *Watch:
		object.Cancel()
	case *Connect:
		object.Cancel()
	default:
		return false
	}
	return true
}
