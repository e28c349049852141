package core

import (
	"bytes"
	"syscall"
	"time"
)

// Files of the simulated kernel: what operations do to them, in the driver or in a pool, and an
// actor who has several under way at once and looks at every byte.

// diskBytes is the size of a file; slotBytes is what one operation of an actor has of it.
const (
	diskBytes = 8 << 10
	slotBytes = 1 << 10
	slots8    = diskBytes / slotBytes
)

// fileEffects is what was done of one operation.
type fileEffects struct {
	times int   // that it had an effect
	moved int   // bytes of it
	made  *file // by an open
	last  int64 // result that it had
}

// fileCall does an operation. Of an open that waits for ever the result is -EINPROGRESS.
func (k *kernel) fileCall(kind OpKind, fd int, r *FileRequest, p []byte) int64 {
	e := k.effects[r]
	if e == nil {
		violate("an operation on fd %d is done that nobody asked for, or after its answer", fd)
	}
	errno := syscall.Errno(0)
	switch {
	case k.fault(k.faults.signal):
		errno = syscall.EINTR
	case kind != OpClose && k.fault(k.faults.noMemory):
		errno = syscall.ENOMEM
	case kind == OpFileWrite && k.fault(k.faults.reset):
		errno = syscall.ENOSPC
	case kind != OpClose && kind != OpOpen && k.fault(k.faults.reset):
		errno = syscall.EIO
	case r.Polled && k.fault(k.faults.again):
		errno = syscall.EAGAIN
	case kind == OpOpen && r.Mode == modeWaits:
		errno = syscall.EINPROGRESS
	}
	if errno != 0 {
		if kind == OpClose {
			k.closeByOperation(fd) // it is closed all the same
			e.times++
		}
		k.file1(fd).told[errno] = true
		return -int64(errno)
	}
	e.times++
	e.last = k.fileEffect(kind, fd, r, p)
	return e.last
}

// modeWaits is the mode of an open that is never done unless it is cancelled.
const modeWaits = 0o7000

// file1 is file, for one that may be closed by now.
func (k *kernel) file1(fd int) *file {
	if k.files[fd] == nil {
		return &file{}
	}
	return k.files[fd]
}

func (k *kernel) fileEffect(kind OpKind, fd int, r *FileRequest, p []byte) int64 {
	switch kind {
	case OpFileRead, OpFileWrite:
		f := k.file(fd)
		n := len(p)
		if n > 1 && k.fault(k.faults.short) {
			n = k.between(1, n)
		}
		if kind == OpFileRead {
			copy(p[:n], f.disk[r.Offset:])
		} else {
			copy(f.disk[r.Offset:], p[:n])
		}
		k.effects[r].moved = n
		return int64(n)
	case OpOpen:
		made := k.add(diskFile)
		made.disk = k.file(fd).disk
		made.actor = k.file(fd).actor
		k.effects[r].made = made
		return int64(made.fd)
	case OpClose:
		k.closeByOperation(fd)
	}
	return 0
}

func (k *kernel) closeByOperation(fd int) {
	k.log("fd %d is closed by an operation", fd)
	k.file(fd).open = false
	k.files[fd] = nil
}

// slowFiles is how likely it is that an operation takes longer.
const slowFiles = 0.6

// attemptFile has an operation of the driver do what it does, now or later.
func (d *simDriver) attemptFile(op *simOp) {
	if !d.k.calm && d.k.chance(slowFiles) {
		return // a thread of the kernel's has it
	}
	if result := d.doFile(op); result != -int64(syscall.EINPROGRESS) {
		d.post(op, Completion{Res: int32(result)}, false)
	}
}

func (d *simDriver) doFile(op *simOp) int64 {
	var p []byte
	if len(op.Parts) > 0 {
		p = op.Parts[0]
	}
	return d.k.fileCall(op.Kind, op.FD, op.File, p)
}

// Does implements Driver.
func (d *simDriver) Does(kind OpKind) bool {
	return kind.isFile() && d.faults.ringFiles&(1<<(kind-OpFileRead)) != 0
}

// simPool is a FilePool: its threads are events of virtual time.
type simPool struct {
	k       *kernel
	wakeFD  int
	under   map[*Operation]*bool // whether it is answered
	answers []poolAnswer
}

var _ FilePool = (*simPool)(nil)

const poolMost = 2 * time.Millisecond

