package uring

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// oldKernel refuses set-up flags beyond known, as a kernel of that age does.
func oldKernel(known uint32) setupCall {
	return func(_ uint32, p *setupParams) (int, unix.Errno) {
		if p.flags&^known != 0 {
			return -1, unix.EINVAL
		}
		return 3, 0
	}
}

func TestLadderLeavesOutWhatTheKernelLacks(t *testing.T) {
	const (
		v511 = IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED
		v518 = v511 | IORING_SETUP_SUBMIT_ALL
		v519 = v518 | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG
		v60  = v519 | IORING_SETUP_SINGLE_ISSUER
		v61  = v60 | IORING_SETUP_DEFER_TASKRUN
		v66  = v61 | IORING_SETUP_NO_SQARRAY
	)
	const own = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN |
		IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_NO_SQARRAY
	const poll = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SQPOLL | IORING_SETUP_NO_SQARRAY
	for _, kernel := range []struct {
		name  string
		known uint32
	}{{"5.11", v511}, {"5.18", v518}, {"5.19", v519}, {"6.0", v60}, {"6.1", v61}, {"6.6", v66}} {
		for _, mode := range []struct {
			name string
			o    Options
			want uint32
		}{
			{"default", Options{SQPollCPU: -1}, own},
			{"disabled", Options{SQPollCPU: -1, Disabled: true}, own | IORING_SETUP_R_DISABLED},
			{"sqpoll", Options{SQPoll: true, SQPollCPU: -1}, poll},
			{"sqpoll on a CPU", Options{SQPoll: true, SQPollCPU: 1}, poll | IORING_SETUP_SQ_AFF},
		} {
			t.Run(kernel.name+" "+mode.name, func(t *testing.T) {
				p, _, err := setup(oldKernel(kernel.known), mode.o, wantedFlags(mode.o))
				check(t, err)
				if want := mode.want & kernel.known; p.flags != want {
					t.Errorf("flags %#x, want %#x", p.flags, want)
				}
			})
		}
	}
}

func TestLadderEnds(t *testing.T) {
	calls := 0
	refuse := func(uint32, *setupParams) (int, unix.Errno) { calls++; return -1, unix.EINVAL }
	_, _, err := setup(refuse, Options{}, wantedFlags(Options{SQPollCPU: -1}))
	if !errors.Is(err, unix.EINVAL) || calls != len(ladder)+1 {
		t.Errorf("%v after %d calls, want EINVAL after %d", err, calls, len(ladder)+1)
	}
	calls = 0
	full := func(uint32, *setupParams) (int, unix.Errno) { calls++; return -1, unix.EMFILE }
	if _, _, err = setup(full, Options{}, wantedFlags(Options{})); !errors.Is(err, unix.EMFILE) || calls != 1 {
		t.Errorf("%v after %d calls, want EMFILE after 1", err, calls)
	}
}

func TestBadOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"too many entries": {Entries: 1 << 20},
		"CQ below SQ":      {Entries: 64, CQEntries: 8},
		"no such CPU":      {SQPoll: true, SQPollCPU: 1 << 20},
	} {
		r, err := New(o)
		if err == nil {
			check(t, r.Close())
		}
		if !errors.Is(err, unix.EINVAL) || errors.Is(err, ErrNotSupported) {
			t.Errorf("%s: %v, want EINVAL that is not ErrNotSupported", name, err)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		o      Options
		sq, cq int
	}{
		{Options{SQPollCPU: -1}, 1024, 4096},
		{Options{Entries: 8, SQPollCPU: -1}, 8, 32},
		{Options{Entries: 5, CQEntries: 17, SQPollCPU: -1}, 8, 32},
	} {
		r := newRing(t, c.o)
		if len(r.sq.entries) != c.sq || len(r.cq.entries) != c.cq || int(r.SQSpace()) != c.sq {
			t.Errorf("%+v: %d SQEs, %d CQEs, space %d; want %d, %d", c.o, len(r.sq.entries), len(r.cq.entries), r.SQSpace(), c.sq, c.cq)
		}
	}
}

func TestWithoutTheNewestFlags(t *testing.T) {
	// The array of indices, which NO_SQARRAY abolishes, must work as well.
	p, fd, err := setup(kernelSetup, Options{Entries: 4, CQEntries: 8}, IORING_SETUP_CQSIZE)
	check(t, err)
	r := &Ring{fd: fd, flags: p.flags, features: p.features}
	defer func() { check(t, r.Close()) }()
	check(t, r.mapRings(p))
	for round := range uint64(10) {
		s := r.NextSQE()
		s.PrepNop()
		s.SetUserData(round)
		awaitOne(t, r, round)
	}
}

