package core

import (
	"bytes"
	"errors"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"kloop/ktls"
)

// recordPeer is the other end of a connection with records, over a blocking socket.
type recordPeer struct {
	t      testing.TB
	fd     int
	sealer *ktls.Sealer
	opener *ktls.Opener
	ahead  []byte
}

// recordSuites is one suite for each version and kind of nonce.
var recordSuites = []struct {
	id      uint16
	version ktls.Version
}{{0x1301, ktls.TLS13}, {0x1303, ktls.TLS13}, {0xC02F, ktls.TLS12}, {0xCCA8, ktls.TLS12}}

// recordKeys answers keys of both directions, as often as they are needed.
func recordKeys(t testing.TB, id uint16, v ktls.Version) (client, server *ktls.Traffic) {
	t.Helper()
	s, err := ktls.SuiteOf(id, v)
	if err != nil {
		t.Fatal(err)
	}
	if v == ktls.TLS12 {
		client, server, err = ktls.NewTraffic12(s, make([]byte, 48), make([]byte, 32), make([]byte, 32))
	} else {
		client, err = ktls.NewTraffic13(s, bytes.Repeat([]byte{1}, s.Hash.Size()))
		if err == nil {
			server, err = ktls.NewTraffic13(s, bytes.Repeat([]byte{2}, s.Hash.Size()))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

// records makes a pair of which ours is a server whose handshake is over.
func (w *world) records(id uint16, v ktls.Version) (*Conn, *recorder, *recordPeer, RecordOptions) {
	w.t.Helper()
	return w.recordsFrom(id, v, false, 0)
}

// recordsFrom makes a pair of which ours has a role, and whose next records have number seq.
func (w *world) recordsFrom(id uint16, v ktls.Version, client bool, seq uint64) (*Conn, *recorder, *recordPeer, RecordOptions) {
	w.t.Helper()
	c, r, fd := w.conn()
	keys := func() (ours, peers *ktls.Traffic) {
		ours, peers = recordKeys(w.t, id, v)
		if !client {
			ours, peers = peers, ours
		}
		return ours, peers
	}
	o := RecordOptions{Client: client}
	p := &recordPeer{t: w.t, fd: fd}
	var errs [4]error
	ours, peers := keys()
	o.Opener, errs[0] = ktls.NewOpener(peers, seq)
	o.Sealer, errs[1] = ktls.NewSealer(ours, seq)
	ours, peers = keys()
	p.sealer, errs[2] = ktls.NewSealer(peers, seq)
	p.opener, errs[3] = ktls.NewOpener(ours, seq)
	if err := errors.Join(errs[:]...); err != nil {
		w.t.Fatal(err)
	}
	return c, r, p, o
}

func (p *recordPeer) seal(typ ktls.ContentType, content []byte) []byte {
	p.t.Helper()
	sealed, err := p.sealer.Seal(nil, typ, content)
	if err != nil {
		p.t.Fatal(err)
	}
	return sealed
}

// read answers the next record.
func (p *recordPeer) read() (ktls.ContentType, []byte) {
	for {
		r, err := p.opener.Open(p.ahead)
		if err != nil {
			p.t.Errorf("peer: %v", err)
			return 0, nil
		}
		if r.Size > 0 {
			p.ahead = p.ahead[r.Size:]
			return r.Type, r.Content
		}
		more := make([]byte, 1<<16)
		n, err := unix.Read(p.fd, more)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			p.t.Errorf("peer: read: %d, %v", n, err)
			return 0, nil
		}
		p.ahead = append(p.ahead, more[:n]...)
	}
}

// wantCloseNotify reads the next record, which must be that alert.
func (p *recordPeer) wantCloseNotify() {
	p.t.Helper()
	if typ, content := p.read(); typ != ktls.TypeAlert || !bytes.Equal(content, []byte{1, 0}) {
		p.t.Errorf("type %d, % x instead of close_notify", typ, content)
	}
}

// readData answers n bytes of data, and takes new keys between.
func (p *recordPeer) readData(n int) (got []byte) {
	for len(got) < n {
		typ, content := p.read()
		switch {
		case typ == ktls.TypeData:
			got = append(got, content...)
		case typ == ktls.TypeHandshake:
			if err := p.opener.NextKey(); err != nil {
				p.t.Error(err)
			}
		default:
			p.t.Errorf("peer: a record of type %d: % x", typ, content)
			return got
		}
	}
	return got
}

func start(t testing.TB, c *Conn, o RecordOptions, received []byte) {
	t.Helper()
	if err := c.StartRecords(o, received); err != nil {
		t.Fatal(err)
	}
}

// echoRecords sends what is sealed already, which holds want, and more of these sizes; all must come
// back, and then the end.
func (w *world) echoRecords(c *Conn, r *recorder, p *recordPeer, sealed, want []byte, sizes ...int) {
	w.t.Helper()
	for i, n := range sizes {
		sealed = append(sealed, p.seal(ktls.TypeData, pattern(i, n))...)
		want = append(want, pattern(i, n)...)
	}
	got := make(chan []byte)
	go mustWrite(w.t, p.fd, sealed)
	go func() { got <- p.readData(len(want)) }()
	w.until("all has come", func() bool { return r.got.Len() == len(want) && c.Queued() == 0 })
	if !bytes.Equal(r.got.Bytes(), want) || !bytes.Equal(<-got, want) {
		w.t.Error("other bytes than were sent")
	}
	c.Close()
	w.until("closed", func() bool { return r.closed })
	p.wantCloseNotify()
	if r.err != nil || c.RecordsErr() != nil {
		w.t.Errorf("%v, %v", r.err, c.RecordsErr())
	}
}

// TestRecordsBothWays: an echo through records, of every size, behind what had
// come before they were started.
func TestRecordsBothWays(t *testing.T) {
	for _, s := range recordSuites {
		everyMode(t, func(w *world) {
			c, r, p, o := w.records(s.id, s.version)
			defer CloseDescriptor(p.fd)
			r.echo = true
			early := append(p.seal(ktls.TypeData, []byte("early")), p.seal(ktls.TypeData, pattern(0, 100))...)
			start(w.t, c, o, early[:60])
			sealed := early[60:]
			want := append([]byte("early"), pattern(0, 100)...)
			w.echoRecords(c, r, p, sealed, want, 1, 16384, 16385, 70_000, 1_000_000)
			if _, err := o.Sealer.Seal(nil, ktls.TypeData, nil); err == nil {
				w.t.Error("the key is still there")
			}
		})
	}
}

// TestRecordsInPieces: of one byte each, as the kernel may deliver them.
func TestRecordsInPieces(t *testing.T) {
	for _, s := range recordSuites {
		w := newWorld(t, modes["ring"])
		c, r, p, o := w.records(s.id, s.version)
		sealed := append(p.seal(ktls.TypeData, pattern(1, 300)), p.seal(ktls.TypeData, pattern(2, 30))...)
		start(t, c, o, nil)
		for i := range sealed {
			c.deliver(sealed[i : i+1])
		}
		if want := append(pattern(1, 300), pattern(2, 30)...); !bytes.Equal(r.got.Bytes(), want) {
			t.Error("other bytes than were sent")
		}
		CloseDescriptor(p.fd)
		c.Abort()
		w.until("closed", func() bool { return r.closed })
	}
}

// TestRecordsOwner: sealed bytes need their owner no longer.
func TestRecordsOwner(t *testing.T) {
	everyMode(t, func(w *world) {
		c, _, p, o := w.records(0x1301, ktls.TLS13)
		defer CloseDescriptor(p.fd)
		start(w.t, c, o, nil)
		w.write(c, pattern(1, 50_000))
		if w.released[1] != 1 {
			w.t.Error("the owner is kept")
		}
		w.until("all is sent", func() bool { return c.Queued() == 0 })
		if !bytes.Equal(p.readData(50_000), pattern(1, 50_000)) {
			w.t.Error("other bytes than were sent")
		}
	})
}

// TestRecordsKeyUpdate: the peer's, with an answer, and our own when one is due.
func TestRecordsKeyUpdate(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, p, o := w.records(0x1301, ktls.TLS13)
		defer CloseDescriptor(p.fd)
		start(w.t, c, o, nil)
		for round := range 4 {
			update, err := p.sealer.KeyUpdate(nil, round%2 == 0)
			if err != nil {
				w.t.Fatal(err)
			}
			mustWrite(w.t, p.fd, append(update, p.seal(ktls.TypeData, pattern(round, 1000))...))
			w.until("data", func() bool { return r.got.Len() == 1000*(round+1) })
			c.Write(pattern(round, 500))
			w.until("all is sent", func() bool { return c.Queued() == 0 })
			if !bytes.Equal(p.readData(500), pattern(round, 500)) {
				w.t.Error("other bytes than were sent")
			}
		}
		if n := o.Sealer.Seq(); n != 2 {
			w.t.Errorf("number %d is next: the key was not changed for every request", n)
		}
	})
}

