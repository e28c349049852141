package tlsconn

import (
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"kloop/ktls"
)

const (
	// writeSize is what one write gives to the connection below.
	writeSize = 64 << 10
	// parallelSize is from where on several goroutines seal.
	parallelSize = 512 << 10
	parallelStep = 2 << 20
)

// writer is the sending direction.
type writer struct {
	mu     sync.Mutex
	sealer *ktls.Sealer
	kernel bool // the kernel seals
	err    error
	closed bool // close_notify has been sent
}

// Memory for records on their way; idle connections have none. It grows to what
// is sealed into it.
var (
	buffers      = sync.Pool{New: func() any { return new([]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([]byte) }}
)

// Sends that the reading side asks for.
const (
	sendKeyUpdate = 1 << iota
	sendKeyUpdateRequest
	sendNoRenegotiation
)

// pendingSends are records that the reading side wants sent. It does not wait
// for a Write under way, which sends them when it is done.
type pendingSends struct {
	mu   sync.Mutex
	what uint
	err  error
}

func (p *pendingSends) set(what uint) {
	p.mu.Lock()
	p.what |= what
	p.mu.Unlock()
}

// fail ends writing with an error.
func (p *pendingSends) fail(err error) {
	p.mu.Lock()
	if p.err == nil {
		p.err = err
	}
	p.mu.Unlock()
}

func (p *pendingSends) take() (uint, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	what := p.what
	p.what = 0
	return what, p.err
}

func (p *pendingSends) any() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.what != 0
}

// unlockOut sends what has become due meanwhile, and wipes the keys of a
// connection that has been closed.
func (c *Conn) unlockOut() {
	if c.closed.Load() && c.out.sealer != nil {
		c.out.sealer.Wipe()
		if c.out.err == nil {
			c.out.err = net.ErrClosed
		}
	}
	c.out.mu.Unlock()
	c.flushPending()
}

// flushPending sends what is pending, unless a Write is under way. What it can't
// send is an error of the next Write.
func (c *Conn) flushPending() {
	for c.pending.any() && c.out.mu.TryLock() {
		if c.out.err == nil && !c.out.closed {
			c.out.err = c.sendPending()
		} else {
			_, _ = c.pending.take()
		}
		c.out.mu.Unlock()
	}
}

// sendPending sends what is pending, and a KeyUpdate where the key has done its work.
func (c *Conn) sendPending() error {
	what, err := c.pending.take()
	if err != nil {
		return err
	}
	if what&sendNoRenegotiation != 0 {
		alert := ktls.AlertNoRenegotiation.Content()
		if err := c.writeControl(ktls.TypeAlert, alert[:]); err != nil {
			return err
		}
	}
	request := what&sendKeyUpdateRequest != 0
	if what&sendKeyUpdate == 0 && !request && !c.out.sealer.KeyUpdateDue() {
		return nil
	}
	return c.updateKey(request)
}

// UpdateKey sends a KeyUpdate of TLS 1.3, and asks the peer for one. It is done
// by itself long before a key is used up.
func (c *Conn) UpdateKey(requestPeer bool) error {
	if err := c.Handshake(); err != nil {
		return err
	}
	if c.tls.Load() != nil {
		return errors.New("tlsconn: crypto/tls can't be asked for a key update")
	}
	c.out.mu.Lock()
	defer c.unlockOut()
	if err := c.writable(); err != nil {
		return err
	}
	return c.failWrite(c.updateKey(requestPeer))
}

func (c *Conn) updateKey(request bool) error {
	if c.out.sealer.Suite().Version != ktls.TLS13 {
		return &ktls.UseError{Reason: "TLS 1.2 has no key update"}
	}
	message := ktls.KeyUpdateMessage(request)
	if err := c.writeControl(ktls.TypeHandshake, message[:]); err != nil {
		return err
	}
	if err := c.out.sealer.NextKey(); err != nil || !c.out.kernel {
		return err
	}
	return c.withSocket(c.out.sealer.GiveToKernel)
}

