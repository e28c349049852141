package main

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// tlsWire is what TLS reads from and writes to. During the handshake it
// is a blocking socket. From then on it is two buffers, which the engine fills
// and empties: a Read of an empty one answers errNotYet, which TLS takes for
// a timeout, after which reading may go on.
type tlsWire struct {
	fd      int
	carried bool   // by the engine
	in      []byte // received, not yet read
	out     []byte // written, not yet sent
	spare   []byte // being sent, or free: becomes out when that is sent
}

var _ net.Conn = (*tlsWire)(nil)

type notYetError struct{}

func (notYetError) Error() string   { return "nothing has come yet" }
func (notYetError) Timeout() bool   { return true }
func (notYetError) Temporary() bool { return true }

var errNotYet net.Error = notYetError{}

// handshakeLimit bounds each read and write of a handshake.
const handshakeLimit = 20 * time.Second

// newTLSWire waits for a connect to end and makes the socket blocking.
func newTLSWire(fd int) (*tlsWire, error) {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(poll, int(handshakeLimit/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = unix.ETIMEDOUT
		}
		if err != nil {
			return nil, os.NewSyscallError("connect", err)
		}
		break
	}
	if err := socketError(fd); err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	limit := unix.NsecToTimeval(int64(handshakeLimit))
	err := errors.Join(unix.SetNonblock(fd, false),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit))
	return &tlsWire{fd: fd}, err
}

// carry hands the socket over to an engine.
func (w *tlsWire) carry() error {
	w.carried = true
	return os.NewSyscallError("fcntl", unix.SetNonblock(w.fd, true))
}

// Read implements net.Conn.
func (w *tlsWire) Read(p []byte) (int, error) {
	if len(w.in) > 0 {
		n := copy(p, w.in)
		w.in = w.in[n:]
		return n, nil
	}
	if w.carried {
		return 0, errNotYet
	}
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(w.fd, p) })
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return max(n, 0), os.NewSyscallError("read", err)
}

// Write implements net.Conn.
func (w *tlsWire) Write(p []byte) (int, error) {
	if w.carried {
		w.out = append(w.out, p...)
		return len(p), nil
	}
	for done := 0; done < len(p); {
		n, err := ignoringEINTR(func() (int, error) { return unix.Write(w.fd, p[done:]) })
		if err != nil {
			return done, os.NewSyscallError("write", err)
		}
		done += n
	}
	return len(p), nil
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}

// Close implements net.Conn. The socket is its slot's.
func (w *tlsWire) Close() error { return nil }

// The rest of net.Conn, of no use here.
func (w *tlsWire) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (w *tlsWire) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (w *tlsWire) SetDeadline(time.Time) error      { return nil }
func (w *tlsWire) SetReadDeadline(time.Time) error  { return nil }
func (w *tlsWire) SetWriteDeadline(time.Time) error { return nil }
