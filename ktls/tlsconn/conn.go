package tlsconn

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"kloop/ktls"
)

// Conn is a TLS connection. Like a tls.Conn it is a net.Conn whose methods may be
// called from several goroutines.
type Conn struct {
	raw     net.Conn
	tap     *tap
	options Options
	client  bool

	// tls makes the handshake. It is nil once its records have been taken over.
	tls atomic.Pointer[tls.Conn]

	handshake    sync.Mutex
	done         atomic.Bool
	handshakeErr error
	state        tls.ConnectionState
	socket       syscall.RawConn // where the kernel has a direction

	in      reader
	out     writer
	pending pendingSends
	closed  atomic.Bool

	offloadMu sync.Mutex
	offload   Offload
}

var (
	errClosedForWrite = errors.New("tls: the connection is closed for writing")
	_                 = net.Conn((*Conn)(nil))
	_                 = io.ReaderFrom((*Conn)(nil))
	_                 = io.WriterTo((*Conn)(nil))
)

// Handshake is HandshakeContext without a context.
func (c *Conn) Handshake() error { return c.HandshakeContext(context.Background()) }

// HandshakeContext makes the handshake, unless it has been made, and takes the
// records over. Only errors of the handshake itself are answered, and they stay.
func (c *Conn) HandshakeContext(ctx context.Context) error {
	if c.done.Load() {
		return c.handshakeErr
	}
	c.handshake.Lock()
	defer c.handshake.Unlock()
	if c.done.Load() {
		return c.handshakeErr
	}
	t := c.tls.Load()
	c.handshakeErr = t.HandshakeContext(ctx)
	c.setOffload(Offload{TX: TLS, RX: TLS})
	c.state = t.ConnectionState()
	c.takeOver(t)
	c.tap.watch = nil
	c.done.Store(true)
	return c.handshakeErr
}

// Offload says where records are protected. Before the handshake it is empty.
func (c *Conn) Offload() Offload {
	c.offloadMu.Lock()
	defer c.offloadMu.Unlock()
	return c.offload
}

func (c *Conn) setOffload(o Offload) {
	c.offloadMu.Lock()
	c.offload = o
	c.offloadMu.Unlock()
}

// ConnectionState is what the handshake has found out.
func (c *Conn) ConnectionState() tls.ConnectionState {
	if t := c.tls.Load(); t != nil {
		return t.ConnectionState()
	}
	return c.state
}

// VerifyHostname checks the peer's certificate for a host, as a tls.Conn does.
func (c *Conn) VerifyHostname(host string) error {
	state := c.ConnectionState()
	switch {
	case !c.client:
		return errors.New("tls: VerifyHostname called on TLS server connection")
	case !state.HandshakeComplete:
		return errors.New("tls: handshake has not yet been performed")
	case len(state.VerifiedChains) == 0:
		return errors.New("tls: handshake did not verify certificate chain")
	}
	return state.PeerCertificates[0].VerifyHostname(host)
}

// NetConn answers the connection below. It must not be read or written.
func (c *Conn) NetConn() net.Conn { return c.raw }

// LocalAddr answers the local address.
func (c *Conn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr answers the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// SetDeadline sets both time limits.
func (c *Conn) SetDeadline(t time.Time) error { return c.raw.SetDeadline(t) }

// SetReadDeadline sets the time limit of reads. A Read that timed out can be
// repeated.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

// SetWriteDeadline sets the time limit of writes. After a Write that timed out
// all others fail, as with a tls.Conn: part of a record may be on its way.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.raw.SetWriteDeadline(t) }

// closeTimeout bounds how long close_notify may take, as in crypto/tls.
const closeTimeout = 5 * time.Second

// CloseWrite sends close_notify. The other direction goes on.
func (c *Conn) CloseWrite() error {
	if t := c.tls.Load(); t != nil {
		return t.CloseWrite()
	}
	c.out.mu.Lock()
	defer c.unlockOut()
	return c.closeNotify()
}

// Close sends close_notify, if no Write is under way, and closes the connection
// below. Calls that wait end with an error. Keys are wiped.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	if t := c.tls.Load(); t != nil {
		return t.Close()
	}
	var alertErr error
	if c.out.mu.TryLock() {
		_ = c.raw.SetWriteDeadline(time.Now().Add(closeTimeout))
		alertErr = c.closeNotify()
		c.unlockOut()
	}
	err := c.raw.Close()
	if c.in.mu.TryLock() {
		c.unlockIn()
	}
	if err == nil && !errors.Is(alertErr, errClosedForWrite) {
		err = alertErr
	}
	return err
}

// takeOver moves records from crypto/tls to ktls, if the handshake was made. It
// is called under the handshake's lock, before any record is read or written.
func (c *Conn) takeOver(t *tls.Conn) {
	var secrets ktls.Secrets
	defer secrets.Wipe()
	err := c.tap.log.take(&secrets)
	if c.options.Records == TLS || c.handshakeErr != nil {
		return
	}
	if err == nil && c.tap.left > 0 {
		err = &ktls.UnsupportedError{Reason: "the handshake ended within a record"}
	}
	var sealer *ktls.Sealer
	var opener *ktls.Opener
	if err == nil {
		sealer, opener, err = ktls.TakeOver(c.tap.watch, &secrets)
	}
	if err == nil && c.options.Records == Kernel {
		err = kernelCan(c.raw, sealer)
	}
	if err == nil {
		err = c.keepShadow(t, &secrets, sealer.Suite())
	}
	if err != nil {
		c.setOffload(Offload{TX: TLS, RX: TLS, Why: err})
		return
	}
	c.in.opener, c.out.sealer = opener, sealer
	c.in.control = ktls.NewControl(sealer.Suite().Version, c.client)
	c.in.buffered, c.in.err = c.tap.ahead, c.tap.takeErr()
	c.tap.ahead = nil
	c.setOffload(Offload{TX: Go, RX: Go})
	if c.options.Records != Go {
		c.giveToKernel()
	}
	c.tls.Store(nil)
}
