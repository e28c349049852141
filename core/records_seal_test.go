package core

import (
	"bytes"
	"testing"

	"kloop/ktls"
)

// TestRecordsArePacked: what is written in one turn is one record, as far as it fits,
// with what other connections write between.
func TestRecordsArePacked(t *testing.T) {
	everyMode(t, func(w *world) {
		c, _, p, o := w.records(0x1301, ktls.TLS13)
		defer CloseDescriptor(p.fd)
		d, _, q, other := w.records(0xC02F, ktls.TLS12)
		defer CloseDescriptor(q.fd)
		start(w.t, c, o, nil)
		start(w.t, d, other, nil)
		c.Write([]byte("one "))
		w.write(c, []byte("two "))
		c.Write([]byte("three"))
		if c.Queued() != 13 {
			w.t.Errorf("%d bytes are queued", c.Queued())
		}
		d.Write([]byte("another's"))
		c.Write([]byte("four"))
		w.until("all is sent", func() bool { return c.Queued()+d.Queued() == 0 })
		for _, want := range []string{"one two three", "four"} {
			if typ, content := p.read(); typ != ktls.TypeData || string(content) != want {
				w.t.Errorf("%q in a record instead of %q", content, want)
			}
		}
		if _, content := q.read(); string(content) != "another's" {
			w.t.Errorf("%q", content)
		}
	})
}

// TestRecordsOfManySizes: whatever the sizes and the order, the slab's end among them.
func TestRecordsOfManySizes(t *testing.T) {
	for _, s := range recordSuites {
		everyMode(t, func(w *world) {
			c, _, p, o := w.records(s.id, s.version)
			defer CloseDescriptor(p.fd)
			start(w.t, c, o, nil)
			var want []byte
			for i := range 300 {
				n := (i * i * 37) % 40_000
				want = append(want, pattern(i, n)...)
				w.write(c, pattern(i, n))
				if i%7 == 0 {
					w.poll(0)
				}
			}
			got := make(chan []byte)
			go func() { got <- p.readData(len(want)) }()
			w.until("all is sent", func() bool { return c.Queued() == 0 })
			if !bytes.Equal(<-got, want) {
				w.t.Error("other bytes than were sent")
			}
		})
	}
}

// TestRecordsInParallel: a large write between small ones, sealed by several goroutines.
func TestRecordsInParallel(t *testing.T) {
	everyMode(t, func(w *world) {
		c, _, p, o := w.records(0x1301, ktls.TLS13)
		defer CloseDescriptor(p.fd)
		o.Workers, o.Threshold = 3, 100_000
		start(w.t, c, o, nil)
		want := append(append([]byte("before"), pattern(1, 1_000_000)...), "behind"...)
		got := make(chan []byte)
		go func() { got <- p.readData(len(want)) }()
		c.Write([]byte("before"))
		w.write(c, pattern(1, 1_000_000))
		c.Write([]byte("behind"))
		w.until("all is sent", func() bool { return c.Queued() == 0 })
		if !bytes.Equal(<-got, want) {
			w.t.Error("other bytes than were sent")
		}
	})
}

// TestRecordsAborted: with a record that is not sealed yet, and others that are in the kernel's hands.
func TestRecordsAborted(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, p, o := w.records(0x1301, ktls.TLS13)
		defer CloseDescriptor(p.fd)
		start(w.t, c, o, nil)
		w.write(c, pattern(1, 10_000_000)) // more than the socket takes
		w.quiet()
		c.Write([]byte("open"))
		c.Abort()
		w.until("closed", func() bool { return r.closed })
		if w.e.sealing != nil || r.err != nil {
			w.t.Errorf("%v, %v", w.e.sealing, r.err)
		}
		d, _, q, other := w.records(0x1301, ktls.TLS13)
		defer CloseDescriptor(q.fd)
		start(w.t, d, other, nil)
		d.Write([]byte("next"))
		w.until("all is sent", func() bool { return d.Queued() == 0 })
		if got := q.readData(4); string(got) != "next" {
			w.t.Errorf("%q", got)
		}
	})
}

// TestRecordsCloseNotify: it ends what is sent, and what comes still comes.
func TestRecordsCloseNotify(t *testing.T) {
	everyMode(t, func(w *world) {
		c, r, p, o := w.records(0x1301, ktls.TLS13)
		defer CloseDescriptor(p.fd)
		o.SilentClose = true
		start(w.t, c, o, nil)
		c.Write([]byte("last"))
		c.CloseNotify()
		c.Write([]byte("not sent"))
		w.until("all is sent", func() bool { return c.Queued() == 0 })
		if got := p.readData(4); string(got) != "last" {
			w.t.Errorf("%q", got)
		}
		p.wantCloseNotify()
		mustWrite(w.t, p.fd, p.seal(ktls.TypeData, []byte("answer")))
		w.until("it comes", func() bool { return r.got.String() == "answer" })
		if c.PeerNotified() {
			w.t.Error("the peer has not said that it ends")
		}
		mustWrite(w.t, p.fd, p.seal(ktls.TypeAlert, []byte{1, 0}))
		w.until("the end", func() bool { return r.eof })
		if !c.PeerNotified() {
			w.t.Error("the peer has said that it ends")
		}
		c.Close()
		w.until("closed", func() bool { return r.closed })
		if got := mustRead(w.t, p.fd, 1); len(got) > 0 {
			w.t.Errorf("% x behind close_notify", got)
		}
	})
}

// TestRecordsOfOneReceive: data of many records that come together is given at once, and stays
// valid until the next poll, as does what a record held that came in two parts.
func TestRecordsOfOneReceive(t *testing.T) {
	w := newWorld(t, modes["ring"])
	c, r, p, o := w.records(0x1301, ktls.TLS13)
	defer CloseDescriptor(p.fd)
	start(t, c, o, nil)
	var given [][]byte
	c.handler = &keeper{recorder: r, keep: func(p []byte) { given = append(given, p) }}
	var sealed, want []byte
	for i := range 40 {
		sealed = append(sealed, p.seal(ktls.TypeData, pattern(i, 100+i))...)
		want = append(want, pattern(i, 100+i)...)
	}
	c.deliver(sealed[:1000])
	c.deliver(sealed[1000:])
	if len(given) != 3 { // of whole records, of the one in two parts, of those behind it
		t.Errorf("data came in %d pieces", len(given))
	}
	if !bytes.Equal(bytes.Join(given, nil), want) {
		t.Error("other bytes than were sent")
	}
	c.Abort()
	w.until("closed", func() bool { return r.closed })
}

// keeper is a recorder that keeps what it is given, and not a copy.
type keeper struct {
	*recorder
	keep func(p []byte)
}

func (k *keeper) Received(_ *Conn, p []byte) { k.keep(p) }

// TestKeepData: what handlers were given may be kept beyond the next flush.
func TestKeepData(t *testing.T) {
	bothDrivers(t, func(t *testing.T, w *world) {
		c, r, peer := w.conn()
		defer CloseDescriptor(peer)
		c.Resume()
		w.e.KeepData(true)
		mustWrite(t, peer, []byte("data"))
		w.until("it comes", func() bool { return r.got.Len() == 4 })
		w.quiet()
		if out := w.e.Stats().Driver.BuffersOut; out == 0 {
			t.Error("its buffer was given back")
		}
		w.e.KeepData(false)
		w.quiet()
		if out := w.e.Stats().Driver.BuffersOut; out != 0 {
			t.Errorf("%d buffers are still kept", out)
		}
	})
}
