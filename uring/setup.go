package uring

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options says what ring New makes.
type Options struct {
	// Entries is the number of SQ entries, rounded up to a power of two by the
	// kernel, at most 32768; 0: 1024.
	Entries uint32
	// CQEntries is the number of CQ entries, rounded up likewise, at least
	// Entries; 0: four times Entries, because multishot operations answer more
	// often than they are submitted.
	CQEntries uint32
	// SQPoll has a kernel thread submit. It excludes DEFER_TASKRUN,
	// COOP_TASKRUN and TASKRUN_FLAG. Such a ring may be used by any thread, by
	// one at a time.
	SQPoll bool
	// SQPollIdleMS is how long that thread looks for work before it sleeps, in
	// milliseconds; 0: the kernel's default of a second.
	SQPollIdleMS uint32
	// SQPollCPU binds that thread to a CPU; -1: any.
	SQPollCPU int
	// Disabled makes a ring that submits nothing until Enable is called, in
	// the thread that will submit.
	Disabled bool
}

const (
	defaultEntries  = 1024
	cqPerSQ         = 4
	requiredFeature = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG
	requiredSince   = "5.11"
)

// rung is one step of the ladder: flags that older kernels refuse with EINVAL.
type rung struct {
	flags uint32
	since string
}

// ladder is climbed down from the newest flags: whenever the kernel answers
// EINVAL, the next rung that was asked for is left out.
var ladder = []rung{
	{IORING_SETUP_NO_SQARRAY, "6.6"},
	{IORING_SETUP_DEFER_TASKRUN, "6.1"},
	{IORING_SETUP_SINGLE_ISSUER, "6.0"},
	{IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, "5.19"},
	{IORING_SETUP_SUBMIT_ALL, "5.18"},
}

// wantedFlags are the set-up flags for o before any rung is left out.
func wantedFlags(o Options) uint32 {
	flags := uint32(IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_NO_SQARRAY)
	if o.SQPoll {
		flags |= IORING_SETUP_SQPOLL
		if o.SQPollCPU >= 0 {
			flags |= IORING_SETUP_SQ_AFF
		}
	} else {
		flags |= IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG
	}
	if o.Disabled {
		flags |= IORING_SETUP_R_DISABLED
	}
	return flags
}

// New makes a ring. Unless o.Disabled or o.SQPoll is set, the calling thread
// is the only one that may submit (EEXIST for others, from kernel 6.0): call
// runtime.LockOSThread first.
//
// Errors are those of io_uring_setup(2) and mmap(2). When the kernel has no
// io_uring, or does not let this process use it, errors.Is(err,
// ErrNotSupported) is true and the text names the cause and the remedy. ENOMEM
// and EMFILE are plain errors.
func New(o Options) (*Ring, error) {
	if o.Entries == 0 {
		o.Entries = defaultEntries
	}
	if o.CQEntries == 0 {
		o.CQEntries = cqPerSQ * o.Entries
	}
	p, fd, err := setup(kernelSetup, o, wantedFlags(o))
	if errors.Is(err, unix.EINVAL) {
		// Either these options are wrong or the kernel is too old for any.
		if unavailable := Available(); unavailable != nil {
			err = unavailable
		}
	}
	if err != nil {
		return nil, err
	}
	r := &Ring{fd: fd, flags: p.flags, features: p.features}
	escape(unsafe.Pointer(r)) // the kernel gets the address of r.wait
	if missing := requiredFeature &^ p.features; missing != 0 {
		err = &NotSupportedError{Name: fmt.Sprintf("io_uring features %#x", missing), Since: requiredSince}
	} else {
		err = r.mapRings(p)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// setupCall is io_uring_setup(2) or, in tests, an older kernel's.
type setupCall func(entries uint32, p *setupParams) (fd int, errno unix.Errno)

// kernelSetup calls io_uring_setup(2). The kernel marks the fd close-on-exec
// itself.
func kernelSetup(entries uint32, p *setupParams) (int, unix.Errno) {
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(p)), 0)
	return int(fd), errno
}