func (p *simPool) Start(o *Operation) {
	if p.under[o] != nil {
		violate("an operation is in the pool twice")
	}
	answered := new(bool)
	p.under[o] = answered
	p.k.after(poolMost, func() {
		if *answered {
			return
		}
		if result := p.k.fileCall(o.spec.Kind, o.spec.FD, &o.spec.File, o.spec.Buffer); result != -int64(syscall.EINPROGRESS) {
			p.answer(o, result)
		}
	})
}

func (p *simPool) answer(o *Operation, result int64) {
	*p.under[o] = true
	p.answers = append(p.answers, poolAnswer{o, result})
	if len(p.answers) == 1 {
		p.k.raise(p.wakeFD)
	}
}

func (p *simPool) Cancel(o *Operation) {
	if p.under[o] == nil {
		violate("an operation is cancelled that is not in the pool")
	}
	if !*p.under[o] && (o.spec.File.Mode == modeWaits || p.k.chance(0.5)) {
		p.answer(o, -int64(syscall.ECANCELED))
	}
}

func (p *simPool) Waiting() bool { return len(p.answers) > 0 }

func (p *simPool) Reap(limit int, told func(o *Operation, result int64)) int {
	n := min(limit, len(p.answers))
	batch := p.answers[:n:n]
	p.answers = p.answers[n:]
	for _, answer := range batch {
		delete(p.under, answer.o)
		told(answer.o, answer.result)
	}
	return n
}

func (k *kernel) fileNow(s *OperationSpec) int64 {
	return k.fileCall(s.Kind, s.FD, &s.File, s.Buffer)
}

func (k *kernel) pause() {
	time.Sleep(time.Duration(k.between(1, int(poolMost))))
	k.runDue()
}

func (k *kernel) closeLater(fd int) {
	if k.files[fd] == nil || k.files[fd].kind != diskFile {
		violate("fd %d is closed, which no open has made", fd)
	}
	k.closeByOperation(fd)
}

// simDisk is who uses a file: a slot of it for each operation, and descriptors of its own making.
type simDisk struct {
	base
	runs   [slots8]*diskRun
	opened []int // descriptors to be closed
	ending bool
	ended  bool
}

// diskRun is an operation under way.
type diskRun struct {
	o         *Operation
	kind      OpKind
	buffer    []byte
	before    []byte // what the slot had
	at        int
	cancelled bool
	effects   *fileEffects
}

var (
	_ actor            = (*simDisk)(nil)
	_ OperationHandler = (*simDisk)(nil)
)

func (s *simulation) addDisk() {
	f := s.k.add(diskFile)
	f.disk = bytes.Clone(patternOf(f.in.key, 0, diskBytes))
	p := &simDisk{base: base{s, f}}
	f.actor = p
	s.actors = append(s.actors, p)
}

func (p *simDisk) over() bool { return p.ended }

func (p *simDisk) act() {
	slot := p.s.random.IntN(len(p.runs))
	switch r := p.runs[slot]; {
	case p.ending:
	case r == nil:
		p.start(slot)
	case p.s.k.chance(0.3):
		p.cancel(r)
	case p.s.k.chance(0.02):
		p.end()
	}
}

func (p *simDisk) cancel(r *diskRun) {
	r.cancelled = true
	r.o.Cancel()
}

// diskKinds are those that an actor asks for; reads and writes more often.
var diskKinds = [...]OpKind{OpFileRead, OpFileRead, OpFileRead, OpFileWrite, OpFileWrite, OpFileWrite, OpOpen, OpOpen, OpClose, OpClose, OpSync}

func (p *simDisk) start(slot int) {
	k := p.s.k
	r := &diskRun{kind: diskKinds[p.s.random.IntN(len(diskKinds))], at: slot * slotBytes, effects: &fileEffects{}}
	spec := OperationSpec{Kind: r.kind, FD: p.f.fd}
	switch r.kind {
	case OpFileRead, OpFileWrite:
		r.buffer = bytes.Clone(patternOf(p.f.out.key, k.size(1<<15), k.size(slotBytes)))
		r.before = bytes.Clone(p.f.disk[r.at:][:slotBytes])
		spec.Buffer, spec.File.Offset, spec.File.Polled = r.buffer, uint64(r.at), k.chance(0.3)
	case OpOpen:
		spec.File.Path = []byte{0}
		if k.chance(0.2) {
			spec.File.Mode = modeWaits
		}
	case OpClose:
		if len(p.opened) == 0 {
			return
		}
		spec.FD = p.opened[0]
		p.opened = p.opened[1:]
	}
	o, err := p.s.e.Start(spec, uint64(slot), p)
	if err != nil {
		violate("Start: %v", err)
	}
	r.o = o
	p.runs[slot] = r
	k.effects[&o.spec.File] = r.effects
}