// writeControl sends one record that is not application data.
func (c *Conn) writeControl(typ ktls.ContentType, content []byte) error {
	if !c.out.kernel {
		record, err := c.out.sealer.Seal(nil, typ, content)
		if err == nil {
			_, err = c.raw.Write(record)
		}
		return err
	}
	var err error
	rawErr := c.socket.Write(func(fd uintptr) bool {
		for {
			_, err = ktls.SendRecord(int(fd), typ, content)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	c.out.sealer.Advance(1)
	return errors.Join(rawErr, err)
}

// writable answers why nothing can be sent, and sends first what is pending.
func (c *Conn) writable() error {
	switch {
	case c.out.err != nil:
		return c.out.err
	case c.out.closed:
		return errClosedForWrite
	}
	return c.failWrite(c.sendPending())
}

// failWrite keeps an error: part of a record may have been sent.
func (c *Conn) failWrite(err error) error {
	if err != nil && c.out.err == nil {
		c.out.err = err
	}
	return err
}

// Write writes p as records.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	if t := c.tls.Load(); t != nil {
		return t.Write(p)
	}
	c.out.mu.Lock()
	defer c.unlockOut()
	if err := c.writable(); err != nil || len(p) == 0 {
		return 0, err
	}
	if c.out.kernel {
		return c.writeKernel(p)
	}
	if len(p) >= parallelSize && c.options.Workers > 1 {
		return c.writeParallel(p)
	}
	return c.writeSealed(p)
}

// writeKernel has the kernel seal and send.
func (c *Conn) writeKernel(p []byte) (int, error) {
	n, err := c.raw.Write(p)
	c.out.sealer.Advance(uint64(n/c.out.sealer.MaxPlaintext() + 1))
	if err != nil && !isTimeout(err) {
		return n, c.failWrite(err)
	}
	return n, err // the kernel's records are whole
}

// writeSealed seals and writes several records at a time.
func (c *Conn) writeSealed(p []byte) (written int, err error) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	step := c.out.sealer.MaxPlaintext() * max(1, writeSize/ktls.MaxPlaintext)
	for len(p) > 0 {
		n := min(len(p), step)
		*buffer, err = c.out.sealer.Seal((*buffer)[:0], ktls.TypeData, p[:n])
		if err == nil {
			_, err = c.raw.Write(*buffer)
		}
		if err != nil {
			return written, c.failWrite(err)
		}
		written += n
		if p = p[n:]; len(p) > 0 && c.out.sealer.KeyUpdateDue() {
			if err := c.failWrite(c.updateKey(false)); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

// writeParallel seals large pieces by several goroutines.
func (c *Conn) writeParallel(p []byte) (written int, err error) {
	buffer := largeBuffers.Get().(*[]byte)
	defer largeBuffers.Put(buffer)
	for len(p) > 0 {
		n := min(len(p), parallelStep)
		*buffer, err = c.out.sealer.SealParallel((*buffer)[:0], ktls.TypeData, p[:n], c.options.Workers)
		if err == nil {
			_, err = c.raw.Write(*buffer)
		}
		if err == nil && c.out.sealer.KeyUpdateDue() {
			err = c.updateKey(false)
		}
		if err != nil {
			return written, c.failWrite(err)
		}
		written += n
		p = p[n:]
	}
	return written, nil
}

// closeNotify ends the sending direction.
func (c *Conn) closeNotify() error {
	if c.out.closed {
		return nil
	}
	if c.out.err != nil {
		return errClosedForWrite
	}
	c.out.closed = true
	alert := ktls.AlertCloseNotify.Content()
	return c.failWrite(c.writeControl(ktls.TypeAlert, alert[:]))
}

// sendFatal sends an alert, unless a Write is under way, and ends writing.
func (c *Conn) sendFatal(a ktls.Alert) {
	c.pending.fail(&ktls.RecordError{Alert: a, Reason: "reading failed"})
	if !c.out.mu.TryLock() {
		return
	}
	defer c.out.mu.Unlock()
	if c.out.err == nil && !c.out.closed {
		_ = c.raw.SetWriteDeadline(time.Now().Add(closeTimeout))
		if c.out.kernel {
			_ = c.withSocket(ktls.ClearError)
		}
		alert := a.Content()
		_ = c.writeControl(ktls.TypeAlert, alert[:])
		_ = c.failWrite(&ktls.RecordError{Alert: a, Reason: "reading failed"})
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
