package ktls

// Watch follows a handshake that something else makes, by the bytes it sends
// and receives: for suite, version and randoms, and for the numbers that the
// records behind it go on with. It belongs to one goroutine at a time.
type Watch struct {
	isClient       bool
	sent, received stream
	client         ClientHello
	server         ServerHello
	clientKnown    bool
	serverKnown    bool
	err            error
}

const (
	messageServerHello = 2
	messageFinished    = 20

	// maxHello bounds a hello, which may come in several records.
	maxHello = 1 << 16
	// maxKept bounds the protected records that are kept to be tried: a TLS 1.3
	// server's tickets, at most.
	maxKept = 16
)

// stream is one direction.
type stream struct {
	record  []byte // the record that is not whole
	message []byte // the handshake message that is not whole
	counted int    // records since ChangeCipherSpec
	changed bool   // ChangeCipherSpec has been seen
	keep    bool
	kept    [][]byte // the last protected records
	dropped bool     // there were more
}

// NewWatch makes one for the handshake of a client or a server.
func NewWatch(client bool) *Watch {
	return &Watch{isClient: client, sent: stream{keep: true}}
}

// Sent takes what this side's handshake has given out, in any pieces.
func (w *Watch) Sent(p []byte) { w.follow(&w.sent, p, w.isClient) }

// Received takes what this side's handshake has been given, in any pieces.
func (w *Watch) Received(p []byte) { w.follow(&w.received, p, !w.isClient) }

// ClientRandom answers the ClientHello's, or nil before it.
func (w *Watch) ClientRandom() []byte {
	if !w.clientKnown {
		return nil
	}
	return w.client.Random[:]
}

// Hellos answers both hellos. ok is false before the ServerHello.
func (w *Watch) Hellos() (client ClientHello, server ServerHello, ok bool) {
	return w.client, w.server, w.clientKnown && w.serverKnown
}

// Boundary reports whether both directions are between two records.
func (w *Watch) Boundary() bool { return len(w.sent.record) == 0 && len(w.received.record) == 0 }

// Err answers why the handshake could not be followed, or nil.
func (w *Watch) Err() error { return w.err }

func (w *Watch) follow(s *stream, p []byte, fromClient bool) {
	for len(p) > 0 && w.err == nil {
		n := HeaderSize
		if h, ok := ParseHeader(s.record); ok {
			n += h.Length
		}
		if missing := n - len(s.record); len(p) < missing {
			s.record = append(s.record, p...)
			return
		} else {
			s.record = append(s.record, p[:missing]...)
			p = p[missing:]
		}
		if h, _ := ParseHeader(s.record); len(s.record) == HeaderSize+h.Length {
			w.whole(s, h, fromClient)
			s.record = s.record[:0]
		}
	}
}

// whole takes a whole record, which is in s.record.
func (w *Watch) whole(s *stream, h Header, fromClient bool) {
	protected := s.changed || h.Type == TypeData
	if s.changed {
		s.counted++
	}
	if protected && s.keep {
		s.keepRecord()
	}
	switch {
	case h.Type == TypeChangeCipherSpec && w.serverKnown && w.server.Version == TLS12:
		s.changed = true // TLS 1.3 has it for middleboxes only
	case h.Type == TypeHandshake && !protected:
		w.handshake(s, s.record[HeaderSize:], fromClient)
	}
}

func (s *stream) keepRecord() {
	if len(s.kept) == maxKept {
		s.dropped = true
		copy(s.kept, s.kept[1:])
		s.kept = s.kept[:maxKept-1]
	}
	s.kept = append(s.kept, append([]byte(nil), s.record...))
}

// handshake looks for the hello of this direction.
func (w *Watch) handshake(s *stream, content []byte, fromClient bool) {
	if fromClient && w.clientKnown || !fromClient && w.serverKnown {
		return
	}
	s.message = append(s.message, content...)
	for len(s.message) >= messageHeaderSize && w.err == nil {
		m := s.message
		n := messageHeaderSize + (int(m[1])<<16 | int(m[2])<<8 | int(m[3]))
		if n > maxHello {
			w.err = unsupported("a handshake message of %d bytes", n)
			return
		}
		if len(m) < n {
			return
		}
		w.hello(m[0], m[messageHeaderSize:n], fromClient)
		s.message = m[n:]
	}
}

func (w *Watch) hello(kind byte, body []byte, fromClient bool) {
	switch {
	case fromClient && kind == messageClient && !w.clientKnown:
		w.client, w.err = ParseClientHello(body)
		w.clientKnown = w.err == nil
	case !fromClient && kind == messageServerHello && !w.serverKnown:
		w.server, w.err = ParseServerHello(body)
		w.serverKnown = w.err == nil && !w.server.RetryRequest
	}
}
