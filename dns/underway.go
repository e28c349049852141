package dns

import (
	"fmt"
	"sync"

	"kloop/core"
)

// underWay are the quick questions that nobody but a loop's thread would end: a list, as two threads take turns at its lock for
// each question, which must be short.
type underWay struct {
	mu    sync.Mutex
	first *quick
}

// place is a question's in the list.
type place struct {
	listed     bool
	prev, next *quick
}

func (u *underWay) begin(q *quick) {
	u.mu.Lock()
	defer u.mu.Unlock()
	q.place = place{listed: true, next: u.first}
	if u.first != nil {
		u.first.place.prev = q
	}
	u.first = q
}

// end says that it was under way: who ends it has to see to what becomes of the question.
func (u *underWay) end(q *quick) (was bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	at := q.place
	q.place = place{}
	if !at.listed {
		return false
	}
	if at.prev != nil {
		at.prev.place.next = at.next
	} else {
		u.first = at.next
	}
	if at.next != nil {
		at.next.place.prev = at.prev
	}
	return true
}

// of answers those of a loop.
func (u *underWay) of(loop *core.Loop) (quicks []*quick) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for q := u.first; q != nil; q = q.place.next {
		if q.loop == loop {
			quicks = append(quicks, q)
		}
	}
	return quicks
}

// watch ends the questions that a loop has when it ends, which only the background loop does by failing. In a goroutine.
func (r *Resolver) watch(loop *core.Loop) {
	select {
	case <-loop.Done():
	case <-r.life.Done():
		return // Close sees to them
	}
	r.lost(loop)
}

// lost ends the questions of a loop that has ended.
func (r *Resolver) lost(loop *core.Loop) {
	err := fmt.Errorf("%w: the loop that asked has failed", core.ErrClosed)
	for _, q := range r.underWay.of(loop) {
		if q.late != nil {
			q.reply(reply{err: err})
		} else {
			q.done(nil, err)
		}
	}
}
