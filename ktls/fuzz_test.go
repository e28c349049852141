package ktls

import (
	"bytes"
	"slices"
	"testing"
)

func FuzzKeyLog(f *testing.F) {
	for _, id := range []uint16{0x1301, 0x1302, 0xC02F} {
		f.Add([]byte(captured1(f, id).KeyLog))
	}
	f.Add([]byte("CLIENT_RANDOM " + randomA + " " + secret48 + "\r\n#\n\nX Y\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		var one, two Secrets
		if one.ParseKeyLog(log, nil) != nil {
			return
		}
		// What was taken is taken again: no line contradicts another.
		check(t, two.ParseKeyLog(log, nil))
		check(t, two.ParseKeyLog(log, nil))
		if one != two {
			t.Error("parsed twice, it is something else")
		}
	})
}

func FuzzClientHello(f *testing.F) {
	for _, id := range []uint16{0x1301, 0xC02F} {
		p := captured1(f, id).FromC
		f.Add(p[HeaderSize+messageHeaderSize : firstRecord(p)])
		p = withExtension(p[:firstRecord(p)], extensionRecordSizeLimit, 1, 0)
		f.Add(withExtension(p, extensionMaxFragmentLength, 2)[HeaderSize+messageHeaderSize:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := ParseClientHello(body)
		if err == nil && !bytes.Contains(body, h.Random[:]) {
			t.Error("the random is not the message's")
		}
	})
}

func FuzzServerHello(f *testing.F) {
	for _, id := range []uint16{0x1301, 0xC02F} {
		p := captured1(f, id).FromS
		f.Add(p[HeaderSize+messageHeaderSize : firstRecord(p)])
	}
	f.Add(append(append([]byte{3, 3}, retryRandom[:]...), 0, 0x13, 1, 0))
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := ParseServerHello(body)
		if err == nil && (!bytes.Contains(body, h.Random[:]) || h.RetryRequest != (h.Random == retryRandom)) {
			t.Error("the random is not the message's")
		}
	})
}

// FuzzWatch: whatever a handshake is made of, in whatever pieces, the same is seen.
func FuzzWatch(f *testing.F) {
	for _, id := range []uint16{0x1301, 0xC02F} {
		c := captured1(f, id)
		f.Add(c.FromC, c.FromS, uint16(7), true)
		f.Add(c.FromS, c.FromC, uint16(500), false)
	}
	f.Fuzz(func(t *testing.T, sent, received []byte, size uint16, client bool) {
		whole, pieces := NewWatch(client), NewWatch(client)
		whole.Sent(sent)
		whole.Received(received)
		feed(sent, int(size)+1, pieces.Sent)
		feed(received, int(size)+1, pieces.Received)
		if whole.client != pieces.client || whole.server != pieces.server || (whole.Err() == nil) != (pieces.Err() == nil) ||
			whole.Err() == nil && whole.Boundary() != pieces.Boundary() || whole.sent.counted != pieces.sent.counted {
			t.Error("pieces are seen differently")
		}
		var secrets Secrets
		if sealer, opener, err := TakeOver(whole, &secrets); err == nil || sealer != nil || opener != nil {
			t.Error("taken over without secrets")
		}
	})
}

// FuzzOpener: nothing but what was sealed is opened.
func FuzzOpener(f *testing.F) {
	for i := range distinctSuites() {
		f.Add(uint8(i), []byte("plaintext"), uint16(3), uint8(0), []byte{23, 3, 3, 0, 20})
		f.Add(uint8(i), pattern(300), uint16(20), uint8(1), []byte{23, 3, 3, 0, 0})
		f.Add(uint8(i), []byte{}, uint16(0), uint8(255), []byte{22, 3, 3, 0x40, 0})
	}
	f.Fuzz(func(t *testing.T, suite uint8, plain []byte, at uint16, change uint8, tail []byte) {
		list := distinctSuites()
		sealer, opener := pairOf(t, list[int(suite)%len(list)])
		sealed, err := sealer.Seal(nil, TypeData, plain)
		check(t, err)
		altered := slices.Clone(sealed)
		altered[int(at)%len(altered)] ^= change
		p := append(altered, tail...)
		var out []byte
		for {
			r, err := opener.Open(p)
			if err != nil || r.Size == 0 {
				break
			}
			if r.Size > len(p) || r.Type != TypeData {
				t.Fatalf("a record of %d bytes, type %d, of %d", r.Size, r.Type, len(p))
			}
			out = append(out, r.Content...)
			p = p[r.Size:]
		}
		// A TLS 1.3 record's header is authentic too; so is TLS 1.2's, but for nothing.
		if !bytes.HasPrefix(plain, out) || change == 0 && !bytes.Equal(out, plain) || change != 0 && len(plain) <= MaxPlaintext && len(out) > 0 {
			t.Errorf("%d of %d bytes opened, changed by %#x at %d", len(out), len(plain), change, at)
		}
	})
}

// FuzzControl: no content may be taken beyond its bounds, and none is data that
// did not come as such.
func FuzzControl(f *testing.F) {
	update := KeyUpdateMessage(true)
	f.Add(update[:], uint8(TypeHandshake), true, true)
	f.Add(append(message(messageTicket, 30), message(messageRequest, 5)...), uint8(TypeHandshake), true, true)
	f.Add([]byte{2, 20}, uint8(TypeAlert), true, false)
	f.Add([]byte{1, 0}, uint8(TypeAlert), false, false)
	f.Add([]byte{0, 0, 0, 0}, uint8(TypeHandshake), false, true)
	f.Fuzz(func(t *testing.T, content []byte, typ uint8, tls13, client bool) {
		c := &Control{tls13: tls13, client: client}
		split := len(content) / 2
		for _, p := range [][]byte{content[:split], content[split:]} {
			action, err := c.Receive(ContentType(typ), p)
			if err != nil {
				if action != 0 {
					t.Errorf("action %v beside %v", action, err)
				}
				return
			}
			if action&ActionData != 0 && (typ != uint8(TypeData) || len(p) == 0) {
				t.Errorf("type %d is data", typ)
			}
			if action&ActionMessages != 0 && (!tls13 || !client || !bytes.Contains(content, c.Messages())) {
				t.Errorf("messages % x of % x", c.Messages(), content)
			}
		}
	})
}

func FuzzRecordType(f *testing.F) {
	f.Add(RecordTypeControl(TypeAlert))
	f.Add(append(RecordTypeControl(TypeAlert), RecordTypeControl(TypeHandshake)...))
	f.Fuzz(func(t *testing.T, control []byte) {
		if typ := ParseRecordType(control); typ != TypeData && !bytes.Contains(control, []byte{byte(typ)}) {
			t.Errorf("type %d", typ)
		}
	})
}

func FuzzKernelStat(f *testing.F) {
	f.Add([]byte("TlsCurrTxSw                     \t0\nTlsTxSw\t12\n"))
	f.Fuzz(func(t *testing.T, p []byte) { _, _ = ParseKernelStat(p) })
}
