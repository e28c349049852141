package core

import (
	"bytes"
	"syscall"
	"testing"

	"kloop/ktls"
)

// TestKernelRecordsKeyUpdate: the peer's, with an answer and without.
func TestKernelRecordsKeyUpdate(t *testing.T) {
	needKernelTLS(t)
	for _, s := range kernelSuites[:3] {
		everyMode(t, func(w *world) {
			c, r, p, o := w.records(s.id, s.version)
			defer CloseDescriptor(p.fd)
			w.inKernel(c, o, nil)
			for round := range 4 {
				update, err := p.sealer.KeyUpdate(nil, round%2 == 0)
				if err != nil {
					w.t.Fatal(err)
				}
				mustWrite(w.t, p.fd, append(update, p.seal(ktls.TypeData, pattern(round, 1000))...))
				w.until("data", func() bool { return r.got.Len() == 1000*(round+1) })
				if !bytes.Equal(r.got.Bytes()[1000*round:], pattern(round, 1000)) {
					w.t.Error("other bytes than were sent")
				}
				c.Write(pattern(round, 50_000))
				got := make(chan []byte)
				go func() { got <- p.readData(50_000) }()
				w.until("all is sent", func() bool { return c.Queued() == 0 })
				if !bytes.Equal(<-got, pattern(round, 50_000)) {
					w.t.Error("other bytes than were written")
				}
			}
		})
	}
}

// TestKernelRecordsUpdateKeys: our own updates when a key has done its work, and the request
// for the peer's.
func TestKernelRecordsUpdateKeys(t *testing.T) {
	needKernelTLS(t)
	bothDrivers(t, func(t *testing.T, w *world) {
		c, r, p, o := w.recordsFrom(0x1302, ktls.TLS13, true, 1<<23)
		defer CloseDescriptor(p.fd)
		w.inKernel(c, o, nil)
		c.Write([]byte("first"))
		w.until("it is sent", func() bool { return c.Queued() == 0 })
		message := ktls.KeyUpdateMessage(false)
		if typ, content := p.read(); typ != ktls.TypeHandshake || !bytes.Equal(content, message[:]) {
			t.Errorf("type %d, % x", typ, content)
		}
		if err := p.opener.NextKey(); err != nil {
			t.Fatal(err)
		}
		if got := p.readData(5); string(got) != "first" || o.Sealer.Seq() > 2 {
			t.Errorf("%q, number %d", got, o.Sealer.Seq())
		}
		mustWrite(t, p.fd, p.seal(ktls.TypeData, []byte("data")))
		w.until("data", func() bool { return r.got.Len() == 4 && c.Queued() == 0 })
		message = ktls.KeyUpdateMessage(true)
		if typ, content := p.read(); typ != ktls.TypeHandshake || !bytes.Equal(content, message[:]) {
			t.Errorf("type %d, % x", typ, content)
		}
		if err := p.opener.NextKey(); err != nil {
			t.Fatal(err)
		}
		c.CountSealed(0, 1<<23)
		w.until("it is sent", func() bool { return c.Queued() == 0 && o.Sealer.Seq() == 0 })
		c.Write([]byte("last"))
		w.until("it is sent", func() bool { return c.Queued() == 0 })
		if got := p.readData(4); string(got) != "last" {
			t.Errorf("%q", got)
		}
	})
}

// TestKernelRecordsEnd: close_notify is the peer's end, and ours.
func TestKernelRecordsEnd(t *testing.T) {
	needKernelTLS(t)
	for _, s := range kernelSuites {
		bothDrivers(t, func(t *testing.T, w *world) {
			c, r, p, o := w.records(s.id, s.version)
			defer CloseDescriptor(p.fd)
			w.inKernel(c, o, nil)
			w.endRecords(c, r, p)
		})
	}
}

