package core

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kloop/uring"
)

// UringOptions say how to make an io_uring driver. The zero value is the default.
type UringOptions struct {
	Entries      uint32 // of the submission queue; 0: 1024
	CQEntries    uint32 // of the completion queue; 0: four times Entries
	Buffers      uint32 // receive buffers at most, a power of two; 0: 256
	BufferSize   uint32 // bytes of each; 0: 128 KiB
	SQPoll       bool   // a kernel thread submits
	SQPollIdleMS uint32 // how long it looks for work before it sleeps; 0: the kernel's default
	SQPollCPU    int    // CPU that it is bound to; -1: any
}

const (
	entriesDefault    = 1024
	buffersDefault    = 256
	bufferSizeDefault = 128 << 10
	// submitTries bounds how often a full submission queue is handed over before
	// the ring counts as broken: each try takes entries or drains completions.
	submitTries = 1000
	// consumeWait is how long the SQPOLL thread may take to fetch an operation
	// before the ring counts as broken; consumeStep is how often that is looked at.
	consumeWait = 10 * time.Second
	consumeStep = 20 * time.Microsecond
	// syncCancelNS bounds a synchronous cancel.
	syncCancelNS = int64(10 * time.Second)
)

// UringDriver is the Driver on io_uring.
//
// Its ring belongs to one thread (IORING_SETUP_SINGLE_ISSUER), and nothing is
// received or completed unless that thread enters the kernel
// (IORING_SETUP_DEFER_TASKRUN), except under SQPOLL.
type UringDriver struct {
	options UringOptions
	ring    *uring.Ring
	buffers *bufferSet
	// datagrams is nil until PrepareDatagrams.
	datagrams *bufferSet
	retired   []*bufferSet // of rings of other threads, until their buffers are back
	epoch     uint32
	thread    int // that may use the ring
	enabled   bool
	// privileges are those that the ring was made with. stale: this process has others.
	privileges privileges
	stale      bool

	messages *uring.MsgArena
	addrs    []*uring.Sockaddr // of connects not yet in the kernel's hands
	cqes     [reapBatch]uring.CQE
	left     []Completion // reaped ahead of Reap
	stats    DriverStats
}

// NewUringDriver makes a driver. errors.Is(err, uring.ErrNotSupported) tells that
// this process can't have io_uring; the text then names cause and remedy.
func NewUringDriver(o UringOptions) (*UringDriver, error) {
	if o.Entries == 0 {
		o.Entries = entriesDefault
	}
	if o.Buffers == 0 {
		o.Buffers = buffersDefault
	}
	if o.BufferSize == 0 {
		o.BufferSize = bufferSizeDefault
	}
	messages, err := uring.NewMsgArena()
	if err != nil {
		return nil, err
	}
	d := &UringDriver{options: o, messages: messages}
	if err := d.open(); err != nil {
		messages.Close()
		return nil, err
	}
	return d, nil
}

// open makes a ring that belongs to the first thread to enter it.
func (d *UringDriver) open() error {
	ring, err := uring.New(uring.Options{
		Entries:      d.options.Entries,
		CQEntries:    d.options.CQEntries,
		SQPoll:       d.options.SQPoll,
		SQPollIdleMS: d.options.SQPollIdleMS,
		SQPollCPU:    d.options.SQPollCPU,
		Disabled:     true,
	})
	if err != nil {
		return err
	}
	given := min(d.options.Buffers, buffersAtFirst)
	buffers, err := newBufferSet(ring, bufferGroup, d.nextEpoch(), d.options.Buffers, d.options.BufferSize, given)
	if err != nil {
		return errors.Join(err, ring.Close())
	}
	d.ring, d.buffers, d.enabled = ring, buffers, false
	d.privileges, d.stale = presentPrivileges(), false
	return nil
}

// nextEpoch numbers a set of buffers.
func (d *UringDriver) nextEpoch() uint32 {
	d.epoch = d.epoch%bufferEpochMax + 1
	return d.epoch
}

// Name implements Driver.
func (d *UringDriver) Name() string { return "io_uring" }

// Silent implements Driver. The SQPOLL thread works while we look, so that the
// absence of a completion proves nothing.
func (d *UringDriver) Silent() bool { return !d.options.SQPoll }

