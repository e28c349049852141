package core

import "kloop/ktls"

// deliver gives the handler what has been received.
func (c *Conn) deliver(p []byte) {
	if c.records != nil && c.records.in != passAll {
		c.open(p)
		return
	}
	c.handler.Received(c, p)
}

// openEarly opens what had come before records were started.
func (e *Engine) openEarly() {
	for i, c := range e.early {
		e.early[i] = nil
		if r := c.records; r.early != nil {
			e.holdBuffer(&buffer{p: r.early, uses: 1})
			early, ended := r.early, c.readEOF
			r.early, c.readEOF = nil, false
			c.open(early)
			if ended && c.closing == closeOpen {
				c.receivedEOF() // told before, but it is behind what has been opened only now
			}
			if c.receiveMoves() {
				e.markDirty(c)
			}
		}
	}
	e.early = e.early[:0]
}

func (c *Conn) opens() bool { return c.closing == closeOpen && !c.records.ended }

// open opens the records that p continues, in place. Data of several records comes
// to the handler at once.
func (c *Conn) open(p []byte) {
	r := c.records
	if r.early != nil { // p came behind it
		r.early = append(r.early, p...)
		return
	}
	if r.partial != nil && c.opens() {
		p = r.fill(p)
		partial := r.partial
		if c.openAll(partial.p) > 0 {
			return // still not whole
		}
		r.partial = nil
		c.engine.holdBuffer(partial)
	}
	if r.in == passAll {
		c.handler.Received(c, p)
		return
	}
	if left := c.openAll(p); left > 0 {
		r.partial = c.engine.chunk()
		r.partial.p = append(r.partial.p, p[len(p)-left:]...)
	}
}

// fill completes the partial record, and answers what lies behind it.
func (r *records) fill(p []byte) []byte {
	b := r.partial
	for range 2 { // the header, then what it announces
		size, err := r.Opener.Size(b.p)
		if err != nil {
			break // the opener answers it once more
		}
		n := min(len(p), max(size, ktls.HeaderSize)-len(b.p))
		b.p = append(b.p, p[:n]...)
		p = p[n:]
	}
	return p
}

// openAll opens the whole records that p begins with. It answers how many bytes are left at
// p's end, which are the beginning of a record.
func (c *Conn) openAll(p []byte) (left int) {
	r := c.records
	from, to, at := 0, 0, 0 // data is p[from:to], and at is where the next record begins
	give := func() {
		if to > from {
			c.handler.Received(c, p[from:to])
		}
		from, to = at, at
	}
	for at < len(p) && c.opens() {
		size, err := r.Opener.Size(p[at:])
		if err == nil && (size == 0 || size > len(p)-at) {
			break
		}
		record, err := r.Opener.Open(p[at:])
		var action ktls.Action
		if err == nil {
			at += record.Size
			if r.in == passData {
				action, err = r.control.Receive(record.Type, record.Content)
			}
		}
		if err == nil && action&ktls.ActionNoRenegotiation != 0 {
			give()
			if c.returnRecords() {
				action = 0
			}
		}
		if err == nil && action&ktls.ActionNextKeyIn != 0 {
			err, r.asked = r.Opener.NextKey(), false
		}
		switch {
		case err != nil:
			give()
			c.failRecords(err)
		case r.in == passRecords:
			c.passIn(record)
			from, to = at, at
			if r.in == passAll && at < len(p) {
				c.handler.Received(c, p[at:])
				at = len(p)
			}
		case action == ktls.ActionData && to > from:
			to += copy(p[to:], record.Content)
		case action == ktls.ActionData:
			from = at - record.Size + r.Opener.Prefix()
			to = from + len(record.Content)
		case action != 0:
			give()
			c.act(action)
		}
		if action == ktls.ActionData {
			c.askForKey()
		}
	}
	give()
	if !c.opens() {
		return 0
	}
	return len(p) - at
}

func (c *Conn) dropPartial() {
	if r := c.records; r.partial != nil {
		c.engine.dropBuffer(r.partial)
		r.partial = nil
	}
}
