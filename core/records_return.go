package core

import (
	"slices"

	"kloop/ktls"
)

// passage is what becomes of the bytes of one direction.
type passage uint8

const (
	passData passage = iota // they are records, which the handler does not see
	// passRecords: they are records of the implementation that made the handshake on one side
	// and of the peer on the other, whose keys are the same but not their numbers.
	passRecords
	// passAll: behind the ChangeCipherSpec of another handshake both count alike from 0.
	passAll
)

// returnRecords has the handshake's implementation go on, as the peer wants another one.
// It answers whether it can.
func (c *Conn) returnRecords() bool {
	r := c.records
	// A socket stays with the kernel's TLS, whose keys of TLS 1.2 can't be replaced.
	if r.Shadow == nil || r.Handler == nil || r.closed || r.tx != sideGo || r.rx != sideGo {
		return false
	}
	r.in = passRecords
	r.Opener.AllowChange()
	r.Handler.Returned(c)
	return true
}

// ReturnRecords has Write take records of the handshake's implementation, after
// RecordHandler.Returned. What was written before is data.
func (c *Conn) ReturnRecords() {
	if c.records != nil && c.records.in != passData {
		c.sealPending()
		c.records.out = passRecords
	}
}

// passIn gives the handler a record of the peer's as the handshake's implementation
// understands it.
func (c *Conn) passIn(record ktls.Record) {
	r := c.records
	sealed, err := r.Shadow.Show(record.Type, record.Content)
	if err != nil {
		c.failRecords(err)
		return
	}
	if record.Type == ktls.TypeChangeCipherSpec {
		r.in = passAll
	}
	c.engine.holdBuffer(&buffer{p: sealed, uses: 1})
	c.handler.Received(c, sealed)
}

// passOut sends the peer records of the handshake's implementation as it understands them.
func (c *Conn) passOut(records []byte) {
	r := c.records
	p := slices.Clone(records) // they are opened in place
	for len(p) > 0 && c.takesWrites() {
		if r.out == passAll {
			c.writeCopy(p)
			return
		}
		record, err := r.Shadow.Open(p)
		if err != nil {
			c.recordsUsedUp(err)
			return
		}
		p = p[record.Size:]
		c.sealControl(record.Type, record.Content)
		if record.Type == ktls.TypeChangeCipherSpec {
			r.out = passAll
		}
	}
}
