package core

import (
	"bytes"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The simulated kernel: descriptors, what they stand for, and events of virtual time.
//
// The clock is that of a testing/synctest bubble, so the engine's timers follow it without
// knowing: a sleep of the simulated driver takes no time. Every choice is drawn from one
// generator, so a seed repeats everything.

// violation is what a simulation panics with when an invariant does not hold.
type violation string

func violate(format string, arguments ...any) { panic(violation(fmt.Sprintf(format, arguments...))) }

// fileKind is what a descriptor stands for.
type fileKind uint8

const (
	streamFile fileKind = iota
	pipeReadFile
	pipeWriteFile
	deviceFile // that is read
	datagramFile
	scoutFile // a datagram socket by which room at file.peer is waited for
	listenerFile
	eventFile // an eventfd
	flagFile  // is ready when it is told to be
	diskFile
)

var fileNames = [...]string{
	streamFile: "stream", pipeReadFile: "pipe", pipeWriteFile: "pipe", deviceFile: "device", datagramFile: "datagrams",
	scoutFile: "scout", listenerFile: "listener", eventFile: "eventfd", flagFile: "flag", diskFile: "disk",
}

// flow is one direction of a stream. What it carries follows from key and offset.
type flow struct {
	key      int
	given    int // bytes put in by the sender
	taken    int // bytes that the receiver has
	capacity int
	ended    bool // no more will be given
}

func (f *flow) left() int { return f.given - f.taken }
func (f *flow) room() int { return f.capacity - f.left() }

// file is an open descriptor of the simulated kernel.
type file struct {
	fd    int
	kind  fileKind
	open  bool
	in    flow // to the engine
	out   flow // from the engine
	errno syscall.Errno
	// broken: what is sent goes nowhere, as the peer is gone.
	broken bool
	// told are the errors that the engine was given.
	told [256]bool

	connect  connectState
	backlog  int    // connections to be accepted
	count    uint64 // of an eventfd
	ready    uint32 // events of a flag
	noWriter bool   // a FIFO that nobody has opened for writing yet

	inbox  []int // sizes of datagrams to the engine that wait
	outbox int   // datagrams from the engine that its peer has not taken
	sent   int   // datagrams from the engine, and those refused for good
	heard  int   // datagrams that the engine was given
	unix   bool  // poll(2) knows nothing of the receiver's queue
	target *file // of a scout
	disk   []byte

	peer  peer
	actor actor // who uses it
}

type connectState uint8

const (
	connectNone connectState = iota // it is connected, or can't be
	connectUnbegun
	connectUnderWay
	connectDone
	connectFailed
)

// kernel is the simulated kernel.
type kernel struct {
	random *rand.Rand
	faults faults
	start  time.Time
	files  []*file // by fd; nil: free
	events eventQueue
	made   uint64 // events
	keys   int
	driver *simDriver
	// effects are those of the operations on files that are under way.
	effects map[*FileRequest]*fileEffects
	log     func(format string, arguments ...any)
	// calm: no more faults, and peers take and give all they can.
	calm bool
}

var _ systemCalls = (*kernel)(nil)

func (k *kernel) now() time.Duration { return time.Since(k.start) }

// chance is true with probability p.
func (k *kernel) chance(p float64) bool { return p > 0 && k.random.Float64() < p }

// fault is chance, for what goes wrong.
func (k *kernel) fault(p float64) bool { return !k.calm && k.chance(p) }

// between is a random number from low to high.
func (k *kernel) between(low, high int) int { return low + k.random.IntN(high-low+1) }

// size is a random number of bytes, mostly small.
func (k *kernel) size(most int) int { return 1 + k.random.IntN(1+k.random.IntN(most)) }

// event is something that happens at a time.
type event struct {
	at    time.Duration
	order uint64
	f     func()
}

// eventQueue implements heap.Interface.
type eventQueue []event

func (q eventQueue) Len() int      { return len(q) }
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}

func (q *eventQueue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}

// after has f happen once some time of at most limit has passed.
func (k *kernel) after(limit time.Duration, f func()) {
	k.made++
	at := k.now() + 1 + time.Duration(k.random.Int64N(int64(limit)))
	heap.Push(&k.events, event{at: at, order: k.made, f: f})
}

// runDue has happen what is due.
func (k *kernel) runDue() {
	for len(k.events) > 0 && k.events[0].at <= k.now() {
		heap.Pop(&k.events).(event).f()
	}
}

// patternPeriod is prime, so that no buffer's size divides it.
const (
	patternPeriod = 65521
	patternMost   = 1 << 17 // bytes that one call of patternOf answers
)

var patternTable = func() []byte {
	table := pattern(1, patternPeriod+patternMost)
	for at := patternPeriod; at < len(table); at += patternPeriod {
		copy(table[at:], table[:patternPeriod])
	}
	return table
}()

// patternOf is what a flow carries from offset at on. It must not be changed.
func patternOf(key, at, n int) []byte {
	start := (key*7919 + at) % patternPeriod
	return patternTable[start:][:n:n]
}

// capacityLeast is the least that one direction of a stream holds, in bytes.
const capacityLeast = 32