// endRecords has the peer end first, and then this side, behind its answer.
func (w *world) endRecords(c *Conn, r *recorder, p *recordPeer) {
	w.t.Helper()
	mustWrite(w.t, p.fd, append(p.seal(ktls.TypeData, []byte("last")), p.seal(ktls.TypeAlert, []byte{1, 0})...))
	w.until("the end", func() bool { return r.eof })
	if r.got.String() != "last" || r.closed {
		w.t.Errorf("%q, closed %v", r.got.String(), r.closed)
	}
	c.Write([]byte("answer"))
	c.WriteEOF()
	c.Write([]byte("not sent"))
	w.until("all is sent", func() bool { return c.Queued() == 0 && c.shutdown })
	if got := p.readData(6); string(got) != "answer" {
		w.t.Errorf("%q", got)
	}
	p.wantCloseNotify()
	if got := mustRead(w.t, p.fd, 1); len(got) > 0 {
		w.t.Errorf("% x behind close_notify", got)
	}
}

// TestRecordsEnd: close_notify is the peer's end, and ours.
func TestRecordsEnd(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, p, o := w.records(0xC02F, ktls.TLS12)
		defer CloseDescriptor(p.fd)
		start(w.t, c, o, nil)
		w.endRecords(c, r, p)
	})
}

