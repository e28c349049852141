package core

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kloop/uring"
)

// ensureEnabled gives a new ring to the calling thread.
func (d *UringDriver) ensureEnabled() error {
	if d.enabled {
		return nil
	}
	if err := d.ring.Enable(); err != nil {
		return err
	}
	d.enabled = true
	d.thread = unix.Gettid()
	return nil
}

// enter enters the kernel without waiting.
func (d *UringDriver) enter(toSubmit uint32, flags uint32) error {
	if err := d.ensureEnabled(); err != nil {
		return err
	}
	d.stats.Enters++
	switch {
	case flags&uring.IORING_ENTER_SQ_WAKEUP != 0:
		d.stats.EntersWakeup++
	case toSubmit > 0:
		d.stats.EntersSubmit++
	}
	_, err := d.ring.Enter(toSubmit, 0, flags)
	return err
}

// Wait implements Driver.
func (d *UringDriver) Wait(timeoutNS int64) error {
	toSubmit := d.ring.Publish()
	flags := uint32(0)
	if d.options.SQPoll {
		toSubmit = 0
		if d.ring.NeedWakeup() && !d.ring.Consumed() {
			flags |= uring.IORING_ENTER_SQ_WAKEUP
		}
	}
	if timeoutNS == 0 || len(d.left) > 0 || d.ring.CQReady() > 0 {
		if toSubmit == 0 && flags == 0 && !d.ring.TaskrunPending() && !d.ring.Overflowed() {
			return nil
		}
		return d.enter(toSubmit, flags|uring.IORING_ENTER_GETEVENTS)
	}
	return d.enterWait(toSubmit, flags, timeoutNS)
}

func (d *UringDriver) enterWait(toSubmit, flags uint32, timeoutNS int64) error {
	if err := d.ensureEnabled(); err != nil {
		return err
	}
	d.stats.Enters++
	d.stats.EntersWait++
	_, err := d.ring.EnterWait(toSubmit, 1, flags, timeoutNS)
	if err == syscall.ETIME {
		return nil
	}
	return err
}

// awaitConsumed waits until the SQPOLL thread has gone so far that done holds.
func (d *UringDriver) awaitConsumed(done func() bool) error {
	d.ring.Publish()
	end := time.Now().Add(consumeWait)
	for !done() {
		if d.ring.NeedWakeup() {
			if err := d.enter(0, uring.IORING_ENTER_SQ_WAKEUP); err != nil && !isRetry(err) {
				return err
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("kloop: the SQPOLL thread takes no operation: %w", syscall.EBUSY)
		}
		time.Sleep(consumeStep)
	}
	return nil
}

// SyncCancel implements Driver.
func (d *UringDriver) SyncCancel(token Token) error {
	if err := d.ensureEnabled(); err != nil {
		return err
	}
	if d.options.SQPoll {
		if err := d.awaitConsumed(d.ring.Consumed); err != nil {
			return err
		}
	}
	err := d.ring.SyncCancel(-1, uint64(token), false, true, syncCancelNS)
	if errors.Is(err, syscall.ENOENT) {
		// It has ended by itself, and its last completion exists.
		return nil
	}
	return err
}

// Attach implements Driver.
func (d *UringDriver) Attach() (moved bool, err error) {
	switch {
	case d.stale:
	case !d.enabled:
		return false, d.ensureEnabled()
	case d.thread == unix.Gettid():
		return false, nil
	case d.options.SQPoll:
		// Such a ring takes operations from any thread.
		d.thread = unix.Gettid()
		return false, nil
	}
	d.drain()
	ring, buffers, datagrams, enabled := d.ring, d.buffers, d.datagrams, d.enabled
	if err := d.reopen(); err != nil {
		d.ring, d.buffers, d.datagrams, d.enabled = ring, buffers, datagrams, enabled
		return false, fmt.Errorf("kloop: a ring for another thread, or other privileges: %w", err)
	}
	if err := ring.Close(); err != nil {
		return true, err
	}
	d.retire(buffers)
	if datagrams != nil {
		d.retire(datagrams)
	}
	return true, d.ensureEnabled()
}

// reopen makes a ring with all the buffers that the present one has.
func (d *UringDriver) reopen() error {
	datagrams := d.datagrams != nil
	if err := d.open(); err != nil {
		return err
	}
	d.datagrams = nil
	if !datagrams {
		return nil
	}
	err := d.PrepareDatagrams()
	if err != nil {
		err = errors.Join(err, d.ring.Close())
		d.buffers.close()
	}
	return err
}

// retire keeps the buffers of a closed ring until all are given back.
func (d *UringDriver) retire(buffers *bufferSet) {
	if buffers.out > 0 {
		d.retired = append(d.retired, buffers)
	} else {
		buffers.close()
	}
}