func TestCloseOnExecAndNotInherited(t *testing.T) {
	r := newRing(t, anyCPU)
	b, err := r.NewBufRing(1, 4, 4096, false)
	check(t, err)
	defer func() { check(t, b.Close()) }()
	a, err := NewMsgArena()
	check(t, err)
	defer a.Close()
	flags, err := unix.FcntlInt(uintptr(r.FD()), unix.F_GETFD, 0)
	check(t, err)
	if flags&unix.FD_CLOEXEC == 0 {
		t.Error("the ring's fd is not close-on-exec")
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	check(t, err)
	for name, m := range map[string]region{
		"rings": r.rings, "SQEs": r.sqes, "buffer ring": b.meta, "buffers": b.data, "messages": a.chunks[0],
	} {
		if flags := vmFlags(string(smaps), uintptr(m.base)); !strings.Contains(flags, " dc") {
			t.Errorf("%s: no MADV_DONTFORK: %q", name, flags)
		}
	}
}

// vmFlags answers the line VmFlags of the mapping that holds addr.
func vmFlags(smaps string, addr uintptr) string {
	inside := false
	for line := range strings.Lines(smaps) {
		var first, last uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &first, &last); n == 2 {
			inside = first <= addr && addr < last
		}
		if inside && strings.HasPrefix(line, "VmFlags:") {
			return line
		}
	}
	return ""
}

func TestClose(t *testing.T) {
	r := newRing(t, anyCPU)
	b, err := r.NewBufRing(1, 4, 4096, false)
	check(t, err)
	fd := r.FD()
	check(t, r.Close())
	check(t, r.Close())
	check(t, b.Close())
	check(t, b.Close())
	if err := unix.Fstat(fd, &unix.Stat_t{}); err != unix.EBADF {
		t.Errorf("fd after Close: %v, want EBADF", err)
	}
	if r.FD() != -1 || r.NextSQE() != nil || r.SQSpace() != 0 || r.SQReady() != 0 || r.Publish() != 0 || !r.Consumed() ||
		r.CQReady() != 0 || r.Reap(make([]CQE, 1)) != 0 || r.Overflowed() || r.TaskrunPending() || r.NeedWakeup() || r.Dropped() != 0 {
		t.Error("a closed ring answers as if it were open")
	}
	if w := r.Words(); w != (Words{FD: -1}) {
		t.Errorf("words of a closed ring: %+v", w)
	}
	_, enterErr := r.Enter(0, 0, 0)
	_, waitErr := r.EnterWait(0, 0, 0, 0)
	_, bufErr := r.NewBufRing(1, 4, 4096, false)
	for _, err := range []error{enterErr, waitErr, bufErr, r.Enable(), r.SyncCancel(-1, 0, false, false, 0)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("on a closed ring: %v, want ErrClosed", err)
		}
	}
}

func TestDisabledUntilEnabled(t *testing.T) {
	r := newRing(t, Options{Entries: 4, SQPollCPU: -1, Disabled: true})
	r.NextSQE().PrepNop()
	if _, err := r.Enter(r.Publish(), 0, 0); err != unix.EBADFD {
		t.Fatalf("enter before Enable: %v, want EBADFD", err)
	}
	check(t, r.Enable())
	check(t, r.Enable())
	await(t, r, 1)
}

// TestEnablingThreadSubmits makes a ring in one thread and uses it in another,
// and sees that the first may not.
func TestEnablingThreadSubmits(t *testing.T) {
	if !FeatureSingleIssuer.Supported() {
		t.Skip(Have(FeatureSingleIssuer))
	}
	r := newRing(t, Options{Entries: 4, SQPollCPU: -1, Disabled: true})
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := r.Enable(); err != nil {
			done <- err
			return
		}
		r.NextSQE().PrepNop()
		_, err := r.EnterWait(r.Publish(), 1, 0, int64(testLimit))
		done <- err
	}()
	check(t, <-done)
	if r.Reap(make([]CQE, 2)) != 1 {
		t.Error("no completion in the enabling thread")
	}
	r.NextSQE().PrepNop()
	if _, err := r.Enter(r.Publish(), 0, 0); err != unix.EEXIST {
		t.Errorf("enter in another thread: %v, want EEXIST", err)
	}
}
