package core

import (
	"errors"
	"syscall"

	"kloop/ktls"
)

// RecordOptions are what StartRecords needs.
type RecordOptions struct {
	Sealer *ktls.Sealer
	Opener *ktls.Opener
	Client bool // this side's role
	// Messages, if not nil, is given handshake messages that come behind the
	// handshake, such as session tickets. They are valid during the call.
	Messages func(c *Conn, messages []byte)
}

// records are the TLS records of a connection.
type records struct {
	RecordOptions
	control *ktls.Control
	partial []byte // a record that is not whole, in a chunk of the engine's
	asked   bool   // the peer for a new key of its own
	ended   bool   // by the peer's close_notify
	closed  bool   // by ours
	err     error
}

// StartRecords has everything that is received and sent from now on protected by
// TLS records, which the handler does not see: it is given data, and what Write
// takes is sealed. received is what came of records before, in whatever pieces; it
// is changed. WriteEOF and Close send close_notify first; the peer's is its
// ReceivedEOF. Backlog counts bytes of records. A connection whose peer breaks
// the protocol is sent the alert and closed with EBADMSG; one that the peer
// ends by an alert, with EPROTO. RecordsErr then tells more.
//
// The connection owns sealer and opener, and wipes them in the end. It must be
// a socket.
func (c *Conn) StartRecords(o RecordOptions, received []byte) error {
	if c.records != nil || c.kind != notPipe || c.closing != closeOpen {
		return &ktls.UseError{Reason: "records can't start on this connection"}
	}
	c.records = &records{RecordOptions: o, control: ktls.NewControl(o.Opener.Suite().Version, o.Client)}
	c.open(received)
	return nil
}

// RecordsErr answers the *ktls.RecordError, *ktls.PeerAlertError or other error
// that ended the records, or nil.
func (c *Conn) RecordsErr() error {
	if c.records == nil {
		return nil
	}
	return c.records.err
}

// deliver gives the handler what has been received.
func (c *Conn) deliver(p []byte) {
	if c.records != nil {
		c.open(p)
		return
	}
	c.handler.Received(c, p)
}

// open opens the records that p continues, in place.
func (c *Conn) open(p []byte) {
	r := c.records
	for len(p) > 0 && c.closing == closeOpen && !r.ended {
		if len(r.partial) == 0 {
			n, err := r.Opener.Size(p)
			if err == nil && (n == 0 || n > len(p)) {
				r.partial = append(c.engine.chunk(), p...)
				return
			}
			p = p[c.openOne(p):]
			continue
		}
		p = r.fill(p)
		if c.openOne(r.partial) > 0 {
			c.dropPartial()
		}
	}
}

// fill completes the partial record, and answers what lies behind it.
func (r *records) fill(p []byte) []byte {
	for range 2 { // the header, then what it announces
		size, err := r.Opener.Size(r.partial)
		if err != nil {
			break // the opener answers it once more
		}
		n := min(len(p), max(size, ktls.HeaderSize)-len(r.partial))
		r.partial = append(r.partial, p[:n]...)
		p = p[n:]
	}
	return p
}

// openOne opens the record that p begins with and acts on it. It answers the
// record's size, or 0 if there is none or the connection ends.
func (c *Conn) openOne(p []byte) int {
	r := c.records
	record, err := r.Opener.Open(p)
	if err != nil {
		c.failRecords(err)
		return len(p)
	}
	if record.Size == 0 {
		return 0
	}
	action, err := r.control.Receive(record.Type, record.Content)
	if err == nil && action&ktls.ActionNextKeyIn != 0 {
		err, r.asked = r.Opener.NextKey(), false
	}
	if err != nil {
		c.failRecords(err)
		return len(p)
	}
	switch {
	case action&ktls.ActionData != 0:
		if !r.asked && r.Opener.KeyUpdateDue() {
			r.asked = true
			c.updateKey(true)
		}
		c.handler.Received(c, record.Content)
	case action != 0:
		c.act(action)
	}
	return record.Size
}

// act does what a control record asks for.
func (c *Conn) act(action ktls.Action) {
	r := c.records
	if action&ktls.ActionMessages != 0 && r.Messages != nil {
		r.Messages(c, r.control.Messages())
	}
	if action&ktls.ActionKeyUpdateOut != 0 {
		c.updateKey(false)
	}
	if action&ktls.ActionNoRenegotiation != 0 {
		c.sealAlert(ktls.AlertNoRenegotiation)
	}
	if action&ktls.ActionClosed != 0 {
		r.ended = true
		c.receivedEOF()
	}
}

// failRecords ends the connection, behind the alert that says why.
func (c *Conn) failRecords(err error) {
	r := c.records
	if c.closing != closeOpen {
		return
	}
	r.err = err
	var record *ktls.RecordError
	var peer *ktls.PeerAlertError
	failure := syscall.EBADMSG
	switch {
	case errors.As(err, &record):
		c.sealAlert(record.Alert)
	case errors.As(err, &peer):
		failure = syscall.EPROTO
	default:
		c.sealAlert(ktls.AlertInternalError)
	}
	r.closed = true
	c.failure = &OpError{Op: "read", Err: failure}
	c.Close()
}

// seal queues p as records.
func (c *Conn) seal(typ ktls.ContentType, p []byte) {
	r := c.records
	if r.closed {
		return
	}
	if typ == ktls.TypeData && r.Sealer.KeyUpdateDue() {
		c.updateKey(false)
	}
	for len(p) > 0 {
		n := min(len(p), r.Sealer.MaxPlaintext())
		last := c.queue.last()
		if last == nil || last.chunk == nil || cap(last.p)-len(last.p) < r.Sealer.SealedSize(n) {
			chunk := c.engine.chunk()
			c.queue.push(part{p: chunk, chunk: chunk})
			last = c.queue.last()
		}
		before := len(last.p)
		sealed, err := r.Sealer.Seal(last.p, typ, p[:n])
		if err != nil {
			// The key is used up, which KeyUpdateDue came long before.
			r.err, r.closed = err, true
			c.abort(&OpError{Op: "write", Err: syscall.EPROTO})
			return
		}
		last.p = sealed
		c.queue.bytes += len(sealed) - before
		p = p[n:]
	}
	c.engine.markDirty(c)
}

func (c *Conn) sealAlert(a ktls.Alert) {
	content := a.Content()
	c.seal(ktls.TypeAlert, content[:])
}

// updateKey queues a KeyUpdate, which may ask the peer for one, and goes on with
// the next key.
func (c *Conn) updateKey(request bool) {
	r := c.records
	if r.closed {
		return
	}
	message := ktls.KeyUpdateMessage(request)
	c.seal(ktls.TypeHandshake, message[:])
	if err := r.Sealer.NextKey(); err != nil && !r.closed {
		r.err, r.closed = err, true
		c.abort(&OpError{Op: "write", Err: syscall.EPROTO})
	}
}

// closeRecords queues close_notify, once.
func (c *Conn) closeRecords() {
	if r := c.records; r != nil && !r.closed {
		c.sealAlert(ktls.AlertCloseNotify)
		r.closed = true
	}
}

func (c *Conn) dropPartial() {
	if r := c.records; r.partial != nil {
		c.engine.freeChunk(r.partial)
		r.partial = nil
	}
}

// dropRecords wipes the keys.
func (c *Conn) dropRecords() {
	if c.records != nil {
		c.dropPartial()
		c.records.Sealer.Wipe()
		c.records.Opener.Wipe()
	}
}
