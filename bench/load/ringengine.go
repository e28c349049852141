package main

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"kloop/uring"
)

const (
	ringEntries = 2048
	ringGroup   = 1

	// Receive buffers: each takes what has come on one socket, so it has room for
	// a whole message, within these limits. Few enough to stay in a second-level cache:
	// the kernel goes round all of them.
	minRingBuffer    = 2 << 10
	maxRingBuffer    = 64 << 10
	ringBuffersBytes = 512 << 10
	minRingBuffers   = 8

	// flushBytes: sends of so many bytes are submitted without waiting for the
	// rest of the batch, so that the server has work while the rest is checked.
	flushBytes = 32 << 10

	// closeLimitMS bounds the wait for what was cancelled, which ends at once.
	closeLimitMS = 1000

	// reapBatch bounds what is looked at between two instants of the clock.
	reapBatch = 256
)

// purpose says what a completion is about.
type purpose uint64

const (
	forConnect purpose = iota
	forReceive
	forSend
	forEnd // the cancel and close of a socket that is done with
)

// A completion carries 2 bits of purpose, 30 bits of slot, 32 bits of generation.
const (
	purposeShift = 62
	slotShift    = 32
	slotMask     = 1<<(purposeShift-slotShift) - 1
)

type ringSlot struct {
	fd         int
	generation uint32
	sending    []byte // what the kernel has not answered for yet
}

// ringEngine is one io_uring. All sends of a batch and the wait for what
// follows are one system call.
type ringEngine struct {
	ring     *uring.Ring
	buffers  *uring.BufRing
	slots    []ringSlot
	reaped   []uring.CQE
	unsent   int // bytes of sends that are not submitted yet
	armed    int // receives that have not ended
	ending   int // sockets whose cancel or close is not answered yet
	enterErr error
	nowhere  uring.SQE // what is prepared when nothing can be submitted any more
}

func newRingEngine(s shape) (*ringEngine, error) {
	ring, err := uring.New(uring.Options{Entries: ringEntries})
	if err != nil {
		return nil, err
	}
	size := uint32(minRingBuffer)
	for size < uint32(min(s.chunk, maxRingBuffer)) {
		size *= 2
	}
	buffers, err := ring.NewBufRing(ringGroup, max(ringBuffersBytes/size, minRingBuffers), size, false)
	if err != nil {
		return nil, errors.Join(err, ring.Close())
	}
	e := &ringEngine{ring: ring, buffers: buffers, slots: make([]ringSlot, s.slots), reaped: make([]uring.CQE, reapBatch)}
	for i := range e.slots {
		e.slots[i].fd = -1
	}
	return e, nil
}

func (e *ringEngine) fd(slot int) int { return e.slots[slot].fd }

// sqe answers a free entry, submitting what there is if there is none.
func (e *ringEngine) sqe(slot int, p purpose) *uring.SQE {
	s := e.ring.NextSQE()
	if s == nil {
		e.submit()
		s = e.ring.NextSQE()
	}
	if s == nil { // the kernel took nothing: the next wait says why
		if e.enterErr == nil {
			e.enterErr = unix.EBUSY
		}
		return &e.nowhere
	}
	s.SetUserData(uint64(p)<<purposeShift | uint64(slot)<<slotShift | uint64(e.slots[slot].generation))
	return s
}

// submit has the kernel take what was prepared. An error is kept for the next wait.
func (e *ringEngine) submit() {
	e.unsent = 0
	if _, err := e.ring.Enter(e.ring.Publish(), 0, 0); err != nil && !passing(err) {
		e.enterErr = err
	}
}

// passing says whether an error of io_uring_enter(2) goes away by reaping and
// entering again.
func passing(err error) bool {
	return err == unix.EINTR || err == unix.EAGAIN || err == unix.EBUSY || err == unix.ETIME
}

func (e *ringEngine) add(slot, fd int) error {
	s := &e.slots[slot]
	s.fd, s.sending = fd, nil
	s.generation++
	e.sqe(slot, forConnect).PrepPollAdd(fd, unix.POLLOUT)
	return nil
}

func (e *ringEngine) receive(slot int) {
	e.armed++
	e.sqe(slot, forReceive).PrepRecvMultishot(e.slots[slot].fd, ringGroup)
}

func (e *ringEngine) send(slot int, p []byte) bool {
	s := &e.slots[slot]
	s.sending = p
	e.sqe(slot, forSend).PrepSend(s.fd, p, uring.QuickSendFlags)
	if e.unsent += len(p); e.unsent >= flushBytes {
		e.submit()
	}
	return false
}

