package ktls

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// captured1 answers the capture of a suite.
func captured1(t testing.TB, id uint16) *capture {
	t.Helper()
	text, err := os.ReadFile(captureFile)
	check(t, err)
	var list []capture
	check(t, json.Unmarshal(text, &list))
	for i := range list {
		if list[i].Suite == id {
			return &list[i]
		}
	}
	t.Fatalf("suite %#x is not captured", id)
	return nil
}

// watched answers a Watch behind the captured handshake, as the client or the
// server saw it, changed by change before that.
func watched(t *testing.T, c *capture, client bool, change func(fromC, fromS []byte) ([]byte, []byte)) *Watch {
	t.Helper()
	s := suiteOf(t, c.Suite)
	fromC, _ := c.split(t, s, c.FromC, LabelClientHandshake)
	fromS, rest := c.split(t, s, c.FromS, LabelServerHandshake)
	if s.Version == TLS13 && !client {
		fromS = c.FromS[:len(fromS)+c.tickets(t, s, rest)]
	}
	fromC, fromS = slices.Clone(fromC), slices.Clone(fromS)
	if change != nil {
		fromC, fromS = change(fromC, fromS)
	}
	w := NewWatch(client)
	mine, theirs := w.Sent, w.Received
	if !client {
		mine, theirs = theirs, mine
	}
	n, m := min(firstRecord(fromC), len(fromC)), min(firstRecord(fromS), len(fromS))
	mine(fromC[:n])
	theirs(fromS[:m])
	mine(fromC[n:])
	theirs(fromS[m:])
	return w
}

// withExtension puts an extension into the hello that is the first record.
func withExtension(record []byte, kind uint16, data ...byte) []byte {
	message := record[HeaderSize:]
	at := messageHeaderSize + 2 + randomSize
	at += 1 + int(message[at]) // session id
	if message[0] == messageClient {
		at += 2 + int(binary.BigEndian.Uint16(message[at:]))
		at += 1 + int(message[at])
	} else {
		at += 3
	}
	extension := binary.BigEndian.AppendUint16(nil, kind)
	extension = binary.BigEndian.AppendUint16(extension, uint16(len(data)))
	extension = append(extension, data...)
	out := slices.Insert(slices.Clone(record), HeaderSize+at+2, extension...)
	for _, field := range []int{3, HeaderSize + 2, HeaderSize + at} {
		binary.BigEndian.PutUint16(out[field:], binary.BigEndian.Uint16(out[field:])+uint16(len(extension)))
	}
	return out
}

// TestTakeOverLimits: records are as short as either hello asks for.
func TestTakeOverLimits(t *testing.T) {
	for _, id := range []uint16{0x1301, 0xC02F} {
		c := captured1(t, id)
		less := 0
		if id == 0x1301 {
			less = 1 // record_size_limit counts the type
		}
		for _, x := range []struct {
			client bool
			kind   uint16
			data   []byte
			want   int // or 0: refused
		}{
			{false, extensionMaxFragmentLength, []byte{1}, 512},
			{true, extensionMaxFragmentLength, []byte{4}, 4096},
			{false, extensionMaxFragmentLength, []byte{9}, MaxPlaintext},
			{false, extensionRecordSizeLimit, []byte{0x02, 0x00}, 512 - less},
			{false, extensionRecordSizeLimit, []byte{0, 64}, 64 - less},
			{false, extensionRecordSizeLimit, []byte{0x40, 0x01}, MaxPlaintext},
			{false, extensionRecordSizeLimit, []byte{0, 63}, 0},
			{true, extensionRecordSizeLimit, []byte{0x02, 0x00}, 0},
		} {
			w := watched(t, c, x.client, func(fromC, fromS []byte) ([]byte, []byte) {
				n := firstRecord(fromC)
				return append(withExtension(fromC[:n], x.kind, x.data...), fromC[n:]...), fromS
			})
			sealer, _, err := TakeOver(w, c.secrets(t))
			var u *UnsupportedError
			switch {
			case x.want == 0 && !errors.As(err, &u):
				t.Errorf("%#x: extension %d of % x: %v", id, x.kind, x.data, err)
			case x.want != 0 && err != nil:
				t.Errorf("%#x: extension %d of % x: %v", id, x.kind, x.data, err)
			case x.want != 0 && sealer.MaxPlaintext() != x.want:
				t.Errorf("%#x: extension %d of % x: %d bytes, want %d", id, x.kind, x.data, sealer.MaxPlaintext(), x.want)
			}
		}
	}
}

