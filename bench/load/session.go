package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"time"
)

// phase is where a run stands. Every phase is bounded in time.
type phase int

const (
	ramping   phase = iota // connections are made, each exchanges one message
	warming                // full load, nothing counted
	measuring              // full load, counted
	draining               // nothing new is sent; what is under way still has to come back right
	finished
)

const (
	rampLimit = 60 * time.Second
	// rampWindow is how many connections may be under way at once: below the
	// default backlog of asyncio's servers (100), so no SYN is ever dropped
	// and retried a second later.
	rampWindow = 64

	tickMS = 50

	// yieldNS: a goroutine that was scheduled 10 ms ago counts as hogging its
	// P, and sysmon then takes the P away in every system call, which costs a
	// futex call per message. Yielding in time avoids it.
	yieldNS = int64(5 * time.Millisecond)

	// spinDefault: longer than any of the loops takes for ten small messages.
	spinDefault = 200 * time.Microsecond

	// interruptedNS: a look in vain takes less than a microsecond. Where it took longer than
	// this, the core was somebody else's, and we neither idled nor worked.
	interruptedNS = int64(10 * time.Microsecond)

	// absenceNS: longer than a tick by what a busy batch takes. If the generator itself was away
	// for so long, its connections are not blamed for it.
	absenceNS = int64(200 * time.Millisecond)
)

// client is one kind of load: echo, http or udp.
type client interface {
	handler
	// ramp starts connections up to the window; it answers true when each
	// has exchanged its first message.
	ramp() (bool, error)
	// start begins full load on all connections.
	start()
	// tick does what is due by time.
	tick()
	// stalled counts connections that wait for their peer since before the
	// given time of the fair clock, and names one.
	stalled(before int64) (int, string)
	// outstanding counts connections that wait for their peer.
	outstanding() int
}

// session runs one client through its phases and keeps the books.
type session struct {
	limits
	engine   engine
	account  *account
	latency  histogram
	phase    phase
	nowNS    int64 // taken once per batch of events
	base     time.Time
	messages uint64 // complete ones in this phase
	result   result

	phaseEndNS int64
	nextTickNS int64
	yieldedNS  int64
	begin      usage
	idleNS     int64 // spent looking for events that were not there yet, in this phase

	// Stalls are told by a clock that stands still while the generator was not
	// scheduled, or while the server was ready to run but had no core: neither
	// is a lost event.
	fairNS    int64
	starvedNS int64
	tickedNS  int64
}

func newSession(l limits, mode string, of shape) (*session, error) {
	a, err := newAccount(l.pid, l.tracepoint)
	if err != nil {
		return nil, err
	}
	e, name, err := newEngine(l.engine, of)
	if err != nil {
		return nil, err
	}
	r := result{Mode: mode, Engine: name, Conns: l.conns, Syscalls: -1}
	return &session{limits: l, engine: e, account: a, base: time.Now(), result: r}, nil
}

// clock answers nanoseconds since the session began.
func (s *session) clock() int64 { return int64(time.Since(s.base)) }

// busy says whether new messages are to be sent.
func (s *session) busy() bool { return s.phase == warming || s.phase == measuring }

// message books one complete exchange that took ns nanoseconds.
func (s *session) message(ns int64) {
	s.messages++
	if s.phase == measuring {
		s.latency.record(ns)
	}
}

// fail books an error; the first one is kept as text.
func (s *session) fail(format string, args ...any) {
	s.result.Errors++
	s.firstError(format, args...)
}

func (s *session) mismatch(format string, args ...any) {
	s.result.Mismatches++
	s.firstError(format, args...)
}

func (s *session) firstError(format string, args ...any) {
	if s.result.FirstError == "" {
		s.result.FirstError = fmt.Sprintf(format, args...)
	}
}

// run takes the client through all phases up to last. A result with failures
// is not an error; an error means that the generator could not do its work.
func (s *session) run(c client, last phase) error {
	s.phaseEndNS = s.clock() + int64(rampLimit)
	for s.phase < last && !s.result.failed() {
		if err := s.await(); err != nil {
			return err
		}
		s.present()
		if s.nowNS-s.yieldedNS > yieldNS {
			s.yieldedNS = s.nowNS
			runtime.Gosched()
		}
		if err := s.engine.deliver(c); err != nil {
			return err
		}
		if err := s.advance(c); err != nil {
			return err
		}
		if s.nowNS >= s.nextTickNS {
			s.nextTickNS = s.nowNS + tickMS*int64(time.Millisecond)
			if err := s.checkStalls(c); err != nil {
				return err
			}
		}
		c.tick()
	}
	return nil
}

