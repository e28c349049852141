package core

import (
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"

	"kloop/epoll"
	"kloop/uring"
)

// How often one descriptor is served in a turn, at most.
const (
	receivesPerTurn  = 4
	acceptsPerTurn   = 64
	datagramsPerTurn = 64
)

// serve does what can be done, until there are want completions.
func (d *EpollDriver) serve(want int) {
	if turn := d.set.Turn(); turn != d.turn {
		d.turn = turn
		d.now = append(d.now, d.later...)
		clear(d.later)
		d.later = d.later[:0]
	}
	served := 0
	for served < len(d.now) && len(d.done)-d.head < want {
		w := d.now[served]
		served++
		d.set.Paid(1)
		w.queued = false
		if w.over {
			w.over = false
			d.free = append(d.free, w)
			continue
		}
		d.act(w, w.seen)
	}
	if served > 0 {
		left := copy(d.now, d.now[served:])
		clear(d.now[left:])
		d.now = d.now[:left]
	}
	for len(d.done)-d.head < want {
		fd, tag, events, ok := d.set.Next()
		if !ok {
			return
		}
		d.event(fd, tag, events)
	}
}

// event serves who waits for it.
func (d *EpollDriver) event(fd int, tag int32, events uint32) {
	at := d.fds[fd]
	if at == nil || at.tag != tag || !at.registered {
		return
	}
	wanted := false
	for w := at.first; w != nil; {
		next := w.next
		wanted = d.act(w, events) || wanted
		w = next
	}
	if wanted {
		at.unwanted = 0
		return
	}
	at.unwanted++
	if at.unwanted > unwantedMax {
		d.narrow(at)
	}
}

// serveLater has w served in the next turn, as if these events had come.
func (d *EpollDriver) serveLater(w *epollWaiter, events uint32) {
	w.queued, w.seen = true, events
	d.later = append(d.later, w)
	d.set.Owe(1)
}

// act serves a waiter, and answers whether it waits for one of these events.
func (d *EpollDriver) act(w *epollWaiter, events uint32) bool {
	if events&(w.events|pollFailure) == 0 {
		return false
	}
	if w.queued {
		w.seen |= events // an end of the stream is told once
		return true
	}
	switch w.kind {
	case OpPoll:
		d.finish(w, int32(events&(w.events|pollFailure)))
	case OpReceive:
		d.receive(w, events)
	case OpReceiveOnce:
		d.receiveOnce(w, events)
	case OpReceiveInto:
		d.receiveInto(w)
	case OpReceiveDatagrams:
		d.receiveDatagrams(w, events)
	case OpRead:
		d.read(w, events)
	case OpAccept:
		d.acceptAll(w, events)
	case OpSend:
		d.send(w)
	case OpSendAll:
		d.sendAll(w)
	case OpConnect:
		d.connected(w)
	}
	return true
}

// received queues a completion with what was received into room.
func (d *EpollDriver) received(b *packedBuffers, w *epollWaiter, room []byte, n int, more bool) {
	d.stats.BuffersOut++
	id := b.take(n)
	d.queue(Completion{Token: w.token, Res: int32(n), More: more, Buffer: id, Data: room[:n:n]})
}

// receive receives until the socket is empty. A short receive tells that of TCP, and saves
// the one that finds nothing.
func (d *EpollDriver) receive(w *epollWaiter, events uint32) {
	for range receivesPerTurn {
		room := d.streams.room()
		if room == nil {
			break
		}
		n, errno := epoll.Receive(w.at.fd, room)
		if errno == syscall.EAGAIN {
			return
		}
		if errno != 0 || n == 0 {
			d.finish(w, -int32(errno))
			return
		}
		d.received(&d.streams, w, room, n, true)
		if n < len(room) && w.at.tcp && events&pollMoreAfterShort == 0 {
			return
		}
	}
	d.serveLater(w, events)
}

func (d *EpollDriver) receiveOnce(w *epollWaiter, events uint32) {
	room := d.streams.room()
	if room == nil {
		d.serveLater(w, events)
		return
	}
	n, errno := epoll.Receive(w.at.fd, room[:min(len(room), int(w.limit))])
	switch {
	case errno == syscall.EAGAIN:
	case errno != 0 || n == 0:
		d.finish(w, -int32(errno))
	default:
		d.received(&d.streams, w, room, n, false)
		d.drop(w)
	}
}

