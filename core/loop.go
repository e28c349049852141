package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// acceptPause is how long a server waits after accept failed, for want of file
// descriptors or memory, before it tries again. asyncio waits a second.
const acceptPause = 100 * time.Millisecond

// LoopOptions say how to make a loop. The zero value is the default.
type LoopOptions struct {
	Driver DriverName // "": what KLOOP_DRIVER says, or else DriverAuto
	Uring  UringOptions
	Epoll  EpollOptions
	// ReusePort lets several loops listen on one port, among which the kernel
	// spreads connections (SO_REUSEPORT, socket(7)).
	ReusePort bool
	// AcceptError is told when a server could not accept for a while; nil: nobody is.
	AcceptError func(s *Server, err error)
	// Trace is given a line for every operation and every completion; nil: none.
	Trace io.Writer
}

// Loop is an Engine that owns a thread while it runs, and its sockets. Its methods are
// for that thread: for handlers, timers and posted functions; or, while the loop does not
// run, for any one goroutine. Post and Stop are for any goroutine, and so are those that
// wait: DialConn, DialPacket, ListenConn and ListenPacketConn.
type Loop struct {
	engine  *Engine
	options LoopOptions
	reason  string
	stop    atomic.Bool
	dials   map[*Connect]*dial
	servers map[*Listener]*Server

	netListeners map[*NetListener]struct{} // the loop's thread alone uses it
	ended        chan struct{}             // closed by Close or abandon: nothing that is posted runs any more
}

// Server is a listening socket of a Loop.
type Server struct {
	loop     *Loop
	listener *Listener
	fd       int
	serve    func(c *Conn) Handler
	retry    *Timer
}

// dial is a connect of a Loop.
type dial struct {
	fd      int
	handler Handler
	done    func(c *Conn, err error)
}

var (
	_ AcceptHandler  = (*Loop)(nil)
	_ ConnectHandler = (*Loop)(nil)
)

// NewLoop makes a loop on the driver that o asks for; see NewDriver.
func NewLoop(o LoopOptions) (*Loop, error) {
	driver, reason, err := NewDriver(DriverOptions{Name: o.Driver, Uring: o.Uring, Epoll: o.Epoll})
	if err != nil {
		return nil, err
	}
	if o.Trace != nil {
		driver = Trace(driver, o.Trace)
	}
	engine, err := NewEngine(driver, Options{})
	if err != nil {
		return nil, errors.Join(err, driver.Close())
	}
	return &Loop{
		engine:  engine,
		options: o,
		reason:  reason,
		dials:   make(map[*Connect]*dial),
		servers: make(map[*Listener]*Server),

		netListeners: make(map[*NetListener]struct{}),
		ended:        make(chan struct{}),
	}, nil
}

// Driver answers the driver's name, and why it is this one.
func (l *Loop) Driver() (name, reason string) { return l.engine.driver.Name(), l.reason }

// Engine answers the engine, for timers, watches, Post and statistics.
func (l *Loop) Engine() *Engine { return l.engine }

// Listen accepts connections at address. For each, serve answers the handler, or
// nil to refuse it. network is "tcp", "tcp4" or "tcp6"; see net.Listen for address.
func (l *Loop) Listen(network, address string, serve func(c *Conn) Handler) (*Server, error) {
	at, zone, err := resolve(network, address)
	if err != nil {
		return nil, err
	}
	fd, err := listenSocket(network, at, zone, l.options.ReusePort)
	if err != nil {
		return nil, err
	}
	listener, err := l.engine.Listen(fd, l)
	if err != nil {
		CloseDescriptor(fd)
		return nil, err
	}
	s := &Server{loop: l, listener: listener, fd: fd, serve: serve}
	l.servers[listener] = s
	return s, nil
}

// Addr is the address that s listens on.
func (s *Server) Addr() net.Addr { return net.TCPAddrFromAddrPort(localAddr(s.fd)) }

// Close ends accepting; the port is free when it returns. Connections go on.
func (s *Server) Close() {
	if _, open := s.loop.servers[s.listener]; !open {
		return
	}
	delete(s.loop.servers, s.listener)
	if s.retry != nil {
		s.retry.Stop()
	}
	s.listener.Close()
	CloseDescriptor(s.fd)
}