// Ring answers the ring, for a host that enters the kernel by itself. It changes
// with Attach.
func (d *UringDriver) Ring() *uring.Ring { return d.ring }

// Submit implements Driver.
func (d *UringDriver) Submit(op *Op) error {
	sqe := d.ring.NextSQE()
	for try := 0; sqe == nil; try++ {
		if try == submitTries {
			return fmt.Errorf("kloop: the submission queue stays full: %w", syscall.EBUSY)
		}
		if err := d.makeRoom(); err != nil {
			return err
		}
		sqe = d.ring.NextSQE()
	}
	d.prepare(sqe, op)
	sqe.SetUserData(uint64(op.Token))
	d.stats.Submitted++
	return nil
}

func (d *UringDriver) prepare(sqe *uring.SQE, op *Op) {
	switch op.Kind {
	case OpReceive:
		sqe.PrepRecvMultishot(op.FD, bufferGroup)
	case OpSend:
		d.prepareSend(sqe, op)
	case OpReceiveDatagrams:
		sqe.PrepRecvMsgMultishot(op.FD, noMemoryIfNil(d.arena().DatagramMsg()), datagramGroup)
	case OpAccept:
		sqe.PrepAcceptMultishot(op.FD, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	case OpConnect:
		d.prepareConnect(sqe, op)
	case OpPoll:
		sqe.PrepPollAdd(op.FD, op.Events)
	case OpRead:
		if op.Once || !uring.FeatureMultishotRead.Supported() {
			sqe.PrepReadSelect(op.FD, bufferGroup)
		} else {
			sqe.PrepReadMultishot(op.FD, bufferGroup)
		}
	case OpReceiveOnce:
		sqe.PrepRecvSelect(op.FD, bufferGroup, op.Limit)
	case OpReceiveInto:
		sqe.PrepRecv(op.FD, op.Parts[0], 0)
	case OpSendAll:
		sqe.PrepSend(op.FD, op.Parts[0], unix.MSG_NOSIGNAL|unix.MSG_WAITALL)
	case OpCancel:
		sqe.PrepCancel(uint64(op.Target), 0)
		sqe.SetFlags(uring.IOSQE_CQE_SKIP_SUCCESS)
	default:
		prepareFile(sqe, op)
	}
}

func (d *UringDriver) prepareSend(sqe *uring.SQE, op *Op) {
	flags := uint32(unix.MSG_NOSIGNAL)
	switch {
	case op.Quick:
		flags = uring.QuickSendFlags
	case op.Worker:
		flags |= unix.MSG_DONTWAIT // it would wait for a slow peer, a thread for each
	}
	if len(op.Parts) == 1 {
		sqe.PrepSend(op.FD, op.Parts[0], flags)
	} else {
		sqe.PrepSendMsg(op.FD, noMemoryIfNil(d.arena().Msg(op.Parts)), flags)
	}
	switch {
	case op.Quick && d.Silent():
		sqe.SetFlags(uring.IOSQE_CQE_SKIP_SUCCESS)
	case op.Worker:
		sqe.SetFlags(uring.IOSQE_ASYNC)
	}
}

// arena answers memory for message headers that lives until the kernel has taken the
// operation.
func (d *UringDriver) arena() *uring.MsgArena {
	// This operation's own entry is in the queue already.
	if d.ring.SQReady() == 1 {
		d.messages.Reset()
	}
	return d.messages
}

func noMemoryIfNil(m *uring.Msg) *uring.Msg {
	if m == nil {
		panic("kloop: no memory for the header of a message")
	}
	return m
}

func (d *UringDriver) prepareConnect(sqe *uring.SQE, op *Op) {
	if d.ring.SQReady() == 1 {
		d.addrs = d.addrs[:0]
	}
	addr, err := uring.SockaddrOf(op.Addr)
	if err != nil {
		panic(err) // Engine.Connect has checked it
	}
	d.addrs = append(d.addrs, &addr)
	sqe.PrepConnect(op.FD, &addr)
}

// makeRoom hands over a full submission queue.
func (d *UringDriver) makeRoom() error {
	if d.options.SQPoll {
		return d.awaitConsumed(func() bool { return d.ring.SQSpace() > 0 })
	}
	err := d.enter(d.ring.Publish(), 0)
	if errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EAGAIN) {
		// Completions must go before the kernel takes more.
		d.drain()
		err = d.enter(0, uring.IORING_ENTER_GETEVENTS)
		d.drain()
	}
	if isRetry(err) {
		return nil
	}
	return err
}

