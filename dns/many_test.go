package dns

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

// manyOf makes lookups of A records, and counts what is done.
func manyOf(r *Resolver, places int, done func(name string, err error)) *Many[string, error] {
	return NewMany(r, places, func(ctx context.Context, name string) error {
		_, err := r.Resolve(ctx, name, wire.TypeA)
		return err
	}, done)
}

func namesOf(prefix string, count int) (names []string) {
	for i := range count {
		names = append(names, fmt.Sprintf("%s%d.test", prefix, i))
	}
	return names
}

// awaitIdle waits until the resolver has nothing under way.
func awaitIdle(t *testing.T, r *Resolver) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s := r.Stats()
		if s.Running == 0 && s.Waiting == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still under way: %d running, %d waiting", s.Running, s.Waiting)
		}
	}
}

func TestManyAreAllDoneOnceAndNoMoreAtATime(t *testing.T) {
	const places, total = 7, 2000
	var begun, most atomic.Int64
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		return packed(t, replyWith(t, q, q.Question[0].Name+" 60 IN A 192.0.2.1"))
	})
	r := resolverOf(t, nil, s)
	var mu sync.Mutex
	seen, all := map[string]int{}, make(chan struct{})
	var m *Many[string, error]
	m = NewMany(r, places, func(ctx context.Context, name string) error {
		if _, again := ctx.(*AtOnce); again { // the first look at each is at once
			m.mu.Lock()
			most.Store(max(most.Load(), int64(m.running)))
			m.mu.Unlock()
		}
		_, err := r.Resolve(ctx, name, wire.TypeA)
		return err
	}, func(name string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if seen[name]++; begun.Add(1) == total {
			close(all)
		}
	})
	for i := 0; i < total; i += 500 { // half of them for the second time, which the cache knows
		m.Add(namesOf("n", 500))
	}
	select {
	case <-all:
	case <-time.After(patience):
		t.Fatalf("%d of %d", begun.Load(), total)
	}
	mu.Lock()
	defer mu.Unlock()
	for name, count := range seen {
		if count != total/500 {
			t.Errorf("%s: told %d times", name, count)
		}
	}
	if most.Load() != places {
		t.Errorf("%d at a time, want %d", most.Load(), places)
	}
	awaitIdle(t, r)
}

func TestManyEndAtAnyMoment(t *testing.T) {
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		return packed(t, replyWith(t, q, q.Question[0].Name+" 60 IN A 192.0.2.1"))
	})
	r := resolverOf(t, nil, s)
	for round := range 100 {
		var told, late atomic.Int64
		var over atomic.Bool
		m := manyOf(r, 16, func(string, error) {
			told.Add(1)
			if over.Load() {
				late.Add(1)
			}
		})
		m.Add(namesOf(fmt.Sprintf("r%dx", round), 200))
		for told.Load() < int64(round) {
			time.Sleep(10 * time.Microsecond)
		}
		m.Cancel()
		over.Store(true)
		if late.Load() > 1 { // one call may have begun
			t.Fatalf("%d told after Cancel", late.Load())
		}
		m.Add(namesOf("later", 10))
		awaitIdle(t, r)
		m.mu.Lock() // not before: one that was being begun when Cancel came ends a moment later
		if len(m.begun) != 0 || len(m.waiting) != 0 {
			t.Errorf("left: %d, and %d that wait", len(m.begun), len(m.waiting))
		}
		m.mu.Unlock()
	}
}

func TestManyWhenTheLoopFails(t *testing.T) {
	asked := make(chan struct{}, 1000)
	s := serveDNS(t, func(*wire.Msg, bool) [][]byte {
		asked <- struct{}{}
		return nil
	})
	r := resolverOf(t, nil, s)
	results := make(chan error, 100)
	m := manyOf(r, 8, func(_ string, err error) { results <- err })
	m.Add(namesOf("n", 8))
	for range 8 {
		<-asked
	}
	failBackground(t)
	for range 8 {
		select {
		case err := <-results:
			if err == nil {
				t.Error("an answer of nobody")
			}
		case <-time.After(patience):
			t.Fatal("a lookup has no end")
		}
	}
	s.setHandle(func(q *wire.Msg, _ bool) [][]byte {
		return packed(t, replyWith(t, q, q.Question[0].Name+" 60 IN A 192.0.2.1"))
	})
	m.Add(namesOf("again", 8))
	for range 8 {
		select {
		case err := <-results:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("a lookup has no end")
		}
	}
}
