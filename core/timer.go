package core

import (
	"container/heap"
	"time"
)

// Timer calls a function once at a time.
type Timer struct {
	at    time.Time
	order uint64 // timers of the same time run in the order they were made
	index int    // in the heap; -1: not there
	f     func()
	owner *timerHeap
}

// AfterFunc calls f in the engine's thread once d has passed. d below 0 is 0.
func (e *Engine) AfterFunc(d time.Duration, f func()) *Timer {
	e.timers.made++
	t := &Timer{at: time.Now().Add(max(d, 0)), order: e.timers.made, f: f, owner: &e.timers}
	heap.Push(&e.timers, t)
	return t
}

// Stop answers whether it kept f from being called.
func (t *Timer) Stop() bool {
	if t.index < 0 {
		return false
	}
	heap.Remove(t.owner, t.index)
	return true
}

// runTimers calls what was due when it was called.
func (e *Engine) runTimers() {
	if len(e.timers.timers) == 0 {
		return
	}
	now := time.Now()
	last := e.timers.made
	for len(e.timers.timers) > 0 {
		first := e.timers.timers[0]
		// A timer made meanwhile is for the next poll, so that this loop ends.
		if first.at.After(now) || first.order > last {
			return
		}
		heap.Pop(&e.timers)
		first.f()
	}
}

// timerWait shortens a wait so that it ends when a timer is due.
func (e *Engine) timerWait(timeoutNS int64) int64 {
	if len(e.timers.timers) == 0 {
		return timeoutNS
	}
	left := max(int64(time.Until(e.timers.timers[0].at)), 0)
	if timeoutNS < 0 {
		return left
	}
	return min(left, timeoutNS)
}

// timerHeap implements heap.Interface.
type timerHeap struct {
	timers []*Timer
	made   uint64
}

func (h *timerHeap) Len() int { return len(h.timers) }

func (h *timerHeap) Less(i, j int) bool {
	a, b := h.timers[i], h.timers[j]
	if a.at.Equal(b.at) {
		return a.order < b.order
	}
	return a.at.Before(b.at)
}

func (h *timerHeap) Swap(i, j int) {
	h.timers[i], h.timers[j] = h.timers[j], h.timers[i]
	h.timers[i].index, h.timers[j].index = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*Timer)
	t.index = len(h.timers)
	h.timers = append(h.timers, t)
}

func (h *timerHeap) Pop() any {
	last := len(h.timers) - 1
	t := h.timers[last]
	h.timers[last] = nil
	h.timers = h.timers[:last]
	t.index = -1
	return t
}
