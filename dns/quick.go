package dns

import (
	"context"
	"fmt"
	"time"

	wire "github.com/miekg/dns"

	"kloop/core"
)

// quick is the usual way of a question: over UDP to the first server, which answers. It is the loop's thread's
// alone and takes no goroutine. What is not as usual goes on in one: see Resolver.slow.
type quick struct {
	r        *Resolver
	loop     *core.Loop
	place    place
	work     *flight
	setup    *setup
	server   *server
	port     *port
	query    *query
	began    time.Time
	timer    *core.Timer
	watching func() bool  // ends the watching of work.life
	late     chan<- reply // once others are asked as well, its answer still counts
}

// begun is what a quick question leaves to the goroutine that goes on with it.
type begun struct {
	servers []*server
	replies chan reply // one will come of the first server, which is still asked
	failure error      // of the first server
	stream  *query     // to be asked over TCP: the answer was truncated, or in another case
	whole   *found     // how far aliases have led
}

// launch begins the work for a question. The caller may be the loop's thread.
func (r *Resolver) launch(work *flight) {
	// The one before may have ended between this one's look at the cache and its beginning.
	if entry, fresh := r.cache.get(work.key.name, work.key.rrtype, time.Now()); fresh {
		r.counters.hits.Add(1)
		r.flights.finish(work, entry, nil)
		return
	}
	setup := r.setup.Load()
	if setup.conf.UseTCP || r.config.TLS != nil || !r.turnstile.tryEnter() {
		go r.slow(work, nil, false)
		return
	}
	loop, err := r.loop()
	if err != nil {
		r.turnstile.leave()
		r.flights.finish(work, nil, err)
		return
	}
	r.counters.running.Add(1)
	q := &quick{r: r, loop: loop, work: work, setup: setup}
	r.underWay.begin(q)
	loop.Post(func() { q.start(loop) })
	if loop.Ended() {
		q.done(nil, core.ErrClosed) // what is posted now may never run
	}
}

// start asks.
func (q *quick) start(loop *core.Loop) {
	if q.work.life.Err() != nil {
		q.done(nil, q.work.life.Err())
		return
	}
	q.began = time.Now()
	conf := &q.setup.conf
	servers := q.setup.inOrder(q.r, q.began)
	q.server = servers[0]
	state := &begun{servers: servers}
	var err error
	if q.port, err = q.server.ports.next(loop, q.server.addr, &q.r.counters); err == nil {
		a := ask{name: lowerASCII(q.work.key.name), rrtype: q.work.key.rrtype, edns: conf.EDNS0, trustAD: conf.TrustAD, keep: q.r.config.KeepCase}
		q.r.counters.udp.Add(1)
		err = q.port.ask(q, q.server.adapt(a))
	}
	if err != nil {
		q.server.failed(q.began)
		state.failure = fmt.Errorf("%s: %w", q.server.addr, err)
		q.goOn(state)
		return
	}
	q.timer = loop.Engine().AfterFunc(q.server.patience(0, conf.Timeout), func() { q.impatient(loop.Engine(), state) })
	q.watching = context.AfterFunc(q.work.life, func() { loop.Post(q.abandoned) })
}

// received looks at a packet; false: it is none of this question's.
func (q *quick) received(packet []byte) bool {
	m, judged := q.query.judge(packet)
	counters := &q.r.counters
	state := &begun{}
	switch {
	case judged == verdictForeign:
		return false
	case judged == verdictMalformed:
		counters.malformed.Add(1)
		return true
	case judged == verdictCase:
		counters.caseOther.Add(1)
		state.stream = q.query
	case m.Truncated:
		counters.truncated.Add(1)
		state.stream = q.query
	}
	counters.answers.Add(1)
	q.forget()
	if state.stream != nil {
		q.askByStream()
		return true
	}
	q.server.answered(time.Since(q.began))
	if q.late != nil {
		m, err := q.r.verdict(q.server, m)
		q.reply(reply{q.server, m, err})
		return true
	}
	q.answered(m, state)
	return true
}

