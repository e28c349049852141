package dns

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// Stats counts what a Resolver did since it was made.
type Stats struct {
	Lookups   uint64 // questions that were put to the resolver
	Hits      uint64 // of these, answered by the cache
	Stale     uint64 // answered past their TTL, as no server did
	Joined    uint64 // that joined another's of the same name and type
	Hosts     uint64 // answered by the hosts file
	AskedLibc uint64 // calls of Getaddrinfo that said that libc must be asked

	UDP       uint64 // messages sent
	TCP       uint64
	TLS       uint64
	Answers   uint64 // responses that answered a message
	Foreign   uint64 // packets with a wrong id or question, which did not count
	Case      uint64 // responses with the letters of the name in another case, asked again over TCP
	Malformed uint64 // responses that could not be read
	Truncated uint64 // responses over UDP that were asked for again over TCP
	Failures  uint64 // responses that told of a failure (SERVFAIL and the like)
	Timeouts  uint64 // messages that nobody answered in time
	Canceled  uint64 // lookups whose last caller gave up

	Reloads uint64 // changes of resolv.conf

	Running int // gauge: questions being asked
	Waiting int // gauge: questions that wait until others are answered
	Entries int // gauge: answers in the cache

	Servers []ServerStats
}

// ServerStats is what is known of a server.
type ServerStats struct {
	Addr     netip.AddrPort
	RTT      time.Duration // of its responses, smoothed; 0: none yet
	Failures int           // since its last response
	Down     bool          // for now it is asked after the others
	Records  string        // who protects those of its last TLS connection: tlsconn.Go or TLS; "": there was none
}

// counters are Stats' that several goroutines count.
type counters struct {
	lookups, hits, stale, joined, hosts, askedLibc     atomic.Uint64
	udp, tcp, tls, answers, foreign, caseOther         atomic.Uint64
	malformed, truncated, failures, timeouts, canceled atomic.Uint64
	reloads                                            atomic.Uint64
	running                                            atomic.Int64
}

// Stats answers the counters as they are now.
func (r *Resolver) Stats() Stats {
	c := &r.counters
	s := Stats{
		Lookups: c.lookups.Load(), Hits: c.hits.Load(), Stale: c.stale.Load(), Joined: c.joined.Load(),
		Hosts: c.hosts.Load(), AskedLibc: c.askedLibc.Load(),
		UDP: c.udp.Load(), TCP: c.tcp.Load(), TLS: c.tls.Load(), Answers: c.answers.Load(),
		Foreign: c.foreign.Load(), Case: c.caseOther.Load(), Malformed: c.malformed.Load(),
		Truncated: c.truncated.Load(), Failures: c.failures.Load(), Timeouts: c.timeouts.Load(),
		Canceled: c.canceled.Load(), Reloads: c.reloads.Load(),
		Running: int(c.running.Load()), Waiting: r.turnstile.waiting(), Entries: r.cache.len(),
	}
	now := time.Now()
	for _, server := range r.setup.Load().servers {
		s.Servers = append(s.Servers, server.stats(now))
	}
	return s
}