// shut ends what the ring does with the socket, and closes it. A close alone
// would leave the receive armed, and the socket open behind it.
func (e *ringEngine) shut(slot int) {
	s := &e.slots[slot]
	e.ending += 2
	e.sqe(slot, forEnd).PrepCancelFD(s.fd, true)
	e.sqe(slot, forEnd).PrepClose(s.fd)
	s.fd, s.sending = -1, nil
	s.generation++
}

func (e *ringEngine) look() (bool, error) {
	prepared := e.ring.Publish()
	if prepared > 0 || e.ring.TaskrunPending() || e.ring.Overflowed() {
		_, err := e.ring.Enter(prepared, 0, uring.IORING_ENTER_GETEVENTS)
		if err := e.entered(err); err != nil {
			return false, err
		}
	}
	return e.ring.CQReady() > 0, nil
}

func (e *ringEngine) wait(timeoutMS int) error {
	if e.ring.CQReady() > 0 {
		return nil
	}
	_, err := e.ring.EnterWait(e.ring.Publish(), 1, 0, int64(timeoutMS)*int64(time.Millisecond))
	return e.entered(err)
}

// entered judges the answer of io_uring_enter(2), and that of an earlier submit.
func (e *ringEngine) entered(err error) error {
	e.unsent = 0
	if e.enterErr != nil {
		return os.NewSyscallError("io_uring_enter", e.enterErr)
	}
	if err == nil || passing(err) {
		return nil
	}
	return os.NewSyscallError("io_uring_enter", err)
}

func (e *ringEngine) deliver(h handler) error {
	n := e.ring.Reap(e.reaped)
	for i := range e.reaped[:n] {
		c := &e.reaped[i]
		slot := int(c.UserData >> slotShift & slotMask)
		present := uint32(c.UserData) == e.slots[slot].generation
		switch purpose(c.UserData >> purposeShift) {
		case forReceive:
			e.received(h, slot, c, present)
		case forSend:
			if present {
				e.sent(h, slot, c.Res)
			}
		case forConnect:
			if present {
				e.connected(h, slot, c.Res)
			}
		case forEnd: // a cancel may find nothing
			e.ending--
		}
	}
	e.buffers.Publish()
	return nil
}

func (e *ringEngine) connected(h handler, slot int, res int32) {
	err := socketError(e.slots[slot].fd)
	if res < 0 && err == nil {
		err = unix.Errno(-res)
	}
	if err != nil {
		h.lost(slot, "connect", err)
		return
	}
	e.receive(slot)
	h.connected(slot)
}

func (e *ringEngine) received(h handler, slot int, c *uring.CQE, present bool) {
	id, filled := c.Buffer()
	generation := e.slots[slot].generation
	if present && c.Res > 0 {
		h.received(slot, e.buffers.Bytes(id, 0, int(c.Res)))
	}
	if filled {
		e.buffers.Add(id)
	}
	if c.More() {
		return
	}
	e.armed--
	if !present || generation != e.slots[slot].generation {
		return
	}
	switch {
	case c.Res > 0 || c.Res == -int32(unix.ENOBUFS): // it has ended, the stream has not
		e.receive(slot)
	case c.Res == 0:
		h.ended(slot)
	default:
		h.lost(slot, "receive", unix.Errno(-c.Res))
	}
}

// sent handles the answer to a send. One that could not take all is followed
// by one that waits until it can.
func (e *ringEngine) sent(h handler, slot int, res int32) {
	s := &e.slots[slot]
	switch {
	case int(res) == len(s.sending):
		s.sending = nil
		h.sent(slot)
		return
	case res < 0 && res != -int32(unix.EAGAIN) && res != -int32(unix.EINTR):
		h.lost(slot, "send", unix.Errno(-res))
		return
	}
	s.sending = s.sending[max(res, 0):]
	e.sqe(slot, forSend).PrepSend(s.fd, s.sending, unix.MSG_WAITALL|unix.MSG_NOSIGNAL)
}

// close ends everything first: the buffers are the kernel's as long as a
// receive is armed.
func (e *ringEngine) close() error {
	for i := range e.slots {
		if e.slots[i].fd >= 0 {
			e.shut(i)
		}
	}
	limit := time.Now().Add(closeLimitMS * time.Millisecond)
	for e.armed+e.ending > 0 && time.Now().Before(limit) {
		if err := e.wait(closeLimitMS); err != nil {
			return err
		}
		if err := e.deliver(nil); err != nil { // every slot is shut: nothing is delivered
			return err
		}
	}
	return errors.Join(e.buffers.Close(), e.ring.Close())
}