// TestKernelRecordsAbruptEnd: a stream that ends, or is reset, without close_notify.
func TestKernelRecordsAbruptEnd(t *testing.T) {
	needKernelTLS(t)
	bothDrivers(t, func(t *testing.T, w *world) {
		c, r, p, o := w.records(0x1301, ktls.TLS13)
		w.inKernel(c, o, nil)
		sealed := p.seal(ktls.TypeData, pattern(1, 1000))
		mustWrite(t, p.fd, append(sealed, sealed[:100]...))
		CloseDescriptor(p.fd)
		w.until("the end", func() bool { return r.eof })
		if !bytes.Equal(r.got.Bytes(), pattern(1, 1000)) || r.closed {
			t.Errorf("%d bytes, closed %v", r.got.Len(), r.closed)
		}
		d, s, q, o := w.records(0x1301, ktls.TLS13)
		w.inKernel(d, o, nil)
		reset(t, q.fd)
		w.until("closed", func() bool { return s.closed })
		if s.err == nil || s.err.Op != "read" || s.err.Err != syscall.ECONNRESET {
			t.Errorf("%v", s.err)
		}
		e, u, z, o := w.records(0x1301, ktls.TLS13)
		w.inKernel(e, o, nil)
		w.write(e, pattern(1, 8<<20))
		w.until("a backlog", func() bool { return len(u.backlog) > 0 })
		mustWrite(t, z.fd, z.seal(ktls.TypeData, []byte("why")))
		CloseDescriptor(z.fd) // with bytes unread: a reset
		w.until("closed", func() bool { return u.closed })
		if u.err == nil || u.got.String() != "why" {
			t.Errorf("%v, %q", u.err, u.got.String())
		}
	})
}

// TestKernelRecordsRefused: the peer is told why, and the handler gets an error, whether
// receiving or sending meets it first.
func TestKernelRecordsRefused(t *testing.T) {
	needKernelTLS(t)
	for name, x := range refusedRecords {
		for _, writes := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				bothDrivers(t, func(t *testing.T, w *world) {
					c, r, p, o := w.records(0x1301, ktls.TLS13)
					defer CloseDescriptor(p.fd)
					w.inKernel(c, o, nil)
					mustWrite(t, p.fd, x.send(p))
					if writes {
						c.Write([]byte("mine"))
						c.SendNow()
					}
					w.until("closed", func() bool { return r.closed })
					if r.err == nil || r.err.Err != x.errno || c.RecordsErr() == nil || r.got.Len() > 0 {
						t.Errorf("%v, %v, %d bytes", r.err, c.RecordsErr(), r.got.Len())
					}
					if x.alert == nil {
						return
					}
					typ, content := p.read()
					if typ == ktls.TypeData && string(content) == "mine" {
						typ, content = p.read()
					}
					if typ != ktls.TypeAlert || !bytes.Equal(content, x.alert) {
						t.Errorf("type %d, % x, want % x", typ, content, x.alert)
					}
				})
			})
		}
	}
}

// TestKernelRecordsFragments: records stay as short as agreed, also under the next key.
func TestKernelRecordsFragments(t *testing.T) {
	needKernelTLS(t)
	bothDrivers(t, func(t *testing.T, w *world) {
		c, _, p, o := w.records(0x1301, ktls.TLS13)
		defer CloseDescriptor(p.fd)
		if err := o.Sealer.SetMaxPlaintext(512); err != nil {
			t.Fatal(err)
		}
		w.inKernel(c, o, nil)
		for round := range 2 {
			c.Write(pattern(round, 1100))
			w.until("it is sent", func() bool { return c.Queued() == 0 })
			for _, n := range []int{512, 512, 76} {
				if typ, content := p.read(); typ != ktls.TypeData || len(content) != n {
					t.Errorf("type %d, %d bytes, not %d", typ, len(content), n)
				}
			}
			c.updateKey(false)
			w.until("it is sent", func() bool { return c.Queued() == 0 })
			if typ, _ := p.read(); typ != ktls.TypeHandshake {
				t.Errorf("type %d", typ)
			}
			if err := p.opener.NextKey(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
