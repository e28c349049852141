package core

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// watcher is a WatchHandler that remembers.
type watcher struct {
	t      testing.TB
	ready  int
	events uint32
	over   bool
	errno  syscall.Errno
	on     func(w *Watch)
}

func (r *watcher) Ready(w *Watch, events uint32) {
	if r.over {
		r.t.Error("ready after the end")
	}
	r.ready++
	r.events = events
	if r.on != nil {
		r.on(w)
	}
}

func (r *watcher) Unwatched(_ *Watch, errno syscall.Errno) {
	if r.over {
		r.t.Error("ended twice")
	}
	r.over, r.errno = true, errno
}

func (w *world) pipe() (reader, writer int) {
	w.t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		w.t.Fatal(err)
	}
	return fds[0], fds[1]
}

func (w *world) watch(fd int, events uint32) (*Watch, *watcher) {
	w.t.Helper()
	r := &watcher{t: w.t}
	watch, err := w.e.Watch(fd, events, r)
	if err != nil {
		w.t.Fatal(err)
	}
	return watch, r
}

func TestWatchIsLevelTriggered(t *testing.T) {
	everyMode(t, func(w *world) {
		reader, writer := w.pipe()
		defer CloseDescriptor(reader)
		defer CloseDescriptor(writer)
		watch, r := w.watch(reader, unix.POLLIN)
		w.quiet()
		if r.ready != 0 {
			w.t.Fatal("ready with nothing to read")
		}
		mustWrite(w.t, writer, []byte("ab"))
		w.until("it is ready again and again", func() bool { return r.ready >= 3 })
		if r.events != unix.POLLIN {
			w.t.Errorf("events %#x", r.events)
		}
		if got := mustRead(w.t, reader, 2); string(got) != "ab" {
			w.t.Errorf("read %q", got)
		}
		w.quiet()
		before := r.ready
		w.quiet()
		if r.ready != before {
			w.t.Error("ready with nothing to read any more")
		}
		watch.Cancel()
		w.until("it ends", func() bool { return r.over })
		if r.errno != 0 {
			w.t.Error(r.errno)
		}
	})
}

func TestWatchThatIsReadCompletelyDoesNotFireAgain(t *testing.T) {
	everyMode(t, func(w *world) {
		reader, writer := w.pipe()
		defer CloseDescriptor(reader)
		defer CloseDescriptor(writer)
		watch, r := w.watch(reader, unix.POLLIN)
		r.on = func(*Watch) {
			if got := mustRead(w.t, reader, 1); len(got) != 1 {
				w.t.Error("ready with nothing to read")
			}
		}
		for i := range 10 {
			mustWrite(w.t, writer, []byte("x"))
			w.until("it is ready", func() bool { return r.ready == i+1 })
		}
		watch.Cancel()
		w.until("it ends", func() bool { return r.over })
	})
}

func TestWatchCancelledInItsHandler(t *testing.T) {
	everyMode(t, func(w *world) {
		reader, writer := w.pipe()
		defer CloseDescriptor(reader)
		defer CloseDescriptor(writer)
		_, r := w.watch(writer, unix.POLLOUT)
		r.on = func(watch *Watch) { watch.Cancel() }
		w.until("it ends", func() bool { return r.over })
		if r.ready != 1 {
			w.t.Errorf("ready %d times", r.ready)
		}
	})
}

func TestPortIsFreeOnceTheWatchOfAListenerIsCancelled(t *testing.T) {
	everyMode(t, func(w *world) {
		for range 20 {
			fd, at := tcpListener(w.t)
			watch, r := w.watch(fd, unix.POLLIN)
			w.poll(0)
			watch.Cancel()
			CloseDescriptor(fd)
			again, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				w.t.Fatal(err)
			}
			// Without SO_REUSEADDR: nothing at all may be left of the old one.
			if err := unix.Bind(again, at); err != nil {
				w.t.Fatalf("bind again: %v", err)
			}
			CloseDescriptor(again)
			w.until("it ends", func() bool { return r.over })
			if r.errno != 0 || r.ready != 0 {
				w.t.Errorf("errno %v, ready %d times", r.errno, r.ready)
			}
		}
	})
}

func TestWatchOfAListenerCancelledInItsHandler(t *testing.T) {
	everyMode(t, func(w *world) {
		fd, at := tcpListener(w.t)
		_, r := w.watch(fd, unix.POLLIN)
		r.on = func(watch *Watch) { watch.Cancel() }
		w.quiet()
		peer := peerOf(w.t, at)
		w.until("it ends", func() bool { return r.over })
		if r.ready != 1 {
			w.t.Errorf("ready %d times", r.ready)
		}
		CloseDescriptor(peer)
		CloseDescriptor(fd)
	})
}

func TestWatchOfWhatIsNotOpen(t *testing.T) {
	everyMode(t, func(w *world) {
		reader, writer := w.pipe()
		CloseDescriptor(reader)
		CloseDescriptor(writer)
		_, r := w.watch(reader, unix.POLLIN)
		w.until("it ends", func() bool { return r.over })
		if r.errno != syscall.EBADF {
			w.t.Error(r.errno)
		}
	})
}

func TestWatchSeesTheOtherEndClose(t *testing.T) {
	everyMode(t, func(w *world) {
		reader, writer := w.pipe()
		defer CloseDescriptor(reader)
		watch, r := w.watch(reader, unix.POLLIN)
		w.quiet()
		CloseDescriptor(writer)
		w.until("it is ready", func() bool { return r.ready > 0 })
		if r.events&unix.POLLHUP == 0 {
			w.t.Errorf("events %#x", r.events)
		}
		watch.Cancel()
		w.until("it ends", func() bool { return r.over })
	})
}