// add makes a file with the lowest free descriptor, as Linux does.
func (k *kernel) add(kind fileKind) *file {
	fd := 3
	for fd < len(k.files) && k.files[fd] != nil {
		fd++
	}
	for len(k.files) <= fd {
		k.files = append(k.files, nil)
	}
	f := &file{fd: fd, kind: kind, open: true}
	k.keys += 2
	f.in = flow{key: k.keys, capacity: capacityLeast + k.size(32<<10)}
	f.out = flow{key: k.keys + 1, capacity: capacityLeast + k.size(32<<10)}
	if kind == datagramFile {
		f.out.capacity = k.between(1, 8)
	}
	f.peer = peer{k: k, f: f}
	k.files[fd] = f
	return f
}

func (k *kernel) file(fd int) *file {
	if fd < 0 || fd >= len(k.files) || k.files[fd] == nil {
		violate("fd %d is used, which is not open", fd)
	}
	return k.files[fd]
}

// tell notes an error that the engine is given.
func (f *file) tell(errno syscall.Errno) int32 {
	f.told[errno] = true
	return -int32(errno)
}

// reset is the abrupt end of the peer.
func (f *file) reset(errno syscall.Errno) {
	f.errno = errno
	f.broken = true
	f.in.given = f.in.taken
	f.in.ended = true
}

// takeError is the error pending on a socket, once.
func (f *file) takeError() syscall.Errno {
	errno := f.errno
	f.errno = 0
	return errno
}

// take has the kernel take n bytes of parts, which must be those that come next.
func (f *file) take(parts [][]byte, n int) {
	for _, p := range parts {
		p = p[:min(n, len(p))]
		n -= len(p)
		for len(p) > 0 {
			piece := p[:min(len(p), patternMost)]
			if !bytes.Equal(piece, patternOf(f.out.key, f.out.given, len(piece))) {
				violate("fd %d: the kernel is given other bytes than were written, from byte %d on", f.fd, f.out.given)
			}
			f.out.given += len(piece)
			p = p[len(piece):]
		}
	}
}

// put fills p with what comes next for the engine.
func (f *file) put(p []byte) {
	copy(p, patternOf(f.in.key, f.in.taken, len(p)))
	f.in.taken += len(p)
}

// writable is how many bytes of n a write takes now.
func (f *file) writable(n int) int {
	room := f.out.room()
	if f.kind == pipeWriteFile && n <= pipeAtomicBytes && n > room {
		return 0
	}
	return min(n, room)
}

// events are the poll(2) events that are true.
func (f *file) events(k *kernel) (events uint32) {
	set := func(bit uint32, when bool) {
		if when {
			events |= bit
		}
	}
	switch f.kind {
	case streamFile:
		dead := f.errno != 0 || f.connect == connectFailed
		set(unix.POLLERR, dead)
		set(unix.POLLIN, f.in.left() > 0 || f.in.ended || dead)
		set(unix.POLLRDHUP, f.in.ended)
		set(unix.POLLHUP, f.broken || f.connect == connectUnbegun)
		set(unix.POLLOUT, f.connect != connectUnderWay && f.out.room() > 0 || f.broken || dead)
	case pipeReadFile, deviceFile:
		set(unix.POLLIN, f.in.left() > 0)
		set(unix.POLLHUP, f.in.ended)
	case pipeWriteFile:
		set(unix.POLLOUT, f.out.room() >= pipeAtomicBytes || f.broken)
		set(unix.POLLERR, f.broken)
	case datagramFile:
		set(unix.POLLIN, len(f.inbox) > 0 || f.errno != 0)
		set(unix.POLLERR, f.errno != 0)
		set(unix.POLLOUT, f.unix || f.outbox < f.out.capacity || f.errno != 0)
	case scoutFile:
		set(unix.POLLOUT, f.target.outbox < f.target.out.capacity)
	case listenerFile:
		set(unix.POLLIN, f.backlog > 0)
	case eventFile:
		set(unix.POLLIN, f.count > 0)
		set(unix.POLLOUT, true)
	case flagFile:
		events = f.ready
	case diskFile:
		events = unix.POLLIN | unix.POLLOUT
	}
	return events
}

// alwaysPolled are the events that poll(2) tells without being asked.
const alwaysPolled = unix.POLLERR | unix.POLLHUP | unix.POLLNVAL

func (k *kernel) openEventfd() (int, error) { return k.add(eventFile).fd, nil }
func (k *kernel) raise(eventfd int)         { k.file(eventfd).count++ }
func (k *kernel) drain(eventfd int)         { k.file(eventfd).count = 0 }

func (k *kernel) close(fd int) {
	f := k.file(fd)
	k.log("close fd %d", fd)
	if op := k.driver.under(f); op != nil {
		violate("fd %d is closed with %v under way", fd, op.Token)
	}
	f.open = false
	k.files[fd] = nil
}

func (k *kernel) shutdownWrite(fd int) error {
	f := k.file(fd)
	if f.broken {
		return syscall.ENOTCONN
	}
	if f.out.ended {
		violate("fd %d is shut down twice", fd)
	}
	f.out.ended = true
	return nil
}

func (k *kernel) connectOutcome(fd int) error {
	f := k.file(fd)
	switch {
	case f.errno != 0:
		errno := f.takeError()
		f.tell(errno)
		return errno
	case f.connect != connectDone:
		return syscall.ENOTCONN
	}
	return nil
}

func (k *kernel) ended(fd int) bool {
	return k.file(fd).events(k)&(unix.POLLIN|alwaysPolled) == unix.POLLHUP
}

func (k *kernel) scout(addr []byte) int {
	if k.fault(k.faults.noMemory) {
		return -1
	}
	f := k.add(scoutFile)
	f.target = k.file(int(addr[len(addr)-1])) // as datagram actors make addresses
	return f.fd
}
