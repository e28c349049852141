package core

import "kloop/ktls"

// sealData queues p as records. The last one stays open for what is written next,
// until the queue is offered to the kernel.
func (c *Conn) sealData(p []byte) {
	e, r := c.engine, c.records
	if r.closed || len(p) == 0 {
		return
	}
	if r.Sealer.KeyUpdateDue() {
		c.updateKey(false)
	}
	e.markDirty(c)
	if r.Workers > 1 && len(p) >= r.Threshold {
		c.sealParallel(p)
		return
	}
	for len(p) > 0 && !r.closed {
		record := c.recordRoom(len(p))
		if r.filled == 0 && len(p) >= len(record) {
			c.sealFrom(p[:len(record)])
			p = p[len(record):]
			continue
		}
		n := copy(record[r.filled:], p)
		r.filled += n
		p = p[n:]
		if r.filled == len(record) {
			c.sealPending()
		}
	}
}

// recordRoom answers memory for the data of the record that is not sealed yet, and begins
// one if there is none. A new one has room for n bytes, or as much as a record holds.
func (c *Conn) recordRoom(n int) []byte {
	e, s := c.engine, c.records.Sealer
	extra := s.Prefix() + s.Suffix()
	if e.sealing != c {
		e.sealPending()
		e.slab = e.slabWith(e.slab, min(n, s.MaxPlaintext())+extra)
		e.sealing, c.records.filled = c, 0
	}
	begin := len(e.slab.p) + s.Prefix()
	size := min(s.MaxPlaintext(), cap(e.slab.p)-len(e.slab.p)-extra)
	return e.slab.p[begin : begin+size]
}

// sealPending seals the record that is open for more, whose ever it is.
func (e *Engine) sealPending() {
	if c := e.sealing; c != nil {
		c.sealAs(ktls.TypeData)
	}
}

// sealPending seals c's record that is open for more, if it has one.
func (c *Conn) sealPending() {
	if c.engine.sealing == c {
		c.sealAs(ktls.TypeData)
	}
}

// sealAs seals the record that is open, and queues it.
func (c *Conn) sealAs(typ ktls.ContentType) {
	r := c.records
	record := c.recordOf(r.filled)
	c.queueRecord(record, r.Sealer.SealInPlace(record, typ, 0))
}

// sealFrom seals p, which fills the record that is open, without copying it there, and queues it.
func (c *Conn) sealFrom(p []byte) {
	record := c.recordOf(len(p))
	c.queueRecord(record, c.records.Sealer.SealFrom(record, ktls.TypeData, p))
}

// recordOf ends the record that is open, and answers its memory, header and tag included, for n bytes of data.
func (c *Conn) recordOf(n int) []byte {
	s, p := c.records.Sealer, c.engine.slab.p
	c.engine.sealing = nil
	return p[len(p) : len(p)+s.Prefix()+n+s.Suffix()]
}

// queueRecord queues a record at the slab's end that has been sealed, unless that failed.
func (c *Conn) queueRecord(record []byte, failed error) {
	e := c.engine
	if failed != nil {
		c.recordsUsedUp(failed)
		return
	}
	e.slab.p = e.slab.p[:len(e.slab.p)+len(record)]
	last := c.queue.last()
	if last != nil && last.buffer == e.slab && cap(last.p)-len(last.p) == cap(record) {
		last.p = last.p[:len(last.p)+len(record)]
		c.queue.bytes += len(record)
	} else {
		e.slab.uses++
		c.queue.push(part{p: record, buffer: e.slab})
	}
	e.markDirty(c)
}

// sealParallel seals much by several goroutines, into memory of its own.
func (c *Conn) sealParallel(p []byte) {
	r := c.records
	c.sealPending()
	memory := make([]byte, 0, r.Sealer.SealedSize(len(p)))
	sealed, err := r.Sealer.SealParallel(memory, ktls.TypeData, p, r.Workers)
	if err != nil {
		c.recordsUsedUp(err)
		return
	}
	c.queue.push(part{p: sealed, buffer: &buffer{p: sealed, uses: 1}})
}

// sealControl queues a record that carries no data.
func (c *Conn) sealControl(typ ktls.ContentType, content []byte) {
	r := c.records
	if r.tx == sideKernel {
		if !r.closed {
			c.queueControl(typ, content, false)
		}
		return
	}
	c.sealPending()
	for len(content) > 0 && !r.closed {
		r.filled = copy(c.recordRoom(len(content)), content)
		content = content[r.filled:]
		c.sealAs(typ)
	}
}

// sealAlert queues an alert, unless alerts are the handshake's implementation's again.
func (c *Conn) sealAlert(a ktls.Alert) {
	if c.records.out != passData {
		return
	}
	content := a.Content()
	c.sealControl(ktls.TypeAlert, content[:])
}

// offerAlert gives the kernel what it takes of the queue of a connection that ends because of its
// records: the alert that says why.
func (c *Conn) offerAlert() {
	if c.RecordsErr() != nil {
		c.offer()
	}
}

// WriteMessages queues handshake messages behind the handshake: the answer to those
// that RecordHandler.Messages was given.
func (c *Conn) WriteMessages(messages []byte) {
	if c.records != nil && c.takesWrites() {
		c.sealControl(ktls.TypeHandshake, messages)
	}
}

// updateKey queues a KeyUpdate, which may ask the peer for one, and goes on with
// the next key.
func (c *Conn) updateKey(request bool) {
	r := c.records
	switch {
	case r.closed, c.closing == closeAborting, c.refused != nil:
		return
	case r.updating && !request:
		return // one that is queued answers every request so far, RFC 8446 section 4.6.3
	}
	message := ktls.KeyUpdateMessage(request)
	if r.tx == sideKernel {
		r.updating = true
		c.queueControl(ktls.TypeHandshake, message[:], true)
		return
	}
	c.sealControl(ktls.TypeHandshake, message[:])
	if err := r.Sealer.NextKey(); err != nil && !r.closed {
		c.recordsUsedUp(err)
	}
}
