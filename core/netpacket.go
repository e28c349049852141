package core

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// packetOverhead is what a waiting datagram counts besides its bytes, so that empty ones
// are bounded too.
const packetOverhead = 64

// NetPacketConn is a UDP endpoint whose I/O a Loop does: a net.PacketConn, and a net.Conn
// if it is connected (Loop.DialPacket). Its methods are for any goroutine but the loop's
// own; the loop must be running. What the network reports of datagrams sent before
// (ECONNREFUSED: see udp(7)) is told by a read.
type NetPacketConn struct {
	loop          *Loop
	endpoint      *Datagram // the loop's thread alone uses it; nil before it is adopted, or if it can't be
	local, remote net.Addr  // remote is nil if it is not connected

	socket  sync.RWMutex // locked for reading while the socket is used, so that it is not closed then
	fd      int          // -1 once it is closed
	claimed atomic.Bool  // the loop's thread has begun with it, or never will

	readBy, writeBy    deadline
	readable, writable chan struct{} // a token says: look again
	closed             chan struct{}

	mu      sync.Mutex // guards what follows
	in      []packet
	inSize  int  // bytes of in, with overhead
	paused  bool // receiving, as in is full
	refused int  // datagrams that wait in the core, as the kernel had no room
	failure error
}

// packet is a datagram received.
type packet struct {
	p    []byte
	from netip.AddrPort
}

var (
	_ net.PacketConn  = (*NetPacketConn)(nil)
	_ net.Conn        = (*NetPacketConn)(nil)
	_ DatagramHandler = packetHandler{}
)

// errNoPeer is answered by Write on an endpoint that is not connected.
var errNoPeer = os.NewSyscallError("write", unix.EDESTADDRREQ)

// ListenPacketConn makes a UDP endpoint at address; see Loop.ListenPacket.
func (l *Loop) ListenPacketConn(network, address string) (*NetPacketConn, error) {
	at, zone, err := resolvePacket(network, address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	fd, err := packetSocket(network, at, zone, l.options.ReusePort)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: net.UDPAddrFromAddrPort(at), Err: err}
	}
	return l.packetConn(fd, nil)
}

