package core

import (
	"bytes"
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"

	"kloop/uring"
)

// sendsPerTurn bounds the queued datagrams that are sent in a row, so that one endpoint
// does not hold up the others.
const sendsPerTurn = 64

// datagram is one that the kernel has refused at first.
type datagram struct {
	p     []byte
	addr  []byte
	owner uint64 // 0: nobody waits for it
}

// datagramQueue holds what an endpoint has to send, in order.
type datagramQueue struct {
	items []datagram
	head  int
}

func (q *datagramQueue) count() int { return len(q.items) - q.head }

func (q *datagramQueue) first() *datagram { return &q.items[q.head] }

func (q *datagramQueue) push(d datagram) {
	// Moved only when half is free, so that a push costs the same however many there are.
	if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, d)
}

func (q *datagramQueue) pop() datagram {
	d := q.items[q.head]
	q.items[q.head] = datagram{}
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return d
}

// SendTo sends p as one datagram to addr, a raw sockaddr, or on a connected socket with
// an empty addr to its peer. It is tried at once, unless others wait; what the kernel does
// not take now is copied and queued: Sent tells when it is gone. The error is the kernel's
// (a syscall.Errno such as EMSGSIZE), ErrClosed after Close or Abort, or EINVAL for an
// address that can't be one; nothing is sent or queued then.
func (d *Datagram) SendTo(p, addr []byte) error {
	if d.closing != closeOpen {
		return ErrClosed
	}
	if len(addr) > uring.AddressRoom {
		return syscall.EINVAL
	}
	if d.queue.count() == 0 {
		err := d.engine.driver.SendDatagramNow(d.fd, p, addr)
		d.engine.stats.DirectSends++
		if err == nil {
			d.engine.stats.BytesSent += uint64(len(p))
			return nil
		}
		if errno, ok := err.(syscall.Errno); !ok || !transient(errno) {
			return err
		}
		d.engine.stats.ShortSends++
	}
	d.queue.push(datagram{p: bytes.Clone(p), addr: bytes.Clone(addr)})
	d.queueArm()
	return nil
}

// QueueOwned queues p itself behind what is queued; it is not tried at once. The memory of
// p and addr must stay as it is until owner, which must not be 0, is given to
// Options.Release.
func (d *Datagram) QueueOwned(p, addr []byte, owner uint64) {
	d.engine.stats.OwnersOut++
	if d.closing != closeOpen || len(addr) > uring.AddressRoom {
		d.engine.letGo(owner)
		return
	}
	d.engine.stats.ShortSends++
	d.queue.push(datagram{p: p, addr: addr, owner: owner})
	d.queueArm()
}

// flushSend polls for room if anything is queued, or ends the poll when aborting.
func (d *Datagram) flushSend() {
	aborting := d.closing == closeAborting
	switch {
	case d.polling && aborting:
		d.engine.cancel(d.token(OpPoll), 0)
	case !d.polling && !aborting && d.queue.count() > 0:
		d.polling = true
		fd := d.fd
		if d.scout >= 0 {
			fd = d.scout
		}
		d.engine.submit(Op{Kind: OpPoll, FD: fd, Events: unix.POLLOUT, Token: d.token(OpPoll)})
	}
}

// polled handles the end of the poll: there is room, an error, or it was cancelled. An
// error of the poll itself means that the sends will tell what is wrong.
func (d *Datagram) polled(done *Completion) {
	if done.More {
		return // of a ring that is gone
	}
	d.polling = false
	d.dropScout()
	if d.closing == closeAborting {
		d.finish()
		return
	}
	d.queueArm()
	if done.Res != -int32(syscall.ECANCELED) {
		d.sendQueued()
	}
}

// sendQueued sends of the queue what the kernel takes now, up to the first error.
func (d *Datagram) sendQueued() {
	e := d.engine
	left, size := 0, 0
	var failed *OpError
	for left < sendsPerTurn && d.queue.count() > 0 && failed == nil {
		first := d.queue.first()
		err := e.driver.SendDatagramNow(d.fd, first.p, first.addr)
		e.stats.DirectSends++
		errno, isErrno := err.(syscall.Errno)
		switch {
		case isErrno && transient(errno):
			if left == 0 {
				d.sendScout(first.addr)
			}
			d.tellSent(left, size)
			return
		case isErrno:
			failed = &OpError{Op: "write", Err: errno}
		default:
			e.stats.BytesSent += uint64(len(first.p))
		}
		left++
		size += len(first.p)
		if first.owner != 0 {
			e.letGo(first.owner)
		}
		d.queue.pop()
	}
	d.tellSent(left, size)
	if failed != nil && !d.gone { // Sent may have ended it
		d.handler.Failed(d, failed)
	}
}

// sendScout makes a socket by which to wait for room at addr, which refused a datagram though
// the poll had said that there is room: that of an unconnected Unix socket knows nothing of the
// receivers' queues (unix(7)), and polling it again would be a busy loop. A socket connected
// to the receiver is polled instead.
func (d *Datagram) sendScout(addr []byte) {
	if len(addr) < unix.SizeofShort || binary.NativeEndian.Uint16(addr) != unix.AF_UNIX {
		return
	}
	// Without one it is the busy loop; the next send tells what is wrong.
	d.scout = d.engine.calls.scout(addr)
}

func (d *Datagram) dropScout() {
	if d.scout >= 0 {
		d.engine.calls.close(d.scout)
		d.scout = -1
	}
}

func (d *Datagram) tellSent(datagrams, bytes int) {
	if datagrams > 0 {
		d.handler.Sent(d, datagrams, bytes)
	}
}

// dropQueue lets go of everything queued.
func (d *Datagram) dropQueue() {
	for d.queue.count() > 0 {
		if first := d.queue.pop(); first.owner != 0 {
			d.engine.letGo(first.owner)
		}
	}
}
