package core

import (
	"syscall"

	"kloop/uring"
)

// OperationHandler is told the outcome of an operation, once.
type OperationHandler interface {
	// Done gives the result: bytes received or sent, or poll(2) events; or a negative
	// errno, -ECANCELED after Cancel, unless the operation was done before. p is what
	// OpReceiveOnce received, valid until the next poll. o is not valid afterwards.
	Done(o *Operation, result int, p []byte)
}

// OperationSpec says what an operation does.
type OperationSpec struct {
	// Kind is OpReceiveOnce, OpReceiveInto, OpSendAll, OpPoll, or one of those on files.
	Kind OpKind
	// FD stays the caller's. Closing it does not end the operation: Cancel does.
	FD int
	// Buffer is what to send, or where to receive. It must stay as it is until Done.
	Buffer []byte
	// Limit bounds what OpReceiveOnce takes, in bytes. At most one receive buffer's size
	// comes at once; the rest of a longer datagram is lost, as with recv(2).
	Limit uint32
	// Events are those of OpPoll (poll(2)).
	Events uint32
	// File is what operations on files need besides.
	File FileRequest
}

// Operation is one receive, send, poll or call on a file, for callers who ask for each anew. A
// connection that receives all the time is a Conn's business, which costs less.
//
// There is exactly one Done. What the kernel gives up for reasons of its own (no free
// buffer, a signal, the end of the thread that asked) is submitted again.
type Operation struct {
	// Tag is for the handler's use.
	Tag uint64

	engine  *Engine
	handler OperationHandler
	spec    OperationSpec
	id      uint32
	sent    int // bytes of Buffer
	// armed: the kernel has it. answered: its completion waits for Reap.
	armed      bool
	answered   bool
	cancelling bool // a cancel is submitted
	pooled     bool // a goroutine of the pool has it, and no kernel
	opening    bool // counted in Engine.opening
	awaiting   bool // what the kernel has is a poll, before a read or write of a file
	lost       bool // it went with its ring, and what it has done is not known
	queued     bool // in Engine.rearm
	cancelled  bool
	over       bool
}

// operationsKept is how many Operations are kept for the next ones.
const operationsKept = 1024

// Start queues an operation; the kernel gets it with the next flush. EINVAL: the spec
// is not one.
func (e *Engine) Start(spec OperationSpec, tag uint64, handler OperationHandler) (*Operation, error) {
	if e.closed || e.closing {
		return nil, ErrClosed
	}
	if !spec.valid() {
		return nil, syscall.EINVAL
	}
	o := e.freeOperation()
	id, err := e.slots.add(o)
	if err != nil {
		return nil, err
	}
	*o = Operation{Tag: tag, engine: e, handler: handler, spec: spec, id: id}
	e.stats.Operations++
	o.queueArm()
	return o, nil
}

func (s *OperationSpec) valid() bool {
	switch s.Kind {
	case OpReceiveOnce:
		return s.Limit > 0
	case OpReceiveInto, OpSendAll:
		return len(s.Buffer) > 0
	case OpPoll:
		return s.Events != 0
	}
	return s.validFile()
}

func (e *Engine) freeOperation() *Operation {
	if n := len(e.operations); n > 0 {
		o := e.operations[n-1]
		e.operations = e.operations[:n-1]
		return o
	}
	return &Operation{}
}

// Operation answers the operation with this id that is under way, or nil.
func (e *Engine) Operation(id uint32) *Operation {
	o, _ := e.slots.get(id).(*Operation)
	return o
}

// ID is unique among the engine's live objects; at most 31 bits.
func (o *Operation) ID() uint32 { return o.id }

// Spec is what the operation was started with.
func (o *Operation) Spec() *OperationSpec { return &o.spec }

// Cancelled says whether Cancel was called.
func (o *Operation) Cancelled() bool { return o.cancelled }

// Cancel ends the operation; Done follows with a later poll. What it has done by then
// stays done, and Done tells.
func (o *Operation) Cancel() {
	if !o.cancelled && o.spec.Kind != OpClose {
		o.cancelled = true
		o.queueArm()
	}
}

func (o *Operation) queueArm() {
	if !o.queued {
		o.queued = true
		o.engine.rearm = append(o.engine.rearm, o)
	}
}

func (o *Operation) token() Token { return makeToken(o.spec.Kind, o.id) }

// arm implements armer.
func (o *Operation) arm() {
	o.queued = false
	switch {
	case o.over, o.answered:
	case o.lost:
		o.finish(-int(errUnknownProgress), nil)
	case o.cancelled && o.armed:
		o.cancelNow()
	case o.cancelled:
		o.finish(-int(syscall.ECANCELED), nil)
	case !o.armed:
		o.submit()
	}
}

