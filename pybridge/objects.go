package main

/*
#include "private.h"
*/
import "C"

import (
	"syscall"
	"unsafe"

	"kloop/core"
)

// object runs a function that makes something, and answers its id.
func (l *loop) object(result *C.int64_t, make func() (uint32, error)) {
	defer l.contain64(result)
	if l.broken {
		*result = -C.int64_t(syscall.ENOTRECOVERABLE)
		return
	}
	id, err := make()
	l.tell()
	if err != nil {
		*result = C.int64_t(failure(err))
		return
	}
	*result = C.int64_t(id)
}

// change runs a function on something that may have ended.
func (l *loop) change(result *C.int, f func() bool) {
	defer l.contain(result)
	if l.broken {
		*result = -C.int(syscall.ENOTRECOVERABLE)
		return
	}
	if !f() {
		*result = -C.int(syscall.ENOENT)
	}
	l.tell()
}

//export kloop_go_conn
func kloop_go_conn(handle C.uint64_t, fd C.int, user C.uint64_t) (result C.int64_t) {
	l := loopOf(handle)
	l.object(&result, func() (uint32, error) {
		c, err := l.engine.Adopt(int(fd), l)
		if err != nil {
			return 0, err
		}
		c.Tag = uint64(user)
		return c.ID(), nil
	})
	return result
}

//export kloop_go_pipe
func kloop_go_pipe(handle C.uint64_t, fd C.int, kind C.uint32_t, user C.uint64_t) (result C.int64_t) {
	l := loopOf(handle)
	l.object(&result, func() (uint32, error) {
		c, err := l.engine.AdoptPipe(int(fd), core.PipeKind(kind), l)
		if err != nil {
			return 0, err
		}
		c.Tag = uint64(user)
		return c.ID(), nil
	})
	return result
}

//export kloop_go_listen
func kloop_go_listen(handle C.uint64_t, fd C.int, user C.uint64_t) (result C.int64_t) {
	l := loopOf(handle)
	l.object(&result, func() (uint32, error) {
		listener, err := l.engine.Listen(int(fd), l)
		if err != nil {
			return 0, err
		}
		listener.Tag = uint64(user)
		return listener.ID(), nil
	})
	return result
}

//export kloop_go_connect
func kloop_go_connect(handle C.uint64_t, fd C.int, addr unsafe.Pointer, size C.uint32_t, user C.uint64_t) (result C.int64_t) {
	l := loopOf(handle)
	l.object(&result, func() (uint32, error) {
		x, err := l.engine.Connect(int(fd), unsafe.Slice((*byte)(addr), int(size)), l)
		if err != nil {
			return 0, err
		}
		x.Tag = uint64(user)
		return x.ID(), nil
	})
	return result
}

//export kloop_go_watch
func kloop_go_watch(handle C.uint64_t, fd C.int, events C.uint32_t, user C.uint64_t) (result C.int64_t) {
	l := loopOf(handle)
	l.object(&result, func() (uint32, error) {
		w, err := l.engine.Watch(int(fd), uint32(events), l)
		if err != nil {
			return 0, err
		}
		w.Tag = uint64(user)
		return w.ID(), nil
	})
	return result
}

//export kloop_go_cancel
func kloop_go_cancel(handle C.uint64_t, id C.uint32_t) (result C.int) {
	l := loopOf(handle)
	l.change(&result, func() bool { return l.engine.Cancel(uint32(id)) })
	return result
}

//export kloop_go_listen_resume
func kloop_go_listen_resume(handle C.uint64_t, id C.uint32_t) (result C.int) {
	l := loopOf(handle)
	l.change(&result, func() bool {
		listener := l.engine.Listener(uint32(id))
		if listener != nil {
			listener.Resume()
		}
		return listener != nil
	})
	return result
}

//export kloop_go_unlisten
func kloop_go_unlisten(handle C.uint64_t, id C.uint32_t) (result C.int) {
	l := loopOf(handle)
	l.change(&result, func() bool {
		listener := l.engine.Listener(uint32(id))
		if listener == nil {
			return false
		}
		tag := listener.Tag
		listener.Close()
		l.dropAccepted(tag)
		return true
	})
	return result
}