// TestTakeOverRefuses: each reason is named, and nothing is derived.
func TestTakeOverRefuses(t *testing.T) {
	same := func(c, s []byte) ([]byte, []byte) { return c, s }
	for name, x := range map[string]struct {
		id     uint16
		client bool
		change func(c, s []byte) ([]byte, []byte)
		log    func(string) string
	}{
		"no hello has been seen": {0xC02F, true, func(_, _ []byte) ([]byte, []byte) { return nil, nil }, nil},
		"within a record":        {0xC02F, true, func(c, s []byte) ([]byte, []byte) { return c, s[:len(s)-1] }, nil},
		"ChangeCipherSpec": {0xC02F, true, func(c, s []byte) ([]byte, []byte) {
			return c, s[:firstRecord(s)]
		}, nil},
		"compressed": {0xC02F, true, func(c, s []byte) ([]byte, []byte) {
			at := HeaderSize + messageHeaderSize + 2 + randomSize
			s[at+1+int(s[at])+2] = 1
			return c, s
		}, nil},
		"cipher suite 0xC013": {0xC02F, true, func(c, s []byte) ([]byte, []byte) {
			at := HeaderSize + messageHeaderSize + 2 + randomSize
			s[at+1+int(s[at])+1] = 0x13
			return c, s
		}, nil},
		"has no CLIENT_RANDOM":           {0xC02F, true, same, func(string) string { return "" }},
		"has no SERVER_TRAFFIC_SECRET_0": {0x1301, true, same, func(s string) string { return strings.ReplaceAll(s, "SERVER_TRAFFIC", "OTHER_TRAFFIC") }},
		"has not the size of":            {0x1301, true, same, func(s string) string { return strings.ReplaceAll(s, "\n", strings.Repeat("00", 16)+"\n") }},
		"does not open this side's own Finished": {0xC02F, false, same, func(s string) string {
			return s[:len(s)-3] + "00\n"
		}},
	} {
		c := captured1(t, x.id)
		var s Secrets
		log := c.KeyLog
		if x.log != nil {
			log = x.log(onlySecrets(log))
		}
		check(t, s.ParseKeyLog([]byte(log), nil))
		sealer, opener, err := TakeOver(watched(t, c, x.client, x.change), &s)
		var u *UnsupportedError
		if !errors.As(err, &u) || !strings.Contains(err.Error(), name) || sealer != nil || opener != nil {
			t.Errorf("%v, want %q", err, name)
		}
	}
}

// onlySecrets drops comments.
func onlySecrets(log string) string {
	var out string
	for line := range strings.Lines(log) {
		if line[0] != '#' {
			out += line
		}
	}
	return out
}

