package core

import (
	"syscall"

	"kloop/uring"
)

// DatagramHandler is told what happens to a datagram endpoint, like
// asyncio.DatagramProtocol.
type DatagramHandler interface {
	// ReceivedFrom gives one datagram, which may be empty, and its sender's raw sockaddr,
	// empty if the sender has none. Both are valid until the next poll. from lies
	// uring.AddressRoom bytes before p in memory.
	ReceivedFrom(d *Datagram, p, from []byte)
	// Failed tells an error that the network reported (ECONNREFUSED, EHOSTUNREACH: see
	// udp(7)), or that a queued datagram met, which is dropped. The endpoint goes on.
	Failed(d *Datagram, err *OpError)
	// Sent says that datagrams which the kernel had refused at first left the queue:
	// how many, and their bytes.
	Sent(d *Datagram, datagrams, bytes int)
	// DatagramClosed is the last call. The core has no operation left on the fd.
	DatagramClosed(d *Datagram)
}

// Datagram is a datagram socket: UDP, Unix, or raw. Its methods never block, and are for
// the engine's thread. After Close or Abort they do nothing.
//
// Sends are made at once, with a system call each. On loopback that took as long as
// sends batched into the ring or into sendmmsg(2) (785, 786 and 793 ns of CPU for 1 KiB);
// it keeps datagrams in order when the kernel refuses one (a Unix socket's reader relies on
// that), and tells errors where they belong. What is refused waits for a poll, not for a
// sendmsg in the ring: when a full Unix socket refuses that one, the kernel has already
// taken its bytes off the list of parts, and sends an empty datagram later (seen on 6.18).
type Datagram struct {
	// Tag is for the handler's use.
	Tag uint64

	engine  *Engine
	handler DatagramHandler
	fd      int
	id      uint32

	queued   bool // in Engine.rearm
	wantRead bool
	receive  receiveState
	polling  bool // for room in the socket, as datagrams are queued
	closing  closeState
	gone     bool
	ownsFD   bool // the core closes fd, as Loop wants it
	scout    int  // a socket by which to wait for room at a full receiver; -1: none
	queue    datagramQueue
}

// AdoptDatagram makes an endpoint of a non-blocking datagram socket. It starts paused:
// Resume makes it receive. The fd stays the caller's, who may close it once
// DatagramClosed was called.
func (e *Engine) AdoptDatagram(fd int, handler DatagramHandler) (*Datagram, error) {
	if e.closed || e.closing {
		return nil, ErrClosed
	}
	if err := e.driver.PrepareDatagrams(); err != nil {
		return nil, err
	}
	d := &Datagram{engine: e, handler: handler, fd: fd, scout: -1}
	id, err := e.slots.add(d)
	if err != nil {
		return nil, err
	}
	d.id = id
	e.stats.Conns++
	return d, nil
}

// Datagram answers the live endpoint with this id, or nil.
func (e *Engine) Datagram(id uint32) *Datagram {
	d, _ := e.slots.get(id).(*Datagram)
	return d
}

// ID is unique among the engine's live objects; at most 31 bits.
func (d *Datagram) ID() uint32 { return d.id }

// FD is the socket. It must not be closed before DatagramClosed was called.
func (d *Datagram) FD() int { return d.fd }

// Engine answers the engine that d belongs to.
func (d *Datagram) Engine() *Engine { return d.engine }

// Pause stops receiving. Datagrams that the kernel had received already are still given
// to ReceivedFrom.
func (d *Datagram) Pause() { d.wantToRead(false) }

// Resume starts receiving, or goes on with it.
func (d *Datagram) Resume() { d.wantToRead(true) }

func (d *Datagram) wantToRead(want bool) {
	if d.wantRead == want || d.closing != closeOpen {
		return
	}
	d.wantRead = want
	d.queueArm()
}

// Close stops receiving, sends what is queued, then ends the endpoint.
func (d *Datagram) Close() {
	if d.closing == closeOpen {
		d.closing = closeGraceful
		d.queueArm()
	}
}

// Abort stops receiving, drops what is queued and ends the endpoint.
func (d *Datagram) Abort() {
	if d.closing == closeAborting || d.gone {
		return
	}
	d.closing = closeAborting
	d.queueArm()
}

