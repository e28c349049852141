package dns

import (
	"net/netip"
	"sync"
	"time"
)

// How long a server has to answer before the next is asked as well, while the first one's
// answer still counts.
const (
	patienceFirst = time.Second            // as nothing is known of it
	patienceLeast = 250 * time.Millisecond // a server that knows a name by heart may have to ask for another
)

// How long a server that did not answer is asked after the others: doubled by each failure.
const (
	downFirst = time.Second
	downMost  = time.Minute
)

// server is one of the servers, and what is known of it.
type server struct {
	addr   netip.AddrPort
	stream stream // for TCP and TLS
	ports  ports  // for UDP; the loop's thread's

	mu       sync.Mutex // guards what follows
	rtt      time.Duration
	rttVar   time.Duration
	failures int
	up       time.Time // when it is not down any more
	noEDNS   bool      // it does not understand EDNS0
	keepCase bool      // it answers in another case, over TCP too
	records  string    // who protects those of the last TLS connection; "": none yet
}

// answered notes a response, as TCP notes a round trip (RFC 6298 section 2).
func (s *server) answered(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rtt == 0 {
		s.rtt, s.rttVar = after, after/2
	} else {
		s.rttVar = (3*s.rttVar + (s.rtt - after).Abs()) / 4
		s.rtt = (7*s.rtt + after) / 8
	}
	s.failures = 0
	s.up = time.Time{}
}

// failed notes that no response came, or one that is of no use.
func (s *server) failed(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	down := min(downFirst<<min(s.failures, 16), downMost)
	s.failures++
	s.up = now.Add(down)
}

// patience is how long to wait for the server in a round before another is asked.
func (s *server) patience(round int, most time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := patienceFirst
	if s.rtt > 0 {
		wait = max(s.rtt+4*s.rttVar, patienceLeast)
	}
	return min(wait<<round, most)
}

func (s *server) down(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Before(s.up)
}

// adapt changes what is asked to what the server is known to understand.
func (s *server) adapt(a ask) ask {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.edns = a.edns && !s.noEDNS
	a.keep = a.keep || s.keepCase
	return a
}

func (s *server) setNoEDNS() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noEDNS = true
}

func (s *server) setKeepCase() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keepCase = true
}

func (s *server) setRecords(where string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = where
}

func (s *server) stats(now time.Time) ServerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ServerStats{Addr: s.addr, RTT: s.rtt, Failures: s.failures, Down: now.Before(s.up), Records: s.records}
}

// inOrder answers the servers in the order in which they are asked: from the first, or
// another one if they rotate, those that are down last.
func inOrder(servers []*server, first int, now time.Time) []*server {
	order := make([]*server, 0, len(servers))
	var late []*server
	for i := range servers {
		s := servers[(first+i)%len(servers)]
		if s.down(now) {
			late = append(late, s)
		} else {
			order = append(order, s)
		}
	}
	return append(order, late...)
}
