package ktls

import (
	"bytes"
	"errors"
	"testing"
)

func message(kind byte, n int) []byte {
	return append([]byte{kind, byte(n >> 16), byte(n >> 8), byte(n)}, pattern(n)...)
}

func TestControlAlerts(t *testing.T) {
	for _, c := range []struct {
		v       Version
		content []byte
		action  Action
		alert   int  // to be sent, or -1
		peer    bool // the peer's alert is the error
	}{
		{TLS13, []byte{1, 0}, ActionClosed, -1, false},
		{TLS12, []byte{1, 0}, ActionClosed, -1, false},
		{TLS12, []byte{2, 0}, ActionClosed, -1, false},
		{TLS13, []byte{1, 90}, 0, -1, false},
		{TLS12, []byte{1, 100}, 0, -1, false},
		{TLS13, []byte{1, 100}, 0, -1, true},
		{TLS13, []byte{2, 20}, 0, -1, true},
		{TLS12, []byte{2, 20}, 0, -1, true},
		{TLS13, []byte{2}, 0, int(AlertDecodeError), false},
		{TLS12, []byte{1, 0, 1, 0}, 0, int(AlertDecodeError), false},
		{TLS12, nil, 0, int(AlertDecodeError), false},
	} {
		a, err := NewControl(c.v, true).Receive(TypeAlert, c.content)
		var peer *PeerAlertError
		if a != c.action || alertOf(err) != c.alert || errors.As(err, &peer) != c.peer {
			t.Errorf("%s: alert %v: %v, %v", c.v, c.content, a, err)
		}
		if c.peer && byte(peer.Alert) != c.content[1] {
			t.Errorf("the peer's alert is %v", peer)
		}
	}
	if (&PeerAlertError{AlertBadRecordMAC}).Error() != "tls: the peer sent alert bad_record_mac" || Alert(200).String() != "alert(200)" {
		t.Error("alerts are not named")
	}
	if AlertNoRenegotiation.Content() != [2]byte{1, 100} || AlertBadRecordMAC.Content() != [2]byte{2, 20} {
		t.Error("levels of alerts")
	}
}

// TestControlIgnoresBehindClose: RFC 8446 section 6.1.
func TestControlIgnoresBehindClose(t *testing.T) {
	c := NewControl(TLS13, true)
	if a, err := c.Receive(TypeAlert, []byte{1, 0}); a != ActionClosed || err != nil {
		t.Fatal(a, err)
	}
	for _, typ := range []ContentType{TypeData, TypeAlert, TypeHandshake} {
		if a, err := c.Receive(typ, []byte{2, 20}); a != 0 || err != nil {
			t.Errorf("type %d: %v, %v", typ, a, err)
		}
	}
}

// TestControlReassembles: messages in any pieces, and several in one record.
func TestControlReassembles(t *testing.T) {
	stream := append(message(messageTicket, 300), message(messageTicket, 0)...)
	stream = append(stream, message(messageRequest, 1000)...)
	for size := 1; size <= len(stream); size += 1 + size/9 {
		c := NewControl(TLS13, true)
		var got []byte
		for rest := stream; len(rest) > 0; {
			n := min(size, len(rest))
			c.idle = 0
			a, err := c.Receive(TypeHandshake, rest[:n])
			check(t, err)
			if a == ActionMessages {
				got = append(got, c.Messages()...)
			} else if a != 0 {
				t.Fatalf("action %v", a)
			}
			rest = rest[n:]
		}
		equal(t, "messages", got, stream)
		if c.partial != nil {
			t.Error("memory is kept behind whole messages")
		}
	}
}

func TestControlKeyUpdateBehindTicket(t *testing.T) {
	update := KeyUpdateMessage(true)
	c := NewControl(TLS13, true)
	a, err := c.Receive(TypeHandshake, append(message(messageTicket, 9), update[:]...))
	check(t, err)
	if a != ActionMessages|ActionNextKeyIn|ActionKeyUpdateOut || !bytes.Equal(c.Messages(), message(messageTicket, 9)) {
		t.Errorf("%v, %x", a, c.Messages())
	}
}

func TestControlRefuses(t *testing.T) {
	update := KeyUpdateMessage(false)
	for name, c := range map[string]struct {
		v       Version
		client  bool
		typ     ContentType
		content []byte
		alert   Alert
	}{
		"an unknown type":                {TLS13, true, 99, []byte{1}, AlertUnexpectedMessage},
		"an empty handshake record":      {TLS13, true, TypeHandshake, nil, AlertUnexpectedMessage},
		"a ticket for a server":          {TLS13, false, TypeHandshake, message(messageTicket, 9), AlertUnexpectedMessage},
		"a Finished":                     {TLS13, true, TypeHandshake, message(messageFinished, 32), AlertUnexpectedMessage},
		"a ClientHello":                  {TLS13, false, TypeHandshake, message(messageClient, 32), AlertUnexpectedMessage},
		"a long KeyUpdate":               {TLS13, true, TypeHandshake, message(messageKeyUpdate, 2), AlertDecodeError},
		"an unknown KeyUpdate":           {TLS13, true, TypeHandshake, []byte{messageKeyUpdate, 0, 0, 1, 2}, AlertIllegalParameter},
		"a KeyUpdate within a record":    {TLS13, true, TypeHandshake, append(update[:], 4), AlertUnexpectedMessage},
		"a message that is too long":     {TLS13, true, TypeHandshake, []byte{messageTicket, 2, 0, 0}, AlertDecodeError},
		"a handshake message of TLS 1.2": {TLS12, true, TypeHandshake, message(messageTicket, 9), AlertUnexpectedMessage},
		"a HelloRequest for a server":    {TLS12, false, TypeHandshake, message(messageNone, 0), AlertUnexpectedMessage},
	} {
		if a, err := NewControl(c.v, c.client).Receive(c.typ, c.content); a != 0 || alertOf(err) != int(c.alert) {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
	c := NewControl(TLS13, true)
	if _, err := c.Receive(TypeHandshake, message(messageTicket, 9)[:5]); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Receive(TypeData, []byte("x")); alertOf(err) != int(AlertUnexpectedMessage) {
		t.Errorf("data within a message: %v", err)
	}
}

func TestControlRenegotiation(t *testing.T) {
	for _, client := range []bool{true, false} {
		kind := byte(messageClient)
		if client {
			kind = messageNone
		}
		if a, err := NewControl(TLS12, client).Receive(TypeHandshake, message(kind, 0)); a != ActionNoRenegotiation || err != nil {
			t.Errorf("client %v: %v, %v", client, a, err)
		}
	}
}

// TestControlLimitsIdleRecords: a peer can't keep us busy without sending data.
func TestControlLimitsIdleRecords(t *testing.T) {
	for _, v := range []Version{TLS12, TLS13} {
		c := NewControl(v, true)
		for round := range 3 {
			for range maxIdle {
				if a, err := c.Receive(TypeData, nil); a != 0 || err != nil {
					t.Fatal(a, err)
				}
			}
			if round == 2 {
				break
			}
			if a, err := c.Receive(TypeData, []byte{1}); a != ActionData || err != nil {
				t.Fatal(a, err)
			}
		}
		if _, err := c.Receive(TypeData, nil); alertOf(err) != int(AlertUnexpectedMessage) {
			t.Errorf("%v", err)
		}
	}
}
