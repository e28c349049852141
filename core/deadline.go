package core

import (
	"sync"
	"time"
)

// deadline is the point in time up to which calls of one direction may wait. It uses
// Go's timers and not the engine's: setting one then needs no other thread.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	turn  uint64        // of the last set, so that a timer that comes late does nothing
	past  chan struct{} // closed once the deadline has passed; nil: none was asked for yet
}

// set moves the deadline, also for calls that wait already. The zero time is none.
func (d *deadline) set(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	past := d.channel()
	if isDone(past) {
		d.past = make(chan struct{})
		past = d.past
	}
	if at.IsZero() {
		return
	}
	left := time.Until(at)
	if left <= 0 {
		close(past)
		return
	}
	turn := d.turn
	d.timer = time.AfterFunc(left, func() { d.pass(turn) })
}

func (d *deadline) pass(turn uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.turn == turn {
		close(d.past)
	}
}

// wait answers a channel that is closed when the deadline passes.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.channel()
}

func (d *deadline) channel() chan struct{} {
	if d.past == nil {
		d.past = make(chan struct{})
	}
	return d.past
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// notify leaves a token in a channel of capacity 1, for one who waits or will wait.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
