package core

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// `make sim` sets these; see docs/testing.md.
var (
	simSeeds = flag.Uint64("sim.seeds", 300, "seeds that TestSimulation runs")
	simFirst = flag.Uint64("sim.first", 0, "first of these seeds")
	simSeed  = flag.String("sim.seed", "", "run this seed alone, and show what happens")
	simTime  = flag.Duration("sim.time", 0, "end after this time, however many seeds there are; 0: never")
)

// simLogLines is how much of the log of a failing seed is shown, without -sim.seed.
const simLogLines = 60

// simulate runs a seed. It answers what does not hold, or "".
func simulate(t *testing.T, seed uint64, log func(format string, arguments ...any)) (failure string) {
	synctest.Test(t, func(*testing.T) {
		defer func() {
			switch r := recover().(type) {
			case nil:
			case violation:
				failure = string(r)
			default:
				failure = fmt.Sprintf("panic: %v\n%s", r, debug.Stack())
			}
		}()
		newSimulation(seed, log).run()
	})
	return failure
}

func quietly(string, ...any) {}

// record keeps the lines that are logged.
type record struct{ lines []string }

func (l *record) log(format string, arguments ...any) {
	l.lines = append(l.lines, fmt.Sprintf(format, arguments...))
}

func TestSimulation(t *testing.T) {
	if *simSeed != "" {
		var seed uint64
		if _, err := fmt.Sscan(*simSeed, &seed); err != nil {
			t.Fatalf("-sim.seed %s: %v", *simSeed, err)
		}
		l := &record{}
		if failure := simulate(t, seed, l.log); failure != "" {
			t.Errorf("%s\nseed %d: %s", strings.Join(l.lines, "\n"), seed, failure)
		} else {
			t.Logf("%s\nseed %d holds", strings.Join(l.lines, "\n"), seed)
		}
		return
	}
	var next, done atomic.Uint64
	next.Store(*simFirst)
	started := time.Now()
	t.Cleanup(progress(&done, started))
	for worker := range 2 {
		t.Run(fmt.Sprintf("worker %d", worker), func(t *testing.T) {
			t.Parallel()
			for !t.Failed() && (*simTime == 0 || time.Since(started) < *simTime) {
				seed := next.Add(1) - 1
				if seed >= *simFirst+*simSeeds {
					return
				}
				simulateOrTell(t, seed)
				done.Add(1)
			}
		})
	}
}

// simulateOrTell runs a seed, and again with a log if it fails.
func simulateOrTell(t *testing.T, seed uint64) {
	failure := simulate(t, seed, quietly)
	if failure == "" {
		return
	}
	l := &record{}
	again := simulate(t, seed, l.log)
	if firstLine(again) != firstLine(failure) { // stacks have addresses
		failure += "\nNOT REPEATED: the second run says: " + again
	}
	lines := l.lines[max(0, len(l.lines)-simLogLines):]
	t.Errorf("%s\nseed %d: %s\nrepeat with: make sim SEED=%d", strings.Join(lines, "\n"), seed, failure, seed)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// TestSimulationRepeats: a seed that fails can be looked at again.
func TestSimulationRepeats(t *testing.T) {
	for seed := range uint64(20) {
		first, second := &record{}, &record{}
		if a, b := simulate(t, seed, first.log), simulate(t, seed, second.log); a != b {
			t.Errorf("seed %d: %q and %q", seed, a, b)
		}
		if !slices.Equal(first.lines, second.lines) {
			t.Errorf("seed %d is not repeated", seed)
		}
		if len(first.lines) < 3 {
			t.Errorf("seed %d does nothing", seed)
		}
	}
}

// progressStep is how often long runs tell how far they are.
const progressStep = 5 * time.Second

// progress tells how many seeds are done until the function it answers is called.
func progress(done *atomic.Uint64, started time.Time) (stop func()) {
	ended := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(progressStep):
				fmt.Fprintf(os.Stderr, "%d of %d seeds in %.0f s\n", done.Load(), *simSeeds, time.Since(started).Seconds())
			}
		}
	})
	return func() {
		close(ended)
		group.Wait()
		fmt.Fprintf(os.Stderr, "%d seeds in %.1f s\n", done.Load(), time.Since(started).Seconds())
	}
}