// DialPacket makes a UDP endpoint, at a port that the kernel chooses at random, that sends
// to at and receives from there alone.
func (l *Loop) DialPacket(at netip.AddrPort) (*NetPacketConn, error) {
	raw, err := RawAddr(at)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(family(at), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	OwnDescriptor(fd)
	if err := unix.Connect(fd, sockaddrOf(at, scopeOf(raw))); err != nil {
		CloseDescriptor(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	return l.packetConn(fd, net.UDPAddrFromAddrPort(at))
}

// scopeOf is the interface of a raw address.
func scopeOf(raw []byte) uint32 {
	if len(raw) < sockaddr6Size {
		return 0
	}
	return binary.NativeEndian.Uint32(raw[sockaddr6Scope:])
}

// packetConn makes an endpoint of a socket, which it owns from then on. It does not wait for
// the loop's thread: a datagram may be sent at once, and its answer waits in the socket.
func (l *Loop) packetConn(fd int, remote net.Addr) (*NetPacketConn, error) {
	c := &NetPacketConn{
		loop:     l,
		fd:       fd,
		local:    net.UDPAddrFromAddrPort(localAddr(fd)),
		remote:   remote,
		readable: make(chan struct{}, 1),
		writable: make(chan struct{}, 1),
		closed:   make(chan struct{}),
	}
	l.Post(c.start)
	// What is posted now may never run if the loop is closed.
	if isDone(l.ended) && !c.claimed.Swap(true) {
		CloseDescriptor(fd)
		return nil, ErrClosed
	}
	return c, nil
}

// start begins to receive, in the loop's thread.
func (c *NetPacketConn) start() {
	if c.claimed.Swap(true) {
		return
	}
	d, err := c.loop.engine.AdoptDatagram(c.fd, packetHandler{c})
	if err != nil {
		c.closeSocket()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.failure = net.ErrClosed
		if !errors.Is(err, ErrClosed) {
			c.failure = err
		}
		notify(c.readable)
		return
	}
	c.endpoint = d
	d.Resume()
}

// closeSocket waits for system calls under way, of which none takes time.
func (c *NetPacketConn) closeSocket() {
	c.socket.Lock()
	defer c.socket.Unlock()
	if c.fd >= 0 {
		CloseDescriptor(c.fd)
		c.fd = -1
	}
}

// packetHandler is what the loop's thread does for a NetPacketConn.
type packetHandler struct{ *NetPacketConn }

// ReceivedFrom implements DatagramHandler.
func (h packetHandler) ReceivedFrom(_ *Datagram, p, from []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.in = append(h.in, packet{bytes.Clone(p), AddrOf(from)})
	h.inSize += len(p) + packetOverhead
	if h.inSize > netHighWater && !h.paused {
		h.paused = true
		h.endpoint.Pause()
	}
	notify(h.readable)
}

// Failed implements DatagramHandler.
func (h packetHandler) Failed(_ *Datagram, err *OpError) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failure = os.NewSyscallError(err.Op, err.Err)
	notify(h.readable)
}

// Sent implements DatagramHandler.
func (h packetHandler) Sent(_ *Datagram, datagrams, _ int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused -= datagrams
	notify(h.writable)
}

// DatagramClosed implements DatagramHandler: the loop has been closed, if no one else did.
func (h packetHandler) DatagramClosed(*Datagram) {
	h.closeSocket()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failure = net.ErrClosed
	notify(h.readable)
	notify(h.writable)
}

// ReadFrom implements net.PacketConn. What of a datagram does not fit into p is lost.
func (c *NetPacketConn) ReadFrom(p []byte) (n int, from net.Addr, err error) {
	n, at, err := c.ReadFromUDPAddrPort(p)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(at), nil
}

// Read implements net.Conn.
func (c *NetPacketConn) Read(p []byte) (int, error) {
	n, _, err := c.ReadFromUDPAddrPort(p)
	return n, err
}

// ReadFromUDPAddrPort is ReadFrom without the memory for an address.
func (c *NetPacketConn) ReadFromUDPAddrPort(p []byte) (n int, from netip.AddrPort, err error) {
	past := c.readBy.wait()
	for {
		if err := c.mayWait(past); err != nil {
			return 0, from, c.opError("read", nil, err)
		}
		got, ok, err := c.take()
		switch {
		case ok:
			return copy(p, got.p), got.from, nil
		case err != nil:
			return 0, from, c.opError("read", nil, err)
		}
		select {
		case <-c.readable:
		case <-past:
		case <-c.closed:
		case <-c.loop.ended:
		}
	}
}

func (c *NetPacketConn) mayWait(past <-chan struct{}) error {
	switch {
	case isDone(c.closed), isDone(c.loop.ended):
		return net.ErrClosed
	case isDone(past):
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (c *NetPacketConn) take() (packet, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.in) == 0 {
		err := c.failure
		if !errors.Is(err, net.ErrClosed) {
			c.failure = nil // told once, as the kernel does
		}
		return packet{}, false, err
	}
	got := c.in[0]
	c.in[0] = packet{}
	c.in = c.in[1:]
	c.inSize -= len(got.p) + packetOverhead
	if c.paused && c.inSize < netLowWater {
		c.paused = false
		c.loop.Post(c.resume)
	}
	if len(c.in) > 0 {
		notify(c.readable) // for another read that waits
	}
	return got, true, nil
}

// resume goes on receiving, in the loop's thread.
func (c *NetPacketConn) resume() { c.endpoint.Resume() }

// WriteTo implements net.PacketConn.
func (c *NetPacketConn) WriteTo(p []byte, to net.Addr) (int, error) {
	at, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, c.opError("write", to, os.NewSyscallError("write", unix.EINVAL))
	}
	return c.WriteToUDPAddrPort(p, at.AddrPort())
}

// WriteToUDPAddrPort is WriteTo for an address in netip form.
func (c *NetPacketConn) WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error) {
	address := net.UDPAddrFromAddrPort(to)
	if c.remote != nil {
		return 0, c.opError("write", address, net.ErrWriteToConnected)
	}
	if bound := c.local.(*net.UDPAddr).AddrPort().Addr(); bound.Is6() && to.Addr().Is4() {
		to = netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port())
	} else if bound.Is4() {
		to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	}
	raw, err := RawAddr(to)
	if err == nil {
		err = c.send(p, raw, sockaddrOf(to, scopeOf(raw)))
	}
	if err != nil {
		return 0, c.opError("write", address, err)
	}
	return len(p), nil
}

