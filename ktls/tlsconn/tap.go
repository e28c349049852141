package tlsconn

import (
	"io"
	"net"
	"sync"

	"kloop/ktls"
)

// tap is the connection as crypto/tls sees it. During the handshake it shows
// every byte to a ktls.Watch, and hands out no byte behind the record that is
// asked for: so what crypto/tls has not asked for is here when it is done.
type tap struct {
	net.Conn
	watch *ktls.Watch // nil: the handshake is over
	log   keyLog
	ahead []byte // read from Conn and not handed out
	left  int    // bytes of the current record that are not handed out
	err   error  // of Conn, behind ahead

	shadow   bool   // crypto/tls gets records of ours only, and sends nothing
	injected []byte // of these, what it has not read
}

const (
	tapBufferSize = 4096
	keyLogLimit   = 8192
)

func newTap(nc net.Conn, client bool) *tap {
	return &tap{Conn: nc, watch: ktls.NewWatch(client)}
}

// fill reads on, until n bytes are there or an error came.
func (t *tap) fill(n int) {
	for len(t.ahead) < n && t.err == nil {
		if t.ahead == nil {
			t.ahead = make([]byte, 0, tapBufferSize)
		}
		var got int
		got, t.err = t.Conn.Read(t.ahead[len(t.ahead):cap(t.ahead)])
		t.ahead = t.ahead[:len(t.ahead)+got]
	}
}

// takeErr answers the error behind ahead, once: a time limit may be lifted.
func (t *tap) takeErr() error {
	err := t.err
	t.err = nil
	return err
}

func (t *tap) Read(p []byte) (int, error) {
	switch {
	case t.shadow:
		if len(t.injected) == 0 {
			return 0, errShadowEmpty
		}
		n := copy(p, t.injected)
		t.injected = t.injected[n:]
		return n, nil
	case t.watch == nil && len(t.ahead) == 0:
		t.ahead = nil
		if t.err != nil {
			return 0, t.takeErr()
		}
		return t.Conn.Read(p)
	case t.watch == nil:
		n := copy(p, t.ahead)
		t.ahead = t.ahead[n:]
		return n, nil
	}
	return t.readRecord(p)
}

// readRecord hands out what is left of the current record, or the next one's beginning.
func (t *tap) readRecord(p []byte) (int, error) {
	if len(t.ahead) == 0 {
		t.ahead = nil // the array from its start
	}
	if t.left == 0 {
		t.fill(ktls.HeaderSize)
		t.left = ktls.HeaderSize
		if h, ok := ktls.ParseHeader(t.ahead); ok {
			t.left += h.Length
		}
	} else {
		t.fill(1)
	}
	n := copy(p, t.ahead[:min(len(t.ahead), t.left)])
	if n == 0 && len(p) > 0 {
		t.left = 0
		return 0, t.takeErr()
	}
	t.watch.Received(p[:n])
	t.ahead = t.ahead[n:]
	t.left -= n
	return n, nil
}

func (t *tap) Write(p []byte) (int, error) {
	if t.shadow {
		return len(p), nil
	}
	n, err := t.Conn.Write(p)
	if t.watch != nil {
		t.watch.Sent(p[:n])
	}
	return n, err
}

// shadowEmpty tells crypto/tls, which is asked to act on a message and goes on
// to read, that there is nothing now. It keeps an error that is not temporary.
type shadowEmpty struct{}

func (shadowEmpty) Error() string   { return "tlsconn: no more records" }
func (shadowEmpty) Timeout() bool   { return true }
func (shadowEmpty) Temporary() bool { return true }

var errShadowEmpty net.Error = shadowEmpty{}

// keyLog is one connection's. It passes every line on to the user's own.
type keyLog struct {
	mu    sync.Mutex
	also  io.Writer
	lines []byte
	done  bool
}

func (k *keyLog) Write(line []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.done && len(k.lines)+len(line) <= keyLogLimit {
		if k.lines == nil {
			k.lines = make([]byte, 0, keyLogLimit) // so that no growing leaves a copy behind
		}
		k.lines = append(k.lines, line...)
	}
	if k.also != nil {
		return k.also.Write(line)
	}
	return len(line), nil
}

// take fills in the secrets, wipes the lines and keeps no more.
func (k *keyLog) take(s *ktls.Secrets) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := s.ParseKeyLog(k.lines, nil)
	clear(k.lines)
	k.lines, k.done = nil, true
	return err
}
