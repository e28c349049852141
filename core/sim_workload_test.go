package core

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// A simulation is an engine on the simulated kernel with a random workload. Actors ask the
// engine for things, and check what it answers and what it asks the kernel for.

// actor is who uses a file, and knows what is to become of it.
type actor interface {
	// act does something at random.
	act()
	// submitted looks at an operation on the actor's file that the engine asks for.
	submitted(op *Op)
	// sent is told of each OpSend, sentNow of each send past the queue, on its file.
	sent(quick bool, n, wanted int, errno syscall.Errno)
	sentNow(n, wanted int, errno syscall.Errno)
	// check looks for what the engine has left undone, when it is about to sleep.
	check()
	// settle undoes what keeps the actor from getting everything.
	settle()
	// end asks for the end; over says that it has come.
	end()
	over() bool
}

// base is what actors have in common, and what most of them don't care about.
type base struct {
	s *simulation
	f *file
}

func (b base) String() string { return fmt.Sprintf("%s fd %d", fileNames[b.f.kind], b.f.fd) }

func (base) submitted(*Op)                         {}
func (base) sent(bool, int, int, syscall.Errno)    {}
func (base) sentNow(n, w int, errno syscall.Errno) {}
func (base) settle()                               {}

// simulation is one seed's world.
type simulation struct {
	k       *kernel
	d       *simDriver
	e       *Engine
	random  *rand.Rand
	actors  []actor
	owners  map[uint64]*owned
	owner   uint64
	seen    []sight
	timers  []*simTimer
	fresh   bool // a timer's function is running
	polling bool // Poll is running, and nothing in it that may wait by itself
	blocked bool // something did, since the last poll
	posted  int  // functions that other threads have posted and that did not run
	depth   int  // of handlers that act
	closing bool
	lost    bool // a ring was left without Leave
}

// owned is memory that was given to WriteOwned or the like.
type owned struct {
	p       []byte
	release func() // checks that it may be released
}

// sight is data that a handler was given, which must not change until the next poll.
type sight struct {
	p       []byte
	key, at int
}

const (
	stepsMost    = 150
	actorsMost   = 12
	settleMost   = 20_000 // polls until everything must be done
	timersMost   = 6
	timerMost    = 5 * time.Millisecond
	attachTries  = 1000
	reapMost     = 8
	handlerDepth = 3
)

func newSimulation(seed uint64, log func(format string, arguments ...any)) *simulation {
	random := rand.New(rand.NewPCG(seed, 0))
	k := &kernel{random: random, faults: randomFaults(random), start: time.Now(), log: log, effects: map[*FileRequest]*fileEffects{}}
	s := &simulation{k: k, d: newSimDriver(k), random: random, owners: map[uint64]*owned{}}
	s.d.onWait, s.d.onSleep = s.checkWait, s.checkSleep
	log("faults %+v", k.faults)
	var err error
	if s.e, err = NewEngine(s.d, Options{Release: s.released, Pool: s.newPool, calls: k}); err != nil {
		violate("NewEngine: %v", err)
	}
	return s
}

// newPool is Options.Pool.
func (s *simulation) newPool(_ *Engine, wakeFD int) FilePool {
	return &simPool{k: s.k, wakeFD: wakeFD, under: map[*Operation]*bool{}}
}

// run does everything that a seed stands for.
func (s *simulation) run() {
	for range 1 + s.random.IntN(stepsMost) {
		s.step()
	}
	if s.k.chance(0.7) {
		s.settle()
		s.endAll()
	}
	s.closeEngine()
	s.checkEnd()
}

// step does one thing.
func (s *simulation) step() {
	switch n := s.random.IntN(100); {
	case n < 12:
		s.addActor()
	case n < 50:
		s.actSome()
	case n < 54:
		s.addTimer()
	case n < 57:
		s.k.after(peerPause, s.post)
	case n < 58:
		s.e.Wake()
	case n < 60:
		s.d.cancelSome()
	case n < 64:
		s.changeThread()
	case n < 72:
		s.hostPoll()
	default:
		s.poll(s.timeout())
	}
}

