package core

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// WatchHandler is told what happens to a watched fd.
type WatchHandler interface {
	// Ready gives the poll(2) events that are true now. They come again with the
	// next poll while they stay true, as with select(2).
	Ready(w *Watch, events uint32)
	// Unwatched is the last call: errno is 0 after Cancel, else why fd can't be polled.
	Unwatched(w *Watch, errno syscall.Errno)
}

// Watch polls an fd again and again.
//
// Each poll is a one-shot operation, armed again with the flush after its event
// was handled. Multishot polls are edge-triggered, and their level-triggered
// form (IORING_POLL_ADD_LEVEL) fires again only when the file wakes its waiters,
// which a reader that leaves bytes behind can't rely on.
type Watch struct {
	// Tag is for the handler's use.
	Tag uint64

	engine    *Engine
	handler   WatchHandler
	fd        int
	id        uint32
	events    uint32
	armed     bool
	queued    bool // in Engine.rearm
	cancelled bool
}

// Watch polls fd, which stays the caller's and must stay open until Unwatched,
// for events (poll(2)).
func (e *Engine) Watch(fd int, events uint32, handler WatchHandler) (*Watch, error) {
	if e.closed || e.closing {
		return nil, ErrClosed
	}
	w := &Watch{engine: e, handler: handler, fd: fd, events: events}
	id, err := e.slots.add(w)
	if err != nil {
		return nil, err
	}
	w.id = id
	e.stats.Watches++
	w.queueArm()
	return w, nil
}

// ID is unique among the engine's live objects; at most 31 bits.
func (w *Watch) ID() uint32 { return w.id }

func (w *Watch) queueArm() {
	if !w.queued {
		w.queued = true
		w.engine.rearm = append(w.engine.rearm, w)
	}
}

func (w *Watch) token() Token { return makeToken(OpPoll, w.id) }

// arm implements armer: with a flush it makes the kernel's state the wanted one.
func (w *Watch) arm() {
	w.queued = false
	switch {
	case w.cancelled && w.armed:
		w.engine.cancel(w.token(), 0)
	case w.cancelled:
		w.end(0)
	case !w.armed:
		w.armed = true
		w.engine.submit(Op{Kind: OpPoll, FD: w.fd, Events: w.events, Token: w.token()})
	}
}

// Cancel ends the watch; Unwatched follows, and no Ready. The poll of a listener
// has ended when Cancel returns: while it is under way, close(2) frees no port.
func (w *Watch) Cancel() {
	if w.cancelled {
		return
	}
	w.cancelled = true
	w.queueArm()
	if w.armed && listens(w.fd) {
		w.disarm()
	}
}

// disarm ends the poll now.
func (w *Watch) disarm() {
	w.engine.mustAttach()
	if !w.armed {
		return // it ended with the old thread's driver
	}
	w.engine.awaitEnd(w.token(), func() bool { return w.armed }, func(done *Completion) {
		w.armed = w.armed && done.More
	})
}

// listens tells whether fd is a listening socket.
func listens(fd int) bool {
	value, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && value != 0
}

// polled handles a completion of the poll.
func (w *Watch) polled(done *Completion) {
	if !done.More {
		w.armed = false
	}
	errno := syscall.Errno(0)
	if done.Res < 0 {
		errno = syscall.Errno(-done.Res)
	}
	switch {
	case w.cancelled:
		if !w.armed && !w.queued {
			w.end(0)
		}
	case errno == syscall.ECANCELED, transient(errno) && errno != 0:
		w.queueArm()
	case errno != 0:
		w.end(errno)
	default:
		w.queueArm()
		w.handler.Ready(w, uint32(done.Res))
	}
}

func (w *Watch) end(errno syscall.Errno) {
	w.cancelled = true
	w.engine.slots.remove(w.id)
	w.engine.stats.Watches--
	w.handler.Unwatched(w, errno)
}
