package tlsconn

import (
	"crypto/tls"
	"errors"

	"kloop/ktls"
)

// maxShadowMessages bounds what one connection gives to crypto/tls, which takes
// 16 messages in a row that come without data. Two tickets are usual.
const maxShadowMessages = 8

// keepShadow prepares to give crypto/tls the session tickets that a TLS 1.3
// client receives, so that it resumes sessions. It awaits them under the first
// key and with numbers of their own; what is sealed for it never leaves the
// process.
func (c *Conn) keepShadow(t *tls.Conn, s *ktls.Secrets, suite *ktls.Suite) error {
	if !c.client || suite.Version != ktls.TLS13 {
		return nil
	}
	traffic, err := ktls.NewTraffic13(suite, s.Get(ktls.LabelServerTraffic))
	if err == nil {
		c.in.shadow, err = ktls.NewSealer(traffic, 0)
		c.in.shadowOf = t
	}
	return err
}

// showShadow gives crypto/tls handshake messages that came behind the handshake.
func (c *Conn) showShadow(messages []byte) error {
	if c.in.shadow == nil {
		return nil
	}
	record, err := c.in.shadow.Seal(nil, ktls.TypeHandshake, messages)
	if err != nil {
		return err
	}
	c.tap.shadow, c.tap.injected = true, record
	var none [1]byte
	if _, err := c.in.shadowOf.Read(none[:]); !errors.Is(err, errShadowEmpty) {
		return &ktls.RecordError{Alert: ktls.AlertUnexpectedMessage, Reason: "a message after the handshake was refused"}
	}
	if c.in.shown++; c.in.shown == maxShadowMessages {
		c.in.dropShadow()
	}
	return nil
}

func (r *reader) dropShadow() {
	if r.shadow != nil {
		r.shadow.Wipe()
		r.shadow, r.shadowOf = nil, nil
	}
}
