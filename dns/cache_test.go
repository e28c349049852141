package dns

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

func entryOf(name string, rrtype uint16, fresh time.Time) *cached {
	return &cached{key: key{name, rrtype}, found: &found{name: name}, fresh: fresh, stale: fresh}
}

func TestCacheKeepsWhatWasUsedLast(t *testing.T) {
	now := time.Now()
	c := newCache(3)
	for _, name := range []string{"a.", "b.", "c."} {
		c.put(entryOf(name, 1, now.Add(time.Minute)))
	}
	if _, fresh := c.get("a.", 1, now); !fresh {
		t.Error("a. is not there")
	}
	c.put(entryOf("d.", 1, now.Add(time.Minute)))
	for name, want := range map[string]bool{"a.": true, "b.": false, "c.": true, "d.": true} {
		if e, _ := c.get(name, 1, now); (e != nil) != want {
			t.Errorf("%s is there: %v", name, e != nil)
		}
	}
	c.put(entryOf("d.", 1, now.Add(time.Hour)))
	if c.len() != 3 {
		t.Errorf("%d entries", c.len())
	}
	c.clear()
	if c.len() != 0 || len(c.entries) != 0 {
		t.Error("not cleared")
	}
	c = newCache(0)
	c.put(entryOf("a.", 1, now.Add(time.Minute)))
	if c.len() != 0 {
		t.Error("a cache of no size holds something")
	}
}

func TestCacheFollowsTTLs(t *testing.T) {
	now := time.Now()
	c := newCache(10)
	c.put(entryOf("a.", 1, now.Add(time.Second)))
	if _, fresh := c.get("a.", 1, now.Add(time.Second-1)); !fresh {
		t.Error("gone too early")
	}
	if e, _ := c.get("a.", 1, now.Add(time.Second)); e != nil || c.len() != 0 {
		t.Error("there for too long")
	}
	stale := entryOf("b.", 1, now.Add(time.Second))
	stale.stale = now.Add(time.Minute)
	c.put(stale)
	if e, fresh := c.get("b.", 1, now.Add(2*time.Second)); e != stale || fresh {
		t.Errorf("%v, fresh: %v", e, fresh)
	}
	if e, _ := c.get("b.", 1, now.Add(time.Minute)); e != nil {
		t.Error("stale for too long")
	}
	// That a name does not exist holds for all types, until one is found.
	c.put(entryOf("n.", 0, now.Add(time.Minute)))
	if _, fresh := c.get("n.", wire.TypeMX, now); !fresh {
		t.Error("not for every type")
	}
	c.put(entryOf("n.", wire.TypeA, now.Add(time.Minute)))
	if e, _ := c.get("n.", wire.TypeMX, now); e != nil {
		t.Error("a name that exists does not")
	}
}

func TestAnswersCarryTheTTLThatIsLeft(t *testing.T) {
	now := time.Now()
	rr, err := wire.NewRR("a. 100 A 192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	e := entryOf("a.", 1, now.Add(100*time.Second))
	e.found.records = []wire.RR{rr}
	for passed, want := range map[time.Duration]uint32{0: 100, 500 * time.Millisecond: 100, 40 * time.Second: 60, 99900 * time.Millisecond: 1} {
		a := e.answer(now.Add(passed), false)
		if got := a.Records[0].Header().Ttl; got != want || a.TTL != time.Duration(want)*time.Second {
			t.Errorf("after %v: %d, %v", passed, got, a.TTL)
		}
	}
	if rr.Header().Ttl != 100 {
		t.Error("the cache's own record was changed")
	}
}

func TestMaxTTL(t *testing.T) {
	s := zone{"long. 4000000 A 192.0.2.1", "none. 0 A 192.0.2.1", "negative. 4294967295 A 192.0.2.1"}.serve(t)
	r := resolverOf(t, nil, s)
	for _, name := range []string{"long", "none", "negative"} {
		if _, err := r.ask(t, name, wire.TypeA); err != nil {
			t.Fatal(err)
		}
	}
	if e := r.Cache().Entries(); len(e) != 1 || e[0].Name != "long." || e[0].Left > 24*time.Hour || e[0].Left < 23*time.Hour {
		t.Errorf("%+v", e)
	}
}

func TestTurnstile(t *testing.T) {
	gate := newTurnstile(2, 10)
	ctx := context.Background()
	for range 2 {
		if err := gate.enter(ctx); err != nil {
			t.Fatal(err)
		}
	}
	var order []int
	var mu sync.Mutex
	var all sync.WaitGroup
	leaving, leave := context.WithCancel(ctx)
	for i := range 5 {
		mine := ctx
		if i == 2 {
			mine = leaving
		}
		all.Go(func() {
			err := gate.enter(mine)
			if i == 2 {
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%v", err)
				}
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			gate.leave()
		})
		for gate.waiting() != i+1 {
			time.Sleep(time.Millisecond)
		}
	}
	leave()
	for gate.waiting() != 4 {
		time.Sleep(time.Millisecond)
	}
	gate.leave()
	all.Wait()
	gate.leave()
	if fmt.Sprint(order) != "[0 1 3 4]" || gate.free != 2 || gate.waiting() != 0 {
		t.Errorf("%v, %d free", order, gate.free)
	}
	full := newTurnstile(0, 0)
	if err := full.enter(ctx); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
}

// Who gives up at the moment when its turn comes leaves its place to others.
func TestATurnThatComesTooLateIsNotLost(t *testing.T) {
	for range 200 {
		gate := newTurnstile(1, 1)
		if err := gate.enter(context.Background()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		result := make(chan error)
		go func() { result <- gate.enter(ctx) }()
		for gate.waiting() == 0 {
			runtime.Gosched()
		}
		gate.mu.Lock()
		cancel()
		runtime.Gosched()
		gate.leaveLocked()
		gate.mu.Unlock()
		if err := <-result; err == nil {
			gate.leave()
		}
		if gate.free != 1 {
			t.Fatalf("%d places", gate.free)
		}
	}
}
