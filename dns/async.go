package dns

import (
	"context"
	"sync"
)

// Lookup is a lookup that needs no goroutine to wait in: what it needs to know is asked for, and then it is made once more.
type Lookup[T any] struct {
	r     *Resolver
	look  func(ctx context.Context) T
	done  func(T)
	life  context.Context
	end   context.CancelFunc
	first AtOnce  // what once is at first, in the same memory
	once  *AtOnce // as it was last made

	mu     sync.Mutex
	known  map[key]outcome
	left   int // questions under way
	leaves []func()
	over   bool
}

// outcome is what became of a question.
type outcome struct {
	entry *cached
	err   error
}

// NewLookup prepares one by r: look looks something up under the context that it is given. It may be called several times; what it
// does besides must not matter.
func NewLookup[T any](r *Resolver, look func(ctx context.Context) T) *Lookup[T] {
	return &Lookup[T]{r: r, look: look}
}

// AtOnce answers what is known without asking anybody, nor reading a file; false: too little, and Start has to follow. It is
// for the beginning, if at all.
func (l *Lookup[T]) AtOnce() (result T, known bool) {
	l.first.Context = context.Background()
	l.once = &l.first
	result = l.look(l.once)
	return result, !l.once.missed
}

// Start has done called with the result: once, from any goroutine, one of which is the loop's, so that it must not block. Cancel
// ends it early.
func (l *Lookup[T]) Start(done func(T)) {
	l.done = done
	l.life, l.end = context.WithCancel(context.Background())
	if l.once == nil {
		l.wait()
		return
	}
	l.goOn()
}

// wait does it in a goroutine.
func (l *Lookup[T]) wait() {
	go func() {
		l.r.readFiles()
		l.finish(l.look(l.life))
	}()
}

// again looks up with what is known now.
func (l *Lookup[T]) again() {
	l.once = &AtOnce{Context: l.life, known: l.known}
	result := l.look(l.once)
	if l.once.missed {
		l.goOn()
		return
	}
	l.finish(result)
}

// goOn asks for what was missed.
func (l *Lookup[T]) goOn() {
	if l.once.blocks {
		l.wait()
		return
	}
	keys := l.once.keys
	l.mu.Lock()
	l.left, l.leaves = len(keys), nil
	l.mu.Unlock()
	for _, k := range keys {
		leave := l.r.join(k, func(entry *cached, err error) { l.told(k, outcome{entry, err}) })
		l.mu.Lock()
		l.leaves = append(l.leaves, leave)
		over := l.over
		l.mu.Unlock()
		if over {
			leave()
		}
	}
}

func (l *Lookup[T]) told(k key, what outcome) {
	l.mu.Lock()
	if l.known == nil {
		l.known = map[key]outcome{}
	}
	l.known[k] = what
	l.left--
	ready := l.left == 0 && !l.over
	l.mu.Unlock()
	if ready {
		l.again()
	}
}

// Cancel ends it with this result, unless it has one, and the work for it unless others wait for the same.
func (l *Lookup[T]) Cancel(result T) {
	l.end()
	l.mu.Lock()
	over, leaves := l.over, l.leaves
	l.over = true
	l.mu.Unlock()
	if over {
		return
	}
	for _, leave := range leaves {
		leave()
	}
	l.done(result)
}

func (l *Lookup[T]) finish(result T) {
	l.mu.Lock()
	over := l.over
	l.over = true
	l.mu.Unlock()
	if !over {
		l.end()
		l.done(result)
	}
}
