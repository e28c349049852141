package core

import "time"

// simTimer is a timer of the engine, and what is known of it.
type simTimer struct {
	timer *Timer
	due   time.Duration
	order uint64
	fresh bool // it was made by a timer's function, in this poll
}

// addTimer makes or stops a timer.
func (s *simulation) addTimer() {
	if len(s.timers) >= timersMost {
		s.stopTimer()
		return
	}
	d := time.Duration(s.random.Int64N(int64(timerMost)))
	if s.k.chance(0.2) {
		d = 0
	}
	s.afterFunc(d, s.actReentrant)
}

// afterFunc has the engine call f, and checks that it is in time and in order.
func (s *simulation) afterFunc(d time.Duration, f func()) {
	s.k.made++
	t := &simTimer{due: s.k.now() + d, order: s.k.made, fresh: s.fresh}
	s.timers = append(s.timers, t)
	t.timer = s.e.AfterFunc(d, func() {
		if s.k.now() < t.due {
			violate("a timer is called %v early", t.due-s.k.now())
		}
		if s.forgetTimer(t); t.fresh {
			violate("a timer is called in the poll in which another's function made it")
		}
		for _, other := range s.timers {
			if !other.fresh && (other.due < t.due || other.due == t.due && other.order < t.order) {
				violate("timers are called out of order")
			}
		}
		s.fresh = true
		f()
		s.fresh = false
	})
}

// forgetTimer takes t off the list, on which it must be.
func (s *simulation) forgetTimer(t *simTimer) {
	for i, other := range s.timers {
		if other == t {
			s.timers = append(s.timers[:i], s.timers[i+1:]...)
			return
		}
	}
	violate("a timer is called twice, or after Stop")
}

func (s *simulation) stopTimer() {
	t := s.timers[s.random.IntN(len(s.timers))]
	if !t.timer.Stop() {
		violate("a timer can't be stopped that was not called")
	}
	s.forgetTimer(t)
	if t.timer.Stop() {
		violate("a timer is stopped twice")
	}
}

// checkTimers looks for timers that should have been called in the poll that has ended.
func (s *simulation) checkTimers() {
	for _, t := range s.timers {
		if !t.fresh && !s.blocked && t.due <= s.k.now() {
			violate("a timer is %v late", s.k.now()-t.due)
		}
		t.fresh = false
	}
}
