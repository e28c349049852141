package dns

import (
	"fmt"
	"sync"

	"kloop/core"
)

// underWay are the quick questions that nobody but a loop's thread would end.
type underWay struct {
	mu     sync.Mutex
	quicks map[*quick]struct{}
}

func (u *underWay) begin(q *quick) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.quicks == nil {
		u.quicks = map[*quick]struct{}{}
	}
	u.quicks[q] = struct{}{}
}

// end says that it was under way: who ends it has to see to what becomes of the question.
func (u *underWay) end(q *quick) (was bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, was = u.quicks[q]
	delete(u.quicks, q)
	return was
}

// of answers those of a loop.
func (u *underWay) of(loop *core.Loop) (quicks []*quick) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for q := range u.quicks {
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
