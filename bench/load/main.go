package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

const (
	exitFailed = 1 // a wrong byte, a stall, a lost connection
	exitUsage  = 2

	// memoryLimitBytes bounds the heap while the collector is off: steady state
	// does not allocate, so nothing is lost, and a collection in the middle
	// of a round would be noise.
	memoryLimitBytes = 2 << 30

	// procs is 2 although one goroutine does all the work: with a single P,
	// sysmon retakes it in every system call because nobody else could
	// run, and then wakes up every 20 µs (runtime/proc.go, retake).
	procs = 2
)

func main() {
	if len(os.Args) < 2 {
		printUsage()
	}
	runtime.GOMAXPROCS(procs)
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimitBytes)
	runtime.LockOSThread()

	var failed bool
	var err error
	switch mode, args := os.Args[1], os.Args[2:]; mode {
	case "echo":
		failed, err = runEcho(args, false)
	case "idle":
		failed, err = runEcho(args, true)
	case "http":
		failed, err = runHTTP(args)
	case "udp":
		failed, err = runUDP(args)
	case "tls":
		failed, err = runTLS(args, false)
	case "tlsidle":
		failed, err = runTLS(args, true)
	case "download":
		failed, err = runOneWay(args, download)
	case "upload":
		failed, err = runOneWay(args, upload)
	case "handshakes":
		failed, err = runHandshakes(args)
	case "tlsserver":
		err = runTLSServer(args)
	case "certificate":
		err = runCertificate(args)
	case "echoserver":
		err = runEchoServer(args)
	case "link":
		err = runLink(args)
	default:
		printUsage()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(exitFailed)
	}
	if failed {
		os.Exit(exitFailed)
	}
}

const modes = "echo idle http udp tls tlsidle download upload handshakes certificate echoserver tlsserver link"

func printUsage() {
	fmt.Fprintln(os.Stderr, "usage: load MODE [options]; load MODE -h lists them. Modes: "+modes)
	os.Exit(exitUsage)
}

// limits are the options that every client mode shares: what is measured, for
// how long, and what ends a run that does not end by itself.
type limits struct {
	addr       string
	conns      int
	duration   time.Duration
	warmup     time.Duration
	count      uint64
	stall      time.Duration
	pid        int
	tracepoint uint64
	engine     string
	spin       time.Duration
}

func (l *limits) register(f *flag.FlagSet) {
	f.StringVar(&l.addr, "addr", "", "IPv4 or IPv6 `address:port` of the server")
	f.StringVar(&l.engine, "engine", engineAuto, "uring, epoll, or auto: what suits the messages and the kernel allows")
	f.DurationVar(&l.spin, "spin", spinDefault, "time to look for events before sleeping, of which the server has to wake us")
	f.IntVar(&l.conns, "conns", 1, "connections")
	f.DurationVar(&l.duration, "duration", time.Second, "time to measure, after the warm-up")
	f.DurationVar(&l.warmup, "warmup", 200*time.Millisecond, "time before measuring")
	f.Uint64Var(&l.count, "count", 0, "stop after so many messages, if that is earlier than -duration; 0: no limit")
	f.DurationVar(&l.stall, "stall", time.Second, "a connection that waits so long without progress is an error")
	f.IntVar(&l.pid, "pid", 0, "process to account for: CPU time between start and end of measuring")
	f.Uint64Var(&l.tracepoint, "tracepoint", 0, "`id` of raw_syscalls:sys_enter: count the system calls of -pid")
}

func (l *limits) check() error {
	const maxConns = 50_000 // one loopback address has 28,232 ephemeral ports by default
	switch {
	case l.addr == "":
		return fmt.Errorf("-addr is missing")
	case l.conns < 1 || l.conns > maxConns:
		return fmt.Errorf("-conns must be 1 to %d", maxConns)
	case l.duration <= 0 || l.warmup < 0 || l.spin < 0 || l.stall <= 0:
		return fmt.Errorf("-duration and -stall must be positive, -warmup and -spin not negative")
	case l.tracepoint != 0 && l.pid == 0:
		return fmt.Errorf("-tracepoint needs -pid")
	}
	return raiseFileLimit(l.conns + spareFiles)
}

// spareFiles is what the process needs beside its connections: standard
// streams, epoll, and one perf event per thread of the observed process.
const spareFiles = 128

func raiseFileLimit(need int) error {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	if r.Cur < r.Max {
		r.Cur = r.Max
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
			return os.NewSyscallError("setrlimit", err)
		}
	}
	if r.Max < uint64(need) {
		return fmt.Errorf("%d files needed, the limit is %d: raise it with ulimit -n", need, r.Max)
	}
	return nil
}

// result is the one line of JSON that a client mode prints. Times named _us
// are microseconds, _ns nanoseconds.
type result struct {
	Mode           string  `json:"mode"`
	Engine         string  `json:"engine"`
	Conns          int     `json:"conns"`
	SizeBytes      int     `json:"size_bytes,omitempty"`
	Messages       uint64  `json:"messages"`
	Seconds        float64 `json:"seconds"`
	PerSecond      float64 `json:"per_second"`
	P50us          float64 `json:"p50_us"`
	P99us          float64 `json:"p99_us"`
	MaxUs          float64 `json:"max_us"`
	Errors         uint64  `json:"errors"`
	Mismatches     uint64  `json:"mismatches"`
	Stalls         uint64  `json:"stalls"`
	Closes         uint64  `json:"closes"`
	Lost           uint64  `json:"lost"` // datagrams without an answer in time
	Late           uint64  `json:"late"` // of these: answered afterwards
	FirstError     string  `json:"first_error,omitempty"`
	ServerCPUns    int64   `json:"server_cpu_ns"`
	ClientCPUns    int64   `json:"client_cpu_ns"`
	ClientIdleNS   int64   `json:"client_idle_ns"`  // part of ClientCPUns in which there was nothing to do
	Syscalls       int64   `json:"syscalls"`        // -1: not counted
	RunSeconds     float64 `json:"run_seconds"`     // from the first connection to the last byte
	StarvedSeconds float64 `json:"starved_seconds"` // of these: server or generator had no core
	TotalBytes     uint64  `json:"total_bytes"`     // verified, warm-up and drain included
}

func (r *result) failed() bool { return r.Errors+r.Mismatches+r.Stalls > 0 }

func (r *result) print() error {
	return json.NewEncoder(os.Stdout).Encode(r)
}
