package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// account reads what the process under test has used: its CPU time, and its
// system calls if a tracepoint is given. It is read by the generator itself at the very
// start and end of measuring, so no other process has to be
// scheduled at the right moment.
type account struct {
	cpuClock int32
	counters []int // perf event descriptors, one per thread

	stat, schedstat int   // /proc/PID/stat and schedstat, -1 without a process
	lastNS          int64 // CPU time at the last tick
	lastWaitedNS    int64 // time spent waiting for a core, at the last tick that had some
	bookedNS        int64 // of a wait that had not ended at the last tick
}

// newAccount observes the process pid, nothing if pid is 0. tracepoint is the
// id of raw_syscalls:sys_enter, 0 for no counting.
func newAccount(pid int, tracepoint uint64) (*account, error) {
	a := &account{stat: -1, schedstat: -1}
	if pid == 0 {
		return a, nil
	}
	if err := a.observe(pid); err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	if tracepoint == 0 {
		return a, nil
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		if err := a.addCounter(t.Name(), tracepoint); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// observe opens what starved and read need.
func (a *account) observe(pid int) (err error) {
	for name, fd := range map[string]*int{"stat": &a.stat, "schedstat": &a.schedstat} {
		if *fd, err = unix.Open(fmt.Sprintf("/proc/%d/%s", pid, name), unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	// clock_getcpuclockid(3): the clock of all threads of a process, those that have ended
	// and io_uring's kernel threads included, in nanoseconds.
	// /proc/PID/stat counts the same in units of 10 ms, /proc/PID/schedstat
	// only one thread.
	const cpuclockSched = 2
	a.cpuClock = int32(^pid<<3 | cpuclockSched)
	if a.lastNS, err = clockNS(a.cpuClock); err != nil {
		return fmt.Errorf("CPU clock: %w", err)
	}
	a.lastWaitedNS, err = a.waitedNS()
	return err
}

func (a *account) addCounter(task string, tracepoint uint64) error {
	tid, err := strconv.Atoi(task)
	if err != nil {
		return err
	}
	attr := unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_TRACEPOINT,
		Size:   unix.PERF_ATTR_SIZE_VER5,
		Config: tracepoint,
		Sample: 1,
		Bits:   unix.PerfBitInherit, // threads started from now on count too
	}
	fd, err := unix.PerfEventOpen(&attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	switch err {
	case nil:
		a.counters = append(a.counters, fd)
		return nil
	case unix.ESRCH: // the thread ended since the folder was read
		return nil
	default: // EACCES, EPERM: kernel.perf_event_paranoid; ENOENT: no such tracepoint
		return fmt.Errorf("perf_event_open of thread %d: %w", tid, err)
	}
}

// starved answers for how much of the last tickNS nanoseconds the process was
// ready to run but had no core. A process that waits for an event, also for
// one that was lost, is not ready.
func (a *account) starved(tickNS int64) (int64, error) {
	if a.stat < 0 {
		return 0, nil
	}
	usedNS, err := clockNS(a.cpuClock)
	if err != nil {
		return 0, fmt.Errorf("the process under test is gone: %w", err)
	}
	ran := usedNS != a.lastNS
	a.lastNS = usedNS
	waitedNS, err := a.waitedNS()
	if err != nil {
		return 0, err
	}
	// The kernel books a wait when it ends. One that lasts is booked here tick by
	// tick, and what was booked so is not booked again.
	if waited := waitedNS - a.lastWaitedNS; waited > 0 {
		a.lastWaitedNS = waitedNS
		unbooked := max(waited-a.bookedNS, 0)
		a.bookedNS = 0
		return unbooked, nil
	}
	runnable, err := a.runnable()
	if err != nil || ran || !runnable {
		return 0, err
	}
	a.bookedNS += tickNS
	return tickNS, nil
}

// waitedNS is the time that the main thread, where the loop runs, has waited
// for a core: the second field of /proc/PID/schedstat
// (Documentation/scheduler/sched-stats.rst), always 0 in kernels without it.
func (a *account) waitedNS() (int64, error) {
	var b [64]byte
	n, err := unix.Pread(a.schedstat, b[:], 0)
	if err != nil {
		return 0, os.NewSyscallError("read of /proc/PID/schedstat", err)
	}
	fields := bytes.Fields(b[:n])
	if len(fields) < 2 {
		return 0, fmt.Errorf("unexpected /proc/PID/schedstat: %q", b[:n])
	}
	return strconv.ParseInt(string(fields[1]), 10, 64)
}

// runnable says whether the main thread wants a core now (proc_pid_stat(5):
// "pid (comm) state ..."; comm may hold anything).
func (a *account) runnable() (bool, error) {
	var b [512]byte
	n, err := unix.Pread(a.stat, b[:], 0)
	if err != nil {
		return false, os.NewSyscallError("read of /proc/PID/stat", err)
	}
	i := bytes.LastIndexByte(b[:n], ')')
	return i >= 0 && i+2 < n && b[i+2] == 'R', nil
}

// usage is a reading; two are subtracted.
type usage struct {
	wallNS, serverCPUns, clientCPUns, syscalls int64
}

func (a *account) read() (usage, error) {
	u := usage{syscalls: -1}
	var err error
	if u.wallNS, err = clockNS(unix.CLOCK_MONOTONIC); err != nil {
		return u, err
	}
	if u.clientCPUns, err = clockNS(unix.CLOCK_PROCESS_CPUTIME_ID); err != nil {
		return u, err
	}
	if a.cpuClock != 0 {
		if u.serverCPUns, err = clockNS(a.cpuClock); err != nil {
			return u, fmt.Errorf("the process under test is gone: %w", err)
		}
	}
	if len(a.counters) == 0 {
		return u, nil
	}
	u.syscalls = 0
	for _, fd := range a.counters {
		var b [8]byte
		if _, err := unix.Read(fd, b[:]); err != nil {
			return u, os.NewSyscallError("read of a perf event", err)
		}
		u.syscalls += int64(binary.NativeEndian.Uint64(b[:]))
	}
	return u, nil
}

func (u usage) since(start usage) usage {
	d := usage{
		wallNS:      u.wallNS - start.wallNS,
		serverCPUns: u.serverCPUns - start.serverCPUns,
		clientCPUns: u.clientCPUns - start.clientCPUns,
		syscalls:    -1,
	}
	if u.syscalls >= 0 && start.syscalls >= 0 {
		d.syscalls = u.syscalls - start.syscalls
	}
	return d
}

func clockNS(id int32) (int64, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		return 0, os.NewSyscallError("clock_gettime", err)
	}
	return t.Nano(), nil
}
