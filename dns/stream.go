package dns

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	wire "github.com/miekg/dns"

	"kloop/ktls/tlsconn"
)

// streamIdle is how long a connection without questions is kept (RFC 7766 section 6.2.3 asks
// for a few seconds).
const streamIdle = 5 * time.Second

// streamInflight bounds the questions on one connection at a time, which must differ in their
// ids; those beyond have a connection of their own.
const streamInflight = 1000

// errStream ends the questions of a connection that the server has closed: it may close idle
// ones at any time (RFC 7766 section 6.2.4), so they are asked once more.
var errStream = errors.New("connection closed by the server")

// stream is a server's connection over TCP or TLS, made when it is needed, on which questions
// are asked without waiting for others' answers (RFC 7766 section 6.2.1.1).
type stream struct {
	dial func(ctx context.Context) (net.Conn, error)

	mu     sync.Mutex
	conn   *streamConn
	making chan struct{} // closed when a connection is there, or can't be had; nil: none is being made
	closed bool
}

// streamConn is one connection.
type streamConn struct {
	conn  net.Conn
	owner *stream

	write sync.Mutex // one message at a time

	mu      sync.Mutex // guards what follows
	waiting map[uint16]chan []byte
	used    bool // a response has come
	failure error
}

// exchange asks q, and a second time if the connection was closed under it.
func (s *stream) exchange(ctx context.Context, q *query) (*wire.Msg, verdict, error) {
	packet, again, err := s.attempt(ctx, q)
	if err != nil && again && ctx.Err() == nil {
		packet, _, err = s.attempt(ctx, q)
	}
	if err != nil {
		return nil, 0, err
	}
	m, judged := q.judge(packet)
	return m, judged, nil
}

// attempt asks q. again says that the connection had been of use before.
func (s *stream) attempt(ctx context.Context, q *query) (packet []byte, again bool, err error) {
	c, answer, err := s.begin(ctx, q.id)
	if err != nil {
		return nil, false, err
	}
	defer c.end(q.id)
	if err := c.send(ctx, q.packed); err != nil {
		c.fail(err)
		return nil, c.wasUsed(), whyEnded(ctx, err)
	}
	select {
	case packet, ok := <-answer:
		if !ok {
			return nil, c.wasUsed(), c.why()
		}
		return packet, false, nil
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

// begin answers a connection on which an answer to this id is waited for.
func (s *stream) begin(ctx context.Context, id uint16) (*streamConn, <-chan []byte, error) {
	for {
		s.mu.Lock()
		c, making := s.conn, s.making
		if making == nil {
			if c != nil {
				if answer := c.register(id); answer != nil {
					s.mu.Unlock()
					return c, answer, nil
				}
			}
			s.making = make(chan struct{})
			s.mu.Unlock()
			return s.connect(ctx, id)
		}
		s.mu.Unlock()
		select {
		case <-making:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// connect makes a connection. Others wait for it meanwhile. One that was there lives until its
// questions are answered.
func (s *stream) connect(ctx context.Context, id uint16) (*streamConn, <-chan []byte, error) {
	conn, err := s.dial(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.making)
	s.making = nil
	if err != nil {
		return nil, nil, err
	}
	if s.closed {
		_ = conn.Close()
		return nil, nil, ErrClosed
	}
	c := &streamConn{conn: conn, owner: s, waiting: map[uint16]chan []byte{}}
	s.conn = c
	answer := c.register(id)
	go c.read()
	return c, answer, nil
}

// register answers nil if the connection can't take this id.
func (c *streamConn) register(id uint16) <-chan []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil || c.waiting[id] != nil || len(c.waiting) >= streamInflight {
		return nil
	}
	answer := make(chan []byte, 1)
	c.waiting[id] = answer
	_ = c.conn.SetReadDeadline(time.Time{})
	return answer
}

// end forgets a question. A connection without any is closed after a while, by its reader.
func (c *streamConn) end(id uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
	if len(c.waiting) == 0 {
		_ = c.conn.SetReadDeadline(time.Now().Add(streamIdle))
	}
}

// send writes a message behind its length (RFC 1035 section 4.2.2), in one piece.
func (c *streamConn) send(ctx context.Context, packed []byte) error {
	framed := make([]byte, 2+len(packed))
	binary.BigEndian.PutUint16(framed, uint16(len(packed)))
	copy(framed[2:], packed)
	c.write.Lock()
	defer c.write.Unlock()
	// Without one a server that reads nothing would hold up all who write to it.
	deadline, _ := ctx.Deadline()
	_ = c.conn.SetWriteDeadline(deadline)
	_, err := c.conn.Write(framed)
	return err
}

// read hands out responses until the connection ends.
func (c *streamConn) read() {
	reader := bufio.NewReader(c.conn)
	for {
		packet, err := contained(func() ([]byte, error) { return readFrame(reader) })
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errStream
			}
			c.fail(err)
			return
		}
		c.deliver(packet)
	}
}

func readFrame(reader io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(reader, size[:]); err != nil {
		return nil, err
	}
	packet := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(reader, packet)
	return packet, err
}

// deliver gives a response to who waits for its id. One that nobody waits for is late.
func (c *streamConn) deliver(packet []byte) {
	if len(packet) < headerSize {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = true
	if answer := c.waiting[binary.BigEndian.Uint16(packet)]; answer != nil {
		select {
		case answer <- packet:
		default: // the server has answered twice
		}
	}
}

// fail ends the connection and the questions on it.
func (c *streamConn) fail(err error) {
	c.mu.Lock()
	first := c.failure == nil
	if first {
		c.failure = err
		for _, answer := range c.waiting {
			close(answer)
		}
		clear(c.waiting)
	}
	c.mu.Unlock()
	if !first {
		return
	}
	c.owner.mu.Lock()
	if c.owner.conn == c {
		c.owner.conn = nil
	}
	c.owner.mu.Unlock()
	_ = c.conn.Close()
}

func (c *streamConn) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}

func (c *streamConn) wasUsed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// close ends the connection, and lets none be made any more.
func (s *stream) close() {
	s.mu.Lock()
	c := s.conn
	s.closed = true
	s.mu.Unlock()
	if c != nil {
		c.fail(ErrClosed)
	}
}

// dialer answers how connections to a server are made.
func (r *Resolver) dialer(s *server) func(ctx context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		loop, err := r.loop()
		if err != nil {
			return nil, err
		}
		conn, err := loop.DialConn(ctx, s.addr)
		if err != nil {
			return nil, err
		}
		if r.config.TLS == nil {
			return conn, nil
		}
		return startTLS(ctx, conn, &r.config, s)
	}
}

// startTLS makes the connection one of DNS over TLS (RFC 7858 section 3.2): crypto/tls makes the handshake, and its records are
// package ktls's from then on, unless it can't take them over.
func startTLS(ctx context.Context, conn net.Conn, c *Config, s *server) (net.Conn, error) {
	config := c.TLS
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = s.addr.Addr().WithZone("").String()
	}
	options := tlsconn.Options{Records: tlsconn.Go, Workers: 1}
	if c.TLSRecords != "" {
		options.Records = c.TLSRecords
	}
	made, err := tlsconn.NewConfig(config, options)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	secured := made.Client(conn)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	s.setRecords(secured.Offload().RX)
	return secured, nil
}