func (d *EpollDriver) receiveInto(w *epollWaiter) {
	n, errno := epoll.Receive(w.at.fd, w.parts[0])
	switch errno {
	case syscall.EAGAIN:
	case 0:
		d.finish(w, int32(n))
	default:
		d.finish(w, -int32(errno))
	}
}

// read reads a pipe or a device until it is empty.
func (d *EpollDriver) read(w *epollWaiter, events uint32) {
	for range receivesPerTurn {
		room := d.streams.room()
		if room == nil {
			break
		}
		n, errno := d.readNow(w, room)
		switch {
		case errno == syscall.EAGAIN:
			if !w.at.always {
				return
			} // else nothing will tell: it is tried again
		case errno != 0 || n == 0:
			d.finish(w, -int32(errno))
			return
		default:
			d.received(&d.streams, w, room, n, !w.once)
			if w.once {
				d.drop(w)
				return
			}
		}
	}
	d.serveLater(w, events)
}

func (d *EpollDriver) readNow(w *epollWaiter, room []byte) (int, syscall.Errno) {
	if w.mayBlock {
		if now, errno := epoll.Poll(w.at.fd, unix.POLLIN); errno == 0 && now == 0 {
			return 0, syscall.EAGAIN
		}
	}
	return epoll.Read(w.at.fd, room)
}

// receiveDatagrams receives until the socket is empty, each datagram behind a header as
// uring.SplitDatagram wants it.
func (d *EpollDriver) receiveDatagrams(w *epollWaiter, events uint32) {
	for range datagramsPerTurn {
		room := d.datagrams.room()
		if room == nil {
			break
		}
		from := room[uring.DatagramHeader-uring.AddressRoom : uring.DatagramHeader]
		n, fromSize, flags, errno := epoll.ReceiveFrom(w.at.fd, room[uring.DatagramHeader:datagramBufferSize], from)
		if errno == syscall.EAGAIN {
			return
		}
		if errno != 0 {
			d.finish(w, -int32(errno))
			return
		}
		binary.NativeEndian.PutUint32(room[0:], uint32(fromSize)) // struct io_uring_recvmsg_out
		binary.NativeEndian.PutUint32(room[4:], 0)
		binary.NativeEndian.PutUint32(room[8:], uint32(n))
		binary.NativeEndian.PutUint32(room[12:], uint32(flags))
		d.received(&d.datagrams, w, room, uring.DatagramHeader+n, true)
	}
	d.serveLater(w, events)
}

// acceptAll accepts until nobody waits.
func (d *EpollDriver) acceptAll(w *epollWaiter, events uint32) {
	for range acceptsPerTurn {
		fd, errno := epoll.Accept(w.at.fd)
		if errno == syscall.EAGAIN {
			return
		}
		if errno != 0 {
			d.finish(w, -int32(errno))
			return
		}
		d.queue(Completion{Token: w.token, Res: int32(fd), More: true})
	}
	d.serveLater(w, events)
}

// send sends what fits now. EAGAIN: another waiter has filled the socket.
func (d *EpollDriver) send(w *epollWaiter) {
	n, err := d.SendNow(w.at.fd, w.parts)
	if errno, failed := err.(syscall.Errno); failed {
		if errno != syscall.EAGAIN {
			d.finish(w, -int32(errno))
		}
		return
	}
	d.finish(w, int32(n))
}

// sendAll sends what fits now, and waits for room for the rest.
func (d *EpollDriver) sendAll(w *epollWaiter) {
	for w.sent < len(w.parts[0]) {
		n, err := uring.SendNow(w.at.fd, w.parts[0][w.sent:], 0)
		if errno, failed := err.(syscall.Errno); failed {
			switch {
			case errno == syscall.EAGAIN:
				return
			case w.sent > 0: // whose error the next send meets
			default:
				d.finish(w, -int32(errno))
				return
			}
			break
		}
		w.sent += n
	}
	d.finish(w, int32(w.sent))
}

// connected asks how the connect ended.
func (d *EpollDriver) connected(w *epollWaiter) {
	value, errno := epoll.Option(w.at.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if errno == 0 {
		errno = syscall.Errno(value)
	}
	d.finish(w, -int32(errno))
}
