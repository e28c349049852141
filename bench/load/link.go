package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Private addresses (RFC 1918); the namespaces know no others.
var linkAddresses = [2][4]byte{{10, 77, 0, 1}, {10, 77, 0, 2}}

// linkNice is of getpriority(2).
const linkNice = -20

// linkTurn is how long packets may pile up: a wake-up for each of them would take more time
// from the hosts, on the same cores, than to move it. It comes on top of delays.
const linkTurn = 500 * time.Microsecond

// link is a network of two hosts, a namespace each, whose packets are moved
// by this process: delayed, and some lost, duplicated or overtaken. It is what
// `tc netem` does, for kernels without it.
type link struct {
	ends  [2]*tun
	ways  [2]*lossy // from the end of the same index to the other one
	begin time.Time
	room  []byte
}

// linkEnd is where one host is: nsenter(1) --net=namespace runs a program there.
type linkEnd struct {
	Namespace string `json:"namespace"`
	Address   string `json:"address"`
}

// linkCounts are what the link did, by the end that packets came from.
type linkCounts struct {
	packetCounts
	Unread uint64 `json:"unread"` // dropped by the kernel: this process did not keep up
}

// runLink prints a line of JSON that says where its two ends are, moves
// packets until standard input ends, and prints a line that says what it did.
// Calling thread: the one that stays in the second namespace.
func runLink(args []string) error {
	f := flag.NewFlagSet("link", flag.ExitOnError)
	var i impairment
	f.DurationVar(&i.delay, "delay", 2*time.Millisecond, "of each packet, each way")
	f.DurationVar(&i.jitter, "jitter", time.Millisecond, "a delay is so much longer or shorter, at most")
	f.Float64Var(&i.loss, "loss", 0.005, "part of the packets that are lost")
	f.Float64Var(&i.duplicate, "duplicate", 0.002, "part that comes twice")
	f.Float64Var(&i.reorder, "reorder", 0.01, "part that is overtaken by those behind it")
	f.IntVar(&i.limit, "limit", 10_000, "packets under way, each way")
	seed := f.Uint64("seed", 1, "of all that is random")
	f.Parse(args)
	if err := i.check(); err != nil {
		return err
	}
	l, err := newLink(i, *seed)
	if err != nil {
		return err
	}
	defer l.close()
	// A network does not wait until its hosts are idle. Refused without CAP_SYS_NICE: then delays grow
	// while there is no core, which the counts show.
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), linkNice)
	if err := json.NewEncoder(os.Stdout).Encode(l.where()); err != nil {
		return err
	}
	if err := l.serve(int(os.Stdin.Fd())); err != nil {
		return err
	}
	counts, err := l.counts()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(counts)
}

func (i *impairment) check() error {
	for name, part := range map[string]float64{"loss": i.loss, "duplicate": i.duplicate, "reorder": i.reorder} {
		if part < 0 || part > 1 {
			return fmt.Errorf("-%s is a part: 0 to 1, not %g", name, part)
		}
	}
	if i.jitter < 0 || i.jitter > i.delay {
		return fmt.Errorf("-jitter must be 0 to -delay (%v), not %v", i.delay, i.jitter)
	}
	if i.limit < 1 {
		return fmt.Errorf("-limit must be positive, not %d", i.limit)
	}
	return nil
}

func newLink(i impairment, seed uint64) (*link, error) {
	l := &link{begin: time.Now(), room: make([]byte, tunMTU)}
	for end := range l.ends {
		var err error
		if l.ends[end], err = newTun(linkAddresses[end], linkAddresses[1-end]); err != nil {
			l.close()
			return nil, err
		}
		l.ways[end] = newLossy(i, seed, uint64(end))
	}
	return l, nil
}

func (l *link) close() {
	for _, end := range l.ends {
		if end != nil {
			end.close()
		}
	}
}

func (l *link) where() (ends [2]linkEnd) {
	for i, end := range l.ends {
		a := linkAddresses[i]
		ends[i].Namespace = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), end.namespace)
		ends[i].Address = fmt.Sprintf("%d.%d.%d.%d", a[0], a[1], a[2], a[3])
	}
	return ends
}

func (l *link) counts() (counts [2]linkCounts, err error) {
	for i := range l.ends {
		counts[i].packetCounts = l.ways[i].counts
		if counts[i].Unread, err = l.ends[i].unread(); err != nil {
			return counts, err
		}
	}
	return counts, nil
}

// serve moves packets until what can be read of stdin ends.
func (l *link) serve(stdin int) error {
	polled := []unix.PollFd{{Fd: int32(stdin), Events: unix.POLLIN}}
	for _, end := range l.ends {
		polled = append(polled, unix.PollFd{Fd: int32(end.fd), Events: unix.POLLIN})
	}
	for {
		wait, watched := l.untilDue(), polled[:1]
		if wait == nil {
			watched = polled
		}
		if _, err := unix.Ppoll(watched, wait, nil); err != nil && err != unix.EINTR {
			return os.NewSyscallError("ppoll", err)
		}
		if polled[0].Revents != 0 {
			if n, err := unix.Read(stdin, l.room); n <= 0 && err != unix.EINTR && err != unix.EAGAIN {
				return nil
			}
		}
		for i := range l.ends {
			if err := l.move(i); err != nil {
				return err
			}
		}
	}
}

// untilDue answers how long to leave all packets alone, nil until one comes.
func (l *link) untilDue() *unix.Timespec {
	if l.ways[0].idle() && l.ways[1].idle() {
		return nil
	}
	ts := unix.NsecToTimespec(int64(linkTurn))
	return &ts
}

// move takes in what came from one end, and hands the other end what is due.
func (l *link) move(from int) error {
	for {
		n, err := unix.Read(l.ends[from].fd, l.room)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			return os.NewSyscallError("read of "+tunDevice, err)
		}
		l.ways[from].take(l.room[:n], time.Since(l.begin))
	}
	return l.ways[from].handOut(time.Since(l.begin), func(packet []byte) error {
		_, err := unix.Write(l.ends[1-from].fd, packet)
		return os.NewSyscallError("write to "+tunDevice, err)
	})
}
