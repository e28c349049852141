package tlsconn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"

	"golang.org/x/sys/unix"

	"kloop/ktls"
)

// readSize is what one read asks of the connection below: a record, and what
// small ones may follow it.
const readSize = 20 << 10

// minControl is memory that an alert fits into.
const minControl = 16

// reader is the receiving direction.
type reader struct {
	mu       sync.Mutex
	opener   *ktls.Opener
	control  *ktls.Control
	buffered []byte // ciphertext, in memory of buffer once that is there
	buffer   []byte
	plain    []byte // opened and not read, part of buffer
	err      error  // of the connection below, behind what is buffered
	over     error  // nothing more is read: the peer's end, or its fault

	kernel  bool // the kernel opens what is not buffered
	waiting bool // it will, once nothing is buffered

	shadow   *ktls.Sealer
	shadowOf *tls.Conn
	shown    int
}

// unlockIn wipes the keys of a connection that has been closed.
func (c *Conn) unlockIn() {
	if c.closed.Load() && c.in.opener != nil {
		c.in.opener.Wipe()
		c.in.dropShadow()
		c.in.buffered, c.in.buffer, c.in.plain = nil, nil, nil
		if c.in.over == nil {
			c.in.over = net.ErrClosed
		}
	}
	c.in.mu.Unlock()
}

// Read reads data. io.EOF: the peer has sent close_notify, or has ended the
// stream between two records. A *ktls.RecordError says that the peer broke the
// protocol, and has been sent the alert; a *ktls.PeerAlertError, that it sent one.
func (c *Conn) Read(p []byte) (int, error) {
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	if t := c.tls.Load(); t != nil {
		return t.Read(p)
	}
	c.in.mu.Lock()
	defer c.unlockIn()
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.in.plain) == 0 {
		if c.in.kernel && len(p) >= minControl {
			n, err := c.readKernel(p)
			if n > 0 || err != nil {
				return n, err
			}
			continue
		}
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.in.plain)
	c.in.plain = c.in.plain[n:]
	return n, nil
}

// WriteTo writes all data that comes to w, from the memory it was opened in.
func (c *Conn) WriteTo(w io.Writer) (written int64, err error) {
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	if t := c.tls.Load(); t != nil {
		return io.Copy(w, struct{ io.Reader }{t})
	}
	c.in.mu.Lock()
	defer c.unlockIn()
	for {
		for len(c.in.plain) == 0 {
			switch err := c.next(); {
			case err == io.EOF:
				return written, nil
			case err != nil:
				return written, err
			}
		}
		n, err := w.Write(c.in.plain)
		written += int64(n)
		c.in.plain = c.in.plain[n:]
		if err != nil {
			return written, err
		}
	}
}

// next leaves the data that comes next in plain, or none if something else came.
func (c *Conn) next() error {
	if !c.in.kernel {
		return c.nextRecord()
	}
	c.in.needBuffer()
	memory := c.in.buffer[:cap(c.in.buffer)]
	n, err := c.readKernel(memory)
	c.in.plain = memory[:n]
	return err
}

// nextRecord opens one record, and acts on it.
func (c *Conn) nextRecord() error {
	in := &c.in
	if in.over != nil {
		return in.over
	}
	for {
		r, err := in.opener.Open(in.buffered)
		if err != nil {
			return c.readFailed(err)
		}
		if r.Size == 0 {
			if err := c.readMore(); err != nil {
				return err
			}
			continue
		}
		in.buffered = in.buffered[r.Size:]
		if err := c.act(r.Type, r.Content); err != nil {
			return err
		}
		if in.waiting && len(in.buffered) == 0 {
			c.startKernelRead()
		}
		return nil
	}
}

// act does what a record asks for.
func (c *Conn) act(typ ktls.ContentType, content []byte) error {
	action, err := c.in.control.Receive(typ, content)
	if err != nil {
		return c.readFailed(err)
	}
	if action == ktls.ActionData {
		c.in.plain = content
		if c.in.opener.KeyUpdateDue() {
			c.pending.set(sendKeyUpdateRequest)
		}
		return nil
	}
	if action&ktls.ActionNextKeyIn != 0 {
		err = c.in.opener.NextKey()
		if err == nil && c.in.kernel {
			err = c.withSocket(c.in.opener.GiveToKernel)
		}
	}
	if err == nil && action&ktls.ActionMessages != 0 {
		err = c.showShadow(c.in.control.Messages())
	}
	if err != nil {
		return c.readFailed(err)
	}
	if action&ktls.ActionKeyUpdateOut != 0 {
		c.pending.set(sendKeyUpdate)
	}
	if action&ktls.ActionNoRenegotiation != 0 {
		c.pending.set(sendNoRenegotiation)
	}
	c.flushPending()
	if action&ktls.ActionClosed != 0 {
		c.in.over = io.EOF
		return io.EOF
	}
	return nil
}

// readFailed keeps an error, and sends the peer the alert that it names.
func (c *Conn) readFailed(err error) error {
	c.in.over = err
	var record *ktls.RecordError
	var peer *ktls.PeerAlertError
	switch {
	case errors.As(err, &record):
		c.sendFatal(record.Alert)
	case errors.As(err, &peer):
		c.pending.fail(err)
	default:
		c.sendFatal(ktls.AlertInternalError)
	}
	return err
}

func (r *reader) needBuffer() {
	if r.buffer == nil {
		r.buffer = make([]byte, 0, readSize)
	}
}

// readMore reads ciphertext behind what is buffered: no more than the record,
// if the kernel is to go on behind it.
func (c *Conn) readMore() error {
	in := &c.in
	if in.err != nil {
		return in.takeErr()
	}
	size, err := in.opener.Size(in.buffered)
	if err != nil {
		return c.readFailed(err)
	}
	in.needBuffer()
	if cap(in.buffered)-len(in.buffered) < max(1, size-len(in.buffered)) || len(in.buffered) == 0 {
		in.buffered = append(in.buffer[:0], in.buffered...)
	}
	room := in.buffered[len(in.buffered):cap(in.buffered)]
	if in.waiting {
		room = room[:max(size, ktls.HeaderSize)-len(in.buffered)]
	}
	n, err := c.raw.Read(room)
	in.buffered = in.buffered[:len(in.buffered)+n]
	if err != nil {
		in.err = err
		if n == 0 {
			return in.takeErr()
		}
	}
	return nil
}

// takeErr answers the error, and forgets one that says that a time limit is over.
// An end within a record is none of a stream.
func (r *reader) takeErr() error {
	err := r.err
	if isTimeout(err) {
		r.err = nil
	}
	if err == io.EOF && len(r.buffered) > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readKernel receives from a kernel that opens records.
func (c *Conn) readKernel(p []byte) (int, error) {
	if c.in.over != nil {
		return 0, c.in.over
	}
	control := make([]byte, ktls.ControlSize)
	var n int
	var typ ktls.ContentType
	var err error
	rawErr := c.socket.Read(func(fd uintptr) bool {
		for {
			n, typ, err = ktls.ReceiveRecord(int(fd), p, control)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	switch {
	case rawErr != nil:
		return 0, rawErr
	case err != nil:
		return 0, c.readFailed(ktls.KernelReadError(err))
	case n == 0 && typ == ktls.TypeData:
		c.in.over = io.EOF
		return 0, io.EOF
	case typ == ktls.TypeData:
		if _, err := c.in.control.Receive(typ, p[:n]); err != nil {
			return 0, c.readFailed(err)
		}
		return n, nil
	}
	return 0, c.act(typ, p[:n])
}