// refusedRecords are what a peer may not send, or sends to end it: the alert that it gets, and the error.
var refusedRecords = map[string]struct {
	send  func(p *recordPeer) []byte
	alert []byte
	errno syscall.Errno
}{
	"corrupt": {func(p *recordPeer) []byte {
		sealed := p.seal(ktls.TypeData, pattern(1, 100))
		sealed[30] ^= 1
		return append(sealed, p.seal(ktls.TypeData, pattern(2, 100))...)
	}, []byte{2, byte(ktls.AlertBadRecordMAC)}, syscall.EBADMSG},
	"too long": {func(*recordPeer) []byte { return []byte{23, 3, 3, 0xff, 0xff} }, []byte{2, byte(ktls.AlertRecordOverflow)}, syscall.EBADMSG},
	"unexpected": {func(p *recordPeer) []byte { return p.seal(ktls.TypeHandshake, []byte{20, 0, 0, 0}) },
		[]byte{2, byte(ktls.AlertUnexpectedMessage)}, syscall.EBADMSG},
	"the peer's alert": {func(p *recordPeer) []byte { return p.seal(ktls.TypeAlert, []byte{2, 20}) }, nil, syscall.EPROTO},
}

// TestRecordsRefused: the peer is told why, and the handler gets an error.
func TestRecordsRefused(t *testing.T) {
	for name, x := range refusedRecords {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, modes["ring"])
			c, r, p, o := w.records(0x1301, ktls.TLS13)
			defer CloseDescriptor(p.fd)
			start(t, c, o, nil)
			mustWrite(t, p.fd, x.send(p))
			w.until("closed", func() bool { return r.closed })
			if r.err == nil || r.err.Err != x.errno || c.RecordsErr() == nil || r.got.Len() > 0 {
				t.Errorf("%v, %v, %d bytes", r.err, c.RecordsErr(), r.got.Len())
			}
			if x.alert == nil {
				return
			}
			if typ, content := p.read(); typ != ktls.TypeAlert || !bytes.Equal(content, x.alert) {
				t.Errorf("type %d, % x, want % x", typ, content, x.alert)
			}
		})
	}
}