func (s *simulation) timeout() int64 {
	switch n := s.random.IntN(10); {
	case n < 5:
		return 0
	case n < 9:
		return int64(1 + s.random.IntN(1+s.random.IntN(3_000_000)))
	}
	return -1
}

// actSome has a actor act.
func (s *simulation) actSome() {
	if len(s.actors) > 0 {
		s.actors[s.random.IntN(len(s.actors))].act()
	}
}

// react is what handlers do: now and then what the workload does.
func (s *simulation) react(p actor) {
	if s.k.calm || s.depth >= handlerDepth || s.closing {
		return
	}
	s.depth++
	defer func() { s.depth-- }()
	switch n := s.random.IntN(100); {
	case n < 20:
		p.act()
	case n < 27:
		s.actSome()
	case n < 29:
		s.addTimer()
	}
}

// poll does one iteration.
func (s *simulation) poll(timeoutNS int64) {
	s.checkSeen()
	s.polling, s.blocked = true, false
	err := s.e.Poll(timeoutNS)
	s.polling = false
	if err != nil && err != syscall.EINTR {
		violate("Poll: %v", err)
	}
	s.checkTimers()
}

// hostPoll does an iteration as a host does that waits by itself and handles little at a time.
func (s *simulation) hostPoll() {
	s.checkSeen()
	s.e.Flush()
	if s.k.chance(0.7) {
		if err := s.d.Wait(0); err != nil && !isRetry(err) {
			violate("Wait: %v", err)
		}
	}
	s.e.Reap(s.k.between(1, reapMost))
	if s.d.Settled() && s.e.ready.len() == 0 && s.e.Unsettled() {
		violate("quick sends are not settled though the driver is")
	}
}

// block does what may wait for the kernel, so that time passes in a handler.
func (s *simulation) block(f func()) {
	polling := s.polling
	s.polling, s.blocked = false, true
	f()
	s.polling = polling
}

// checkSeen looks once more at what handlers were given, before it becomes invalid.
func (s *simulation) checkSeen() {
	for _, seen := range s.seen {
		if !bytes.Equal(seen.p, patternOf(seen.key, seen.at, len(seen.p))) {
			violate("what a handler was given has changed before the next poll")
		}
	}
	s.seen = s.seen[:0]
}

// own makes memory with an owner. release checks that it may be released.
func (s *simulation) own(p []byte, release func()) (memory []byte, owner uint64) {
	s.owner++
	memory = bytes.Clone(p)
	s.owners[s.owner] = &owned{memory, release}
	return memory, s.owner
}

// released is Options.Release.
func (s *simulation) released(owner uint64) {
	o := s.owners[owner]
	if o == nil {
		violate("owner %d is released, which is not held", owner)
	}
	delete(s.owners, owner)
	o.release()
	for i := range o.p {
		o.p[i] = poison
	}
}

// post has the engine run a function as another thread does.
func (s *simulation) post() {
	if s.closing {
		return
	}
	s.posted++
	s.e.Post(func() {
		s.posted--
		s.actReentrant()
	})
}

func (s *simulation) actReentrant() {
	if !s.k.calm && !s.closing && s.depth < handlerDepth {
		s.depth++
		s.actSome()
		s.depth--
	}
}

// changeThread goes on in another thread, with or without Leave.
func (s *simulation) changeThread() {
	s.checkSeen()
	left := s.k.chance(0.8)
	if left {
		s.e.Leave()
		s.checkLeft()
		if s.k.chance(0.5) {
			return // and go on in this thread
		}
	}
	s.lost = s.lost || !left
	if !left && s.k.chance(0.5) {
		s.e.Flush() // the thread ends between wait and Reap
		if err := s.d.Wait(0); err != nil && !isRetry(err) {
			violate("Wait: %v", err)
		}
	}
	s.d.current++
	for range attachTries {
		if s.e.Attach() == nil {
			break
		}
		if s.k.faults.attach == 0 {
			violate("Attach fails")
		}
	}
	if s.d.thread != s.d.current {
		violate("Attach never succeeds")
	}
}

