package core

import (
	"sync"
	"testing"
	"time"
)

func TestPostWakes(t *testing.T) {
	everyMode(t, func(w *world) {
		const threads, each = 8, 200
		ran := 0
		next := make([]int, threads)
		var posters sync.WaitGroup
		for thread := range threads {
			posters.Go(func() {
				for i := range each {
					w.e.Post(func() {
						ran++
						if next[thread] != i {
							w.t.Errorf("thread %d: %d ran, not %d", thread, i, next[thread])
						}
						next[thread]++
					})
				}
			})
		}
		// Without a limit: a lost wake-up would hang.
		for ran < threads*each {
			w.poll(-1)
		}
		posters.Wait()
	})
}

func TestWakeBeforeAWait(t *testing.T) {
	everyMode(t, func(w *world) {
		w.quiet()
		w.e.Wake()
		w.poll(-1)
	})
}

func TestEachWakeEndsAWait(t *testing.T) {
	everyMode(t, func(w *world) {
		awake := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range awake {
				w.e.Wake()
			}
		}()
		for range 500 {
			awake <- struct{}{}
			w.poll(-1)
		}
		close(awake)
		<-done
	})
}

// The wake-up's completion has no object, and the id of the first object made.
func TestWakeThatCompletedBeforeALeave(t *testing.T) {
	everyMode(t, func(w *world) {
		l, _, _ := w.listen()
		w.quiet()
		w.e.calls.raise(w.e.waker.fd)
		if err := w.driver.Wait(int64(patience)); err != nil {
			w.t.Fatal(err)
		}
		w.e.Leave()
		w.quiet()
		w.e.calls.raise(w.e.waker.fd)
		start := time.Now()
		w.poll(int64(patience))
		if time.Since(start) >= patience {
			w.t.Error("a wake-up ended no wait")
		}
		l.Close()
		CloseDescriptor(l.FD())
	})
}

func TestWakeCostsNothingWhileAwake(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		w.quiet()
		before := w.e.Stats().Wakes
		for range 100 {
			w.e.Wake()
		}
		if after := w.e.Stats().Wakes; after != before {
			t.Errorf("%d writes to wake an engine that is awake", after-before)
		}
	})
}
