package core

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
)

// reapBatch is how many completions are copied out of the kernel's queue at a
// time: 64 bytes each, so that a batch stays in the first-level cache.
const reapBatch = 128

// flightUrgentBytes is how much a quick send may hold while the engine sleeps. Its
// end is known only after another look at the completions, which would cost a
// system call of its own each time.
const flightUrgentBytes = 64 << 10

// Options say how to make an engine. The zero value is the default.
type Options struct {
	// Release is called with the owner of every WriteOwned when its bytes are
	// not needed any more, once per call. It must not call the engine.
	Release func(owner uint64)
	// Pool makes what does the operations on files that the driver does not; nil: goroutines. wakeFD is the
	// engine's eventfd.
	Pool func(e *Engine, wakeFD int) FilePool

	// calls is nil but in simulations.
	calls systemCalls
}

// Engine drives connections, listeners, connects and polls over one Driver.
// It belongs to one thread at a time.
type Engine struct {
	driver  Driver
	calls   systemCalls
	silent  bool // Driver.Silent
	release func(owner uint64)
	slots   slots
	stats   Stats
	closed  bool
	// closing says that the engine is being closed: nothing is armed again.
	closing bool

	dirty  []*Conn // connections with something to tell the kernel
	flying []*Conn // connections whose quick send is not yet settled
	urgent bool    // one of these must be settled before a sleep
	rearm  []armer // listeners and watches to be armed with the next flush

	held        []BufferID // buffers that handlers may look at until the next flush
	heldBuffers []*buffer  // the same, of the engine's own
	keepHeld    bool
	ready       completionQueue
	parts       [][]byte // scratch of one send
	op          Op       // scratch of one submission
	// unflushed says that operations were submitted since the last flush.
	unflushed bool

	chunks []*buffer // free ones
	slabs  []*buffer

	slab    *buffer // where records are sealed into
	opened  *buffer // where the kernel opens records into
	sealing *Conn   // whose record at the slab's end is not sealed yet
	early   []*Conn // that have received records before these were started
	reading []*Conn // that the next Reap reads, without a poll

	operations []*Operation // free
	opening    int          // opens that the driver has, and that may wait for ever
	pool       FilePool
	told       func(o *Operation, result int64) // by the pool

	timers timerHeap
	waker  waker
	posted postBox
}

// armer is an object whose operation has to be submitted again.
type armer interface{ arm() }

// postBox holds functions that other threads want run in the engine's thread.
type postBox struct {
	mu    sync.Mutex
	funcs []func()
	spare []func()
	full  atomic.Bool
}

// NewEngine makes an engine on driver, which it owns from then on.
func NewEngine(driver Driver, o Options) (*Engine, error) {
	e := &Engine{
		driver:  driver,
		calls:   o.calls,
		silent:  driver.Silent(),
		release: o.Release,
		parts:   make([][]byte, 0, sendPartsMax),
	}
	if e.calls == nil {
		e.calls = linux{}
	}
	var err error
	if e.waker.fd, err = e.calls.openEventfd(); err != nil {
		return nil, fmt.Errorf("kloop: eventfd: %w", err)
	}
	e.armWaker()
	e.told = func(o *Operation, result int64) { o.fileCompleted(result) }
	if o.Pool != nil {
		e.pool = o.Pool(e, e.waker.fd)
	} else {
		e.pool = NewFilePool(func() { e.calls.raise(e.waker.fd) })
	}
	return e, nil
}

// Driver answers the driver. Only its Name and Stats are for others than the engine.
func (e *Engine) Driver() Driver { return e.driver }

// submit queues an operation. A driver that can't take one is broken.
func (e *Engine) submit(op Op) {
	e.op = op
	e.unflushed = true
	if err := e.driver.Submit(&e.op); err != nil {
		panic(fmt.Sprintf("kloop: %s driver took no operation: %v", e.driver.Name(), err))
	}
}

// cancel asks for the end of an operation, which still gets its last completion.
// If the kernel can't, and says so, that answer goes to the object whose token
// answer is; 0: to nobody.
func (e *Engine) cancel(target, answer Token) {
	e.submit(Op{Kind: OpCancel, Target: target, Token: answer, FD: -1})
}

// Flush turns what was asked for since the last flush into operations and makes
// them ready for the driver's next wait. Data given to handlers before becomes
// invalid. Handlers may be called: with the end of connections that need nothing
// more from the kernel.
func (e *Engine) Flush() {
	e.recycleHeld()
	e.sealPending()
	e.flushRearm()
	// Handlers may add to the list while it is walked; what they add is for the
	// next flush, which keeps this one bounded.
	count := len(e.dirty)
	for i := range count {
		c := e.dirty[i]
		e.dirty[i] = nil
		c.flush()
	}
	rest := copy(e.dirty, e.dirty[count:])
	clear(e.dirty[rest:])
	e.dirty = e.dirty[:rest]
	e.driver.Flush()
	e.unflushed = false
}

