package main

import (
	"errors"
	"fmt"

	"kloop/uring"
)

// engine moves bytes between the sockets of a session and their handler. A
// socket has a slot, the connection's index; an engine tells the events of a
// socket from those of the one that had its slot before.
//
// There are two. ringEngine asks for least per small message: multishot
// receives and sends that are submitted many at a time. epollEngine asks for
// less per large one, since it reads at once all that has come; it is also for
// where io_uring can't be had, and, being nothing but read(2) and write(2), the
// control that shows whether a finding is the other engine's.
type engine interface {
	// add takes over a socket whose connect is under way.
	add(slot, fd int) error
	// send sends p, which must not change until it is sent. It answers true if
	// the kernel has taken all of it; otherwise the handler is told when it has,
	// and must not send before.
	send(slot int, p []byte) bool
	// fd answers the socket of a slot.
	fd(slot int) int
	// shut closes the socket of a slot. Nothing more is heard of it.
	shut(slot int)
	// look submits what is due and answers whether something has happened; wait
	// sleeps until then, for at most timeoutMS milliseconds. deliver hands to the
	// handler what either has found: between them the session takes the time.
	look() (bool, error)
	wait(timeoutMS int) error
	deliver(h handler) error
	// close ends the engine and closes all sockets.
	close() error
}

// handler is told what happens to sockets. It may send to and shut any slot.
type handler interface {
	connected(slot int)
	sent(slot int)                              // what send did not take at once
	received(slot int, p []byte)                // p is the handler's during the call; never empty
	ended(slot int)                             // the end of the peer's stream, or an empty datagram
	lost(slot int, doing string, because error) // the socket is of no more use: shut it
}

// shape is what an engine has to know of the sockets it is for.
type shape struct {
	slots     int
	chunk     int  // the bytes that are expected at once
	datagrams bool // a receive is one datagram
}

const (
	engineAuto  = "auto"
	engineRing  = "uring"
	engineEpoll = "epoll"
)

// ringChunkMax: 16 KiB messages cost 5 % less through the ring, 100 KiB ones 20 % more, because
// it receives them in as many pieces as they arrive in.
const ringChunkMax = 32 << 10

// newEngine makes the engine called name, or the one that suits best, and
// answers its name. The caller's goroutine must stay on its thread.
func newEngine(name string, s shape) (engine, string, error) {
	switch name {
	case engineAuto, engineRing, engineEpoll:
	default:
		return nil, "", fmt.Errorf("-engine must be %s, %s or %s", engineAuto, engineRing, engineEpoll)
	}
	if name == engineRing || name == engineAuto && s.chunk <= ringChunkMax {
		e, err := newRingEngine(s)
		if err == nil {
			return e, engineRing, nil
		}
		if name == engineRing || !errors.Is(err, uring.ErrNotSupported) {
			return nil, "", fmt.Errorf("io_uring: %w", err)
		}
	}
	e, err := newEpollEngine(s)
	if err != nil {
		return nil, "", err
	}
	return e, engineEpoll, nil
}
