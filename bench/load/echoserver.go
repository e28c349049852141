package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// echoServer is the peer of a client under test. It queues without bound what a
// client sends and does not read: its clients keep a fixed number of messages
// under way.
type echoServer struct {
	engine   engine
	listener int
	conns    []serverConn
	free     []int    // slots
	accepted chan int // sockets without a slot
	refused  chan error
	stopping atomic.Bool
	deadline time.Time
}

type serverConn struct {
	queued []byte // to be sent
	spare  []byte // being sent, or free
	moving bool   // the kernel has not taken all of what is being sent
	ended  bool   // the peer's stream
}

const (
	acceptTickMS = 10 // how long a new connection may wait until it is looked at
	serverLimit  = time.Hour
)

// runEchoServer prints the port it listens on and serves until standard
// input ends, which is when the process that started it is gone or done, or
// until -limit has passed.
func runEchoServer(args []string) error {
	f := flag.NewFlagSet("echoserver", flag.ExitOnError)
	limit := f.Duration("limit", serverLimit, "end after this time in any case")
	conns := f.Int("conns", 5000, "connections to be ready for")
	size := f.Int("size", 1024, "`bytes` that come at once, as a rule")
	name := f.String("engine", engineAuto, "uring, epoll, or auto")
	f.Parse(args)
	if err := raiseFileLimit(*conns + spareFiles); err != nil {
		return err
	}
	s, port, err := newEchoServer(*name, *conns, *size)
	if err != nil {
		return err
	}
	s.deadline = time.Now().Add(*limit)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		s.stopping.Store(true)
	}()
	fmt.Println(port)
	return s.serve()
}

// newEchoServer listens. serve must be called on the same thread.
func newEchoServer(name string, conns, size int) (*echoServer, int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
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
	at, err := unix.Getsockname(fd)
	if err != nil {
		return nil, 0, os.NewSyscallError("getsockname", err)
	}
	e, _, err := newEngine(name, shape{slots: conns, chunk: size})
	if err != nil {
		return nil, 0, err
	}
	s := &echoServer{engine: e, listener: fd, conns: make([]serverConn, conns)}
	s.accepted, s.refused = make(chan int, conns), make(chan error, 1)
	for slot := range s.conns {
		s.free = append(s.free, slot)
	}
	return s, at.(*unix.SockaddrInet4).Port, nil
}

func (s *echoServer) serve() error {
	go s.accept()
	err := s.loop()
	// A shutdown wakes accept, a close alone would not. It closes what it has left.
	shutdown := unix.Shutdown(s.listener, unix.SHUT_RDWR)
	for fd := range s.accepted {
		unix.Close(fd)
	}
	return errors.Join(err, shutdown, unix.Close(s.listener), s.engine.close())
}

func (s *echoServer) loop() error {
	for !s.stopping.Load() && time.Now().Before(s.deadline) {
		if err := s.welcome(); err != nil {
			return err
		}
		if err := s.await(); err != nil {
			return err
		}
		if err := s.engine.deliver(s); err != nil {
			return err
		}
	}
	return nil
}

// accept hands over new connections, until the listener is shut down.
func (s *echoServer) accept() {
	defer close(s.accepted)
	for {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			s.accepted <- fd
		case unix.EINTR, unix.ECONNABORTED:
		case unix.EINVAL: // the listener was shut down
			return
		default: // EMFILE and ENFILE included: -conns was too small
			s.refused <- os.NewSyscallError("accept4", err)
			return
		}
	}
}

// welcome gives slots to new connections.
func (s *echoServer) welcome() error {
	for {
		select {
		case err := <-s.refused:
			return err
		case fd, more := <-s.accepted:
			if !more {
				return nil // refused says why
			}
			if err := s.add(fd); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func (s *echoServer) add(fd int) error {
	if len(s.free) == 0 {
		unix.Close(fd)
		return fmt.Errorf("more than %d connections", len(s.conns))
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("setsockopt", err)
	}
	slot := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	c := &s.conns[slot]
	c.queued, c.moving, c.ended = c.queued[:0], false, false
	return s.engine.add(slot, fd)
}

// await looks for a while before it sleeps, as a session does.
func (s *echoServer) await() error {
	begin := time.Now()
	for {
		if found, err := s.engine.look(); found || err != nil {
			return err
		}
		if time.Since(begin) > spinDefault {
			return s.engine.wait(acceptTickMS)
		}
	}
}

func (s *echoServer) connected(int) {}

func (s *echoServer) received(slot int, p []byte) {
	c := &s.conns[slot]
	c.queued = append(c.queued, p...)
	s.push(slot)
}

// push sends what is queued. It must not change until it is sent, so what comes in the
// meantime is queued in another buffer.
func (s *echoServer) push(slot int) {
	c := &s.conns[slot]
	if c.moving || len(c.queued) == 0 {
		return
	}
	c.queued, c.spare = c.spare[:0], c.queued
	c.moving = !s.engine.send(slot, c.spare)
}

func (s *echoServer) sent(slot int) {
	c := &s.conns[slot]
	c.moving = false
	s.push(slot)
	if c.ended && !c.moving {
		s.drop(slot)
	}
}

func (s *echoServer) ended(slot int) {
	c := &s.conns[slot]
	c.ended = true
	if !c.moving {
		s.drop(slot)
	}
}

// lost is what happens when a client ends: it is for the client to complain.
func (s *echoServer) lost(slot int, _ string, _ error) { s.drop(slot) }

func (s *echoServer) drop(slot int) {
	s.engine.shut(slot)
	s.free = append(s.free, slot)
}