func (e *Engine) flushRearm() {
	count := len(e.rearm)
	for i := range count {
		e.rearm[i].arm()
		e.rearm[i] = nil
	}
	rest := copy(e.rearm, e.rearm[count:])
	clear(e.rearm[rest:])
	e.rearm = e.rearm[:rest]
}

// FlushNeeded says whether Flush has anything to do.
func (e *Engine) FlushNeeded() bool {
	return e.unflushed || len(e.dirty) > 0 || len(e.rearm) > 0 || len(e.held)+len(e.heldBuffers) > 0
}

// Pending says that the engine has work of its own, and must not sleep before
// a Flush and a Reap.
func (e *Engine) Pending() bool {
	return e.urgent || len(e.dirty) > 0 || len(e.rearm) > 0 || e.ready.len()+len(e.early)+len(e.reading) > 0 || e.posted.full.Load() || e.pool.Waiting()
}

// Unsettled says that quick sends wait for Reap to look at their completions,
// or at their absence.
func (e *Engine) Unsettled() bool { return len(e.flying) > 0 }

// Reap handles at most limit completions, each with at most a few calls of
// handlers, and settles quick sends. What exceeds limit waits for the next Reap.
func (e *Engine) Reap(limit int) {
	e.openEarly()
	e.readQueued()
	if e.pool.Waiting() {
		limit -= e.pool.Reap(limit, e.told)
	}
	for limit > 0 {
		if e.ready.len() == 0 && e.ready.fill(e.driver, limit) == 0 {
			break
		}
		for limit > 0 && e.ready.len() > 0 {
			e.complete(e.ready.next())
			limit--
		}
	}
	if e.ready.len() == 0 {
		e.settle()
	}
}

// complete hands one completion to its object.
func (e *Engine) complete(done *Completion) {
	if done.Buffer != 0 {
		e.held = append(e.held, done.Buffer)
		done.Buffer = 0
	}
	if done.Token == 0 {
		return
	}
	kind := done.Token.kind()
	if kind == opWake {
		e.woken(done)
		return
	}
	object := e.slots.get(done.Token.id())
	switch object := object.(type) {
	case *Conn:
		switch kind {
		case OpReceive:
			object.received(done)
		case OpSend:
			object.sent(done.Res)
		case opReadable:
			object.receiveReady(done)
		case opWritable:
			object.writable(done)
		case OpCancel:
			object.notCancelled()
		}
	case *Datagram:
		object.completed(done, kind)
	case *Operation:
		if kind == OpCancel {
			object.notCancelled(syscall.Errno(-done.Res))
		} else {
			object.completed(done)
		}
	case *Listener:
		object.accepted(done)
	case *Watch:
		object.polled(done)
	case *Connect:
		object.finished(done, kind)
	case nil:
		e.stale(done, kind)
	}
}

// stale disposes of an answer to an object that is gone. Only completions that
// outlived their ring (Attach) or their engine get here.
func (e *Engine) stale(done *Completion, kind OpKind) {
	if (kind == OpAccept || kind == OpOpen) && done.Res >= 0 {
		e.calls.close(int(done.Res))
	}
}

// settle ends quick sends that the kernel has taken in full, silently. Every
// completion of a send must have been handled that is in e.ready.
func (e *Engine) settle() {
	if len(e.flying) == 0 || !e.driver.Settled() {
		return
	}
	// Handlers may write while the list is walked, which adds nothing to it:
	// only a flush does.
	for i, c := range e.flying {
		e.flying[i] = nil
		if c.sending == sendQuick {
			c.sent(int32(c.flight))
		}
	}
	e.flying = e.flying[:0]
	e.urgent = false
}

// markDirty queues c for the next flush.
func (e *Engine) markDirty(c *Conn) {
	if c.dirty {
		return
	}
	c.dirty = true
	e.dirty = append(e.dirty, c)
}

// letGo tells an owner that its memory is not needed any more.
func (e *Engine) letGo(owner uint64) {
	e.stats.OwnersOut--
	if e.release != nil {
		e.release(owner)
	}
}

// transient says whether an errno of accept(2), recv(2) or send(2) asks for
// nothing but another try.
func transient(errno syscall.Errno) bool {
	switch errno {
	case syscall.EINTR, syscall.EAGAIN:
		return true
	}
	return false
}
