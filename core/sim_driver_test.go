package core

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"kloop/uring"
)

// simDriver is a Driver on the simulated kernel. It keeps the rules of the interface, and
// within them does what is worst for the engine.
type simDriver struct {
	k        *kernel
	faults   *faults
	queue    []*simOp // submitted, not in the kernel's hands
	armed    []*simOp // in the kernel's hands, or ended by a completion not yet reaped
	results  []result
	buffers  []*simBuffer // by number: those of this ring
	out      map[BufferID]*simBuffer
	returned []*simBuffer // since the last flush
	lastID   BufferID
	thread   int // that may use the ring
	current  int // thread of the caller
	late     int // completions and cancels that are late
	closed   bool
	stats    DriverStats
	// onWait is told of every wait that may sleep, onSleep of every sleep before which no
	// completion is late.
	onWait  func(timeoutNS int64)
	onSleep func()
	// stuck says that the last wait would have slept for ever.
	stuck bool
}

var _ Driver = (*simDriver)(nil)

// simOp is an operation of the simulated kernel.
type simOp struct {
	Op
	file    *file
	moved   int      // bytes of an OpSendAll
	waiting []result // that are late
	issued  bool
	over    bool // its last result exists
}

// result is a completion with what it comes from. op is nil for a cancel.
type result struct {
	Completion
	op *simOp
}

// simBuffer is a receive buffer.
type simBuffer struct {
	memory []byte
	out    bool
}

// enterMost bounds the nanoseconds that entering the kernel takes.
const enterMost = 5000

const poison = 0xdb

func newSimDriver(k *kernel) *simDriver {
	d := &simDriver{k: k, faults: &k.faults, out: map[BufferID]*simBuffer{}}
	k.driver = d
	d.makeBuffers()
	return d
}

func (d *simDriver) makeBuffers() {
	d.buffers = nil
	d.returned = nil
	for range d.faults.buffers {
		d.buffers = append(d.buffers, &simBuffer{memory: make([]byte, d.faults.bufferSize+uring.DatagramHeader)})
	}
}

func (d *simDriver) Name() string       { return "simulated" }
func (d *simDriver) Silent() bool       { return d.faults.silent }
func (d *simDriver) Stats() DriverStats { d.stats.BuffersOut = uint64(len(d.out)); return d.stats }

// use says that the driver is called, which only its thread may.
func (d *simDriver) use() {
	if d.thread != d.current {
		violate("the driver is used in a thread that is not its")
	}
	if d.closed {
		violate("the driver is used after its end")
	}
}

// Submit implements Driver.
func (d *simDriver) Submit(op *Op) error {
	d.use()
	d.stats.Submitted++
	d.k.log("submit %v fd %d target %v quick %v parts %d", op.Token, op.FD, op.Target, op.Quick, len(op.Parts))
	if op.Kind == OpPoll && op.Events == 0 {
		violate("%v polls for nothing", op.Token)
	}
	if op.Kind != OpCancel {
		if other := d.find(op.Token); other != nil {
			violate("%v is submitted while another is under way", op.Token)
		}
	}
	if op.Kind != OpCancel {
		if p := d.k.file(op.FD).actor; p != nil {
			p.submitted(op)
		}
	}
	if len(d.queue) >= d.faults.queueSize {
		d.handOver()
	}
	kept := &simOp{Op: *op}
	kept.Parts, kept.Addr = slices.Clone(op.Parts), slices.Clone(op.Addr)
	if op.Kind != OpCancel {
		kept.file = d.k.file(op.FD)
	}
	d.queue = append(d.queue, kept)
	return nil
}

// find answers the operation with a token that is queued, under way or not yet reaped.
func (d *simDriver) find(token Token) *simOp {
	for _, list := range [2][]*simOp{d.queue, d.armed} {
		for _, op := range list {
			if op.Kind != OpCancel && op.Token == token {
				return op
			}
		}
	}
	return nil
}

// under answers an operation on f that is queued, under way or not yet reaped.
func (d *simDriver) under(f *file) *simOp {
	for _, list := range [2][]*simOp{d.queue, d.armed} {
		for _, op := range list {
			if op.file == f {
				return op
			}
		}
	}
	return nil
}

// handOver gives the kernel what is queued.
func (d *simDriver) handOver() {
	for len(d.queue) > 0 {
		op := d.queue[0]
		d.queue = d.queue[1:]
		op.issued = true
		if op.Kind == OpCancel {
			d.cancel(op)
			continue
		}
		d.armed = append(d.armed, op)
		d.attempt(op)
	}
	d.forget()
}

