package dns

import (
	"context"
	"errors"
	"fmt"
	"time"

	wire "github.com/miekg/dns"
)

// reply is what came of asking one server.
type reply struct {
	server *server
	m      *wire.Msg
	err    error
}

// query asks the servers in their order until one answers: the next one when a server has
// failed, or when it takes longer than it usually does. Then its answer still counts. state: what has been begun, nil: nothing.
func (r *Resolver) query(ctx context.Context, setup *setup, name string, rrtype uint16, state *begun) (*wire.Msg, error) {
	conf := &setup.conf
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends those that were slower
	if state == nil {
		state = &begun{}
	}
	servers, replies := state.servers, state.replies
	if servers == nil {
		servers = setup.inOrder(r, time.Now())
	}
	tries := len(servers) * conf.Attempts
	if replies == nil {
		replies = make(chan reply, tries)
	}
	a := ask{name: name, rrtype: rrtype, edns: conf.EDNS0, trustAD: conf.TrustAD, keep: r.config.KeepCase}
	var failures []error
	asked := 0
	switch {
	case state.failure != nil:
		failures, asked = append(failures, state.failure), 1
	case state.replies != nil:
		asked = 1
	}
	for len(failures) < tries {
		var patience <-chan time.Time
		if asked < tries {
			s := servers[asked%len(servers)]
			overStream := state.stream
			state.stream = nil
			go func() {
				m, err := contained(func() (*wire.Msg, error) { return r.try(ctx, conf, s, a, overStream) })
				replies <- reply{s, m, err}
			}()
			patience = time.After(s.patience(asked/len(servers), conf.Timeout))
			asked++
		}
		done, err := awaitReply(ctx, replies, patience, &failures, asked)
		if done.m != nil {
			blameSilent(servers, done.server, time.Now())
		}
		if done.m != nil || err != nil {
			return done.m, err
		}
	}
	return nil, worst(failures)
}

// blameSilent notes that servers which were asked before another have said nothing until that one answered: for a while they are asked
// after it. One whose failure is known is down already.
func blameSilent(servers []*server, answered *server, now time.Time) {
	for _, s := range servers {
		if s == answered {
			return
		}
		if !s.down(now) {
			s.failed(now)
		}
	}
}

// awaitReply waits for a reply that is an answer, until there is reason to ask another
// server: patience has run out, or all that were asked have failed.
func awaitReply(ctx context.Context, replies <-chan reply, patience <-chan time.Time, failures *[]error, asked int) (reply, error) {
	for {
		select {
		case got := <-replies:
			if got.err == nil {
				return got, nil
			}
			*failures = append(*failures, got.err)
			if len(*failures) == asked || patience != nil {
				return reply{}, nil
			}
		case <-patience:
			return reply{}, nil
		case <-ctx.Done():
			return reply{}, ctx.Err()
		}
	}
}

// try asks one server, within Timeout, and notes how it did. overStream: what was asked over UDP, in vain; nil: nothing.
func (r *Resolver) try(ctx context.Context, conf *ResolvConf, s *server, a ask, overStream *query) (*wire.Msg, error) {
	own, cancel := context.WithTimeout(ctx, conf.Timeout)
	defer cancel()
	var m *wire.Msg
	var err error
	if overStream != nil {
		m, err = r.overStream(own, s, overStream)
	} else {
		m, err = r.exchange(own, conf, s, a)
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err() // nobody waits: the server is not to blame
	case errors.Is(err, context.DeadlineExceeded):
		r.counters.timeouts.Add(1)
		s.failed(time.Now())
		return nil, fmt.Errorf("%w: %s", ErrTimeout, s.addr)
	case err != nil:
		s.failed(time.Now())
		return nil, fmt.Errorf("%s: %w", s.addr, err)
	}
	return r.verdict(s, m)
}

// verdict answers the response if it is one to believe, and else notes what it says of the server.
func (r *Resolver) verdict(s *server, m *wire.Msg) (*wire.Msg, error) {
	switch {
	case m.Rcode == wire.RcodeSuccess && !lame(m), m.Rcode == wire.RcodeNameError:
		return m, nil
	}
	r.counters.failures.Add(1)
	if m.Rcode != wire.RcodeServerFailure {
		s.failed(time.Now()) // it will not answer others either; SERVFAIL is about the name
	}
	return nil, fmt.Errorf("%s: %w: %s", s.addr, ErrServer, rcodeText(m))
}

// lame says that a server does not answer the question but points elsewhere, as libc sees
// it: no answer, no authority, no recursion.
func lame(m *wire.Msg) bool {
	return len(m.Answer) == 0 && !m.Authoritative && !m.RecursionAvailable && len(m.Extra) == 0
}

func rcodeText(m *wire.Msg) string {
	if m.Rcode == wire.RcodeSuccess {
		return "lame"
	}
	if text, known := wire.RcodeToString[m.Rcode]; known {
		return text
	}
	return fmt.Sprintf("RCODE %d", m.Rcode)
}

// worst makes one error of those of all tries: a failure that a server told says most.
func worst(failures []error) error {
	for _, kind := range []error{ErrServer, ErrTimeout} {
		for _, err := range failures {
			if errors.Is(err, kind) {
				return err
			}
		}
	}
	return fmt.Errorf("%w: %w", ErrTimeout, failures[len(failures)-1])
}
