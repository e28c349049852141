package core

import (
	"math/rand/v2"
	"syscall"
	"time"
)

// faults are the probabilities of what goes wrong, and the sizes of what fills up. Each
// seed has some of them, none or many.
type faults struct {
	short     float64 // a receive or send moves less than it could
	again     float64 // EAGAIN
	signal    float64 // EINTR
	cancelled float64 // ECANCELED, by the end of the thread that submitted
	noBuffers float64 // ENOBUFS though there are some
	reset     float64 // ECONNRESET or EPIPE
	noMemory  float64 // ENOMEM
	noFDs     float64 // EMFILE
	abort     float64 // ECONNABORTED of an accept
	lastOne   float64 // no F_MORE though it could go on
	late      float64 // a completion comes after others of later operations
	reorder   float64 // completions are found in another order than they came
	cancel    float64 // a cancel that takes its time, or finds its target busy
	waitAgain float64 // a wait ends with EINTR, EAGAIN or EBUSY
	overslept float64 // a wait ends late
	attach    float64 // there is no memory for another thread's ring

	silent     bool // quick sends that took everything have no completion
	queueSize  int  // of submissions
	resultSize int  // of completions
	buffers    int  // for receives
	bufferSize int
	ringFiles  uint32 // which operations on files the driver does: a bit for each kind
}

// lateMost bounds how long a completion or a cancel takes that is late.
const lateMost = 500 * time.Microsecond

func randomFaults(random *rand.Rand) faults {
	pick := func(rates ...float64) float64 { return rates[random.IntN(len(rates))] }
	often := func() float64 { return pick(0, 0, 0, 0.02, 0.1, 0.3) }
	seldom := func() float64 { return pick(0, 0, 0, 0.002, 0.01, 0.05) }
	return faults{
		short: often(), again: often(), signal: often(), cancelled: often(), noBuffers: often(),
		reset: seldom(), noMemory: seldom(), noFDs: often(), abort: often(), lastOne: often(),
		late: often(), reorder: often(), cancel: often(), waitAgain: often(), overslept: often(), attach: often(),
		silent:     random.IntN(4) > 0,
		queueSize:  1 << random.IntN(7),
		resultSize: 1 << random.IntN(7),
		buffers:    1 << random.IntN(5),
		bufferSize: 64 << random.IntN(7),
		ringFiles:  pickFiles(random),
	}
}

// pickFiles has drivers do all that is about files, nothing, or some.
func pickFiles(random *rand.Rand) uint32 {
	switch random.IntN(3) {
	case 0:
		return 0
	case 1:
		return ^uint32(0)
	}
	return random.Uint32()
}

// waitErrors are those of a wait that ask for another.
var waitErrors = [...]syscall.Errno{syscall.EINTR, syscall.EINTR, syscall.EAGAIN, syscall.EBUSY}

func (k *kernel) waitError() error {
	if k.fault(k.faults.waitAgain) {
		return waitErrors[k.random.IntN(len(waitErrors))]
	}
	return nil
}

// errorOf draws an error of a receive or send, or 0. With ECONNRESET and EPIPE the peer is gone.
func (k *kernel) errorOf(f *file, sends bool) syscall.Errno {
	switch {
	case k.fault(k.faults.signal):
		return syscall.EINTR
	case k.fault(k.faults.noMemory):
		return syscall.ENOMEM
	case k.fault(k.faults.reset) && f.kind == streamFile:
		f.reset(0)
		if sends && k.chance(0.5) {
			return syscall.EPIPE
		}
		return syscall.ECONNRESET
	}
	return 0
}
