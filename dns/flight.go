package dns

import (
	"context"
	"sync"
)

// flights has a question that several ask at the same time asked once.
type flights struct {
	life   context.Context // the resolver's
	mu     sync.Mutex
	flying map[key]*flight
}

// flight is a question under way.
type flight struct {
	waiting int // who want to know; the last one to leave ends it
	cancel  context.CancelFunc
	done    chan struct{}
	entry   *cached // valid after done
	err     error
}

// do answers what ask does for k, which runs in a goroutine of its own. joined says that it
// ran already. The end of ctx ends the waiting, and the work too if nobody else waits.
func (s *flights) do(ctx context.Context, k key, ask func(ctx context.Context) (*cached, error)) (entry *cached, joined bool, err error) {
	s.mu.Lock()
	work, joined := s.flying[k]
	if !joined {
		work = &flight{done: make(chan struct{})}
		s.flying[k] = work
		var inner context.Context
		inner, work.cancel = context.WithCancel(s.life)
		go s.run(inner, k, work, ask)
	}
	work.waiting++
	s.mu.Unlock()
	select {
	case <-work.done:
		return work.entry, joined, work.err
	case <-ctx.Done():
		s.leave(k, work)
		return nil, joined, ctx.Err()
	}
}

func (s *flights) run(ctx context.Context, k key, work *flight, ask func(ctx context.Context) (*cached, error)) {
	work.entry, work.err = contained(func() (*cached, error) { return ask(ctx) })
	s.mu.Lock()
	s.forget(k, work)
	s.mu.Unlock()
	work.cancel()
	close(work.done)
}

func (s *flights) leave(k key, work *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	work.waiting--
	if work.waiting == 0 {
		s.forget(k, work) // who asks from now on must not join what is being cancelled
		work.cancel()
	}
}

// forget takes work off the table, if it is there still.
func (s *flights) forget(k key, work *flight) {
	if s.flying[k] == work {
		delete(s.flying, k)
	}
}
