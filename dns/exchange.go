package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	wire "github.com/miekg/dns"

	"kloop/core"
)

// foreignMax bounds the packets that are not answers which one question listens to. More are
// an attempt to guess its id, and the question is asked over TCP.
const foreignMax = 64

// exchange asks one server, and answers its response, whatever that says. Truncation,
// EDNS0 that is not understood and other cases of letters are dealt with here.
func (r *Resolver) exchange(ctx context.Context, conf *ResolvConf, s *server, a ask) (*wire.Msg, error) {
	a = s.adapt(a)
	m, err := r.transact(ctx, conf, s, a)
	if err == nil && a.edns && refusesFormat(m) {
		s.setNoEDNS()
		a.edns = false
		m, err = r.transact(ctx, conf, s, a)
	}
	return m, err
}

func (r *Resolver) transact(ctx context.Context, conf *ResolvConf, s *server, a ask) (*wire.Msg, error) {
	q, err := a.pack()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if conf.UseTCP || r.config.TLS != nil {
		m, err := r.overStream(ctx, s, q)
		if err == nil {
			s.answered(time.Since(began))
		}
		return m, err
	}
	m, judged, err := r.overUDP(ctx, s, q)
	if err != nil {
		return nil, err
	}
	switch {
	case judged == verdictCase:
		r.counters.caseOther.Add(1)
	case judged == verdictForeign:
	case m.Truncated:
		r.counters.truncated.Add(1)
	default:
		s.answered(time.Since(began))
		return m, nil
	}
	return r.overStream(ctx, s, q)
}

// overUDP asks over UDP, from a port that the kernel chooses at random. The socket is
// connected: the kernel drops what comes from elsewhere.
func (r *Resolver) overUDP(ctx context.Context, s *server, q *query) (*wire.Msg, verdict, error) {
	loop, err := r.loop()
	if err != nil {
		return nil, 0, err
	}
	conn, err := loop.DialPacket(s.addr)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	r.counters.udp.Add(1)
	if _, err := conn.Write(q.packed); err != nil {
		return nil, 0, whyEnded(ctx, err)
	}
	buffer := make([]byte, max(ednsSize, plainSize))
	for range foreignMax {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, 0, whyEnded(ctx, err)
		}
		m, judged := q.judge(buffer[:n])
		switch judged {
		case verdictAnswer, verdictCase:
			r.counters.answers.Add(1)
			return m, judged, nil
		case verdictMalformed:
			r.counters.malformed.Add(1)
		default:
			r.counters.foreign.Add(1)
		}
	}
	return nil, verdictForeign, nil
}

// whyEnded is the context's error, if that is what has closed the connection.
func whyEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
		return ctx.Err()
	}
	return err
}

// overStream asks over TCP or TLS.
func (r *Resolver) overStream(ctx context.Context, s *server, q *query) (*wire.Msg, error) {
	counter := &r.counters.tcp
	if r.config.TLS != nil {
		counter = &r.counters.tls
	}
	counter.Add(1)
	m, judged, err := s.stream.exchange(ctx, q)
	switch {
	case err != nil:
		return nil, err
	case m != nil && m.Truncated:
		r.counters.malformed.Add(1)
		return nil, fmt.Errorf("%s: %w: truncated over TCP", s.addr, ErrServer)
	case judged == verdictCase:
		// Nobody can have put this into the stream but the server.
		s.setKeepCase()
	case judged == verdictMalformed:
		r.counters.malformed.Add(1)
		return nil, fmt.Errorf("%s: %w: a response that can't be read", s.addr, ErrServer)
	case judged == verdictForeign:
		r.counters.foreign.Add(1)
		return nil, fmt.Errorf("%s: %w: a response to another question", s.addr, ErrServer)
	}
	r.counters.answers.Add(1)
	return m, nil
}

// loop answers the loop that does the I/O.
func (r *Resolver) loop() (*core.Loop, error) {
	loop, err := r.config.Loop, error(nil)
	if loop == nil {
		loop, err = core.Background()
	}
	if err == nil && r.asked.Swap(loop) != loop {
		go r.watch(loop)
	}
	return loop, err
}