// drain moves the completion queue to memory of our own.
func (d *UringDriver) drain() {
	for {
		n := d.ring.Reap(d.cqes[:])
		for i := range n {
			d.left = append(d.left, d.completion(d.cqes[i]))
		}
		if n < len(d.cqes) {
			return
		}
	}
}

// Flush implements Driver.
func (d *UringDriver) Flush() {
	d.buffers.publish()
	if d.datagrams != nil {
		d.datagrams.publish()
	}
	d.ring.Publish()
}

// Recycle implements Driver.
func (d *UringDriver) Recycle(id BufferID) {
	d.stats.BuffersOut--
	switch {
	case d.buffers.owns(id):
		d.buffers.add(id)
		return
	case d.datagrams != nil && d.datagrams.owns(id):
		d.datagrams.add(id)
		return
	}
	for i, old := range d.retired {
		if old.owns(id) {
			old.out--
			if old.out == 0 {
				old.close()
				d.retired = append(d.retired[:i], d.retired[i+1:]...)
			}
			return
		}
	}
	panic("kloop: a receive buffer of no ring was given back")
}

// Reap implements Driver.
func (d *UringDriver) Reap(dst []Completion) int {
	n := copy(dst, d.left)
	if n > 0 {
		rest := copy(d.left, d.left[n:])
		clear(d.left[rest:])
		d.left = d.left[:rest]
	}
	n += d.reapRing(dst[n:])
	for n < len(dst) && d.ring.Overflowed() {
		// What did not fit into the queue waits in the kernel, which fills the queue anew.
		d.stats.Overflows++
		if err := d.enter(0, uring.IORING_ENTER_GETEVENTS); err != nil {
			break
		}
		more := d.reapRing(dst[n:])
		if more == 0 {
			break
		}
		n += more
	}
	return n
}

func (d *UringDriver) reapRing(dst []Completion) int {
	n := d.ring.Reap(d.cqes[:min(len(dst), len(d.cqes))])
	for i := range n {
		dst[i] = d.completion(d.cqes[i])
	}
	return n
}

// completion translates the kernel's form.
func (d *UringDriver) completion(cqe uring.CQE) Completion {
	d.stats.Completions++
	done := Completion{Token: Token(cqe.UserData), Res: cqe.Res, More: cqe.More()}
	buffers := d.buffers
	if done.Token.kind() == OpReceiveDatagrams {
		buffers = d.datagrams
	}
	if cqe.Res == -int32(syscall.ENOBUFS) {
		buffers.missed()
	}
	if id, ok := cqe.Buffer(); ok {
		d.stats.BuffersOut++
		done.Buffer, done.Data = buffers.take(id, int(max(cqe.Res, 0)))
	}
	return done
}

// Ready implements Driver.
func (d *UringDriver) Ready() bool {
	return len(d.left) > 0 || d.ring.CQReady() > 0 || d.ring.TaskrunPending() || d.ring.Overflowed()
}

// Settled implements Driver.
func (d *UringDriver) Settled() bool {
	return d.ring.SQReady() == 0 && len(d.left) == 0 && d.ring.CQReady() == 0 && !d.ring.Overflowed()
}

// Stats implements Driver.
func (d *UringDriver) Stats() DriverStats { return d.stats }

// SendNow implements Driver.
func (d *UringDriver) SendNow(fd int, parts [][]byte) (int, error) {
	if len(parts) == 1 {
		return uring.SendNow(fd, parts[0], 0)
	}
	return uring.SendMsgNow(fd, parts, 0)
}

// WriteNow implements Driver.
func (d *UringDriver) WriteNow(fd int, parts [][]byte) (int, error) {
	return uring.WriteNow(fd, parts)
}

// Close implements Driver.
func (d *UringDriver) Close() error {
	err := d.ring.Close()
	d.buffers.close()
	if d.datagrams != nil {
		d.datagrams.close()
	}
	for _, old := range d.retired {
		old.close()
	}
	d.retired, d.left = nil, nil
	d.messages.Close()
	return err
}
