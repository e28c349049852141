package core

import (
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// acceptedMax bounds the connections that wait for Accept. Beyond that many they wait in
// the kernel's backlog, where they cost less.
const acceptedMax = 256

// NetListener is a net.Listener whose connections, of type *NetConn, a Loop serves. Its
// methods are for any goroutine but the loop's own; the loop must be running.
type NetListener struct {
	loop     *Loop
	fd       int
	addr     net.Addr
	listener *Listener // the loop's thread alone uses it, and retry
	retry    *Timer

	acceptBy deadline
	arrived  chan struct{} // a token says: look again
	closed   chan struct{}

	mu      sync.Mutex // guards what follows
	waiting []*NetConn
	paused  bool
	failure error // told by the next Accept
}

var (
	_ net.Listener  = (*NetListener)(nil)
	_ AcceptHandler = netAcceptor{}
)

// ListenConn listens at address, for goroutines. network is "tcp", "tcp4" or "tcp6"; see
// net.Listen for address.
func (l *Loop) ListenConn(network, address string) (*NetListener, error) {
	at, zone, err := resolve(network, address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	fd, err := listenSocket(network, at, zone, l.options.ReusePort)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: net.TCPAddrFromAddrPort(at), Err: err}
	}
	n := &NetListener{
		loop:    l,
		fd:      fd,
		addr:    net.TCPAddrFromAddrPort(localAddr(fd)),
		arrived: make(chan struct{}, 1),
		closed:  make(chan struct{}),
	}
	var failed error
	if !l.call(func() { failed = n.start() }) {
		failed = ErrClosed
	}
	if failed != nil {
		CloseDescriptor(fd)
		return nil, &net.OpError{Op: "listen", Net: network, Addr: n.addr, Err: failed}
	}
	return n, nil
}

// call runs f in the loop's thread and waits for its end. It answers false if the loop is
// closed: f has not run then, and will not.
func (l *Loop) call(f func()) bool {
	var claimed atomic.Bool // by who comes first: f, or the end of the loop
	done := make(chan struct{})
	l.Post(func() {
		if !claimed.Swap(true) {
			f()
			close(done)
		}
	})
	select {
	case <-done:
		return true
	case <-l.ended:
		if !claimed.Swap(true) {
			return false
		}
		<-done
		return true
	}
}

func (n *NetListener) start() (err error) {
	n.listener, err = n.loop.engine.Listen(n.fd, netAcceptor{n})
	if err == nil {
		n.loop.netListeners[n] = struct{}{}
	}
	return err
}

// netAcceptor is what the loop's thread does for a NetListener.
type netAcceptor struct{ *NetListener }

// Accepted implements AcceptHandler.
func (a netAcceptor) Accepted(_ *Listener, fd int) {
	c, err := a.loop.adoptNet(fd)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		CloseDescriptor(fd)
		a.failure = err
	} else {
		a.waiting = append(a.waiting, c)
	}
	if len(a.waiting) >= acceptedMax && !a.paused {
		a.paused = true
		a.listener.Pause()
	}
	notify(a.arrived)
}

// AcceptFailed implements AcceptHandler: it is tried again after a while.
func (a netAcceptor) AcceptFailed(_ *Listener, errno syscall.Errno) {
	a.retry = a.loop.engine.AfterFunc(acceptPause, a.listener.Resume)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failure = acceptFailure{errno}
	notify(a.arrived)
}

// acceptFailure is temporary, which makes net/http's server try again, as accepting does.
type acceptFailure struct{ errno syscall.Errno }

func (e acceptFailure) Error() string   { return fmt.Sprintf("accept: %v", e.errno) }
func (e acceptFailure) Unwrap() error   { return e.errno }
func (e acceptFailure) Timeout() bool   { return false }
func (e acceptFailure) Temporary() bool { return true }

// Accept implements net.Listener. An error whose Temporary method says so is a lack of file
// descriptors or memory: accepting goes on by itself.
func (n *NetListener) Accept() (net.Conn, error) {
	past := n.acceptBy.wait()
	for {
		switch {
		case isDone(n.closed), isDone(n.loop.ended):
			return nil, n.opError("accept", net.ErrClosed)
		case isDone(past):
			return nil, n.opError("accept", os.ErrDeadlineExceeded)
		}
		c, err := n.take()
		if c != nil {
			return c, nil
		}
		if err != nil {
			return nil, n.opError("accept", err)
		}
		select {
		case <-n.arrived:
		case <-past:
		case <-n.closed:
		case <-n.loop.ended:
		}
	}
}

func (n *NetListener) take() (*NetConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.waiting) == 0 {
		err := n.failure
		n.failure = nil
		return nil, err
	}
	c := n.waiting[0]
	n.waiting[0] = nil
	n.waiting = n.waiting[1:]
	if n.paused && len(n.waiting) < acceptedMax/2 {
		n.paused = false
		n.loop.Post(n.resume)
	}
	if len(n.waiting) > 0 {
		notify(n.arrived) // for another Accept that waits
	}
	return c, nil
}

func (n *NetListener) resume() {
	if !isDone(n.closed) {
		n.listener.Resume()
	}
}

// Close implements net.Listener: the port is free when it returns. Connections that no
// Accept has answered are reset.
func (n *NetListener) Close() error {
	ended := false
	if !n.loop.call(func() { ended = n.end() }) || !ended {
		return n.opError("close", net.ErrClosed)
	}
	return nil
}

// end is Close, in the loop's thread. It answers false if it was closed before.
func (n *NetListener) end() bool {
	if isDone(n.closed) {
		return false
	}
	close(n.closed)
	delete(n.loop.netListeners, n)
	if n.retry != nil {
		n.retry.Stop()
	}
	n.listener.Close()
	CloseDescriptor(n.fd)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.waiting {
		close(c.closed)
		c.conn.Abort()
	}
	n.waiting = nil
	return true
}

// Addr implements net.Listener.
func (n *NetListener) Addr() net.Addr { return n.addr }

// SetDeadline bounds the waiting of Accept, as net.TCPListener's does.
func (n *NetListener) SetDeadline(t time.Time) error {
	if isDone(n.closed) {
		return n.opError("set", net.ErrClosed)
	}
	n.acceptBy.set(t)
	return nil
}

func (n *NetListener) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: n.addr, Err: err}
}