// await returns when something has happened or a tick is over. It looks again and
// again for a while before it sleeps: then the server need not wake us, which
// would cost it, whatever its loop, more than the message does, and what waits for
// a wake-up of ours is not measured as the server's time. What was spent looking in vain
// is told apart from work.
func (s *session) await() error {
	found, err := s.engine.look()
	if found || err != nil {
		return err
	}
	begin := s.clock()
	for now := begin; now-begin < int64(s.spin); {
		if found, err = s.engine.look(); found || err != nil {
			break
		}
		last := now
		now = s.clock()
		if now-last < interruptedNS {
			s.idleNS += now - last
		}
	}
	if found || err != nil {
		return err
	}
	return s.engine.wait(tickMS)
}

// present notes the time, and whether the generator was kept from running.
func (s *session) present() {
	now := s.clock()
	if away := now - s.nowNS; away > absenceNS {
		s.starvedNS += away
	}
	s.nowNS = now
	s.fairNS = now - s.starvedNS
}

func (s *session) checkStalls(c client) error {
	starved, err := s.account.starved(s.nowNS - s.tickedNS)
	if err != nil {
		return err
	}
	s.tickedNS = s.nowNS
	s.starvedNS += starved
	s.fairNS = s.nowNS - s.starvedNS
	if n, name := c.stalled(s.fairNS - int64(s.stall)); n > 0 {
		s.result.Stalls += uint64(n)
		s.firstError("%d connections without progress for %v, one is %s", n, s.stall, name)
	}
	return nil
}

// advance goes on to the next phase when the present one is over.
func (s *session) advance(c client) error {
	switch s.phase {
	case ramping:
		done, err := c.ramp()
		if err != nil {
			return err
		}
		if done {
			s.phase = warming
			s.phaseEndNS = s.nowNS + int64(s.warmup)
			s.messages = 0
			c.start()
		} else if s.nowNS > s.phaseEndNS {
			return fmt.Errorf("connecting took longer than %v", rampLimit)
		}
	case warming:
		if s.nowNS >= s.phaseEndNS {
			return s.startMeasuring()
		}
	case measuring:
		if s.nowNS >= s.phaseEndNS || (s.count > 0 && s.messages >= s.count) {
			return s.endMeasuring()
		}
	case draining:
		if c.outstanding() == 0 {
			s.phase = finished
		}
	}
	return nil
}

func (s *session) startMeasuring() (err error) {
	s.phase = measuring
	s.messages, s.idleNS = 0, 0
	if s.begin, err = s.account.read(); err != nil {
		return err
	}
	s.phaseEndNS = s.clock() + int64(s.duration)
	return nil
}

func (s *session) endMeasuring() error {
	now, err := s.account.read()
	if err != nil {
		return err
	}
	used := now.since(s.begin)
	r := &s.result
	r.Messages = s.messages
	r.Seconds = float64(used.wallNS) / 1e9
	r.PerSecond = float64(r.Messages) / r.Seconds
	r.P50us, r.P99us = s.latency.quantileUS(0.5), s.latency.quantileUS(0.99)
	r.MaxUs = float64(s.latency.maxNS) / 1e3
	r.ClientIdleNS = s.idleNS
	r.ServerCPUns, r.ClientCPUns, r.Syscalls = used.serverCPUns, used.clientCPUns, used.syscalls
	s.phase = draining
	return nil
}

// runAndReport runs the client to its end.
func (s *session) runAndReport(c client) (failed bool, err error) {
	if err := s.run(c, finished); err != nil {
		return true, err
	}
	return s.reportAndClose()
}

// hold has every connection exchange one message, and then keeps them, silent,
// until standard input ends.
func (s *session) hold(c client) (failed bool, err error) {
	if err := s.run(c, warming); err != nil || s.result.failed() {
		fmt.Fprintln(os.Stderr, "load:", s.result.FirstError)
		return true, err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return false, err
}

func (s *session) reportAndClose() (failed bool, err error) {
	if failed, err = s.report(); err != nil {
		return failed, err
	}
	return failed, s.engine.close()
}

// report prints the result and says whether the run has failed.
func (s *session) report() (failed bool, err error) {
	s.result.RunSeconds = float64(s.clock()) / 1e9
	s.result.StarvedSeconds = float64(min(s.starvedNS, s.clock())) / 1e9
	if s.result.FirstError != "" {
		fmt.Fprintln(os.Stderr, "load:", s.result.FirstError)
	}
	return s.result.failed(), s.result.print()
}
