package main

/*
#include <stdlib.h>
#include "pool.h"
*/
import "C"

import (
	"sync/atomic"
	"syscall"
	"unsafe"

	"kloop/core"
)

// threadPool is the core.FilePool of a host's loop: pool.c's threads. Opens of FIFOs, which must be
// cancellable, are goroutines'.
type threadPool struct {
	engine  *core.Engine
	answers *C.struct_kloop_answers // C memory
	fifos   core.FilePool
	failed  []failedJob
}

// failedJob is an operation that no thread could be had for.
type failedJob struct {
	o     *core.Operation
	errno int64
}

var _ core.FilePool = (*threadPool)(nil)

func newThreadPool(e *core.Engine, wakeFD int) *threadPool {
	p := &threadPool{engine: e, answers: (*C.struct_kloop_answers)(C.malloc(C.sizeof_struct_kloop_answers))}
	C.kloop_answers_init(p.answers, C.int(wakeFD))
	p.fifos = core.NewFilePool(func() { raise(wakeFD) })
	return p
}

// newPool is core.Options.Pool.
func (l *loop) newPool(e *core.Engine, wakeFD int) core.FilePool {
	l.pool = newThreadPool(e, wakeFD)
	return l.pool
}

// raise makes an eventfd readable. EAGAIN says that it is, to the brim.
func raise(fd int) {
	one := uint64(1)
	_, _ = syscall.Write(fd, (*[8]byte)(unsafe.Pointer(&one))[:])
}

// close frees what no thread can still want.
func (p *threadPool) close() {
	if p.answers.out > 0 {
		return // after a panic; a thread will look at it
	}
	C.kloop_answers_end(p.answers)
	C.free(unsafe.Pointer(p.answers))
}

// Start implements core.FilePool.
func (p *threadPool) Start(o *core.Operation) {
	op := opOf(o)
	if errno := C.kloop_pool_start(p.answers, &op, C.uint32_t(core.PoolSize())); errno < 0 {
		p.failed = append(p.failed, failedJob{o, int64(errno)})
	}
}

// opOf is the inverse of specOfFile. All that it names is the host's memory.
func opOf(o *core.Operation) C.struct_kloop_op {
	s := o.Spec()
	f := &s.File
	op := C.struct_kloop_op{
		code: fileCodes[s.Kind], fd: C.int32_t(s.FD), fd2: C.int32_t(f.FD2), id: C.uint32_t(o.ID()),
		events: C.uint32_t(f.Flags), offset: C.uint64_t(f.Offset),
		ptr: C.uint64_t(addressOf(f.Path)), len: C.uint64_t(len(f.Path)),
		ptr2: C.uint64_t(addressOf(f.Path2)), len2: C.uint64_t(len(f.Path2)),
	}
	switch s.Kind {
	case core.OpFileRead, core.OpFileWrite, core.OpReadDir:
		op.ptr, op.len = C.uint64_t(addressOf(s.Buffer)), C.uint64_t(len(s.Buffer))
	case core.OpStat, core.OpReadLink:
		op.ptr2, op.len2 = C.uint64_t(addressOf(s.Buffer)), C.uint64_t(len(s.Buffer))
	case core.OpCopyRange, core.OpAllocate:
		op.len = C.uint64_t(f.Length)
	}
	return op
}

// Cancel implements core.FilePool.
func (p *threadPool) Cancel(o *core.Operation) {
	C.kloop_pool_cancel(p.answers, C.uint32_t(o.ID()))
	p.fifos.Cancel(o)
}

// Waiting implements core.FilePool.
func (p *threadPool) Waiting() bool {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&p.answers.waiting))) != 0 || len(p.failed) > 0 || p.fifos.Waiting()
}

// Reap implements core.FilePool.
func (p *threadPool) Reap(limit int, told func(o *core.Operation, result int64)) int {
	n := 0
	var id C.uint32_t
	var result C.int64_t
	for n < limit && C.kloop_pool_take(p.answers, &id, &result) != 0 {
		o := p.engine.Operation(uint32(id))
		if result == C.KLOOP_POOL_FIFO && !o.Cancelled() {
			p.fifos.Start(o)
			continue
		}
		if result == C.KLOOP_POOL_FIFO {
			result = -C.int64_t(syscall.ECANCELED)
		}
		told(o, int64(result))
		n++
	}
	for n < limit && len(p.failed) > 0 {
		job := p.failed[0]
		p.failed = p.failed[1:]
		told(job.o, job.errno)
		n++
	}
	if n < limit && p.fifos.Waiting() {
		n += p.fifos.Reap(limit-n, told)
	}
	return n
}
