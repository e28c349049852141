package main

import (
	"golang.org/x/sys/unix"
)

type epollSlot struct {
	fd         int
	generation uint32
	connecting bool
	rest       []byte // what the kernel did not take: waits for EPOLLOUT
}

// failure is an error that came out of a send. The handler, which may be in
// the middle of something, is told with the next events.
type failure struct {
	place
	err error
}

// epollEngine is one edge-triggered epoll set over non-blocking sockets.
type epollEngine struct {
	poll      *poller
	ready     []unix.EpollEvent
	slots     []epollSlot
	buffer    []byte // shared: what was read is checked at once and forgotten
	datagrams bool
	failed    []failure
	undrained []unread
	rereading []unread // those of the batch before
}

// unread is a socket that may have more to read; toEnd: up to the stream's end.
type unread struct {
	place
	toEnd bool
}

// place is a socket's slot and its generation there.
type place struct {
	slot       int
	generation uint32
}

func newEpollEngine(s shape) (*epollEngine, error) {
	poll, err := newPoller(s.slots)
	if err != nil {
		return nil, err
	}
	e := &epollEngine{poll: poll, slots: make([]epollSlot, s.slots), buffer: make([]byte, maxChunk), datagrams: s.datagrams}
	for i := range e.slots {
		e.slots[i].fd = -1
	}
	return e, nil
}

func (e *epollEngine) add(slot, fd int) error {
	s := &e.slots[slot]
	s.fd, s.connecting, s.rest = fd, true, nil
	s.generation++
	return e.poll.add(fd, slot, s.generation)
}

func (e *epollEngine) fd(slot int) int { return e.slots[slot].fd }

func (e *epollEngine) send(slot int, p []byte) bool {
	s := &e.slots[slot]
	for len(p) > 0 {
		n, err := unix.Write(s.fd, p)
		switch err {
		case nil:
			p = p[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			s.rest = p
			return false
		default:
			e.failed = append(e.failed, failure{place{slot, s.generation}, err})
			return false
		}
	}
	return true
}

// shut closes the socket; epoll forgets it by itself.
func (e *epollEngine) shut(slot int) {
	s := &e.slots[slot]
	unix.Close(s.fd)
	s.fd, s.rest = -1, nil
	s.generation++
}

func (e *epollEngine) look() (found bool, err error) {
	e.ready, err = e.poll.wait(0)
	return len(e.ready)+len(e.failed)+len(e.undrained) > 0, err
}

func (e *epollEngine) wait(timeoutMS int) (err error) {
	e.ready, err = e.poll.wait(timeoutMS)
	return err
}

func (e *epollEngine) deliver(h handler) error {
	for _, f := range e.failed {
		if e.slots[f.slot].generation == f.generation {
			h.lost(f.slot, "send", f.err)
		}
	}
	e.failed = e.failed[:0]
	e.undrained, e.rereading = e.rereading[:0], e.undrained
	for _, p := range e.rereading {
		if e.slots[p.slot].generation == p.generation {
			e.receive(h, p.slot, p.toEnd)
		}
	}
	for i := range e.ready {
		slot, events := int(e.ready[i].Fd), e.ready[i].Events
		s := &e.slots[slot]
		if s.generation != uint32(e.ready[i].Pad) {
			continue
		}
		// What a peer said before we looked for the first time comes with the
		// same event, which is told once.
		if s.connecting && !e.connected(h, slot, events) {
			continue
		}
		if s.generation == uint32(e.ready[i].Pad) && events&(unix.EPOLLIN|endMask) != 0 {
			e.receive(h, slot, events&endMask != 0)
		}
		if s.generation == uint32(e.ready[i].Pad) && s.rest != nil && events&unix.EPOLLOUT != 0 {
			p := s.rest
			s.rest = nil
			if e.send(slot, p) {
				h.sent(slot)
			}
		}
	}
	return nil
}

func (e *epollEngine) connected(h handler, slot int, events uint32) bool {
	s := &e.slots[slot]
	if err := socketError(s.fd); err != nil {
		h.lost(slot, "connect", err)
		return false
	}
	if events&unix.EPOLLOUT == 0 {
		return false
	}
	s.connecting = false
	h.connected(slot)
	return true
}

// receive reads once. In a stream a read that did not fill the buffer has
// drained the socket (epoll(7), question 9), unless the end has come too; of
// datagrams it says nothing. What may be left is read with the next batch: by then
// it may be the answer to what the handler sends now, and has come later.
func (e *epollEngine) receive(h handler, slot int, toEnd bool) {
	s := &e.slots[slot]
	generation := s.generation
	n, err := unix.Read(s.fd, e.buffer)
	switch {
	case err == unix.EAGAIN:
		return
	case err == unix.EINTR:
	case err != nil:
		h.lost(slot, "receive", err)
		return
	case n == 0:
		h.ended(slot)
		return
	default:
		h.received(slot, e.buffer[:n])
	}
	more := err == unix.EINTR || n == len(e.buffer) || toEnd || e.datagrams
	if more && s.generation == generation {
		e.undrained = append(e.undrained, unread{place{slot, generation}, toEnd})
	}
}

func (e *epollEngine) close() error {
	for i := range e.slots {
		if e.slots[i].fd >= 0 {
			e.shut(i)
		}
	}
	return e.poll.close()
}
