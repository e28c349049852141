package dns

import (
	"context"
	"sync"
)

// pumpMost is how many lookups are begun in one go by who has another's work to do: the loop's thread, mostly.
const pumpMost = 64

// Many is any number of lookups by one resolver, of which so many are under way at a time, in the order in which they were added.
// None takes a goroutine to wait in: see Lookup.
type Many[Q, T any] struct {
	r      *Resolver
	places int
	look   func(ctx context.Context, question Q) T
	done   func(question Q, result T)

	mu      sync.Mutex
	waiting []Q
	first   int // of those that wait: what is before it has begun
	running int
	begun   map[*one[T]]struct{} // of these, those that Cancel has to end
	pumping bool                 // somebody begins what waits
	over    bool
}

// one is a lookup of many.
type one[T any] struct {
	work  *Lookup[T]
	ended bool // guarded by Many.mu
}

// NewMany prepares them by r. look looks one up under the context that it is given, as NewLookup's does. done is told the result of
// each: from any goroutine, one of which is the loop's, so that it must not block.
//
// Of the questions that the resolver asks at a time, a quarter is left to others, who would else wait for each that no server answers.
func NewMany[Q, T any](r *Resolver, places int, look func(ctx context.Context, question Q) T, done func(question Q, result T)) *Many[Q, T] {
	places = max(min(places, r.config.Concurrency*3/4), 1)
	return &Many[Q, T]{r: r, places: places, look: look, done: done, begun: map[*one[T]]struct{}{}}
}

// Add has more looked up, in another goroutine.
func (m *Many[Q, T]) Add(questions []Q) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return
	}
	m.waiting = append(m.waiting[:copy(m.waiting, m.waiting[m.first:])], questions...)
	m.first = 0
	if !m.pumping && m.ready() {
		m.pumping = true
		go m.pump()
	}
}

// ready says that there is one to begin. m.mu is held.
func (m *Many[Q, T]) ready() bool { return !m.over && m.first < len(m.waiting) && m.running < m.places }

// next takes the one to begin; false: there is none, and the pumping is over.
func (m *Many[Q, T]) next() (question Q, ready bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pumping = m.ready()
	if !m.pumping {
		return question, false
	}
	var none Q
	question, m.waiting[m.first] = m.waiting[m.first], none
	m.first++
	m.running++
	return question, true
}

// pump begins what there is place for. m.pumping is set, by the caller.
func (m *Many[Q, T]) pump() {
	for range pumpMost {
		question, ready := m.next()
		if !ready {
			return
		}
		m.begin(question)
	}
	go m.pump()
}

func (m *Many[Q, T]) begin(question Q) {
	it := &one[T]{work: NewLookup(m.r, func(ctx context.Context) T { return m.look(ctx, question) })}
	if result, known := it.work.AtOnce(); known {
		m.ended(it, question, result)
		return
	}
	it.work.Start(func(result T) {
		if m.ended(it, question, result) {
			m.pump()
		}
	})
	m.mu.Lock()
	over := m.over
	if !over && !it.ended {
		m.begun[it] = struct{}{}
	}
	m.mu.Unlock()
	if over {
		m.cancel(it)
	}
}

// ended tells a result, and whether the caller is to pump.
func (m *Many[Q, T]) ended(it *one[T], question Q, result T) (pump bool) {
	m.mu.Lock()
	over := m.over
	m.mu.Unlock()
	if !over {
		m.done(question, result) // before others begin, of which one may be known at once
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	it.ended = true
	delete(m.begun, it)
	m.running--
	pump = !m.pumping && m.ready()
	m.pumping = m.pumping || pump
	return pump
}

func (m *Many[Q, T]) cancel(it *one[T]) {
	var nothing T
	it.work.Cancel(nothing)
}

// Cancel ends those that are under way, and the work for them unless others wait for the same. done is not called any more, but for a
// call that has begun.
func (m *Many[Q, T]) Cancel() {
	m.mu.Lock()
	m.over = true
	begun := m.begun
	m.begun, m.waiting, m.first = map[*one[T]]struct{}{}, nil, 0
	m.mu.Unlock()
	for it := range begun {
		m.cancel(it)
	}
}
