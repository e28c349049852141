package core

import (
	"bytes"
	"testing"

	"kloop/ktls"
)

// implementation stands for the one that made a TLS 1.2 handshake: it has the keys and numbers of
// its end, and knows nothing of what was sent since.
type implementation struct {
	t      *testing.T
	sealer *ktls.Sealer
	opener *ktls.Opener
}

// take opens what the engine has made for it.
func (i *implementation) take(p []byte) (types []ktls.ContentType, contents []string) {
	for len(p) > 0 {
		r, err := i.opener.Open(p)
		if err != nil || r.Size == 0 {
			i.t.Fatalf("%d bytes left: %v", len(p), err)
		}
		types, contents = append(types, r.Type), append(contents, string(r.Content))
		p = p[r.Size:]
	}
	return types, contents
}

// TestRecordsReturned: a peer that wants another handshake speaks with the implementation of the
// first one, in records that either understands, until each direction has changed its cipher.
func TestRecordsReturned(t *testing.T) {
	for _, id := range []uint16{0xC02F, 0xCCA8} {
		bothDrivers(t, func(t *testing.T, w *world) {
			c, r, p, o := w.records(id, ktls.TLS12)
			defer CloseDescriptor(p.fd)
			client, server := recordKeys(t, id, ktls.TLS12)
			own := &implementation{t: t}
			var err error
			if own.opener, err = ktls.NewOpener(client, 0); err != nil {
				t.Fatal(err)
			}
			own.opener.AllowChange()
			if own.sealer, err = ktls.NewSealer(server, 0); err != nil {
				t.Fatal(err)
			}
			p.opener.AllowChange()
			heard := &recordListener{}
			o.Handler, o.Shadow = heard, ktls.NewShadow(o.Sealer, o.Opener)
			start(t, c, o, nil)

			// Data moves the numbers on, of which the implementation knows nothing.
			c.Write([]byte("data"))
			mustWrite(t, p.fd, p.seal(ktls.TypeData, []byte("data")))
			w.until("data", func() bool { return r.got.String() == "data" && c.Queued() == 0 })
			p.readData(4)
			r.got.Reset()

			hello := "\x01\x00\x00\x02hi" // a ClientHello, to a server
			mustWrite(t, p.fd, p.seal(ktls.TypeHandshake, []byte(hello)))
			w.until("it is asked for", func() bool { return heard.returned && r.got.Len() > 0 })
			types, contents := own.take(bytes.Clone(r.got.Bytes()))
			if len(types) != 1 || types[0] != ktls.TypeHandshake || contents[0] != hello {
				t.Errorf("%v %q", types, contents)
			}
			r.got.Reset()

			// Its answer, and data that was written before it took over.
			c.Write([]byte("late"))
			c.ReturnRecords()
			answer, err := own.sealer.Seal(nil, ktls.TypeHandshake, []byte("answer"))
			if err != nil {
				t.Fatal(err)
			}
			answer, err = own.sealer.Seal(answer, ktls.TypeChangeCipherSpec, []byte{1})
			if err != nil {
				t.Fatal(err)
			}
			c.Write(append(answer, "as it is"...))
			w.until("it is sent", func() bool { return c.Queued() == 0 })
			for _, want := range []string{"late", "answer", "\x01"} {
				if _, content := p.read(); string(content) != want {
					t.Errorf("%q instead of %q", content, want)
				}
			}
			if rest := p.rest(len("as it is")); rest != "as it is" {
				t.Errorf("%q", rest)
			}

			// The other direction, all in one receive.
			all := append(p.seal(ktls.TypeData, []byte("data")), p.seal(ktls.TypeChangeCipherSpec, []byte{1})...)
			mustWrite(t, p.fd, append(all, "raw"...))
			w.until("it comes", func() bool { return bytes.HasSuffix(r.got.Bytes(), []byte("raw")) })
			mustWrite(t, p.fd, []byte(" and more"))
			w.until("it comes", func() bool { return bytes.HasSuffix(r.got.Bytes(), []byte("raw and more")) })
			_, contents = own.take(bytes.TrimSuffix(r.got.Bytes(), []byte("raw and more")))
			if len(contents) != 2 || contents[0] != "data" || contents[1] != "\x01" {
				t.Errorf("%q", contents)
			}
			c.Close()
			w.until("closed", func() bool { return r.closed })
			if r.err != nil || c.RecordsErr() != nil {
				t.Errorf("%v, %v", r.err, c.RecordsErr())
			}
		})
	}
}

// rest answers n bytes that are no records.
func (p *recordPeer) rest(n int) string {
	for len(p.ahead) < n {
		p.ahead = append(p.ahead, mustRead(p.t, p.fd, n-len(p.ahead))...)
	}
	rest := string(p.ahead[:n])
	p.ahead = p.ahead[n:]
	return rest
}
