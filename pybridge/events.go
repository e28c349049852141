package main

/*
#include "private.h"
*/
import "C"

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"kloop/core"
)

// A loop is the handler of all its objects: their tags are what the host gave.
var (
	_ core.Handler        = (*loop)(nil)
	_ core.AcceptHandler  = (*loop)(nil)
	_ core.WatchHandler   = (*loop)(nil)
	_ core.ConnectHandler = (*loop)(nil)
)

// What KLOOP_EV_CLOSED says in len.
const (
	closedByRead  = 1
	closedByWrite = 2
)

// Received implements core.Handler.
func (l *loop) Received(c *core.Conn, p []byte) {
	l.emit(C.struct_kloop_event{
		kind: C.KLOOP_EV_DATA,
		user: C.uint64_t(c.Tag),
		ptr:  C.uint64_t(addressOf(p)),
		len:  C.uint64_t(len(p)),
	})
}

// addressOf is where a receive buffer, which is not Go memory, has its bytes.
func addressOf(p []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(p))) }

// ReceivedEOF implements core.Handler. Whether to close is the host's to say.
func (l *loop) ReceivedEOF(c *core.Conn) bool {
	event := C.struct_kloop_event{kind: C.KLOOP_EV_EOF, user: C.uint64_t(c.Tag)}
	if c.PeerNotified() {
		event.res = 1
	}
	l.emit(event)
	return true
}

// Backlog implements core.Handler.
func (l *loop) Backlog(c *core.Conn, queued, sent int) {
	event := C.struct_kloop_event{kind: C.KLOOP_EV_SENT, user: C.uint64_t(c.Tag), len: C.uint64_t(sent)}
	switch {
	case sent == 0 && queued > 0:
		event.kind, event.len = C.KLOOP_EV_BACKLOG, C.uint64_t(queued)
	case queued == 0:
		event.res = 1
	}
	l.emit(event)
}

// Closed implements core.Handler.
func (l *loop) Closed(c *core.Conn, err *core.OpError) {
	event := C.struct_kloop_event{kind: C.KLOOP_EV_CLOSED, user: C.uint64_t(c.Tag)}
	if err != nil {
		event.res = C.int32_t(err.Err)
		event.len = closedByRead
		if err.Op == "write" {
			event.len = closedByWrite
		}
	}
	l.emit(event)
}

// Accepted implements core.AcceptHandler.
func (l *loop) Accepted(listener *core.Listener, fd int) {
	if l.closing {
		_ = unix.Close(fd)
		return
	}
	l.emit(C.struct_kloop_event{kind: C.KLOOP_EV_ACCEPTED, user: C.uint64_t(listener.Tag), res: C.int32_t(fd)})
}

// AcceptFailed implements core.AcceptHandler.
func (l *loop) AcceptFailed(listener *core.Listener, errno syscall.Errno) {
	l.emit(C.struct_kloop_event{kind: C.KLOOP_EV_ACCEPT_ERROR, user: C.uint64_t(listener.Tag), res: C.int32_t(errno)})
}

// dropAccepted takes a listener's events off those that wait for room.
func (l *loop) dropAccepted(tag uint64) {
	kept := l.eventSpill[:0]
	for _, event := range l.eventSpill {
		mine := uint64(event.user) == tag
		if mine && event.kind == C.KLOOP_EV_ACCEPTED {
			_ = unix.Close(int(event.res))
		}
		if !mine || event.kind != C.KLOOP_EV_ACCEPTED && event.kind != C.KLOOP_EV_ACCEPT_ERROR {
			kept = append(kept, event)
		}
	}
	l.eventSpill = kept
}

// Ready implements core.WatchHandler.
func (l *loop) Ready(w *core.Watch, events uint32) {
	l.emit(C.struct_kloop_event{kind: C.KLOOP_EV_READY, user: C.uint64_t(w.Tag), res: C.int32_t(events)})
}

// Unwatched implements core.WatchHandler.
func (l *loop) Unwatched(w *core.Watch, errno syscall.Errno) {
	event := C.struct_kloop_event{kind: C.KLOOP_EV_UNWATCHED, user: C.uint64_t(w.Tag)}
	if errno != 0 {
		event.kind, event.res = C.KLOOP_EV_READY, -C.int32_t(errno)
	}
	l.emit(event)
}

// Connected implements core.ConnectHandler.
func (l *loop) Connected(x *core.Connect, err error) {
	event := C.struct_kloop_event{kind: C.KLOOP_EV_CONNECTED, user: C.uint64_t(x.Tag)}
	var errno syscall.Errno
	switch {
	case errors.Is(err, core.ErrCanceled):
		event.kind = C.KLOOP_EV_UNWATCHED
	case errors.As(err, &errno):
		event.res = C.int32_t(errno)
	}
	l.emit(event)
}