// recordListener is a RecordHandler.
type recordListener struct {
	messages []byte
	err      error
	returned bool
	moved    []RecordsOffload
}

func (l *recordListener) Messages(_ *Conn, m []byte)             { l.messages = append(l.messages, m...) }
func (l *recordListener) RecordsFailed(_ *Conn, err error)       { l.err = err }
func (l *recordListener) Returned(_ *Conn)                       { l.returned = true }
func (l *recordListener) RecordsMoved(_ *Conn, o RecordsOffload) { l.moved = append(l.moved, o) }

// TestRecordsMessages: tickets are passed on, and renegotiation is declined.
func TestRecordsMessages(t *testing.T) {
	w := newWorld(t, modes["ring"])
	c, r, p, o := w.records(0x1301, ktls.TLS13)
	defer CloseDescriptor(p.fd)
	o.Client = true
	heard := &recordListener{}
	o.Handler = heard
	start(t, c, o, nil)
	ticket := append([]byte{4, 0, 0, 50}, pattern(1, 50)...)
	mustWrite(t, p.fd, append(p.seal(ktls.TypeHandshake, ticket[:20]), p.seal(ktls.TypeHandshake, ticket[20:])...))
	w.until("a ticket", func() bool { return len(heard.messages) > 0 })
	if !bytes.Equal(heard.messages, ticket) || r.got.Len() > 0 || c.RecordHandler() != heard {
		t.Errorf("% x", heard.messages)
	}
	c.WriteMessages(ticket)
	w.until("it is sent", func() bool { return c.Queued() == 0 })
	if typ, content := p.read(); typ != ktls.TypeHandshake || !bytes.Equal(content, ticket) {
		t.Errorf("type %d, % x", typ, content)
	}
	if err := c.StartRecords(o, nil); err == nil {
		t.Error("records start twice")
	}
	d, _, q, o := w.records(0xC02F, ktls.TLS12)
	defer CloseDescriptor(q.fd)
	start(t, d, o, nil)
	mustWrite(t, q.fd, q.seal(ktls.TypeHandshake, []byte{1, 0, 0, 0}))
	w.until("an answer is sent", func() bool { return o.Sealer.Seq() == 1 && d.Queued() == 0 })
	if typ, content := q.read(); typ != ktls.TypeAlert || !bytes.Equal(content, []byte{1, 100}) {
		t.Errorf("type %d, % x", typ, content)
	}
}

// TestRecordsDoNotAllocate: neither for a record received nor for one sent.
func TestRecordsDoNotAllocate(t *testing.T) {
	w := newWorld(t, modes["ring"])
	c, r, p, o := w.records(0x1301, ktls.TLS13)
	defer CloseDescriptor(p.fd)
	r.discard = true
	start(t, c, o, nil)
	const rounds = 100
	var sealed [][]byte
	for range rounds + 2 {
		sealed = append(sealed, p.seal(ktls.TypeData, pattern(1, 1000)))
	}
	data := pattern(1, 500)
	next := 0
	if n := testing.AllocsPerRun(rounds, func() {
		c.deliver(sealed[next])
		next++
		c.Write(data)
	}); n >= 1 { // a chunk for each 120 records
		t.Errorf("%v allocations", n)
	}
}