// answered keeps what a response says, or goes on where it does not say all.
func (q *quick) answered(m *wire.Msg, state *begun) {
	if refusesFormat(m) {
		q.server.setNoEDNS()
		q.goOn(nil) // asks it once more
		return
	}
	m, err := q.r.verdict(q.server, m)
	if err != nil {
		state.failure = err
		q.goOn(state)
		return
	}
	whole := newFound(q.work.key.name)
	entry, err := q.r.learn(q.setup, q.work.key, whole, m)
	switch {
	case err != nil:
		q.done(nil, err)
	case entry == nil:
		state.whole = whole
		q.goOn(state)
	default:
		q.done(entry, nil)
	}
}

// impatient has others asked as well, as the server takes longer than it usually does.
func (q *quick) impatient(engine *core.Engine, state *begun) {
	replies := make(chan reply, len(state.servers)*q.setup.conf.Attempts+1)
	state.replies, q.late = replies, replies
	q.timer = engine.AfterFunc(q.setup.conf.Timeout-time.Since(q.began), q.timedOut)
	go q.r.slow(q.work, state, true)
}

// timedOut gives up waiting for the server, behind which others have been asked.
func (q *quick) timedOut() {
	q.forget()
	q.r.counters.timeouts.Add(1)
	q.server.failed(time.Now())
	q.reply(reply{err: fmt.Errorf("%w: %s", ErrTimeout, q.server.addr)})
}

// reply tells the goroutine that has asked others what came of this server.
func (q *quick) reply(what reply) {
	if q.r.underWay.end(q) {
		q.late <- what
	}
}

// failed is told what the network says.
func (q *quick) failed(err error) {
	q.forget()
	q.server.failed(time.Now())
	err = fmt.Errorf("%s: %w", q.server.addr, err)
	if q.late != nil {
		q.reply(reply{err: err})
		return
	}
	q.goOn(&begun{failure: err})
}

// abandoned: nobody waits for the answer any more.
func (q *quick) abandoned() {
	if q.port.waiting[q.query.id] != q {
		return
	}
	q.forget()
	if q.late == nil {
		q.r.counters.canceled.Add(1)
		q.done(nil, q.work.life.Err())
	} else {
		q.r.underWay.end(q) // the goroutine knows
	}
}

func (q *quick) forget() {
	q.timer.Stop()
	q.watching()
	q.port.forget(q)
}

// askByStream asks the server once more, over TCP: in the goroutine that has the question, or in one that tells that.
func (q *quick) askByStream() {
	if q.late == nil {
		q.goOn(&begun{stream: q.query})
		return
	}
	if q.r.underWay.end(q) {
		go func() {
			m, err := q.r.try(q.work.life, &q.setup.conf, q.server, ask{}, q.query)
			q.late <- reply{q.server, m, err}
		}()
	}
}

// goOn leaves the question to a goroutine, and its place with it.
func (q *quick) goOn(state *begun) {
	if !q.r.underWay.end(q) {
		return
	}
	if state != nil && state.servers == nil {
		state.servers = q.setup.inOrder(q.r, time.Now())
		// The one that has been asked is the first, wherever its failure puts it.
		state.servers = first(state.servers, q.server)
	}
	go q.r.slow(q.work, state, true)
}

// first moves a server to the front.
func first(servers []*server, s *server) []*server {
	order := []*server{s}
	for _, other := range servers {
		if other != s {
			order = append(order, other)
		}
	}
	return order
}

func (q *quick) done(entry *cached, err error) {
	if !q.r.underWay.end(q) {
		return
	}
	q.r.counters.running.Add(-1)
	q.r.turnstile.leave()
	q.r.flights.finish(q.work, entry, err)
}

// slow does the work for a question in a goroutine: with what a quick one has begun, or from the start. entered: it has a place
// already.
func (r *Resolver) slow(work *flight, state *begun, entered bool) {
	entry, err := contained(func() (*cached, error) {
		if !entered {
			if err := r.turnstile.enter(work.life); err != nil {
				return nil, err
			}
			r.counters.running.Add(1)
		}
		defer r.turnstile.leave()
		defer r.counters.running.Add(-1)
		entry, err := r.askAll(work.life, work.key, state)
		if work.life.Err() != nil {
			r.counters.canceled.Add(1)
		}
		return entry, err
	})
	r.flights.finish(work, entry, err)
}