// checkLeft looks for operations that Leave must not leave.
func (s *simulation) checkLeft() {
	for _, list := range [2][]*simOp{s.d.queue, s.d.armed} {
		for _, op := range list {
			switch op.Kind {
			case OpSend, OpSendAll, OpAccept, OpReceiveOnce, OpReceiveInto, OpFileRead, OpFileWrite, OpOpen, OpClose, OpSync:
				violate("Leave leaves %v", op.Token)
			}
		}
	}
}

// settle ends all faults, and has everything happen that is to be expected.
func (s *simulation) settle() {
	s.k.log("settle")
	s.k.calm = true
	for _, p := range s.actors {
		p.settle()
	}
	for _, f := range s.k.files {
		if f != nil {
			f.peer.wake()
		}
	}
	s.untilStuck()
}

// untilStuck polls until nothing can happen any more.
func (s *simulation) untilStuck() {
	s.d.stuck = false
	for range settleMost {
		s.poll(-1)
		if s.d.stuck {
			return
		}
	}
	violate("the engine is never done")
}

// endAll has every actor end.
func (s *simulation) endAll() {
	for _, p := range s.actors {
		p.end()
	}
	s.untilStuck()
	for _, p := range s.actors {
		p.end() // operations are closed when nothing of them is under way
		if !p.over() {
			violate("never ends: %v", p)
		}
	}
}

// closeEngine ends everything at once, perhaps in another thread.
func (s *simulation) closeEngine() {
	s.checkSeen()
	s.k.log("close of the engine")
	s.closing = true
	if s.k.chance(0.3) {
		s.d.current++
		s.lost = true
	}
	attach := s.k.faults.attach
	if err := s.e.Close(); err != nil && (attach == 0 || !errors.Is(err, syscall.ENOMEM)) {
		violate("Close: %v", err)
	}
}

// checkEnd looks for what is left when the engine is closed.
func (s *simulation) checkEnd() {
	for _, p := range s.actors {
		if p.end(); !p.over() {
			violate("left over by Close: %v", p)
		}
	}
	st := s.e.Stats()
	if st.Conns+st.Listeners+st.Watches+st.Operations+st.OwnersOut+st.Driver.BuffersOut != 0 {
		violate("gauges are not zero: %+v", st)
	}
	if len(s.owners) > 0 {
		violate("%d owners were not released", len(s.owners))
	}
	for _, f := range s.k.files {
		if f != nil {
			violate("fd %d is left open", f.fd)
		}
	}
}

// checkWait looks at a wait that may sleep.
func (s *simulation) checkWait(timeoutNS int64) {
	if !s.polling {
		return
	}
	for _, t := range s.timers {
		if left := int64(t.due - s.k.now()); timeoutNS < 0 || timeoutNS > max(left, 0) {
			violate("a wait of %d ns, though a timer is due in %d", timeoutNS, left)
		}
	}
}

// checkSleep looks for what is left undone when the engine sleeps.
func (s *simulation) checkSleep() {
	if !s.polling {
		return
	}
	if s.posted > 0 {
		violate("the engine sleeps with functions posted")
	}
	for _, p := range s.actors {
		if !p.over() {
			p.check()
		}
	}
}

// addActor adds a actor of any kind.
func (s *simulation) addActor() {
	alive := 0
	for _, p := range s.actors {
		if !p.over() {
			alive++
		}
	}
	if alive >= actorsMost {
		return
	}
	switch n := s.random.IntN(100); {
	case n < 40:
		s.addConn(notPipe)
	case n < 58:
		s.addConn(PipeKind(1 + s.random.IntN(int(pipeKinds)-1)))
	case n < 68:
		s.addDatagrams()
	case n < 76:
		s.addSocket()
	case n < 83:
		s.addDisk()
	case n < 87:
		s.addWatch()
	case n < 93:
		s.addListener()
	default:
		s.addConnect()
	}
}