// TestTooManyTickets: where the first ticket is no longer known, so is the number.
func TestTooManyTickets(t *testing.T) {
	c := captured1(t, 0x1301)
	for _, n := range []int{0, 1, maxKept - 1, maxKept, maxKept + 3} {
		w := watched(t, c, true, nil)
		w.isClient = false
		w.sent = stream{keep: true}
		traffic, err := NewTraffic13(suiteOf(t, 0x1301), c.secrets(t).Get(LabelServerTraffic))
		check(t, err)
		tickets, err := NewSealer(traffic, 0)
		check(t, err)
		w.Sent([]byte{23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
		for range n {
			record, err := tickets.Seal(nil, TypeHandshake, message(messageTicket, 100))
			check(t, err)
			w.Sent(record)
		}
		sealer, _, err := TakeOver(w, c.secrets(t))
		var u *UnsupportedError
		switch {
		case n <= maxKept && (err != nil || sealer.Seq() != uint64(n)):
			t.Errorf("%d tickets: %v", n, err)
		case n > maxKept && !errors.As(err, &u):
			t.Errorf("%d tickets: %v", n, err)
		}
	}
}

func TestHelloRetryRequest(t *testing.T) {
	body := append([]byte{3, 3}, retryRandom[:]...)
	body = append(body, 0, 0x13, 1, 0, 0, 6, 0, 43, 0, 2, 3, 4)
	h, err := ParseServerHello(body)
	check(t, err)
	if !h.RetryRequest || h.Version != TLS13 || h.Suite != 0x1301 {
		t.Errorf("%+v", h)
	}
	// Behind it, the ServerHello counts.
	c := captured1(t, 0x1302)
	retry := append([]byte{22, 3, 3, 0, byte(len(body) + 4), messageServerHello, 0, 0, byte(len(body))}, body...)
	w := watched(t, c, true, func(fromC, fromS []byte) ([]byte, []byte) {
		middlebox := []byte{20, 3, 3, 0, 1, 1}
		return fromC, slices.Concat(retry, middlebox, fromS)
	})
	sealer, _, err := TakeOver(w, c.secrets(t))
	check(t, err)
	if sealer.Suite().ID != 0x1302 {
		t.Errorf("suite %s", sealer.Suite().Name)
	}
}

// TestHellosAreChecked: whatever is cut off, a hello is malformed, unless it
// has no extensions at all.
func TestHellosAreChecked(t *testing.T) {
	c := captured1(t, 0x1301)
	hello := c.FromC[HeaderSize+messageHeaderSize : firstRecord(c.FromC)]
	want, err := ParseClientHello(hello)
	check(t, err)
	if want.Random == [randomSize]byte{} {
		t.Error("no random")
	}
	complete := 0
	for n := range hello {
		if _, err := ParseClientHello(hello[:n]); err == nil {
			complete++
		} else if !strings.Contains(err.Error(), "ClientHello") {
			t.Error(err)
		}
	}
	answer := c.FromS[HeaderSize+messageHeaderSize : firstRecord(c.FromS)]
	for n := range answer {
		if _, err := ParseServerHello(answer[:n]); err == nil {
			complete++
		}
	}
	if complete != 2 {
		t.Errorf("%d cut hellos are taken, not 2", complete)
	}
	if _, err := ParseClientHello(append(slices.Clone(hello), 0)); err == nil {
		t.Error("a hello with something behind it is taken")
	}
	w := NewWatch(true)
	w.Sent([]byte{22, 3, 1, 0, 4, messageClient, 1, 0, 1})
	if w.Err() == nil || w.ClientRandom() != nil {
		t.Errorf("a hello of 64 KiB: %v", w.Err())
	}
	if _, _, ok := w.Hellos(); ok {
		t.Error("hellos of nothing")
	}
}

// BenchmarkTakeOver is what the hand-over of one connection costs: bytes, key log, keys.
func BenchmarkTakeOver(b *testing.B) {
	text, err := os.ReadFile(captureFile)
	check(b, err)
	var captures []capture
	check(b, json.Unmarshal(text, &captures))
	for _, id := range []uint16{0x1301, 0x1302, 0xC02F} {
		for _, c := range captures {
			if c.Suite != id {
				continue
			}
			s := suiteOf(b, id)
			handC, _ := c.split(b, s, c.FromC, LabelClientHandshake)
			handS, restS := c.split(b, s, c.FromS, LabelServerHandshake)
			if s.Version == TLS13 {
				handS = append(slices.Clone(handS), restS[:c.tickets(b, s, restS)]...)
			}
			for _, client := range []bool{true, false} {
				b.Run(fmt.Sprintf("%s/client=%v", s.Name, client), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						w := NewWatch(client)
						if client {
							w.Received(handS)
							w.Sent(handC)
						} else {
							w.Sent(handS)
							w.Received(handC)
						}
						var secrets Secrets
						check(b, secrets.ParseKeyLog([]byte(c.KeyLog), w.ClientRandom()))
						sealer, opener, err := TakeOver(w, &secrets)
						check(b, err)
						NewShadow(sealer, opener)
					}
				})
			}
		}
	}
}
