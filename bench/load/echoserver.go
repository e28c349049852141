package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// echoServer is the peer of a client under test.
type echoServer struct {
	poll     *poller
	listener int
	stop     int // the server ends when this descriptor has no more to read
	buffer   []byte
	conns    map[int]*serverConn
	deadline time.Time
	echoed   uint64
}

// serverConn holds what the kernel did not take yet. While it holds anything,
// nothing more is read from this peer.
type serverConn struct {
	fd      int
	pending []byte
	ending  bool // epoll has announced the end of the stream: read up to it
	ended   bool // it was read
}

// runEchoServer prints the port it listens on and serves until standard
// input ends, which is when the process that started it is gone or done, or
// until -limit has passed.
func runEchoServer(args []string) error {
	f := flag.NewFlagSet("echoserver", flag.ExitOnError)
	limit := f.Duration("limit", time.Hour, "end after this time in any case")
	conns := f.Int("conns", 5000, "connections to be ready for")
	f.Parse(args)
	if err := raiseFileLimit(*conns + spareFiles); err != nil {
		return err
	}
	s, port, err := newEchoServer(*conns)
	if err != nil {
		return err
	}
	s.deadline = time.Now().Add(*limit)
	fmt.Println(port)
	return s.serve()
}

func newEchoServer(conns int) (*echoServer, int, error) {
	poll, err := newPoller(conns + 2) // and the listener, and standard input
	if err != nil {
		return nil, 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, 0, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, 0, os.NewSyscallError("bind", err)
	}
	const backlog = 4096
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, 0, os.NewSyscallError("listen", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return nil, 0, os.NewSyscallError("getsockname", err)
	}
	s := &echoServer{poll: poll, listener: fd, buffer: make([]byte, maxChunk), conns: map[int]*serverConn{}}
	return s, name.(*unix.SockaddrInet4).Port, poll.add(fd, fd, 0)
}

func (s *echoServer) serve() error {
	// A regular file as standard input can't be polled (EPERM): then only the
	// limit ends the server.
	_ = s.poll.add(s.stop, s.stop, 0)
	const tick = 1000
	for time.Now().Before(s.deadline) {
		events, err := s.poll.wait(tick)
		if err != nil {
			return err
		}
		for i := range events {
			switch fd := int(events[i].Fd); fd {
			case s.stop:
				if n, err := unix.Read(s.stop, s.buffer); n == 0 && err == nil {
					return nil
				}
			case s.listener:
				if err := s.accept(); err != nil {
					return err
				}
			default:
				if c := s.conns[fd]; c != nil {
					c.ending = c.ending || events[i].Events&endMask != 0
					s.pump(c)
				}
			}
		}
	}
	return nil
}

func (s *echoServer) accept() error {
	for {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
		case unix.EAGAIN:
			return nil
		case unix.EINTR, unix.ECONNABORTED:
			continue
		default: // EMFILE and ENFILE included: -conns was too small
			return os.NewSyscallError("accept4", err)
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		s.conns[fd] = &serverConn{fd: fd}
		if err := s.poll.add(fd, fd, 0); err != nil {
			return err
		}
	}
}

// pump moves bytes back to their sender until the kernel has or takes no more.
func (s *echoServer) pump(c *serverConn) {
	for {
		if len(c.pending) > 0 {
			n, err := unix.Write(c.fd, c.pending)
			if err == unix.EAGAIN {
				return
			}
			if err != nil && err != unix.EINTR {
				s.drop(c)
				return
			}
			s.echoed += uint64(max(n, 0))
			c.pending = c.pending[max(n, 0):]
			continue
		}
		if c.ended {
			s.drop(c)
			return
		}
		n, err := unix.Read(c.fd, s.buffer)
		switch {
		case err == unix.EAGAIN:
			return
		case err == unix.EINTR:
			continue
		case err != nil:
			s.drop(c)
			return
		case n == 0:
			c.ended = true
			continue
		}
		if !s.echo(c, n) {
			return
		}
	}
}

// echo writes the first n bytes of the buffer at once; what is left is copied.
// It answers whether more may be there to read: a short read has drained the
// socket, unless the end of the stream has come too.
func (s *echoServer) echo(c *serverConn, n int) bool {
	sent, err := unix.Write(c.fd, s.buffer[:n])
	if err != nil && err != unix.EAGAIN && err != unix.EINTR {
		s.drop(c)
		return false
	}
	sent = max(sent, 0)
	s.echoed += uint64(sent)
	c.pending = append([]byte(nil), s.buffer[sent:n]...)
	return c.ending || n == len(s.buffer) || len(c.pending) > 0
}

func (s *echoServer) drop(c *serverConn) {
	unix.Close(c.fd)
	delete(s.conns, c.fd)
}
