package core

import (
	"syscall"

	"golang.org/x/sys/unix"

	"kloop/epoll"
)

// Events of poll(2), which are epoll's too.
const (
	pollIn      = uint32(unix.POLLIN)
	pollOut     = uint32(unix.POLLOUT)
	pollFailure = uint32(unix.POLLERR | unix.POLLHUP) // always told
	// pollReceive is what a receive waits for. POLLPRI is no reason to receive, but tells of
	// urgent data, where a receive stops.
	pollReceive = uint32(unix.POLLIN | unix.POLLRDHUP | unix.POLLPRI)
	// pollMask is what a poll may ask for, without epoll's own flags.
	pollMask = uint32(0xffff)
	// pollAlways is what poll(2) says of files that epoll does not take.
	pollAlways = pollIn | pollOut | pollNormalIn | pollNormalOut
	// POLLRDNORM and POLLWRNORM of <asm-generic/poll.h>, which x86 and arm64 have.
	pollNormalIn  = uint32(0x40)
	pollNormalOut = uint32(0x100)
	// pollMoreAfterShort are the events with which a short receive does not mean that the socket
	// is empty.
	pollMoreAfterShort = uint32(unix.POLLRDHUP|unix.POLLPRI) | pollFailure
)

// unwantedMax is how many events in a row a descriptor may have that nobody waits for,
// before it is registered for less. Most are wanted soon after.
const unwantedMax = 4

// epollFD is a descriptor number that was registered, and who waits for it.
type epollFD struct {
	fd         int
	tag        int32  // of its events
	interest   uint32 // it is registered for
	registered bool
	always     bool // epoll does not take it: it is always ready
	tcp        bool
	unwanted   int
	first      *epollWaiter
	last       *epollWaiter
}

// epollWaiter is an operation that waits.
type epollWaiter struct {
	token    Token
	kind     OpKind
	once     bool
	mayBlock bool   // fd is not O_NONBLOCK, and read(2) would wait
	queued   bool   // in EpollDriver.now or later
	over     bool   // and only there
	events   uint32 // it waits for
	seen     uint32 // events when it had to go to EpollDriver.later
	limit    uint32
	sent     int      // bytes of OpSendAll
	parts    [][]byte // the slice is ours
	at       *epollFD
	next     *epollWaiter
	prev     *epollWaiter
}

// await makes op a waiter for events. What is ready now is told by the next wait.
func (d *EpollDriver) await(op *Op, events uint32) syscall.Errno {
	if op.FD < 0 {
		return syscall.EBADF
	}
	at, errno := d.register(op.FD, events)
	if errno != 0 {
		return errno
	}
	w := d.newWaiter(op, events)
	if op.Kind == OpRead {
		nonblocking, _ := epoll.Nonblocking(op.FD) // it was registered, so it is there
		w.mayBlock = !nonblocking
	}
	w.at, w.prev = at, at.last
	if at.last == nil {
		at.first = w
	} else {
		at.last.next = w
	}
	at.last = w
	d.waiters[op.Token] = w
	if at.always {
		d.serveLater(w, pollAlways)
	}
	return 0
}

func (d *EpollDriver) newWaiter(op *Op, events uint32) *epollWaiter {
	var w *epollWaiter
	if n := len(d.free); n > 0 {
		w = d.free[n-1]
		d.free = d.free[:n-1]
	} else {
		w = &epollWaiter{}
	}
	*w = epollWaiter{
		token: op.Token, kind: op.Kind, once: op.Once, events: events, limit: op.Limit,
		parts: append(w.parts[:0], op.Parts...),
	}
	return w
}

// register has the set tell of events of fd, in addition to what its waiters want, and of
// what is ready now.
func (d *EpollDriver) register(fd int, events uint32) (*epollFD, syscall.Errno) {
	for fd >= len(d.fds) {
		d.fds = append(d.fds, nil)
	}
	at := d.fds[fd]
	if at == nil {
		at = &epollFD{fd: fd}
		d.fds[fd] = at
	}
	if at.registered {
		events |= at.wanted()
		errno := d.set.Modify(fd, events|unix.EPOLLET, at.tag)
		switch errno {
		case 0:
			at.interest = events
			return at, 0
		case syscall.ENOENT:
			at = d.renew(at)
		default:
			return at, errno
		}
	}
	if at.always {
		// It may be another file by now.
		at = d.renew(at)
	}
	return at, d.add(at, events)
}

func (d *EpollDriver) add(at *epollFD, events uint32) syscall.Errno {
	d.tag++
	at.tag = d.tag
	errno := d.set.Add(at.fd, events|unix.EPOLLET, at.tag)
	if errno == syscall.EEXIST {
		// This file had this number before, lost it, and has it again.
		errno = d.set.Modify(at.fd, events|unix.EPOLLET, at.tag)
	}
	switch errno {
	case 0:
	case syscall.EPERM:
		at.always = true
		return 0
	default:
		return errno
	}
	at.registered, at.interest, at.unwanted = true, events, 0
	protocol, errno := epoll.Option(at.fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	at.tcp = errno == 0 && protocol == unix.IPPROTO_TCP
	return 0
}

// renew answers a fresh state of a number that is another file's now. Who waits for the old
// one stays with that, until cancelled.
func (d *EpollDriver) renew(at *epollFD) *epollFD {
	if at.first == nil {
		*at = epollFD{fd: at.fd}
		return at
	}
	fresh := &epollFD{fd: at.fd}
	d.fds[at.fd] = fresh
	return fresh
}

// wanted is what the waiters wait for together.
func (at *epollFD) wanted() uint32 {
	events := uint32(0)
	for w := at.first; w != nil; w = w.next {
		events |= w.events
	}
	return events
}

// narrow registers fd for no more than its waiters want.
func (d *EpollDriver) narrow(at *epollFD) {
	at.unwanted = 0
	events := at.wanted()
	if events == at.interest {
		return
	}
	switch d.set.Modify(at.fd, events|unix.EPOLLET, at.tag) {
	case 0:
		at.interest = events
	case syscall.ENOENT, syscall.EBADF:
		// Closed here, and open elsewhere: its edges go on.
		d.renew(at)
	}
}

// finish ends a waiter with its last completion.
func (d *EpollDriver) finish(w *epollWaiter, res int32) {
	d.complete(w.token, res)
	d.drop(w)
}

// drop forgets a waiter.
func (d *EpollDriver) drop(w *epollWaiter) {
	delete(d.waiters, w.token)
	if w.prev == nil {
		w.at.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		w.at.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	clear(w.parts)
	w.parts = w.parts[:0]
	w.at, w.next, w.prev = nil, nil, nil
	if w.queued {
		w.over = true // who finds it there frees it
	} else {
		d.free = append(d.free, w)
	}
}