// Flush implements Driver.
func (d *simDriver) Flush() {
	d.use()
	for _, b := range d.returned {
		b.out = false
	}
	d.returned = d.returned[:0]
}

// Wait implements Driver.
func (d *simDriver) Wait(timeoutNS int64) error {
	d.use()
	d.stats.Enters++
	d.stuck = false
	if timeoutNS != 0 {
		d.onWait(timeoutNS)
	}
	deadline := forever
	if timeoutNS >= 0 {
		deadline = d.k.now() + time.Duration(timeoutNS)
	}
	time.Sleep(time.Duration(d.k.between(1, enterMost)))
	if err := d.k.waitError(); err != nil {
		return err // before anything
	}
	d.handOver()
	d.k.runDue()
	d.progress()
	if err := d.k.waitError(); err != nil {
		return err
	}
	if timeoutNS == 0 || len(d.results) > 0 {
		return nil
	}
	for len(d.results) == 0 && d.k.now() < deadline {
		if d.late == 0 {
			d.onSleep()
		}
		if !d.sleep(deadline) {
			d.stuck = true
			return syscall.EINTR
		}
	}
	if d.k.fault(d.faults.overslept) {
		time.Sleep(time.Duration(d.k.between(1, 50_000)))
	}
	return nil
}

const forever = time.Duration(1<<63 - 1)

// sleep lets time pass until something happens. It answers false if nothing ever will.
func (d *simDriver) sleep(deadline time.Duration) bool {
	next := deadline
	if len(d.k.events) > 0 {
		next = min(next, d.k.events[0].at)
	} else if deadline == forever {
		return false
	}
	time.Sleep(next - d.k.now())
	d.k.runDue()
	d.progress()
	return true
}

// progress has everything go on that can, once.
func (d *simDriver) progress() {
	if len(d.armed) == 0 {
		return
	}
	start := d.k.random.IntN(len(d.armed))
	for i := range len(d.armed) {
		if at := (start + i) % len(d.armed); !d.armed[at].over {
			d.attempt(d.armed[at])
		}
	}
	d.forget()
}

// forget drops silent sends that are over.
func (d *simDriver) forget() {
	d.armed = slices.DeleteFunc(d.armed, func(op *simOp) bool { return op.over && op.reaped() })
}

// reaped says that nothing of an operation is to come.
func (o *simOp) reaped() bool { return o.file == nil }

// Reap implements Driver.
func (d *simDriver) Reap(dst []Completion) int {
	if d.closed {
		violate("the driver is used after its end")
	}
	if len(d.results) > d.faults.resultSize {
		d.stats.Overflows++
	}
	n := min(len(dst), len(d.results))
	ended := false
	for i, r := range d.results[:n] {
		dst[i] = r.Completion
		d.k.log("  done %v: %d more %v", r.Token, r.Res, r.More)
		if r.op != nil && !r.More {
			r.op.file = nil
			ended = true
		}
	}
	d.results = slices.Delete(d.results, 0, n)
	d.stats.Completions += uint64(n)
	if ended {
		d.forget()
	}
	return n
}

// Ready implements Driver.
func (d *simDriver) Ready() bool { return len(d.results) > 0 }

// Settled implements Driver.
func (d *simDriver) Settled() bool { return len(d.queue) == 0 && len(d.results) == 0 }

// post completes an operation; more: it goes on.
func (d *simDriver) post(op *simOp, done Completion, more bool) {
	if op.over {
		violate("the simulation answers %v after its end", op.Token)
	}
	done.Token, done.More = op.Token, more
	op.over = !more
	r := result{done, op}
	quick := op.Kind == OpSend && op.Quick
	if len(op.waiting) > 0 || !quick && d.k.fault(d.faults.late) {
		op.waiting = append(op.waiting, r)
		if len(op.waiting) == 1 {
			d.late++
			d.k.after(lateMost, func() { d.release(op) })
		}
		return
	}
	d.push(r)
}

// release has the completions of an operation exist that were late.
func (d *simDriver) release(op *simOp) {
	if len(op.waiting) == 0 {
		return
	}
	d.late--
	waiting := op.waiting
	op.waiting = nil
	for _, r := range waiting {
		d.push(r)
	}
}

// push makes a completion exist, among those of other operations at any place.
func (d *simDriver) push(r result) {
	at := len(d.results)
	if d.k.fault(d.faults.reorder) {
		for at > 0 && d.results[at-1].Token != r.Token && d.k.chance(0.7) {
			at--
		}
	}
	d.results = slices.Insert(d.results, at, r)
}

