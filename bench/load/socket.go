package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// endMask is how epoll announces the end of a stream or of a connection. An
// edge is told once: after it, read on until the end is seen.
const endMask = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR

// poller is one edge-triggered epoll set. An event carries the connection's
// index and the generation of its descriptor, so that an event of a
// connection that was closed and made anew in the same batch is told apart.
type poller struct {
	fd     int
	events []unix.EpollEvent
}

// newPoller makes room for as many events as there are connections: one batch
// then holds all that is ready, and none of it can starve.
func newPoller(conns int) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &poller{fd: fd, events: make([]unix.EpollEvent, conns+1)}, nil
}

func (p *poller) close() error { return os.NewSyscallError("close", unix.Close(p.fd)) }

func (p *poller) add(fd, index int, generation uint32) error {
	ev := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET,
		Fd:     int32(index),
		Pad:    int32(generation),
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &ev))
}

// wait answers the ready events, none after timeoutMS milliseconds.
func (p *poller) wait(timeoutMS int) ([]unix.EpollEvent, error) {
	n, err := unix.EpollWait(p.fd, p.events, timeoutMS)
	if err == unix.EINTR { // a signal of the runtime: an empty batch
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("epoll_wait", err)
	}
	return p.events[:n], nil
}

// peer is where a client connects to.
type peer struct {
	address unix.Sockaddr
	family  int
	kind    int // SOCK_STREAM or SOCK_DGRAM
}

// unixPrefix marks an address as the path of a unix socket.
const unixPrefix = "unix:"

// parsePeer reads "address:port" or "unix:path".
func parsePeer(text string) (peer, error) {
	if path, found := strings.CutPrefix(text, unixPrefix); found {
		return peer{&unix.SockaddrUnix{Name: path}, unix.AF_UNIX, unix.SOCK_STREAM}, nil
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		return peer{}, fmt.Errorf("-addr: %w", err)
	}
	if ip := a.Addr().Unmap(); ip.Is4() {
		return peer{&unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}, unix.AF_INET, unix.SOCK_STREAM}, nil
	}
	return peer{&unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}, unix.AF_INET6, unix.SOCK_STREAM}, nil
}

// dial starts a connect. The socket is writable once it is connected.
func (p peer) dial() (int, error) {
	fd, err := unix.Socket(p.family, p.kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := p.prepare(fd); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("setsockopt", err)
	}
	// EAGAIN: a unix socket whose backlog is full. The ramp keeps below it.
	if err := unix.Connect(fd, p.address); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, nil
}

// congestion control of our sends: the simplest there is. It is part of every kernel and allowed
// to everybody (tcp(7)), so that results don't depend on the system's default:
// bbr, for one, makes the generator pay for pacing.
const congestion = "reno"

func (p peer) prepare(fd int) error {
	if p.kind != unix.SOCK_STREAM || p.family == unix.AF_UNIX {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	return unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, congestion)
}

// socketError answers what ended a connect or a connection, nil if nothing did.
func socketError(fd int) error {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if n != 0 {
		return unix.Errno(n)
	}
	return nil
}

// setAbort makes the next close of fd send a reset (socket(7), SO_LINGER).
func setAbort(fd int) error {
	l := unix.Linger{Onoff: 1, Linger: 0}
	return os.NewSyscallError("setsockopt", unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &l))
}