// Done implements OperationHandler.
func (p *simDisk) Done(o *Operation, result int, _ []byte) {
	r := p.runs[o.Tag]
	if r == nil || r.o != o {
		violate("fd %d: an operation is answered twice, or was not asked for", p.f.fd)
	}
	p.runs[o.Tag] = nil
	if op := p.s.d.find(o.token()); op != nil && !p.s.d.closed {
		violate("fd %d: %v is answered before its end", p.f.fd, op.Token)
	}
	delete(p.s.k.effects, &o.spec.File)
	p.look(r, result)
	for i := range r.buffer {
		r.buffer[i] = poison
	}
	p.s.react(p)
}

// look compares an answer with what the kernel has done.
func (p *simDisk) look(r *diskRun, result int) {
	e := r.effects
	errno := syscall.Errno(-result)
	switch {
	case result >= 0 && e.times == 0 && r.kind != OpClose:
		violate("fd %d: %v has succeeded, and nothing was done", p.f.fd, makeToken(r.kind, 0))
	case result >= 0 && r.kind != OpClose && int64(result) != e.last:
		violate("fd %d: %v answers %d, the kernel %d", p.f.fd, makeToken(r.kind, 0), result, e.last)
	case e.times > 1 && r.kind.hasEffects():
		violate("fd %d: %v is done %d times", p.f.fd, makeToken(r.kind, 0), e.times)
	case result < 0 && errno == syscall.ECANCELED && !r.cancelled && !p.s.closing,
		result < 0 && errno == errUnknownProgress && !p.s.lost,
		result < 0 && errno != syscall.ECANCELED && errno != errUnknownProgress && !p.f.told[errno]:
		violate("fd %d: %v fails with %v, which is not so", p.f.fd, makeToken(r.kind, 0), errno)
	}
	switch r.kind {
	case OpFileWrite:
		p.lookAtSlot(r, e.moved)
	case OpFileRead:
		if result > 0 && !bytes.Equal(r.buffer[:result], r.before[:result]) {
			violate("fd %d: other bytes are read than there are at %d", p.f.fd, r.at)
		}
	case OpOpen:
		if result >= 0 && r.cancelled {
			violate("fd %d: a cancelled open leaves descriptor %d", p.f.fd, result)
		}
		if result >= 0 {
			p.opened = append(p.opened, result)
		} else if e.times > 0 && errno == errUnknownProgress && e.made.open {
			p.s.k.closeLater(e.made.fd) // nobody could know of it: not even the completion was seen
		}
	case OpClose:
		if result < 0 && e.times == 0 {
			p.s.k.closeLater(r.o.spec.FD) // it went with its ring
		}
	}
}

// lookAtSlot says what a write must have left: what it wrote, and behind it what was there.
func (p *simDisk) lookAtSlot(r *diskRun, moved int) {
	got := p.f.disk[r.at:][:slotBytes]
	if !bytes.Equal(got[:moved], r.buffer[:moved]) || !bytes.Equal(got[moved:], r.before[moved:]) {
		violate("fd %d: %d bytes were written at %d, and others are there", p.f.fd, moved, r.at)
	}
}

// check implements actor.
func (p *simDisk) check() {
	for _, r := range p.runs {
		switch {
		case r == nil:
		case r.cancelled && r.o.armed && !r.o.cancelling && r.kind != OpClose:
			violate("fd %d: %v is cancelled, and the kernel does not know", p.f.fd, r.o.token())
		case !r.o.armed && !r.o.answered:
			violate("fd %d: %v is not under way, and the engine sleeps", p.f.fd, r.o.token())
		}
	}
}

func (p *simDisk) end() {
	p.ending = true
	running := false
	for _, r := range p.runs {
		if r != nil {
			running = true
			p.cancel(r)
		}
	}
	if running || p.ended {
		return
	}
	p.ended = true
	for _, fd := range p.opened {
		p.s.k.closeLater(fd)
	}
	p.s.k.close(p.f.fd)
}
