package core

import (
	"errors"
	"syscall"

	"kloop/ktls"
)

// RecordHandler is told what comes by records beside data.
type RecordHandler interface {
	// Messages gives whole handshake messages that come behind the handshake, such as
	// session tickets. They are valid during the call.
	Messages(c *Conn, messages []byte)
	// RecordsFailed says that the peer has broken the protocol (a *ktls.RecordError) or
	// ended it by an alert (a *ktls.PeerAlertError). Closed follows.
	RecordsFailed(c *Conn, err error)
	// Returned says that the peer of a TLS 1.2 connection wants another handshake, which only
	// the implementation of the first one can make. From here on Received gives records made
	// for it; ReturnRecords has Write take its records.
	Returned(c *Conn)
	// RecordsMoved says that Conn.RecordsOffload answers something else than it did.
	RecordsMoved(c *Conn, o RecordsOffload)
}

// RecordOptions are what StartRecords needs.
type RecordOptions struct {
	Sealer  *ktls.Sealer
	Opener  *ktls.Opener
	Client  bool          // this side's role
	Handler RecordHandler // may be nil
	Shadow  *ktls.Shadow  // may be nil: then another handshake is declined
	// Workers is how many goroutines seal a write of Threshold bytes or more. 0: as if 1.
	Workers   int
	Threshold int
	// Background is from how many queued bytes on a thread of the kernel's own seals and sends,
	// where the kernel has the records and the driver is io_uring. 0: never.
	Background int
	// ZeroCopy and NoPadding are hints for the kernel, where it has them: ktls.SetZeroCopy and
	// ktls.SetExpectNoPad.
	ZeroCopy, NoPadding bool
	// SilentClose: Close sends no close_notify; CloseNotify does.
	SilentClose bool
	Kernel      KernelUse
}

// records are the TLS records of a connection.
type records struct {
	RecordOptions
	control  *ktls.Control
	partial  *buffer // a record that is not whole
	early    []byte  // what came before the records were started, and has not been opened
	filled   int     // bytes of data in the record that is not sealed yet, see Engine.sealing
	asked    bool    // the peer for a new key of its own
	full     bool    // the socket had no room for all that was sent in the background
	ended    bool    // by the peer's close_notify
	closed   bool    // by ours
	tx, rx   recordSide
	refusal  error   // why the kernel has not both
	cmsg     []byte  // for the type of what the kernel opens
	updating bool    // a KeyUpdate of ours is queued for the kernel
	in, out  passage // another handshake is under way, or was made
	err      error
}

// StartRecords has everything that is received and sent from now on protected by
// TLS records, which the handler does not see: it is given data, and what Write
// takes is sealed. received is what came of records before, in whatever pieces;
// its data comes with the next poll, and so does once more an end of the stream that had
// been told already. WriteEOF and Close send close_notify first;
// the peer's is its ReceivedEOF. Backlog counts bytes of records, or of data that
// the kernel is to seal. A connection whose peer breaks the protocol is sent the
// alert and closed with EBADMSG; one that the peer ends by an alert, with EPROTO.
// RecordsErr then tells more.
//
// The connection owns sealer, opener and shadow, and wipes them in the end, unless it
// answers an error: then nothing has changed. It must be a socket.
func (c *Conn) StartRecords(o RecordOptions, received []byte) error {
	if c.records != nil || c.kind != notPipe || c.closing != closeOpen {
		return &ktls.UseError{Reason: "records can't start on this connection"}
	}
	c.records = &records{RecordOptions: o, control: ktls.NewControl(o.Opener.Suite().Version, o.Client)}
	if o.Kernel != KernelNever {
		if err := c.startKernel(); err != nil && o.Kernel == KernelOnly {
			c.records = nil
			return err
		}
	}
	if len(received) > 0 {
		c.records.early = append([]byte(nil), received...)
		c.engine.early = append(c.engine.early, c)
	}
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

// RecordHandler answers what StartRecords was given, or nil.
func (c *Conn) RecordHandler() RecordHandler {
	if c.records == nil {
		return nil
	}
	return c.records.Handler
}

// act does what a control record asks for.
func (c *Conn) act(action ktls.Action) {
	r := c.records
	if action&ktls.ActionMessages != 0 && r.Handler != nil {
		r.Handler.Messages(c, r.control.Messages())
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

// failRecords ends the connection, behind the alert that says why. That is offered to
// the kernel at once: the handler may abort the connection.
func (c *Conn) failRecords(err error) {
	r := c.records
	if c.closing != closeOpen {
		return
	}
	r.err = err
	if r.rx == sideKernel {
		_ = ktls.ClearError(c.fd) // the alert could not be sent; if it can't be anyway, so be it
	}
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
	c.SendNow()
	if r.Handler != nil {
		r.Handler.RecordsFailed(c, err)
	}
	if c.closing == closeOpen {
		c.failure = &OpError{Op: "read", Err: failure}
		c.Close()
	}
}

// recordsUsedUp ends the connection: the key may not seal another record, which
// KeyUpdateDue came long before.
func (c *Conn) recordsUsedUp(err error) {
	c.records.err, c.records.closed = err, true
	c.abort(&OpError{Op: "write", Err: syscall.EPROTO})
}

// CloseNotify ends the sending direction behind what is queued, as TLS ends it;
// receiving goes on. The peer answers with its own close_notify, which is its
// ReceivedEOF.
func (c *Conn) CloseNotify() {
	if c.records != nil && c.takesWrites() {
		c.closeRecords()
	}
}

// PeerNotified says whether the peer's end was a close_notify, and not the stream's alone,
// which anybody in between can bring about.
func (c *Conn) PeerNotified() bool { return c.records != nil && c.records.ended }

// closeRecords queues close_notify, once.
func (c *Conn) closeRecords() {
	if r := c.records; r != nil && !r.closed {
		c.sealAlert(ktls.AlertCloseNotify)
		r.closed = true
	}
}

// dropRecords wipes the keys.
func (c *Conn) dropRecords() {
	if c.records != nil {
		c.dropPartial()
		c.records.early = nil
		c.records.Sealer.Wipe()
		c.records.Opener.Wipe()
		if c.records.Shadow != nil {
			c.records.Shadow.Wipe()
		}
	}
}
