package core

import (
	"slices"
	"syscall"
	"testing"
)

// scripted is a Driver without a kernel: the test says what completes, and how.
type scripted struct {
	ops      []Op // submitted, in order; Parts copied
	done     []Completion
	recycled []BufferID
	waits    []error // answers of the next waits
	sends    []error // answers of the next SendDatagramNow; then EAGAIN
	refused  error   // answer of PrepareDatagrams
	alone    error   // answer of Attach
	takes    int     // answer of SendNow; 0: EAGAIN
	silent   bool
	settled  bool
	moved    bool  // answer of the next Attach
	writes   error // answer of WriteNow
	syncs    int   // SyncCancel calls
	nextFree BufferID
	files    bool // answer of Does
}

var _ Driver = (*scripted)(nil)

func (d *scripted) Name() string { return "scripted" }
func (d *scripted) Submit(op *Op) error {
	kept := *op
	kept.Parts = slices.Clone(op.Parts)
	d.ops = append(d.ops, kept)
	return nil
}
func (d *scripted) Does(OpKind) bool { return d.files }
func (d *scripted) Flush()           {}
func (d *scripted) Wait(int64) error {
	if len(d.waits) == 0 {
		return nil
	}
	err := d.waits[0]
	d.waits = d.waits[1:]
	return err
}
func (d *scripted) Reap(dst []Completion) int {
	n := copy(dst, d.done)
	d.done = d.done[n:]
	return n
}
func (d *scripted) Ready() bool         { return len(d.done) > 0 }
func (d *scripted) Silent() bool        { return d.silent }
func (d *scripted) Settled() bool       { return d.settled && len(d.done) == 0 }
func (d *scripted) Recycle(id BufferID) { d.recycled = append(d.recycled, id) }
func (d *scripted) Attach() (bool, error) {
	moved := d.moved
	d.moved = false
	return moved, d.alone
}
func (d *scripted) Stats() DriverStats       { return DriverStats{} }
func (d *scripted) Close() error             { return nil }
func (d *scripted) SyncCancel(t Token) error { d.syncs++; d.finish(t); return nil }
func (d *scripted) PrepareDatagrams() error  { return d.refused }
func (d *scripted) SendDatagramNow(_ int, p, _ []byte) error {
	if len(d.sends) == 0 {
		return syscall.EAGAIN
	}
	err := d.sends[0]
	d.sends = d.sends[1:]
	return err
}
func (d *scripted) SendNow(int, [][]byte) (int, error) {
	if d.takes > 0 {
		return d.takes, nil
	}
	return 0, syscall.EAGAIN
}
func (d *scripted) WriteNow(int, [][]byte) (int, error) {
	return 0, d.writes
}

// finish has an operation end as cancelled.
func (d *scripted) finish(token Token) {
	d.done = append(d.done, Completion{Token: token, Res: -int32(syscall.ECANCELED)})
}

// data completes a receive.
func (d *scripted) data(c *Conn, p string, more bool) {
	d.nextFree++
	d.done = append(d.done, Completion{
		Token: makeToken(OpReceive, c.id), Res: int32(len(p)), More: more, Buffer: d.nextFree, Data: []byte(p),
	})
}

// fail completes an operation of c with an errno.
func (d *scripted) fail(kind OpKind, c *Conn, errno syscall.Errno) {
	d.done = append(d.done, Completion{Token: makeToken(kind, c.id), Res: -int32(errno)})
}

func (d *scripted) sent(c *Conn, n int) {
	d.done = append(d.done, Completion{Token: makeToken(OpSend, c.id), Res: int32(n)})
}

// take answers the operations submitted since the last call, of one kind.
func (d *scripted) take(kind OpKind) []Op {
	var ops []Op
	for _, op := range d.ops {
		if op.Kind == kind {
			ops = append(ops, op)
		}
	}
	d.ops = nil
	return ops
}

// script makes an engine on a scripted driver, with one connection that receives.
func script(t *testing.T) (*world, *scripted, *Conn, *recorder) {
	d := &scripted{silent: true, settled: true}
	w := &world{t: t, driver: d, released: map[uint64]int{}}
	engine, err := NewEngine(d, Options{Release: func(owner uint64) { w.released[owner]++ }})
	if err != nil {
		t.Fatal(err)
	}
	w.e = engine
	t.Cleanup(func() { CloseDescriptor(engine.WakeFD()) })
	r := &recorder{t: t, keep: true}
	c, err := engine.Adopt(-1, r)
	if err != nil {
		t.Fatal(err)
	}
	c.Resume()
	w.poll(0)
	if got := d.take(OpReceive); len(got) != 1 {
		t.Fatalf("%d receives armed", len(got))
	}
	return w, d, c, r
}
