package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	tunDevice = "/dev/net/tun"
	tunName   = "link"
	tunMTU    = 1500 // of Ethernet: bytes of an IP packet

	// tunQueue is how many packets the kernel keeps until they are read: enough
	// for a reader that has no core for a while.
	tunQueue = 10_000
)

// tun is an interface in a network namespace of its own whose packets are read
// and written here (Documentation/networking/tuntap.rst), without a header before them.
// Packets that the kernel leaves without a checksum, for hardware to add, have got one
// when they are read: the interface offers no offloads.
type tun struct {
	fd        int
	namespace int // keeps the namespace
	devices   int // /proc/net/dev of the namespace
}

// newTun moves the calling thread into a new network namespace, which needs
// CAP_SYS_ADMIN, and makes the interface there, whose own address is local and whose only
// neighbour is peer.
func newTun(local, peer [4]byte) (t *tun, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("a network namespace: %w", err)
	}
	t = &tun{fd: -1, namespace: -1, devices: -1}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	const path = "/proc/thread-self/"
	if t.namespace, err = unix.Open(path+"ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return t, fmt.Errorf("%sns/net: %w", path, err)
	}
	if t.devices, err = unix.Open(path+"net/dev", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return t, fmt.Errorf("%snet/dev: %w", path, err)
	}
	if t.fd, err = unix.Open(tunDevice, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		return t, fmt.Errorf("%s: %w", tunDevice, err)
	}
	err = request(t.fd, unix.TUNSETIFF, "TUNSETIFF", tunName, func(r *unix.Ifreq) error {
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return nil
	})
	if err != nil {
		return t, err
	}
	return t, configure(local, peer)
}

// configure gives the interface and the loopback interface of the calling
// thread's namespace what they need (netdevice(7)).
func configure(local, peer [4]byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	number := func(n uint32) func(*unix.Ifreq) error {
		return func(r *unix.Ifreq) error { r.SetUint32(n); return nil }
	}
	address := func(a [4]byte) func(*unix.Ifreq) error {
		return func(r *unix.Ifreq) error { return r.SetInet4Addr(a[:]) }
	}
	up := func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }
	for _, s := range []struct {
		code       uint
		call, name string
		fill       func(*unix.Ifreq) error
	}{
		{unix.SIOCSIFFLAGS, "SIOCSIFFLAGS", "lo", up},
		{unix.SIOCSIFMTU, "SIOCSIFMTU", tunName, number(tunMTU)},
		{unix.SIOCSIFTXQLEN, "SIOCSIFTXQLEN", tunName, number(tunQueue)},
		{unix.SIOCSIFADDR, "SIOCSIFADDR", tunName, address(local)},
		{unix.SIOCSIFDSTADDR, "SIOCSIFDSTADDR", tunName, address(peer)},
		{unix.SIOCSIFFLAGS, "SIOCSIFFLAGS", tunName, up},
	} {
		if err := request(fd, s.code, s.call, s.name, s.fill); err != nil {
			return err
		}
	}
	return nil
}

func request(fd int, code uint, call, name string, fill func(*unix.Ifreq) error) error {
	r, err := unix.NewIfreq(name)
	if err == nil {
		err = fill(r)
	}
	if err == nil {
		err = unix.IoctlIfreq(fd, code, r)
	}
	if err != nil {
		return fmt.Errorf("%s of interface %s: %w", call, name, err)
	}
	return nil
}

// unread answers how many packets the kernel has dropped because they were not
// read in time: the twelfth number of the interface's line (proc_pid_net(5), dev).
func (t *tun) unread() (uint64, error) {
	const column = 11
	b := make([]byte, 4096)
	n, err := unix.Pread(t.devices, b, 0)
	if err != nil {
		return 0, os.NewSyscallError("read of /proc/net/dev", err)
	}
	for line := range bytes.Lines(b[:n]) {
		name, rest, _ := bytes.Cut(line, []byte(":"))
		numbers := bytes.Fields(rest)
		if string(bytes.TrimSpace(name)) == tunName && len(numbers) > column {
			return strconv.ParseUint(string(numbers[column]), 10, 64)
		}
	}
	return 0, fmt.Errorf("no interface %s in /proc/net/dev: %q", tunName, b[:n])
}

func (t *tun) close() {
	for _, fd := range []int{t.fd, t.devices, t.namespace} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
