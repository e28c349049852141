package main

/*
#include <stdlib.h>
#include "private.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"kloop/core"
	"kloop/uring"
)

// eventsPerCompletion is the most events that the handling of one completion
// makes: progress of a send and a close. What a batch makes beyond that, when quick
// sends are settled, is spilled.
const eventsPerCompletion = 2

// processorsMin is how many Go needs so that its monitor does not take the
// loop's away for want of another.
const processorsMin = 2

//export kloop_go_open
func kloop_go_open(o *C.struct_kloop_options, p *C.struct_kloop, reason *C.char, reasonSize C.uint64_t) (result C.int) {
	l := &loop{p: p, k: &p.s}
	defer func() {
		if r := recover(); r != nil {
			l.panicked(r)
			result = explain(errors.New("a panic: please report it"), reason, reasonSize)
		}
	}()
	if runtime.GOMAXPROCS(0) < processorsMin {
		runtime.GOMAXPROCS(processorsMin)
	}
	if err := l.open(o); err != nil {
		return explain(err, reason, reasonSize)
	}
	return 0
}

var driverNames = map[C.uint32_t]core.DriverName{
	C.KLOOP_DRIVER_AUTO:     core.DriverAuto,
	C.KLOOP_DRIVER_IO_URING: core.DriverIOUring,
	C.KLOOP_DRIVER_EPOLL:    core.DriverEpoll,
}

func (l *loop) open(o *C.struct_kloop_options) error {
	name, known := driverNames[o.driver]
	if !known {
		return fmt.Errorf("kloop: the host asks for driver number %d, which is none: %w", o.driver, syscall.EINVAL)
	}
	driver, reason, err := core.NewDriver(core.DriverOptions{
		Name: name,
		Uring: core.UringOptions{
			Entries:      uint32(o.entries),
			Buffers:      uint32(o.buffers),
			BufferSize:   uint32(o.buffer_size),
			SQPoll:       o.sqpoll != 0,
			SQPollIdleMS: uint32(o.sqpoll_idle_ms),
			SQPollCPU:    int(o.sqpoll_cpu),
		},
		Epoll: core.EpollOptions{Buffers: uint32(o.buffers), BufferSize: uint32(o.buffer_size)},
	})
	if err != nil {
		return err
	}
	l.driver = driver
	l.cmds = unsafe.Slice(l.k.cmds, int(l.k.max_cmds))
	l.events = unsafe.Slice(l.k.events, int(l.k.max_events))
	l.released = unsafe.Slice(l.k.released, int(l.k.max_released))
	l.engine, err = core.NewEngine(l.traced(o), core.Options{Release: l.release, Pool: l.newPool})
	if err != nil {
		return errors.Join(err, driver.Close())
	}
	if err := l.register(); err != nil {
		return errors.Join(err, l.engine.Close())
	}
	l.k.wake_fd = C.int32_t(l.engine.WakeFD())
	l.k.driver = l.text(driver.Name())
	l.k.driver_reason = l.text(reason)
	l.tellDriver()
	l.engine.Flush()
	l.tell()
	return nil
}

// traced answers the driver, which tells what it does if the host wants that.
func (l *loop) traced(o *C.struct_kloop_options) core.Driver {
	if o.debug != 0 {
		return core.Trace(l.driver, os.Stderr)
	}
	return l.driver
}

// text answers C memory that lives as long as the loop.
func (l *loop) text(s string) *C.char {
	p := C.CString(s)
	l.texts = append(l.texts, unsafe.Pointer(p))
	return p
}

// explain writes an error's text for the host and answers its errno.
func explain(err error, reason *C.char, size C.uint64_t) C.int {
	if size > 0 {
		out := unsafe.Slice((*byte)(unsafe.Pointer(reason)), int(size))
		n := copy(out[:size-1], err.Error())
		out[n] = 0
	}
	return failure(err)
}

// failure is the negative errno of an error.
func failure(err error) C.int {
	var errno syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &errno) && errno != 0:
		return -C.int(errno)
	case errors.Is(err, uring.ErrNotSupported):
		return -C.int(syscall.EOPNOTSUPP)
	case errors.Is(err, core.ErrTooMany):
		return -C.int(syscall.ENFILE)
	}
	return -C.int(syscall.EINVAL)
}

//export kloop_go_flush
func kloop_go_flush(handle C.uint64_t, yield C.int) (result C.int) {
	l := loopOf(handle)
	if l.broken {
		return l.refuse()
	}
	l.delivering = true
	defer l.contain(&result)
	if yield != 0 {
		runtime.Gosched()
	}
	l.emitSpilled()
	l.releaseSpilled()
	l.takeCommands()
	l.engine.Flush()
	l.takeAnswers()
	l.tell()
	return 0
}

//export kloop_go_reap
func kloop_go_reap(handle C.uint64_t, yield C.int) (result C.int) {
	l := loopOf(handle)
	if l.broken {
		return l.refuse()
	}
	l.delivering = true
	defer l.contain(&result)
	if yield != 0 {
		runtime.Gosched()
	}
	l.engine.Reap(l.room() / eventsPerCompletion)
	l.takeAnswers()
	l.tell()
	return 0
}

// refuse answers calls after a panic: first with its event, then with an error.
func (l *loop) refuse() C.int {
	if len(l.eventSpill) == 0 {
		return -C.int(syscall.ENOTRECOVERABLE)
	}
	l.emitSpilled()
	return eventsOnly
}

//export kloop_go_attach
func kloop_go_attach(handle C.uint64_t) (result C.int) {
	l := loopOf(handle)
	defer l.contain(&result)
	if l.broken {
		return -C.int(syscall.ENOTRECOVERABLE)
	}
	err := l.engine.Enter()
	l.tellDriver()
	l.tell()
	l.p.attached = 1
	return failure(err)
}

//export kloop_go_leave
func kloop_go_leave(handle C.uint64_t) (result C.int) {
	l := loopOf(handle)
	if l.broken {
		return l.refuse()
	}
	l.delivering = true
	defer l.contain(&result)
	l.emitSpilled()
	l.releaseSpilled()
	l.takeCommands()
	l.engine.Leave()
	l.tell()
	return 0
}

//export kloop_go_take
func kloop_go_take(handle C.uint64_t) (result C.int) {
	l := loopOf(handle)
	defer l.contain(&result)
	if l.broken {
		return -C.int(syscall.ENOTRECOVERABLE)
	}
	l.takeCommands()
	l.tell()
	return 0
}

//export kloop_go_send_now
func kloop_go_send_now(handle C.uint64_t, id C.uint32_t) (result C.int64_t) {
	l := loopOf(handle)
	defer l.contain64(&result)
	if l.broken {
		return -C.int64_t(syscall.ENOTRECOVERABLE)
	}
	l.takeCommands()
	left, failed := 0, syscall.Errno(0)
	if c := l.engine.Conn(uint32(id)); c != nil {
		left, failed = c.SendNow()
	}
	l.tell()
	if failed != 0 {
		return -C.int64_t(failed)
	}
	return C.int64_t(left)
}

//export kloop_go_close
func kloop_go_close(handle C.uint64_t) (result C.int) {
	l := loopOf(handle)
	defer func() {
		if r := recover(); r != nil {
			l.broken = true
			result = 1
		}
	}()
	if !l.closing {
		l.closing = true
		l.endLookups()
		l.close()
	}
	l.releaseSpilled()
	if l.k.nreleased > 0 {
		return 1
	}
	l.unregister()
	if l.pool != nil {
		l.pool.close()
	}
	for _, p := range l.texts {
		C.free(p)
	}
	return 0
}

// close ends the engine. Errors of closing descriptors change nothing for a host
// that has let go of the loop.
func (l *loop) close() {
	if l.broken {
		_ = l.driver.Close()
		return
	}
	l.takeCommands()
	_ = l.engine.Close()
	for _, event := range l.eventSpill {
		switch {
		case event.kind == C.KLOOP_EV_ACCEPTED:
			_ = unix.Close(int(event.res))
		case event.kind == C.KLOOP_EV_OPENED && event.res == 0:
			_ = unix.Close(int(event.len))
		}
	}
	l.eventSpill = nil
}

//export kloop_go_stats
func kloop_go_stats(handle C.uint64_t) (result C.int) {
	l := loopOf(handle)
	defer l.contain(&result)
	s := l.engine.Stats()
	l.k.stats = C.struct_kloop_stats{
		enters:         C.uint64_t(s.Driver.Enters),
		enters_submit:  C.uint64_t(s.Driver.EntersSubmit),
		enters_wait:    C.uint64_t(s.Driver.EntersWait),
		enters_wakeup:  C.uint64_t(s.Driver.EntersWakeup),
		submitted:      C.uint64_t(s.Driver.Submitted),
		completions:    C.uint64_t(s.Driver.Completions),
		overflows:      C.uint64_t(s.Driver.Overflows),
		bytes_received: C.uint64_t(s.BytesReceived),
		bytes_sent:     C.uint64_t(s.BytesSent),
		rearms:         C.uint64_t(s.Rearms),
		nobufs:         C.uint64_t(s.NoBufs),
		short_sends:    C.uint64_t(s.ShortSends),
		direct_sends:   C.uint64_t(s.DirectSends),
		wakes:          C.uint64_t(s.Wakes),
		accepts:        C.uint64_t(s.Accepts),
		conns:          C.uint64_t(s.Conns),
		listeners:      C.uint64_t(s.Listeners),
		watches:        C.uint64_t(s.Watches),
		buffers_out:    C.uint64_t(s.Driver.BuffersOut),
		owners_out:     C.uint64_t(s.OwnersOut),
		operations:     C.uint64_t(s.Operations),
		go_heap:        C.uint64_t(liveHeapBytes()),
	}
	return 0
}
