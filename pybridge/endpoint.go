package main

/*
#include "private.h"
*/
import "C"

import (
	"slices"
	"unsafe"

	"kloop/core"
	"kloop/uring"
)

var _ core.DatagramHandler = (*loop)(nil)

// The host's view of a datagram is the kernel's.
var _ [uring.DatagramHeader]byte = [C.sizeof_struct_kloop_datagram]byte{}

const addressOffset = unsafe.Offsetof(C.struct_kloop_datagram{}.address)

//export kloop_go_endpoint
func kloop_go_endpoint(handle C.uint64_t, fd C.int, user C.uint64_t) (result C.int64_t) {
	l := loopOf(handle)
	l.object(&result, func() (uint32, error) {
		d, err := l.engine.AdoptDatagram(int(fd), l)
		if err != nil {
			return 0, err
		}
		d.Tag = uint64(user)
		return d.ID(), nil
	})
	return result
}

//export kloop_go_endpoint_end
func kloop_go_endpoint_end(handle C.uint64_t, id C.uint32_t) (result C.int) {
	l := loopOf(handle)
	l.change(&result, func() bool {
		l.takeCommands()
		d := l.engine.Datagram(uint32(id))
		if d == nil {
			return false
		}
		tag := d.Tag
		d.End()
		l.eventSpill = slices.DeleteFunc(l.eventSpill, func(event C.struct_kloop_event) bool {
			return uint64(event.user) == tag
		})
		return true
	})
	return result
}

// endpointCommand is command, for what is no connection: an endpoint, or something that
// has ended while the host wrote to it.
func (l *loop) endpointCommand(cmd *C.struct_kloop_cmd) {
	d := l.engine.Datagram(uint32(cmd.id))
	if d == nil {
		if cmd.owner != 0 {
			l.release(uint64(cmd.owner))
		}
		return
	}
	switch cmd.op {
	case C.KLOOP_CMD_SENDTO:
		to := hostBytes(cmd.ptr, C.sizeof_struct_kloop_datagram+cmd.len)
		size := (*C.struct_kloop_datagram)(unsafe.Pointer(&to[0])).address_size
		address := to[addressOffset:][:min(size, uring.AddressRoom)]
		d.QueueOwned(to[C.sizeof_struct_kloop_datagram:], address, uint64(cmd.owner))
	case C.KLOOP_CMD_READ_PAUSE:
		d.Pause()
	case C.KLOOP_CMD_READ_RESUME:
		d.Resume()
	case C.KLOOP_CMD_CLOSE:
		d.Close()
	case C.KLOOP_CMD_ABORT:
		d.Abort()
	default:
		panicUnknown(cmd)
	}
}

// ReceivedFrom implements core.DatagramHandler.
func (l *loop) ReceivedFrom(d *core.Datagram, p, from []byte) {
	l.emit(C.struct_kloop_event{
		kind: C.KLOOP_EV_DATAGRAM,
		user: C.uint64_t(d.Tag),
		ptr:  C.uint64_t(uintptr(unsafe.Pointer(unsafe.SliceData(from))) - addressOffset),
		len:  C.uint64_t(len(p)),
	})
}

// Failed implements core.DatagramHandler.
func (l *loop) Failed(d *core.Datagram, err *core.OpError) {
	side := closedByRead
	if err.Op == "write" {
		side = closedByWrite
	}
	l.emit(C.struct_kloop_event{
		kind: C.KLOOP_EV_DATAGRAM_ERROR,
		user: C.uint64_t(d.Tag),
		res:  C.int32_t(err.Err),
		len:  C.uint64_t(side),
	})
}

// Sent implements core.DatagramHandler.
func (l *loop) Sent(d *core.Datagram, datagrams, bytes int) {
	l.emit(C.struct_kloop_event{
		kind: C.KLOOP_EV_DATAGRAM_SENT,
		user: C.uint64_t(d.Tag),
		res:  C.int32_t(datagrams),
		len:  C.uint64_t(bytes),
	})
}

// DatagramClosed implements core.DatagramHandler.
func (l *loop) DatagramClosed(d *core.Datagram) {
	l.emit(C.struct_kloop_event{kind: C.KLOOP_EV_DATAGRAM_CLOSED, user: C.uint64_t(d.Tag)})
}
