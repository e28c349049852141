package core

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestTimersRunInOrder(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		random := rand.New(rand.NewPCG(1, 2))
		start := time.Now()
		var ran []time.Time
		const count = 300
		for range count {
			d := time.Duration(random.IntN(20)) * time.Millisecond
			var timer *Timer
			timer = w.e.AfterFunc(d, func() {
				if early := time.Since(start); early < d {
					t.Errorf("a timer of %v ran after %v", d, early)
				}
				ran = append(ran, timer.at)
			})
		}
		w.until("all ran", func() bool { return len(ran) == count })
		if !slices.IsSortedFunc(ran, time.Time.Compare) {
			t.Errorf("out of order: %v", ran)
		}
	})
}

func TestTimersOfOneTimeRunInTheOrderTheyWereMade(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		var ran []int
		at := time.Now()
		for i := range 50 {
			w.e.AfterFunc(0, func() { ran = append(ran, i) }).at = at
		}
		w.until("all ran", func() bool { return len(ran) == 50 })
		if !slices.IsSorted(ran) {
			t.Errorf("out of order: %v", ran)
		}
	})
}

func TestStoppedTimersDoNotRun(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		var ran []int
		var timers []*Timer
		for i := range 100 {
			timers = append(timers, w.e.AfterFunc(time.Duration(i%7)*time.Millisecond, func() { ran = append(ran, i) }))
		}
		for i := 0; i < 100; i += 2 {
			if !timers[i].Stop() {
				t.Error("could not be stopped")
			}
			if timers[i].Stop() {
				t.Error("could be stopped twice")
			}
		}
		w.until("the others ran", func() bool { return len(ran) == 50 })
		for _, i := range ran {
			if i%2 == 0 {
				t.Errorf("timer %d ran", i)
			}
			if timers[i].Stop() {
				t.Error("could be stopped after it ran")
			}
		}
	})
}

func TestTimerThatMakesATimerDoesNotKeepTheLoop(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		runs := 0
		var again func()
		again = func() {
			runs++
			w.e.AfterFunc(-time.Second, again)
		}
		w.e.AfterFunc(0, again)
		for i := range 10 {
			w.poll(0)
			if runs > i+1 {
				t.Fatalf("%d runs in %d polls", runs, i+1)
			}
		}
		w.until("it goes on", func() bool { return runs > 20 })
	})
}

func TestATimerEndsAWait(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		start := time.Now()
		ran := false
		w.e.AfterFunc(5*time.Millisecond, func() { ran = true })
		for !ran {
			w.poll(-1)
		}
		if took := time.Since(start); took > patience/2 {
			t.Errorf("a timer of 5 ms ran after %v", took)
		}
	})
}
