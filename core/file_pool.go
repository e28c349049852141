package core

import (
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
)

// FilePool does the operations on files that a driver does not, by calls that wait, in threads that
// are not the engine's. Its methods are for the engine's thread.
type FilePool interface {
	// Start has an operation done. Its spec stays as it is until Reap has told its answer.
	Start(o *Operation)
	// Cancel hastens the answer, if it can: with -ECANCELED, unless the operation is done all the same.
	Cancel(o *Operation)
	// Waiting says whether Reap would tell anything. When the first answer waits, the pool makes
	// the engine's eventfd readable.
	Waiting() bool
	// Reap tells at most limit answers, as fileCall gives them, and answers how many.
	Reap(limit int, told func(o *Operation, result int64)) int
}

// poolPerCPU and poolMax bound how many calls are made at once: as many as keep a disk busy, and not
// so many that they take the cores from the loops.
const (
	poolPerCPU = 4
	poolMax    = 16
)

// PoolSize is how many calls all pools of the process make at once, but for opens of FIFOs.
func PoolSize() int { return min(poolPerCPU*runtime.NumCPU(), poolMax) }

// workers are goroutines that all engines of the process share. They end when there is nothing to do.
var workers struct {
	mu      sync.Mutex
	waiting []poolJob // from head on
	head    int
	count   int
	// opening are the opens that are being made.
	opening map[*Operation]*cancellableOpen
}

// goroutinePool is the FilePool of an engine whose host has no other.
type goroutinePool struct {
	wake func() // makes the engine's eventfd readable
	mu   sync.Mutex
	list []poolAnswer
	full atomic.Bool

	spare []poolAnswer
}

// poolJob is an operation, and who is to have its answer.
type poolJob struct {
	o *Operation
	p *goroutinePool
}

type poolAnswer struct {
	o      *Operation
	result int64
}

var _ FilePool = (*goroutinePool)(nil)

// NewFilePool makes a pool of goroutines for an engine. wake makes that one's eventfd readable, and is called in any of them.
func NewFilePool(wake func()) FilePool { return &goroutinePool{wake: wake} }

// Start implements FilePool.
func (p *goroutinePool) Start(o *Operation) {
	workers.mu.Lock()
	defer workers.mu.Unlock()
	workers.waiting = append(workers.waiting, poolJob{o, p})
	if workers.count < PoolSize() {
		workers.count++
		go work()
	}
}

// nextJob answers what is to be done; without an operation the worker has ended.
func nextJob() poolJob {
	workers.mu.Lock()
	defer workers.mu.Unlock()
	if workers.head == len(workers.waiting) {
		workers.waiting, workers.head = workers.waiting[:0], 0
		workers.count--
		return poolJob{}
	}
	job := workers.waiting[workers.head]
	workers.waiting[workers.head] = poolJob{}
	workers.head++
	if o := job.o; o.spec.Kind == OpOpen {
		if workers.opening == nil {
			workers.opening = map[*Operation]*cancellableOpen{}
		}
		workers.opening[o] = newCancellableOpen(&o.spec)
	}
	return job
}

func work() {
	for job := nextJob(); job.o != nil; job = nextJob() {
		switch o := job.o; {
		case o.spec.Kind != OpOpen:
			job.p.add(o, fileCall(&o.spec))
		case isFIFO(&o.spec):
			go job.open() // so that it keeps no worker from others
		default:
			job.open()
		}
	}
}

func (j poolJob) open() {
	workers.mu.Lock()
	opening := workers.opening[j.o]
	workers.mu.Unlock()
	result := opening.run()
	workers.mu.Lock()
	delete(workers.opening, j.o) // behind its answer the operation may be another's
	workers.mu.Unlock()
	j.p.add(j.o, result)
}

// add is for any goroutine. The engine is woken under the lock: afterwards it may be gone.
func (p *goroutinePool) add(o *Operation, result int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, poolAnswer{o, result})
	if len(p.list) == 1 {
		p.full.Store(true)
		p.wake()
	}
}

// Waiting implements FilePool.
func (p *goroutinePool) Waiting() bool { return p.full.Load() }

// Reap implements FilePool.
func (p *goroutinePool) Reap(limit int, told func(o *Operation, result int64)) int {
	p.mu.Lock()
	n := min(limit, len(p.list))
	batch := append(p.spare[:0], p.list[:n]...)
	rest := copy(p.list, p.list[n:])
	clear(p.list[rest:])
	p.list = p.list[:rest]
	p.full.Store(rest > 0)
	p.mu.Unlock()
	for i, answer := range batch {
		batch[i] = poolAnswer{}
		told(answer.o, answer.result)
	}
	p.spare = batch
	return n
}

// Cancel implements FilePool.
func (p *goroutinePool) Cancel(o *Operation) {
	workers.mu.Lock()
	opening := workers.opening[o]
	found := false
	for i := workers.head; i < len(workers.waiting) && !found; i++ {
		if found = workers.waiting[i].o == o; found {
			copy(workers.waiting[i:], workers.waiting[i+1:])
			workers.waiting[len(workers.waiting)-1] = poolJob{}
			workers.waiting = workers.waiting[:len(workers.waiting)-1]
		}
	}
	workers.mu.Unlock()
	switch {
	case found:
		p.add(o, -int64(syscall.ECANCELED))
	case opening != nil:
		opening.cancel()
	}
}
