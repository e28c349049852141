package dns

import (
	"container/list"
	"context"
	"sync"
)

// turnstile lets a number of callers in at a time, and the others in the order in which
// they came.
type turnstile struct {
	mu       sync.Mutex
	free     int
	queueMax int
	queue    *list.List // of chan struct{}, closed when its turn has come
}

func newTurnstile(places, queueMax int) *turnstile {
	return &turnstile{free: places, queueMax: queueMax, queue: list.New()}
}

// enter waits for a place, which leave gives back.
func (t *turnstile) enter(ctx context.Context) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	if t.queue.Len() >= t.queueMax {
		t.mu.Unlock()
		return ErrBusy
	}
	turn := make(chan struct{})
	element := t.queue.PushBack(turn)
	t.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-turn: // both at once: the place is another's
		t.leaveLocked()
	default:
		t.queue.Remove(element)
	}
	return ctx.Err()
}

// tryEnter takes a place if there is one.
func (t *turnstile) tryEnter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free == 0 {
		return false
	}
	t.free--
	return true
}

func (t *turnstile) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaveLocked()
}

func (t *turnstile) leaveLocked() {
	first := t.queue.Front()
	if first == nil {
		t.free++
		return
	}
	t.queue.Remove(first)
	close(first.Value.(chan struct{}))
}

// waiting is how many wait.
func (t *turnstile) waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.queue.Len()
}
