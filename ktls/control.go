package ktls

// Action is what received content asks for. Several may be set.
type Action uint8

// The actions, in the order in which they are to be done.
const (
	// ActionData: application data, for the application.
	ActionData Action = 1 << iota
	// ActionNextKeyIn: the peer's next record has its next key.
	ActionNextKeyIn
	// ActionKeyUpdateOut: the peer awaits a KeyUpdate, before the next
	// application data that is sent.
	ActionKeyUpdateOut
	// ActionMessages: whole TLS 1.3 handshake messages other than KeyUpdate,
	// in Messages(): tickets and, for a client, requests for a certificate.
	ActionMessages
	// ActionNoRenegotiation: answer the alert no_renegotiation (TLS 1.2).
	ActionNoRenegotiation
	// ActionClosed: the peer has closed its direction by close_notify.
	ActionClosed
)

const (
	messageHeaderSize = 4
	messageNone       = 0 // HelloRequest
	messageClient     = 1 // ClientHello
	messageTicket     = 4 // NewSessionTicket
	messageRequest    = 13
	messageKeyUpdate  = 24

	// maxMessage bounds a handshake message behind the handshake: a
	// CertificateRequest or NewSessionTicket with all its extensions.
	maxMessage = 1 << 17
	// maxIdle bounds records in a row that carry no data, as OpenSSL and
	// crypto/tls do, each with its number: their peer wants our time only.
	maxIdle = 32
)

// Control follows what a peer sends behind the handshake: it tells application
// data from alerts, KeyUpdates and other messages. It knows nothing of how
// records are protected, so it serves Go's record layer and the kernel's.
type Control struct {
	tls13    bool
	client   bool
	closed   bool
	idle     int
	partial  []byte // handshake messages that are not whole
	messages []byte
}

// NewControl makes one for this side of a connection.
func NewControl(v Version, client bool) *Control {
	return &Control{tls13: v == TLS13, client: client}
}

// Messages answers the whole messages of the last ActionMessages, with their
// headers. They are valid until the next Receive.
func (c *Control) Messages() []byte { return c.messages }

// KeyUpdateMessage answers the handshake message, RFC 8446 section 4.6.3.
func KeyUpdateMessage(request bool) [messageHeaderSize + 1]byte {
	m := [messageHeaderSize + 1]byte{messageKeyUpdate, 0, 0, 1, 0}
	if request {
		m[messageHeaderSize] = 1
	}
	return m
}

// Receive takes a record's content and answers what to do. Its errors are
// *RecordError, whose alert is to be sent, and *PeerAlertError. Application data
// costs no allocation.
func (c *Control) Receive(typ ContentType, content []byte) (Action, error) {
	if c.closed {
		return 0, nil // what follows close_notify is ignored, RFC 8446 section 6.1
	}
	if typ != TypeHandshake && len(c.partial) > 0 {
		return 0, &RecordError{AlertUnexpectedMessage, "a record within a handshake message"}
	}
	if typ == TypeData && len(content) > 0 {
		c.idle = 0
		return ActionData, nil
	}
	if c.idle++; c.idle > maxIdle {
		return 0, &RecordError{AlertUnexpectedMessage, "too many records without data"}
	}
	switch typ {
	case TypeData:
		return 0, nil
	case TypeAlert:
		return c.alert(content)
	case TypeHandshake:
		if len(content) == 0 {
			return 0, &RecordError{AlertUnexpectedMessage, "an empty handshake record"}
		}
		if c.tls13 {
			return c.handshake13(content)
		}
		return c.handshake12(content)
	}
	return 0, &RecordError{AlertUnexpectedMessage, "a record of an unexpected type"}
}

func (c *Control) alert(content []byte) (Action, error) {
	if len(content) != alertSize {
		return 0, &RecordError{AlertDecodeError, "an alert record does not hold one alert"}
	}
	level, a := content[0], Alert(content[1])
	switch {
	case a == AlertCloseNotify:
		c.closed = true
		return ActionClosed, nil
	case a == AlertUserCanceled:
		return 0, nil // close_notify follows
	case !c.tls13 && level == alertWarning:
		return 0, nil
	}
	return 0, &PeerAlertError{a}
}

// handshake12 refuses a new handshake: one that this side would have to make
// with keys that are no longer here.
func (c *Control) handshake12(content []byte) (Action, error) {
	if c.client && content[0] == messageNone || !c.client && content[0] == messageClient {
		return ActionNoRenegotiation, nil
	}
	return 0, &RecordError{AlertUnexpectedMessage, "a handshake message after the handshake"}
}

// handshake13 puts messages together and acts on the whole ones.
func (c *Control) handshake13(content []byte) (action Action, err error) {
	c.messages = c.messages[:0]
	c.partial = append(c.partial, content...)
	rest := c.partial
	for len(rest) >= messageHeaderSize {
		n := messageHeaderSize + (int(rest[1])<<16 | int(rest[2])<<8 | int(rest[3]))
		if err := c.checkMessage(rest[0], n); err != nil {
			return 0, err
		}
		if len(rest) < n {
			break
		}
		if rest[0] != messageKeyUpdate {
			c.messages = append(c.messages, rest[:n]...)
			action |= ActionMessages
			rest = rest[n:]
			continue
		}
		if len(rest) > n {
			return 0, &RecordError{AlertUnexpectedMessage, "a KeyUpdate does not end its record"}
		}
		switch rest[messageHeaderSize] {
		case 0:
			action |= ActionNextKeyIn
		case 1:
			action |= ActionNextKeyIn | ActionKeyUpdateOut
		default:
			return 0, &RecordError{AlertIllegalParameter, "a KeyUpdate with an unknown request"}
		}
		rest = rest[n:]
	}
	if len(rest) == 0 {
		c.partial = nil // idle connections keep nothing
	} else {
		c.partial = append(c.partial[:0], rest...)
	}
	return action, nil
}

// checkMessage judges a message by its header.
func (c *Control) checkMessage(kind byte, n int) error {
	switch {
	case kind == messageKeyUpdate && n != messageHeaderSize+1:
		return &RecordError{AlertDecodeError, "a KeyUpdate of a wrong size"}
	case kind != messageKeyUpdate && !(c.client && (kind == messageTicket || kind == messageRequest)):
		return &RecordError{AlertUnexpectedMessage, "a handshake message after the handshake"}
	case n > maxMessage:
		return &RecordError{AlertDecodeError, "a handshake message is too long"}
	}
	return nil
}
