package core

import (
	"errors"
	"syscall"
)

// pollReapMax bounds the completions that one Poll handles, so that timers and
// posted functions get their turn under load.
const pollReapMax = 4096

// Poll does one iteration: it hands over what was asked for, waits up to
// timeoutNS nanoseconds (negative: for ever; 0: not at all) for something to
// happen, and calls the handlers of what did. It answers EINTR when a signal
// ended the wait. Any other error means that the engine can't go on.
func (e *Engine) Poll(timeoutNS int64) error {
	if e.closed {
		return ErrClosed
	}
	e.runPosted()
	e.Flush()
	if e.Pending() {
		timeoutNS = 0
	}
	err := e.wait(e.timerWait(timeoutNS))
	if err != nil && !isRetry(err) {
		return err
	}
	e.Reap(pollReapMax)
	e.runPosted()
	e.runTimers()
	if errors.Is(err, syscall.EINTR) {
		return err
	}
	return nil
}

// wait is the driver's, with the engine marked as asleep when it may sleep.
func (e *Engine) wait(timeoutNS int64) error {
	if timeoutNS == 0 || e.driver.Ready() {
		e.waker.asked.Store(false)
		return e.driver.Wait(0)
	}
	e.waker.sleeping.Store(true)
	if e.waker.asked.Load() {
		timeoutNS = 0
	}
	err := e.driver.Wait(timeoutNS)
	e.waker.sleeping.Store(false)
	e.waker.asked.Store(false)
	return err
}

// isRetry says whether an error of the driver's wait asks for another try.
func isRetry(err error) bool {
	return errors.Is(err, syscall.EINTR) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EBUSY)
}
