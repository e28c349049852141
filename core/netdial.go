package core

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// dialShareMin is the least that one of a name's addresses gets of the time up to a
// deadline.
const dialShareMin = 2 * time.Second

// Dialer connects, for goroutines. The zero value uses the process's background loop.
type Dialer struct {
	// Loop does the I/O; nil: the background loop's.
	Loop *Loop
	// Lookup answers the addresses of a host name, in the order in which they are tried;
	// nil: package net's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

// Dial connects to address on the background loop. network is "tcp", "tcp4", "tcp6", "udp",
// "udp4" or "udp6"; see net.Dial for address. The end of ctx ends the attempt, not the
// connection.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return (&Dialer{}).DialContext(ctx, network, address)
}

// DialContext is Dial; it fits http.Transport.DialContext.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.dial(ctx, network, address)
	if err != nil {
		var op *net.OpError
		if !errors.As(err, &op) {
			err = &net.OpError{Op: "dial", Net: network, Err: err}
		}
		return nil, err
	}
	return conn, nil
}

func (d *Dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	loop := d.Loop
	if loop == nil {
		var err error
		if loop, err = Background(); err != nil {
			return nil, err
		}
	}
	dialOne, err := dialFunc(loop, network)
	if err != nil {
		return nil, err
	}
	addresses, port, err := d.addresses(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return dialEach(ctx, addresses, func(ctx context.Context, a netip.Addr) (net.Conn, error) {
		at := dialable(netip.AddrPortFrom(a, port))
		conn, err := dialOne(ctx, at)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(at), Err: dialError(err)}
		}
		return conn, nil
	})
}

func dialFunc(loop *Loop, network string) (func(context.Context, netip.AddrPort) (net.Conn, error), error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
		return func(ctx context.Context, at netip.AddrPort) (net.Conn, error) { return loop.DialConn(ctx, at) }, nil
	case "udp", "udp4", "udp6":
		return func(_ context.Context, at netip.AddrPort) (net.Conn, error) { return loop.DialPacket(at) }, nil
	}
	return nil, net.UnknownNetworkError(network)
}

// dialError makes the end of a context's time the timeout that package net's is.
func dialError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	return err
}

// addresses looks up the host of address, if it is a name, and the port.
func (d *Dialer) addresses(ctx context.Context, network, address string) ([]netip.Addr, uint16, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, 0, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network, service)
	if err != nil {
		return nil, 0, err
	}
	var found []netip.Addr
	if host == "" {
		found = []netip.Addr{netip.IPv4Unspecified()}
		if network[len(network)-1] == '6' {
			found[0] = netip.IPv6Unspecified()
		}
	} else if ip, err := netip.ParseAddr(host); err == nil {
		found = []netip.Addr{ip}
	} else if d.Lookup != nil {
		found, err = d.Lookup(ctx, host)
		if err != nil {
			return nil, 0, err
		}
	} else if found, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, 0, err
	}
	fitting := found[:0:0]
	for _, a := range found {
		a = a.Unmap()
		if network[len(network)-1] == '4' && !a.Is4() || network[len(network)-1] == '6' && !a.Is6() {
			continue
		}
		fitting = append(fitting, a)
	}
	if len(fitting) == 0 {
		return nil, 0, &net.AddrError{Err: "no suitable address found", Addr: host}
	}
	return fitting, uint16(port), nil
}

// dialEach tries one address after the other, each with its share of the time that is left,
// and answers the first error if none connects.
func dialEach(ctx context.Context, addresses []netip.Addr, dial func(context.Context, netip.Addr) (net.Conn, error)) (net.Conn, error) {
	var first error
	for i, a := range addresses {
		share, cancel := dialShare(ctx, len(addresses)-i)
		conn, err := dial(share, a)
		cancel()
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

func dialShare(ctx context.Context, left int) (context.Context, context.CancelFunc) {
	end, bounded := ctx.Deadline()
	if !bounded || left == 1 {
		return ctx, func() {}
	}
	share := time.Until(end) / time.Duration(left)
	return context.WithTimeout(ctx, max(share, dialShareMin))
}

// netDial is a connect for a goroutine.
type netDial struct {
	loop    *Loop
	fd      int
	connect *Connect // the loop's thread alone uses it
	// claimed is set by who comes first: the outcome, or the caller who gives up. The
	// other one cleans up.
	claimed atomic.Bool
	begun   atomic.Bool // the loop's thread has begun, or never will
	outcome chan error
	conn    *NetConn
}

var _ ConnectHandler = (*netDial)(nil)

// DialConn connects to at, over TCP.
func (l *Loop) DialConn(ctx context.Context, at netip.AddrPort) (*NetConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	raw, err := RawAddr(at)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(family(at), socketFlags, 0)
	if err != nil {
		return nil, fmt.Errorf("kloop: socket: %w", err)
	}
	OwnDescriptor(fd)
	d := &netDial{loop: l, fd: fd, outcome: make(chan error, 1)}
	l.Post(func() { d.start(raw) })
	return d.wait(ctx)
}

func (d *netDial) wait(ctx context.Context) (*NetConn, error) {
	select {
	case err := <-d.outcome:
		return d.conn, err
	case <-ctx.Done():
		if !d.claimed.Swap(true) {
			d.loop.Post(d.cancel)
			return nil, ctx.Err()
		}
	case <-d.loop.ended:
		if !d.claimed.Swap(true) {
			if !d.begun.Swap(true) {
				CloseDescriptor(d.fd)
			}
			return nil, ErrClosed
		}
	}
	err := <-d.outcome
	return d.conn, err
}

// start begins, in the loop's thread.
func (d *netDial) start(raw []byte) {
	if d.begun.Swap(true) {
		return
	}
	var err error
	if d.connect, err = d.loop.engine.Connect(d.fd, raw, d); err != nil {
		d.Connected(nil, err)
	}
}

func (d *netDial) cancel() {
	if d.connect != nil {
		d.connect.Cancel()
	}
}

// Connected implements ConnectHandler.
func (d *netDial) Connected(_ *Connect, err error) {
	if errno, ok := err.(unix.Errno); ok {
		err = os.NewSyscallError("connect", errno)
	}
	if err == nil {
		d.conn, err = d.loop.adoptNet(d.fd)
	}
	if err != nil {
		CloseDescriptor(d.fd)
	}
	if !d.claimed.Swap(true) {
		d.outcome <- err
	} else if d.conn != nil {
		close(d.conn.closed)
		d.conn.conn.Abort()
	}
}

// Listen listens at address on the background loop. network is "tcp", "tcp4" or "tcp6"; see
// net.Listen for address.
func Listen(network, address string) (net.Listener, error) {
	loop, err := Background()
	if err != nil {
		return nil, err
	}
	n, err := loop.ListenConn(network, address)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// ListenPacket makes a UDP endpoint at address on the background loop. network is "udp",
// "udp4" or "udp6"; see net.ListenPacket for address.
func ListenPacket(network, address string) (net.PacketConn, error) {
	loop, err := Background()
	if err != nil {
		return nil, err
	}
	p, err := loop.ListenPacketConn(network, address)
	if err != nil {
		return nil, err
	}
	return p, nil
}