// cancel handles an OpCancel.
func (d *simDriver) cancel(op *simOp) {
	target := d.find(op.Target)
	if target == nil || !target.issued || target.over {
		d.push(result{Completion{Token: op.Token, Res: -int32(syscall.ENOENT)}, nil})
		return
	}
	if target.Kind.isFile() && !target.waits() && d.k.fault(d.faults.cancel) {
		// A thread of the kernel has it, which ends it soon.
		d.push(result{Completion{Token: op.Token, Res: -int32(syscall.EALREADY)}, nil})
		return
	}
	if d.k.fault(d.faults.cancel) {
		if target.multishot() && d.k.chance(0.5) {
			d.push(result{Completion{Token: op.Token, Res: -int32(syscall.EALREADY)}, nil})
			return
		}
		d.late++
		d.k.after(lateMost, func() {
			d.late--
			if d.closed || target.over {
				return
			}
			d.end(target)
		})
		return
	}
	d.end(target)
}

// end ends an operation as cancelled.
func (d *simDriver) end(op *simOp) {
	if op.moved > 0 {
		d.post(op, Completion{Res: int32(op.moved)}, false)
		return
	}
	d.post(op, Completion{Res: -int32(syscall.ECANCELED)}, false)
}

// waits says whether only a cancel ends it.
func (o *simOp) waits() bool { return o.Kind == OpOpen && o.File.Mode == modeWaits }

// multishot operations may be busy when they are to be cancelled, and go on.
func (o *simOp) multishot() bool {
	switch o.Kind {
	case OpReceive, OpAccept, OpReceiveDatagrams:
		return true
	case OpRead:
		return !o.Once
	}
	return false
}

// SyncCancel implements Driver.
func (d *simDriver) SyncCancel(token Token) error {
	d.use()
	if d.k.fault(d.faults.signal) {
		return syscall.EINTR
	}
	if op := d.find(token); op != nil && op.issued {
		if !op.over {
			d.end(op)
		}
		d.release(op)
	}
	return nil
}

// Recycle implements Driver.
func (d *simDriver) Recycle(id BufferID) {
	b := d.out[id]
	if b == nil {
		violate("receive buffer %d is given back, which is not out", id)
	}
	delete(d.out, id)
	for i := range b.memory {
		b.memory[i] = poison
	}
	d.returned = append(d.returned, b)
}

// buffer answers a free receive buffer, or nil.
func (d *simDriver) buffer() (BufferID, *simBuffer) {
	if d.k.fault(d.faults.noBuffers) {
		return 0, nil
	}
	for _, b := range d.buffers {
		if !b.out {
			b.out = true
			d.lastID++
			d.out[d.lastID] = b
			return d.lastID, b
		}
	}
	return 0, nil
}

// Attach implements Driver.
func (d *simDriver) Attach() (moved bool, err error) {
	if d.closed {
		violate("the driver is attached after its end")
	}
	if d.thread == d.current {
		return false, nil
	}
	if d.k.fault(d.faults.attach) {
		return false, fmt.Errorf("simulated: a ring for another thread: %w", syscall.ENOMEM)
	}
	d.k.log("attach: thread %d", d.current)
	d.thread = d.current
	d.dropRing()
	d.makeBuffers()
	return true, nil
}

// dropRing ends what is under way without an answer.
func (d *simDriver) dropRing() {
	d.queue = nil
	armed := d.armed
	d.armed = nil
	for _, op := range armed {
		d.release(op)
		if op.Kind.isFile() && op.issued && !op.over && d.k.chance(0.5) {
			d.doFile(op) // by a thread that the kernel has for it
		}
		op.over = true
	}
}

// Close implements Driver.
func (d *simDriver) Close() error {
	if d.closed {
		violate("the driver is closed twice")
	}
	d.k.log("driver closed")
	for _, r := range d.results {
		violate("the driver is closed with %v, which was never reaped", r.Token)
	}
	d.dropRing()
	for _, r := range d.results { // they were late, and nobody sees them any more
		delete(d.out, r.Buffer)
		if r.Token.kind() == OpAccept && r.Res >= 0 {
			d.k.close(int(r.Res))
		}
	}
	d.closed = true
	return nil
}

// PrepareDatagrams implements Driver.
func (d *simDriver) PrepareDatagrams() error {
	if d.k.fault(d.faults.noMemory) {
		return syscall.ENOMEM
	}
	return nil
}
