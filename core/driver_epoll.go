package core

import (
	"errors"
	"syscall"

	"kloop/epoll"
	"kloop/uring"
)

// EpollOptions say how to make an epoll driver. The zero value is the default.
type EpollOptions struct {
	Buffers    uint32 // receive buffers at most; 0: 256
	BufferSize uint32 // bytes of each, and most that one receive takes; 0: 128 KiB
}

// EpollDriver is the Driver on epoll, for kernels and containers without io_uring.
//
// An operation that may wait is a waiter on its descriptor, of which the epoll set has one
// edge-triggered registration for all its waiters. It is looked at anew whenever a waiter
// joins, so that nothing need be remembered between: not what was read by whom, nor whether
// the number is another file's by now. What needs no waiting is done when it is submitted: quick
// sends above all. Receives are done by Reap, a bounded number for each
// descriptor, so that none holds up the others.
//
// Unlike a ring, a set has no hold on files: what is closed under its waiters leaves them
// waiting until they are cancelled.
type EpollDriver struct {
	set     *epoll.Set
	streams packedBuffers
	// datagrams is empty until PrepareDatagrams.
	datagrams packedBuffers

	fds     []*epollFD // by number
	tag     int32      // of the last registration
	waiters map[Token]*epollWaiter
	free    []*epollWaiter

	// Waiters that are served without an event: what is always ready, and what had more than
	// its turn's share. Those that join while a turn is served wait for the next.
	turn  uint32
	now   []*epollWaiter
	later []*epollWaiter

	done  []Completion
	head  int // of done, not yet reaped
	stats DriverStats
}

var _ Driver = (*EpollDriver)(nil)

// NewEpollDriver makes a driver. It fails only for want of memory or descriptors.
func NewEpollDriver(o EpollOptions) (*EpollDriver, error) {
	if o.Buffers == 0 {
		o.Buffers = buffersDefault
	}
	if o.BufferSize == 0 {
		o.BufferSize = bufferSizeDefault
	}
	set, err := epoll.New()
	if err != nil {
		return nil, err
	}
	d := &EpollDriver{set: set, waiters: make(map[Token]*epollWaiter)}
	if err := d.streams.open(0, o.Buffers, o.BufferSize, o.BufferSize/2); err != nil {
		return nil, errors.Join(err, set.Close())
	}
	return d, nil
}

// Name implements Driver.
func (d *EpollDriver) Name() string { return "epoll" }

// Silent implements Driver.
func (d *EpollDriver) Silent() bool { return true }

// Does implements Driver: no file is read or written by events.
func (d *EpollDriver) Does(OpKind) bool { return false }

// Set answers the epoll set, for a host that waits by itself.
func (d *EpollDriver) Set() *epoll.Set { return d.set }

// Submit implements Driver.
func (d *EpollDriver) Submit(op *Op) error {
	d.stats.Submitted++
	errno := syscall.Errno(0)
	switch op.Kind {
	case OpSend:
		if op.Quick {
			d.quickSend(op)
			return nil
		}
		errno = d.await(op, pollOut)
	case OpSendAll:
		errno = d.await(op, pollOut)
	case OpConnect:
		errno = d.connect(op)
	case OpPoll:
		errno = d.await(op, op.Events&pollMask)
	case OpAccept:
		errno = d.accept(op)
	case OpCancel:
		d.cancel(op)
	case OpReceive, OpReceiveOnce, OpReceiveInto, OpReceiveDatagrams, OpRead:
		errno = d.await(op, pollReceive)
	default:
		panic("kloop: no such operation: " + op.Token.String())
	}
	if errno != 0 {
		d.complete(op.Token, -int32(errno))
	}
	return nil
}

// quickSend sends what fits now. As with io_uring a complete one has no completion.
func (d *EpollDriver) quickSend(op *Op) {
	want := 0
	for _, p := range op.Parts {
		want += len(p)
	}
	n, err := d.SendNow(op.FD, op.Parts)
	if errno, failed := err.(syscall.Errno); failed {
		d.complete(op.Token, -int32(errno))
	} else if n < want {
		d.complete(op.Token, int32(n))
	}
}

// accept makes fd non-blocking, if it is not: another process that shares the socket may
// take the connection between an event and accept(2).
func (d *EpollDriver) accept(op *Op) syscall.Errno {
	nonblocking, errno := epoll.Nonblocking(op.FD)
	if errno == 0 && !nonblocking {
		errno = epoll.SetNonblocking(op.FD, true)
	}
	if errno != 0 {
		return errno
	}
	return d.await(op, pollIn)
}

