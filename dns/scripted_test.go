package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// scripted is a DNS server on a port of the loopback interface that does what a test says.
type scripted struct {
	t    testing.TB
	addr netip.AddrPort
	udp  net.PacketConn
	tcp  net.Listener

	mu sync.Mutex // guards what follows
	// handle answers the packets that answer q: none is silence.
	handle func(q *wire.Msg, overTCP bool) [][]byte
	asked  []asked
	conns  int // accepted over TCP
	open   []net.Conn
	from   *net.UDPAddr // of the last question over UDP
}

// asked is a question that came.
type asked struct {
	name   string // as it was sent
	rrtype uint16
	tcp    bool
	msg    *wire.Msg
}

// serveDNS runs a server for the time of the test. handle is called by one goroutine for UDP
// and by one for each connection.
func serveDNS(t testing.TB, handle func(q *wire.Msg, overTCP bool) [][]byte) *scripted {
	t.Helper()
	s := &scripted{t: t, handle: handle}
	var err error
	for range 100 { // a port that is free for both
		if s.udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		s.addr = s.udp.LocalAddr().(*net.UDPAddr).AddrPort()
		if s.tcp, err = net.Listen("tcp", s.addr.String()); err == nil {
			break
		}
		_ = s.udp.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(s.serveUDP)
	running.Go(func() { s.serveTCP(&running) })
	t.Cleanup(func() {
		_, _ = s.udp.Close(), s.tcp.Close()
		s.mu.Lock()
		for _, c := range s.open {
			_ = c.Close()
		}
		s.mu.Unlock()
		running.Wait()
	})
	return s
}

func (s *scripted) serveUDP() {
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := s.udp.ReadFrom(buffer)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.from = from.(*net.UDPAddr)
		s.mu.Unlock()
		for _, p := range s.answer(buffer[:n], false) {
			_, _ = s.udp.WriteTo(p, from)
		}
	}
}

func (s *scripted) serveTCP(running *sync.WaitGroup) {
	for {
		c, err := s.tcp.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns++
		s.open = append(s.open, c)
		s.mu.Unlock()
		running.Go(func() { s.serveConn(c) })
	}
}

func (s *scripted) serveConn(c net.Conn) {
	defer func() { _ = c.Close() }()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		p := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, p); err != nil {
			return
		}
		for _, answer := range s.answer(p, true) {
			if answer == nil {
				return // a nil packet over TCP: the end of the connection
			}
			binary.BigEndian.PutUint16(size[:], uint16(len(answer)))
			if _, err := c.Write(append(size[:], answer...)); err != nil {
				return
			}
		}
	}
}

func (s *scripted) answer(packet []byte, overTCP bool) [][]byte {
	q := new(wire.Msg)
	if err := q.Unpack(packet); err != nil || len(q.Question) != 1 {
		s.t.Errorf("a query that can't be read: %v", err)
		return nil
	}
	s.mu.Lock()
	s.asked = append(s.asked, asked{q.Question[0].Name, q.Question[0].Qtype, overTCP, q})
	handle := s.handle
	s.mu.Unlock()
	return handle(q, overTCP)
}

func (s *scripted) setHandle(handle func(q *wire.Msg, overTCP bool) [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle = handle
}

// questions answers what was asked so far.
func (s *scripted) questions() []asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]asked(nil), s.asked...)
}

// zone is what a well-behaved server knows: records in the text form of RFC 1035 section 5.
type zone []string

// serve runs a server for a zone.
func (z zone) serve(t testing.TB) *scripted {
	return serveDNS(t, func(q *wire.Msg, _ bool) [][]byte { return packed(t, z.reply(t, q)) })
}

// reply answers the records of the name and type, a CNAME, or else the zone's SOA.
func (z zone) reply(t testing.TB, q *wire.Msg) *wire.Msg {
	m := new(wire.Msg).SetReply(q)
	m.RecursionAvailable = true
	name := q.Question[0].Name
	exists := false
	for range hopsMax {
		var alias *wire.CNAME
		for _, rr := range z.records(t) {
			if !strings.EqualFold(rr.Header().Name, name) {
				continue
			}
			exists = true
			if rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			} else if c, ok := rr.(*wire.CNAME); ok {
				alias = c
			}
		}
		if alias == nil {
			break
		}
		m.Answer = append(m.Answer, alias)
		name, exists = alias.Target, false
	}
	if len(m.Answer) == 0 || m.Answer[len(m.Answer)-1].Header().Rrtype != q.Question[0].Qtype {
		for _, rr := range z.records(t) {
			if soa, ok := rr.(*wire.SOA); ok && wire.IsSubDomain(soa.Hdr.Name, name) {
				m.Ns = append(m.Ns, soa)
			}
		}
		if !exists {
			m.Rcode = wire.RcodeNameError
		}
	}
	return m
}

func (z zone) records(t testing.TB) []wire.RR {
	rrs := make([]wire.RR, len(z))
	for i, text := range z {
		rr, err := wire.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		rrs[i] = rr
	}
	return rrs
}

func packed(t testing.TB, messages ...*wire.Msg) [][]byte {
	var packets [][]byte
	for _, m := range messages {
		p, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		packets = append(packets, p)
	}
	return packets
}

// replyWith answers q with records in text form.
func replyWith(t testing.TB, q *wire.Msg, records ...string) *wire.Msg {
	m := new(wire.Msg).SetReply(q)
	m.RecursionAvailable = true
	m.Answer = zone(records).records(t)
	return m
}

// resolverOf makes a resolver of these servers, changed by change.
func resolverOf(t testing.TB, change func(c *Config), servers ...*scripted) *Resolver {
	t.Helper()
	c := DefaultConfig()
	for _, s := range servers {
		c.Servers = append(c.Servers, s.addr)
	}
	if change != nil {
		change(&c)
	}
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// ask resolves with a bound on the time.
func (r *Resolver) ask(t testing.TB, name string, rrtype uint16) (*Answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := r.Resolve(ctx, name, rrtype)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatal("no end")
	}
	return a, err
}

// texts are the data of records, without their owners and TTLs.
func texts(rrs []wire.RR) string {
	var all []string
	for _, rr := range rrs {
		all = append(all, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(all, ", ")
}

// wantAnswer checks the data of an answer.
func wantAnswer(t testing.TB, a *Answer, err error, want string) {
	t.Helper()
	got := fmt.Sprint(err)
	if err == nil {
		got = texts(a.Records)
	}
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func wantError(t testing.TB, err, kind error) {
	t.Helper()
	var full *Error
	if !errors.Is(err, kind) || !errors.As(err, &full) {
		t.Errorf("got %v, want %v", err, kind)
	}
}

// lastFrom is the port that the last question came from.
func (s *scripted) lastFrom(t testing.TB) *net.UDPAddr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.from == nil {
		t.Error("nobody has asked")
	}
	return s.from
}