// setup makes the kernel's part of a ring, leaving out one rung of flags after
// each EINVAL.
func setup(call setupCall, o Options, flags uint32) (*setupParams, int, error) {
	next := 0
	for {
		p := &setupParams{cqEntries: o.CQEntries, flags: flags, sqThreadIdle: o.SQPollIdleMS}
		if flags&IORING_SETUP_SQ_AFF != 0 {
			p.sqThreadCPU = uint32(o.SQPollCPU)
		}
		fd, errno := call(o.Entries, p)
		if errno == 0 {
			return p, fd, nil
		}
		for next < len(ladder) && flags&ladder[next].flags == 0 {
			next++
		}
		if errno != unix.EINVAL || next == len(ladder) {
			return nil, -1, setupError(errno)
		}
		flags &^= ladder[next].flags
		next++
	}
}

// mapRings maps the two regions the kernel made: both rings with the CQEs, and
// the SQEs.
func (r *Ring) mapRings(p *setupParams) (err error) {
	size := max(
		uintptr(p.sqOff.array)+uintptr(p.sqEntries)*unsafe.Sizeof(uint32(0)),
		uintptr(p.cqOff.cqes)+uintptr(p.cqEntries)*unsafe.Sizeof(CQE{}),
	)
	if r.rings, err = mapRegion(r.fd, offSQRing, size); err != nil {
		return fmt.Errorf("uring: rings: %w", err)
	}
	if r.sqes, err = mapRegion(r.fd, offSQEs, uintptr(p.sqEntries)*unsafe.Sizeof(SQE{})); err != nil {
		return fmt.Errorf("uring: SQEs: %w", err)
	}
	r.sq = submissionQueue{
		head:    r.rings.word(p.sqOff.head),
		tail:    r.rings.word(p.sqOff.tail),
		flags:   r.rings.word(p.sqOff.flags),
		entries: unsafe.Slice((*SQE)(r.sqes.base), p.sqEntries),
		mask:    p.sqEntries - 1,
	}
	r.cq = completionQueue{
		head:    r.rings.word(p.cqOff.head),
		tail:    r.rings.word(p.cqOff.tail),
		dropped: r.rings.word(p.cqOff.overflow),
		entries: unsafe.Slice((*CQE)(unsafe.Add(r.rings.base, p.cqOff.cqes)), p.cqEntries),
		mask:    p.cqEntries - 1,
	}
	if p.flags&IORING_SETUP_NO_SQARRAY == 0 {
		// SQEs are always used in order, so the indirection is the identity
		// and written once.
		array := unsafe.Slice(r.rings.word(p.sqOff.array), p.sqEntries)
		for i := range array {
			array[i] = uint32(i)
		}
	}
	return nil
}

// Enable starts a ring made with Options.Disabled. The calling thread becomes
// the only one that may submit, as New says. It does nothing when the ring is
// enabled already.
func (r *Ring) Enable() error {
	if r.fd < 0 {
		return ErrClosed
	}
	if r.flags&IORING_SETUP_R_DISABLED == 0 {
		return nil
	}
	if _, err := r.register(registerEnableRings, nil, 0); err != nil {
		return fmt.Errorf("uring: enable: %w", err)
	}
	r.flags &^= IORING_SETUP_R_DISABLED
	return nil
}

// Close unmaps the ring and closes its fd. It may be called in any thread, and
// again. Every slice and SQE of the ring is invalid after it.
//
// The kernel ends what is still in flight after Close has returned: a socket
// with an armed accept keeps its port until then. Cancel first where that
// matters, and keep buffers that the kernel may still write to until their
// last CQE was seen.
func (r *Ring) Close() error {
	if r.fd < 0 {
		return nil
	}
	fd := r.fd
	r.fd = -1
	r.sq, r.cq = submissionQueue{}, completionQueue{}
	r.rings.unmap()
	r.sqes.unmap()
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("uring: close: %w", err)
	}
	return nil
}

// register calls io_uring_register(2) through Go's scheduler: some of its
// operations wait.
func (r *Ring) register(op uintptr, arg unsafe.Pointer, n uintptr) (int, error) {
	if r.fd < 0 {
		return 0, ErrClosed
	}
	res, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), op, uintptr(arg), n, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(res), nil
}
