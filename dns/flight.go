package dns

import (
	"context"
	"sync"
)

// flights has a question that several ask at the same time asked once.
type flights struct {
	mu     sync.Mutex
	flying map[key]*flight
}

// flight is a question under way. Who wants to know waits by a function, which is called once, from any goroutine and
// perhaps the loop's own; it must not block.
type flight struct {
	key    key
	life   context.Context // of the work
	cancel context.CancelFunc

	waiting map[*waiter]struct{} // guarded by flights.mu; the last one to leave ends the work
}

type waiter struct {
	told func(entry *cached, err error)
}

// join waits for the answer of k. begin starts the work, if none is under way. joined says that there was.
func (s *flights) join(life context.Context, k key, begin func(work *flight), told func(entry *cached, err error)) (leave func(), joined bool) {
	w := &waiter{told}
	s.mu.Lock()
	work, joined := s.flying[k]
	if !joined {
		work = &flight{key: k, waiting: map[*waiter]struct{}{}}
		work.life, work.cancel = context.WithCancel(life)
		s.flying[k] = work
	}
	work.waiting[w] = struct{}{}
	s.mu.Unlock()
	if !joined {
		begin(work)
	}
	return func() { s.leave(work, w) }, joined
}

// do waits for the answer of k. The end of ctx ends the waiting, and the work too if nobody else waits.
func (s *flights) do(ctx, life context.Context, k key, begin func(work *flight)) (entry *cached, joined bool, err error) {
	type outcome struct {
		entry *cached
		err   error
	}
	done := make(chan outcome, 1)
	leave, joined := s.join(life, k, begin, func(entry *cached, err error) { done <- outcome{entry, err} })
	select {
	case got := <-done:
		return got.entry, joined, got.err
	case <-ctx.Done():
		leave()
		return nil, joined, ctx.Err()
	}
}

// finish tells all who wait.
func (s *flights) finish(work *flight, entry *cached, err error) {
	s.mu.Lock()
	s.forget(work)
	waiting := work.waiting
	work.waiting = nil
	s.mu.Unlock()
	work.cancel()
	for w := range waiting {
		w.told(entry, err)
	}
}

func (s *flights) leave(work *flight, w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := work.waiting[w]; !there {
		return
	}
	delete(work.waiting, w)
	if len(work.waiting) == 0 {
		s.forget(work) // who asks from now on must not join what is being cancelled
		work.cancel()
	}
}

// forget takes work off the table, if it is there still.
func (s *flights) forget(work *flight) {
	if s.flying[work.key] == work {
		delete(s.flying, work.key)
	}
}
