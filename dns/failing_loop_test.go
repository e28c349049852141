package dns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"kloop/core"
)

// failBackground has the background loop panic, and waits for its end.
func failBackground(t *testing.T) {
	t.Helper()
	loop, err := core.Background()
	if err != nil {
		t.Fatal(err)
	}
	loop.Post(func() { panic("as a test wants it") })
	select {
	case <-loop.Done():
	case <-time.After(patience):
		t.Fatal("the loop has not ended")
	}
}

// sockets counts the process's sockets.
func sockets(t *testing.T) (count int) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if what, err := os.Readlink(link); err == nil && strings.HasPrefix(what, "socket:") {
			count++
		}
	}
	return count
}

// A loop that fails leaves nobody without an answer, no place taken and no socket open; and the next question finds another loop.
func TestLookupsUnderWayWhenTheLoopFails(t *testing.T) {
	const lookups = 20
	var mu sync.Mutex
	silent, asked := true, make(chan struct{}, 10*lookups)
	s := serveDNS(t, func(q *wire.Msg, _ bool) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		if silent {
			asked <- struct{}{}
			return nil
		}
		return packed(t, example.reply(t, q))
	})
	r := resolverOf(t, func(c *Config) { c.Timeout, c.Concurrency = time.Minute, lookups }, s)
	before := sockets(t)
	answers := make(chan error, lookups)
	for i := range lookups {
		host := fmt.Sprintf("host%d.example.", i)
		work := NewLookup(r, func(ctx context.Context) error {
			_, err := r.Getaddrinfo(ctx, &host, nil, Hints{Family: unix.AF_INET})
			return err
		})
		if _, known := work.AtOnce(); known {
			t.Fatal("known at once")
		}
		work.Start(func(err error) { answers <- err })
	}
	for range lookups {
		<-asked
	}
	failBackground(t)
	for range lookups {
		select {
		case err := <-answers:
			if !errors.Is(err, EAI_AGAIN) {
				t.Errorf("%v", err)
			}
		case <-time.After(patience):
			t.Fatal("no answer")
		}
	}
	r.until(t, func(s Stats) bool { return s.Running == 0 && s.Waiting == 0 })
	mu.Lock()
	silent = false
	mu.Unlock()
	a, err := r.ask(t, "www.example", wire.TypeA)
	wantAnswer(t, a, err, "192.0.2.1, 192.0.2.2")
	r.Close()
	if after := sockets(t); after != before {
		t.Errorf("%d sockets, then %d", before, after)
	}
}

// Once others are asked as well, the goroutine that does so is told.
func TestALoopFailsWhenSeveralServersAreAsked(t *testing.T) {
	asked := make(chan struct{}, 10)
	silence := func(*wire.Msg, bool) [][]byte { asked <- struct{}{}; return nil }
	r := resolverOf(t, func(c *Config) { c.Timeout, c.Attempts = time.Minute, 1 }, serveDNS(t, silence), serveDNS(t, silence))
	answer := make(chan error, 1)
	go func() {
		_, err := r.ask(t, "www.example", wire.TypeA)
		answer <- err
	}()
	<-asked
	<-asked
	failBackground(t)
	select {
	case err := <-answer:
		wantError(t, err, ErrTimeout)
	case <-time.After(patience):
		t.Fatal("no answer")
	}
	r.until(t, func(s Stats) bool { return s.Running == 0 })
}
