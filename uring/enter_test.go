package uring

import (
	"os"
	"os/signal"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWaitTimesOut(t *testing.T) {
	r := newRing(t, anyCPU)
	for _, limit := range []time.Duration{0, 2 * time.Millisecond, 1100 * time.Millisecond} {
		start := time.Now()
		_, err := r.EnterWait(0, 1, 0, int64(limit))
		for err == unix.EINTR { // a signal of the runtime
			start = time.Now()
			_, err = r.EnterWait(0, 1, 0, int64(limit))
		}
		if took := time.Since(start); err != unix.ETIME || took < limit {
			t.Errorf("limit %v: %v after %v, want ETIME", limit, err, took)
		}
	}
}

func TestWaitAnswersWhatItSubmitted(t *testing.T) {
	r := newRing(t, anyCPU)
	r.NextSQE().PrepNop()
	n, err := r.EnterWait(r.Publish(), 2, 0, int64(time.Millisecond))
	if n != 1 || err != nil || r.CQReady() != 1 {
		t.Errorf("%d, %v, %d ready; want 1, no error, 1", n, err, r.CQReady())
	}
}

func TestWaitWithoutLimit(t *testing.T) {
	r := newRing(t, anyCPU)
	s := r.NextSQE()
	s.PrepTimeout(&Timespec{Nsec: 1_000_000}, 0, 0)
	n, err := r.EnterWait(r.Publish(), 1, 0, -1)
	if n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if c := awaitOne(t, r, 0); c.Res != -int32(unix.ETIME) {
		t.Errorf("timeout answered %d, want -ETIME", c.Res)
	}
}

func TestSignalEndsWait(t *testing.T) {
	r := newRing(t, anyCPU)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGUSR1)
	defer signal.Stop(signals)
	thread, done := unix.Gettid(), make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			default:
				_ = unix.Tgkill(os.Getpid(), thread, unix.SIGUSR1)
				runtime.Gosched()
			}
		}
	}()
	_, err := r.EnterWait(0, 1, 0, int64(testLimit))
	close(done)
	<-stopped
	if err != unix.EINTR {
		t.Errorf("%v, want EINTR", err)
	}
}

func TestSecondThreadMayNotSubmit(t *testing.T) {
	if !FeatureSingleIssuer.Supported() {
		t.Skip(Have(FeatureSingleIssuer))
	}
	r := newRing(t, anyCPU)
	r.NextSQE().PrepNop()
	r.Publish()
	errs := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		_, err := r.Enter(1, 0, 0)
		errs <- err
		errs <- r.SyncCancel(-1, 0, false, true, 0)
	}()
	if err := <-errs; err != unix.EEXIST {
		t.Errorf("enter: %v, want EEXIST", err)
	}
	if err := <-errs; err != unix.EEXIST {
		t.Errorf("register: %v, want EEXIST", err)
	}
	await(t, r, 1) // the SQE is still there
}

// TestSQPoll submits without entering, then lets the poller sleep and wakes it.
func TestSQPoll(t *testing.T) {
	r := newRing(t, Options{Entries: 4, SQPoll: true, SQPollIdleMS: 1, SQPollCPU: -1})
	if r.Flags()&IORING_SETUP_SQPOLL == 0 || r.Flags()&IORING_SETUP_DEFER_TASKRUN != 0 {
		t.Fatalf("flags %#x", r.Flags())
	}
	out := make([]CQE, 4)
	submit := func() {
		s := r.NextSQE()
		s.PrepNop()
		s.SetUserData(7)
		r.Publish()
	}
	completed := func() bool { return r.Reap(out) == 1 && out[0].UserData == 7 }
	eventually(t, "the poller sleeps", r.NeedWakeup)
	submit()
	if !r.NeedWakeup() || r.Consumed() {
		t.Fatal("the poller woke up by itself")
	}
	_, err := r.Enter(1, 0, IORING_ENTER_SQ_WAKEUP)
	check(t, err)
	eventually(t, "completion after waking the poller", completed)
	if !r.Consumed() {
		t.Error("completed but not consumed")
	}
}

// TestSQPollWithoutEntering keeps the poller awake: no system call at all, but for
// the first SQE, as the poller goes to sleep at once when it starts with nothing to
// do.
func TestSQPollWithoutEntering(t *testing.T) {
	r := newRing(t, Options{Entries: 4, SQPoll: true, SQPollIdleMS: uint32(testLimit.Milliseconds()), SQPollCPU: -1})
	out := make([]CQE, 4)
	for i := range uint64(100) {
		s := r.NextSQE()
		s.PrepNop()
		s.SetUserData(i)
		r.Publish()
		if r.NeedWakeup() {
			if i > 0 {
				t.Fatal("the poller sleeps before its idle time is over")
			}
			_, err := r.Enter(1, 0, IORING_ENTER_SQ_WAKEUP)
			check(t, err)
		}
		eventually(t, "completion without entering", func() bool { return r.Reap(out) == 1 })
		if out[0].UserData != i {
			t.Fatalf("CQE %d, want %d", out[0].UserData, i)
		}
	}
}

// TestSQPollFromAnyThread uses a ring in a thread that did not make it, and waits
// for room in a full SQ.
func TestSQPollFromAnyThread(t *testing.T) {
	r := newRing(t, Options{Entries: 4, SQPoll: true, SQPollIdleMS: 1, SQPollCPU: -1})
	errs := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for range 4 {
			r.NextSQE().PrepNop()
		}
		_, err := r.EnterWait(r.Publish(), 0, IORING_ENTER_SQ_WAKEUP|IORING_ENTER_SQ_WAIT, -1)
		errs <- err
	}()
	check(t, <-errs)
	if r.NextSQE() == nil {
		t.Error("no room in the SQ after waiting for it")
	}
	eventually(t, "four completions", func() bool { return r.CQReady() == 4 })
}