// connect begins to connect; for that fd must not block.
func (d *EpollDriver) connect(op *Op) syscall.Errno {
	nonblocking, errno := epoll.Nonblocking(op.FD)
	if errno != 0 {
		return errno
	}
	if !nonblocking {
		if errno = epoll.SetNonblocking(op.FD, true); errno != 0 {
			return errno
		}
	}
	errno = epoll.Connect(op.FD, op.Addr)
	if !nonblocking {
		_ = epoll.SetNonblocking(op.FD, false) // what could be set can be set back
	}
	switch errno {
	case 0:
		d.complete(op.Token, 0)
		return 0
	case syscall.EINPROGRESS:
		return d.await(op, pollOut)
	}
	return errno
}

// cancel ends the operation op.Target. As with io_uring only a failure has a completion.
func (d *EpollDriver) cancel(op *Op) {
	if !d.end(op.Target) && op.Token != 0 {
		d.complete(op.Token, -int32(syscall.ENOENT))
	}
}

// end gives a waiter its last completion, and answers false if there is none.
func (d *EpollDriver) end(token Token) bool {
	w := d.waiters[token]
	if w == nil {
		return false
	}
	if w.sent > 0 {
		d.finish(w, int32(w.sent))
	} else {
		d.finish(w, -int32(syscall.ECANCELED))
	}
	return true
}

// SyncCancel implements Driver.
func (d *EpollDriver) SyncCancel(token Token) error {
	d.end(token)
	return nil
}

// Flush implements Driver: nothing is queued.
func (d *EpollDriver) Flush() {}

// Wait implements Driver.
func (d *EpollDriver) Wait(timeoutNS int64) error {
	d.stats.Enters++
	if timeoutNS == 0 || d.set.Pending() {
		return d.set.Look()
	}
	d.stats.EntersWait++
	return d.set.Wait(timeoutNS)
}

// complete queues a last completion.
func (d *EpollDriver) complete(token Token, res int32) {
	d.queue(Completion{Token: token, Res: res})
}

func (d *EpollDriver) queue(done Completion) {
	d.done = append(d.done, done)
	d.set.Owe(1)
}

// Reap implements Driver.
func (d *EpollDriver) Reap(dst []Completion) int {
	d.serve(len(dst))
	n := copy(dst, d.done[d.head:])
	clear(d.done[d.head : d.head+n])
	d.head += n
	if d.head == len(d.done) {
		d.done, d.head = d.done[:0], 0
	}
	d.set.Paid(n)
	d.stats.Completions += uint64(n)
	return n
}

// Ready implements Driver. Of the kernel it knows what the last wait found.
func (d *EpollDriver) Ready() bool { return d.set.Pending() }

// Settled implements Driver: a send is made when it is submitted.
func (d *EpollDriver) Settled() bool { return d.head == len(d.done) }

// Recycle implements Driver.
func (d *EpollDriver) Recycle(id BufferID) {
	d.stats.BuffersOut--
	if d.streams.owns(id) {
		d.streams.give(id)
	} else {
		d.datagrams.give(id)
	}
}

// SendNow implements Driver.
func (d *EpollDriver) SendNow(fd int, parts [][]byte) (int, error) {
	if len(parts) == 1 {
		return uring.SendNow(fd, parts[0], 0)
	}
	return uring.SendMsgNow(fd, parts, 0)
}

// WriteNow implements Driver.
func (d *EpollDriver) WriteNow(fd int, parts [][]byte) (int, error) {
	return uring.WriteNow(fd, parts)
}

// SendDatagramNow implements Driver.
func (d *EpollDriver) SendDatagramNow(fd int, p, addr []byte) error {
	return uring.SendToNow(fd, p, addr)
}

// PrepareDatagrams implements Driver. A buffer takes many datagrams, as long as the
// largest still fits.
func (d *EpollDriver) PrepareDatagrams() error {
	if d.datagrams.count > 0 {
		return nil
	}
	return d.datagrams.open(1, datagramChunks, datagramChunkSize, datagramBufferSize)
}

// Attach implements Driver. A set is any thread's.
func (d *EpollDriver) Attach() (moved bool, err error) { return false, nil }

// Stats implements Driver.
func (d *EpollDriver) Stats() DriverStats { return d.stats }

// Close implements Driver.
func (d *EpollDriver) Close() error {
	return errors.Join(d.set.Close(), d.streams.close(), d.datagrams.close())
}
