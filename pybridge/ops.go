package main

/*
#include "private.h"
*/
import "C"

import (
	"math"
	"syscall"

	"kloop/core"
)

var _ core.OperationHandler = (*loop)(nil)

// start takes an operation of the host's. What can't be started is done at once.
func (l *loop) start(op *C.struct_kloop_op) {
	dropped := op.state == C.KLOOP_OP_DROPPED
	op.state = C.KLOOP_OP_TAKEN
	if dropped {
		l.done(uint64(op.user), eventOf(op), -int(syscall.ECANCELED), nil)
		return
	}
	o, err := l.engine.Start(specOf(op), uint64(op.user), l)
	if err != nil {
		l.done(uint64(op.user), eventOf(op), int(failure(err)), nil)
		return
	}
	op.id = C.uint32_t(o.ID())
}

func specOf(op *C.struct_kloop_op) core.OperationSpec {
	spec := core.OperationSpec{FD: int(op.fd)}
	switch op.code {
	case C.KLOOP_OP_RECEIVE:
		spec.Kind, spec.Limit = core.OpReceiveOnce, uint32(min(uint64(op.len), math.MaxInt32))
	case C.KLOOP_OP_RECEIVE_INTO:
		spec.Kind, spec.Buffer = core.OpReceiveInto, hostBytes(op.ptr, op.len)
	case C.KLOOP_OP_SEND:
		spec.Kind, spec.Buffer = core.OpSendAll, hostBytes(op.ptr, op.len)
	case C.KLOOP_OP_POLL:
		spec.Kind, spec.Events = core.OpPoll, uint32(op.events)
	default:
		specOfFile(op, &spec)
	}
	return spec
}

// Done implements core.OperationHandler.
func (l *loop) Done(o *core.Operation, result int, p []byte) {
	kind := C.uint32_t(C.KLOOP_EV_DONE)
	if o.Spec().Kind == core.OpOpen {
		kind = C.KLOOP_EV_OPENED
	}
	l.done(o.Tag, kind, result, p)
}

func (l *loop) done(user uint64, kind C.uint32_t, result int, p []byte) {
	event := C.struct_kloop_event{kind: kind, user: C.uint64_t(user)}
	if result < 0 {
		event.res = C.int32_t(-result)
	} else {
		event.len = C.uint64_t(result)
		event.ptr = C.uint64_t(addressOf(p))
	}
	l.emit(event)
}