// Write implements net.Conn.
func (c *NetPacketConn) Write(p []byte) (int, error) {
	err := errNoPeer
	if c.remote != nil {
		err = c.send(p, nil, nil)
	}
	if err != nil {
		return 0, c.opError("write", c.remote, err)
	}
	return len(p), nil
}

// send waits until the kernel has taken the datagram, or has said that it has no room, or
// that it never will: then the error is about this datagram.
func (c *NetPacketConn) send(p, to []byte, at unix.Sockaddr) error {
	past := c.writeBy.wait()
	for {
		if err := c.mayWait(past); err != nil {
			return err
		}
		if c.hasRoom() {
			break
		}
		select {
		case <-c.writable:
		case <-past:
		case <-c.closed:
		case <-c.loop.ended:
		}
	}
	err := c.sendNow(p, at)
	errno, isErrno := err.(unix.Errno)
	switch {
	case isErrno && transient(errno):
		return c.sendLater(p, to, past)
	case isErrno:
		return os.NewSyscallError("write", errno)
	}
	return err
}

// hasRoom says that no datagram waits for room in the kernel.
func (c *NetPacketConn) hasRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused > 0 {
		return false
	}
	notify(c.writable) // for another write that waits
	return true
}

// sendNow sends in the caller's thread, as Datagram.SendTo does in the engine's: it is one
// system call either way.
func (c *NetPacketConn) sendNow(p []byte, at unix.Sockaddr) error {
	c.socket.RLock()
	defer c.socket.RUnlock()
	if c.fd < 0 {
		return net.ErrClosed
	}
	return unix.Sendto(c.fd, p, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, at)
}

// sendLater has the loop's thread send when there is room. It copies p, as the caller has its
// memory back when the deadline ends the wait.
func (c *NetPacketConn) sendLater(p, to []byte, past <-chan struct{}) error {
	sent := make(chan error, 1)
	p = bytes.Clone(p)
	c.loop.Post(func() { sent <- c.queueNow(p, to) })
	select {
	case err := <-sent:
		return err
	case <-past:
		return os.ErrDeadlineExceeded
	case <-c.loop.ended:
		return net.ErrClosed
	}
}

// queueNow is the part of sendLater that the loop's thread does.
func (c *NetPacketConn) queueNow(p, to []byte) error {
	if c.endpoint == nil {
		return net.ErrClosed
	}
	waiting := c.endpoint.queue.count()
	err := c.endpoint.SendTo(p, to)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused += c.endpoint.queue.count() - waiting
	switch errno, ok := err.(unix.Errno); {
	case ok:
		return os.NewSyscallError("write", errno)
	case errors.Is(err, ErrClosed):
		return net.ErrClosed
	}
	return err
}

// Close implements net.Conn. What the kernel has not taken yet is sent.
func (c *NetPacketConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if isDone(c.closed) {
		return c.opError("close", nil, net.ErrClosed)
	}
	close(c.closed)
	c.in = nil
	c.loop.Post(c.finish)
	return nil
}

// finish is the part of Close that the loop's thread does.
func (c *NetPacketConn) finish() {
	if c.endpoint != nil {
		c.endpoint.Close()
	}
}

// LocalAddr implements net.Conn.
func (c *NetPacketConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn. It is nil if the endpoint is not connected.
func (c *NetPacketConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *NetPacketConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *NetPacketConn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.readBy, t) }

// SetWriteDeadline implements net.Conn.
func (c *NetPacketConn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.writeBy, t) }

func (c *NetPacketConn) setDeadline(d *deadline, t time.Time) error {
	if isDone(c.closed) {
		return c.opError("set", nil, net.ErrClosed)
	}
	d.set(t)
	return nil
}

func (c *NetPacketConn) opError(op string, to net.Addr, err error) error {
	if to == nil {
		to = c.remote
	}
	return &net.OpError{Op: op, Net: "udp", Source: c.local, Addr: to, Err: err}
}