// End is Abort that has happened when it returns: the fd may be closed, and DatagramClosed
// has been called.
func (d *Datagram) End() {
	if d.gone {
		return
	}
	e := d.engine
	d.closing = closeAborting
	if d.receive != receiveIdle || d.polling {
		e.mustAttach()
	}
	if d.receive != receiveIdle {
		e.awaitEnd(d.token(OpReceiveDatagrams), func() bool { return d.receive != receiveIdle },
			func(done *Completion) {
				if !done.More {
					d.receive = receiveIdle
				}
			})
	}
	if d.polling {
		e.awaitEnd(d.token(OpPoll), func() bool { return d.polling }, func(done *Completion) {
			d.polling = d.polling && done.More // More: of a ring that is gone
		})
	}
	d.finish()
}

func (d *Datagram) queueArm() {
	if !d.queued {
		d.queued = true
		d.engine.rearm = append(d.engine.rearm, d)
	}
}

func (d *Datagram) token(kind OpKind) Token { return makeToken(kind, d.id) }

// arm implements armer: with a flush it makes the kernel's state the wanted one.
func (d *Datagram) arm() {
	d.queued = false
	if d.gone {
		return
	}
	d.flushReceive()
	d.flushSend()
	d.finish()
}

// flushReceive arms or cancels the receive, if that is not as wanted.
func (d *Datagram) flushReceive() {
	want := d.wantRead && d.closing == closeOpen
	switch {
	case want && d.receive == receiveIdle:
		d.receive = receiveArmed
		d.engine.submit(Op{Kind: OpReceiveDatagrams, FD: d.fd, Token: d.token(OpReceiveDatagrams)})
	case !want && d.receive == receiveArmed:
		d.receive = receiveCancelling
		d.engine.cancel(d.token(OpReceiveDatagrams), d.token(OpCancel))
	}
}

// notCancelled handles a failed cancel, as Conn's does.
func (d *Datagram) notCancelled() {
	if d.receive == receiveCancelling {
		d.receive = receiveArmed
		d.queueArm()
	}
}

// completed handles a completion.
func (d *Datagram) completed(done *Completion, kind OpKind) {
	switch kind {
	case OpReceiveDatagrams:
		d.received(done)
	case OpPoll:
		d.polled(done)
	case OpCancel:
		d.notCancelled()
	}
}

// received handles a completion of the receive.
func (d *Datagram) received(done *Completion) {
	if !done.More {
		d.receive = receiveIdle
	}
	if d.closing != closeOpen {
		d.finish()
		return
	}
	if !done.More {
		// It ends with every error, and with an empty datagram: a flush arms it again.
		if d.wantRead {
			d.engine.stats.Rearms++
		}
		d.queueArm()
	}
	if done.Res >= 0 {
		from, p, _ := uring.SplitDatagram(done.Data)
		d.engine.stats.BytesReceived += uint64(len(p))
		d.handler.ReceivedFrom(d, p, from)
		return
	}
	switch errno := syscall.Errno(-done.Res); {
	case errno == syscall.ENOBUFS:
		// No receive buffer was free. They are given back with the next flush.
		d.engine.stats.NoBufs++
	case errno == syscall.ECANCELED, transient(errno):
		// Cancelled by us, or by the end of the thread that armed it.
	default:
		d.handler.Failed(d, &OpError{Op: "read", Err: errno})
	}
}

// finish ends a closing endpoint once the kernel has nothing of it any more.
func (d *Datagram) finish() {
	if d.gone || d.closing == closeOpen || d.receive != receiveIdle || d.polling {
		return
	}
	if d.closing == closeAborting {
		d.dropQueue()
	}
	if d.queue.count() > 0 {
		return
	}
	d.gone = true
	d.dropScout()
	d.engine.slots.remove(d.id)
	d.engine.stats.Conns--
	if d.ownsFD {
		d.engine.calls.close(d.fd)
	}
	d.handler.DatagramClosed(d)
}

// forgetOperations is Engine.forgetWaiting, for one endpoint.
func (d *Datagram) forgetOperations() {
	d.receive, d.polling = receiveIdle, false
	d.dropScout()
	d.queueArm()
}