// Accepted implements AcceptHandler.
func (l *Loop) Accepted(listener *Listener, fd int) {
	s := l.servers[listener]
	setNoDelay(fd)
	c, err := l.engine.Adopt(fd, nil)
	if err != nil {
		CloseDescriptor(fd)
		l.acceptError(s, err)
		return
	}
	c.ownsFD = true
	if c.handler = s.serve(c); c.handler == nil {
		c.handler = refused{}
		c.Abort()
		return
	}
	c.Resume()
}

// refused is the handler of connections that nobody wants.
type refused struct{}

func (refused) Received(*Conn, []byte)  {}
func (refused) ReceivedEOF(*Conn) bool  { return false }
func (refused) Backlog(*Conn, int, int) {}
func (refused) Closed(*Conn, *OpError)  {}

// AcceptFailed implements AcceptHandler.
func (l *Loop) AcceptFailed(listener *Listener, errno syscall.Errno) {
	s := l.servers[listener]
	s.retry = l.engine.AfterFunc(acceptPause, listener.Resume)
	l.acceptError(s, fmt.Errorf("kloop: accept: %w", errno))
}

func (l *Loop) acceptError(s *Server, err error) {
	if l.options.AcceptError != nil {
		l.options.AcceptError(s, err)
	}
}

// Dial connects to address and calls done with the connection, which handler
// serves and which receives at once, or with an error. Looking up a name blocks.
func (l *Loop) Dial(network, address string, handler Handler, done func(c *Conn, err error)) error {
	at, zone, err := resolve(network, address)
	if err != nil {
		return err
	}
	at = dialable(at)
	fd, err := unix.Socket(family(at), socketFlags, 0)
	if err != nil {
		return fmt.Errorf("kloop: socket: %w", err)
	}
	x, err := l.engine.Connect(fd, rawSockaddr(at, zone), l)
	if err != nil {
		CloseDescriptor(fd)
		return err
	}
	l.dials[x] = &dial{fd: fd, handler: handler, done: done}
	return nil
}

// dialable makes an unspecified address the loopback one, as net.Dial does.
func dialable(at netip.AddrPort) netip.AddrPort {
	switch {
	case !at.Addr().IsUnspecified():
		return at
	case at.Addr().Is4():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), at.Port())
}

// Connected implements ConnectHandler.
func (l *Loop) Connected(x *Connect, err error) {
	d := l.dials[x]
	delete(l.dials, x)
	var c *Conn
	if err == nil {
		setNoDelay(d.fd)
		c, err = l.engine.Adopt(d.fd, d.handler)
	}
	if err != nil {
		CloseDescriptor(d.fd)
		d.done(nil, err)
		return
	}
	c.ownsFD = true
	d.done(c, nil)
	c.Resume()
}

// Post runs f in the loop's thread. For any goroutine.
func (l *Loop) Post(f func()) { l.engine.Post(f) }

// Ended says that Close was called, or that the background loop has failed: what is posted from then on may never run.
func (l *Loop) Ended() bool { return isDone(l.ended) }

// Done is closed when the loop has ended; see Ended.
func (l *Loop) Done() <-chan struct{} { return l.ended }

// Stop makes Run return after the iteration under way. For any goroutine.
func (l *Loop) Stop() {
	l.stop.Store(true)
	l.engine.Wake()
}

// Run runs the loop in the calling goroutine's thread until ctx is done or Stop is
// called. It may be called again, from any goroutine: connections stay. It answers
// ctx's error, or nil after Stop.
func (l *Loop) Run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := l.engine.Enter(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, l.engine.Wake)()
	for !l.stop.Swap(false) {
		if err := ctx.Err(); err != nil {
			l.engine.Leave()
			return err
		}
		if err := l.engine.Poll(-1); err != nil && !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
	l.engine.Leave()
	return nil
}

// Close closes every server and aborts every connection; their handlers are told.
// The loop must not be running.
func (l *Loop) Close() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, s := range l.servers {
		s.Close()
	}
	for n := range l.netListeners {
		n.end()
	}
	err := l.engine.Close()
	if !isDone(l.ended) {
		close(l.ended)
		// What was posted by goroutines that had not seen the end: it cleans up.
		l.engine.runPosted()
	}
	return err
}