func (o *Operation) submit() {
	if o.spec.Kind.isFile() {
		o.submitFile()
		return
	}
	e := o.engine
	op := Op{Kind: o.spec.Kind, FD: o.spec.FD, Token: o.token(), Events: o.spec.Events, Limit: o.spec.Limit}
	if len(o.spec.Buffer) > 0 {
		rest := o.spec.Buffer[o.sent:]
		e.parts = append(e.parts[:0], rest[:min(len(rest), uring.MaxLen)])
		op.Parts = e.parts
	}
	o.armed = true
	e.submit(op)
	clear(e.parts)
}

func (o *Operation) cancelNow() {
	if o.spec.Kind.isFile() {
		o.cancelFile()
	} else if !o.cancelling {
		o.cancelling = true
		o.engine.cancel(o.token(), makeToken(OpCancel, o.id))
	}
}

// notCancelled handles a failed cancel: the operation was neither waiting nor over
// (EALREADY), or its completion is on its way (ENOENT). As long as that has not come, it
// is cancelled again.
func (o *Operation) notCancelled(errno syscall.Errno) {
	if o.spec.Kind.isFile() {
		o.fileNotCancelled(errno)
		return
	}
	o.cancelling = false
	if o.armed && o.cancelled {
		o.queueArm()
	}
}

// completed handles the kernel's answer.
func (o *Operation) completed(done *Completion) {
	if o.spec.Kind.isFile() {
		o.fileCompleted(int64(done.Res))
		return
	}
	o.armed, o.answered, o.cancelling = false, false, false
	if done.Res < 0 {
		o.failed(syscall.Errno(-done.Res))
		return
	}
	switch o.spec.Kind {
	case OpReceiveOnce, OpReceiveInto:
		o.engine.stats.BytesReceived += uint64(done.Res)
	case OpSendAll:
		o.sentSome(int(done.Res))
		return
	}
	o.finish(int(done.Res), done.Data)
}

// sentSome goes on with the rest, if there is any. Nothing taken without an error is what
// no socket answers; it ends the operation rather than repeat it for ever.
func (o *Operation) sentSome(n int) {
	o.engine.stats.BytesSent += uint64(n)
	o.sent += n
	switch {
	case o.sent == len(o.spec.Buffer) || n == 0:
		o.finish(o.sent, nil)
	case o.cancelled:
		o.finish(-int(syscall.ECANCELED), nil)
	default:
		o.queueArm()
	}
}

func (o *Operation) failed(errno syscall.Errno) {
	switch {
	case errno == syscall.ENOBUFS && o.spec.Kind == OpReceiveOnce && !o.cancelled:
		// No receive buffer was free. They are given back with the next flush.
		o.engine.stats.NoBufs++
		o.queueArm()
	case (errno == syscall.ECANCELED || transient(errno)) && !o.cancelled:
		// By Leave, with the thread that submitted it, or by a signal.
		o.queueArm()
	case errno == syscall.ENOBUFS && o.spec.Kind == OpReceiveOnce, transient(errno):
		o.finish(-int(syscall.ECANCELED), nil)
	default:
		o.finish(-int(errno), nil)
	}
}

// finish ends the operation, which the kernel has not.
func (o *Operation) finish(result int, p []byte) {
	e := o.engine
	if o.spec.Kind == OpClose && result == -int(syscall.ECANCELED) {
		e.calls.close(o.spec.FD) // nobody else would
		result = 0
	}
	o.over = true
	e.slots.remove(o.id)
	e.stats.Operations--
	o.handler.Done(o, result, p)
	o.handler, o.spec = nil, OperationSpec{}
	if !o.queued && len(e.operations) < operationsKept {
		e.operations = append(e.operations, o)
	}
}

// movesBytes says whether what the operation has done must be known before its ring
// may go.
func (o *Operation) movesBytes() bool { return o.spec.Kind != OpPoll }

// leave is for Engine.Leave: it ends what moves bytes and answers whether that is
// still to come.
func (o *Operation) leave() bool {
	if !o.armed || !o.movesBytes() || o.pooled {
		return false
	}
	o.cancelNow()
	return true
}

// takeEffect handles a completion while the engine is between threads. It answers false for
// what waits for Reap: what was received, and polls.
func (o *Operation) takeEffect(done *Completion) bool {
	switch {
	case done.Token.kind() == OpCancel:
		o.notCancelled(syscall.Errno(-done.Res))
	case done.Res >= 0 && o.spec.Kind != OpSendAll:
		o.armed, o.answered = false, true
		return false
	default:
		o.completed(done)
	}
	return true
}

// forget is Engine.forgetEffects, for one operation.
func (o *Operation) forget() {
	if o.answered || o.pooled {
		return
	}
	// Without Leave nobody knows what the kernel took.
	o.lost = o.lost || o.armed && !o.awaiting && (o.spec.Kind == OpSendAll || o.spec.Kind.hasEffects())
	o.armed, o.cancelling = false, false
	o.opened()
	o.queueArm()
}
