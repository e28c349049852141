package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	wire "github.com/miekg/dns"

	"kloop/core"
)

// staleWait is how long a stale answer is held back for a fresh one (RFC 8767 section 5).
const staleWait = 1800 * time.Millisecond

// staleRetry is how long no server is asked again after one lookup found that none answers
// (RFC 8767 section 5 asks for 30 s at least).
const staleRetry = 30 * time.Second

// staleTTL is the TTL of stale answers, in seconds (RFC 8767 section 4).
const staleTTL = 30

// closeWait is how long Close waits for its loop, which may not run.
const closeWait = time.Second

// tlsPort is DNS over TLS' (RFC 7858 section 3.1).
const tlsPort = 853

// Resolver resolves names. It is for any number of goroutines.
type Resolver struct {
	config    Config
	setup     atomic.Pointer[setup]
	rotation  atomic.Uint64
	cache     *cache
	flights   flights
	turnstile *turnstile
	underWay  underWay
	counters  counters

	hosts    watched[*hostsFile]
	services watched[*servicesFile]
	nsswitch watched[nsswitch]
	gaiConf  watched[*policy]
	hostConf watched[bool]
	routes   routes

	reloading sync.Mutex // guards what follows
	seen      version    // of config.File
	checked   atomic.Int64
	due       atomic.Bool // a lookup has begun that will look at config.File
	closed    atomic.Bool

	asked atomic.Pointer[core.Loop] // the loop that has sockets of the resolver
	life  context.Context           // ended by Close, and with it what is under way
	end   context.CancelFunc
}

// setup is what one state of resolv.conf makes.
type setup struct {
	conf    ResolvConf
	servers []*server
}

// New makes a resolver. Close it to end its connections.
func New(c Config) (*Resolver, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.Background())
	r := &Resolver{
		config:    c,
		life:      life,
		end:       end,
		cache:     newCache(c.CacheEntries),
		flights:   flights{flying: map[key]*flight{}},
		turnstile: newTurnstile(c.Concurrency, c.Queue),
		hosts:     watched[*hostsFile]{path: c.Hosts, parse: parseHosts},
		services:  watched[*servicesFile]{path: c.Services, parse: parseServices},
		nsswitch:  watched[nsswitch]{path: c.NSSwitch, parse: parseNSSwitch},
		gaiConf:   watched[*policy]{path: c.GAIConf, parse: parseGAIConf},
		hostConf:  watched[bool]{path: c.HostConf, parse: parseHostConf},
	}
	return r, r.Reload()
}

// Reload reads resolv.conf again and forgets what is known of the servers, of this host's
// addresses, and what the servers have answered if they are others now. The other files are read again when they are next needed.
func (r *Resolver) Reload() error {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	for _, checked := range []*atomic.Int64{&r.hosts.checked, &r.services.checked, &r.nsswitch.checked, &r.gaiConf.checked, &r.hostConf.checked} {
		checked.Store(0)
	}
	r.routes.forget()
	return r.load(diskForCall())
}

// load reads resolv.conf. r.reloading is held.
func (r *Resolver) load(from disk) error {
	r.checked.Store(clock())
	now := versionOf(r.config.File) // before it is read: a change in between is seen later
	conf, err := r.config.readResolvConf(from)
	if err != nil {
		return err
	}
	r.seen = now
	next := &setup{conf: conf}
	for _, at := range conf.Servers {
		s := &server{addr: at}
		if r.config.TLS != nil && at.Port() == dnsPort {
			s.addr = netip.AddrPortFrom(at.Addr(), tlsPort)
		}
		s.stream.dial = r.dialer(s)
		next.servers = append(next.servers, s)
	}
	last := r.setup.Swap(next)
	if last == nil {
		return nil
	}
	r.counters.reloads.Add(1)
	if !sameServers(last, next) {
		r.cache.clear()
	}
	// Connections to the servers of before end when their questions are answered.
	if loop := r.asked.Load(); loop != nil && loop.Ended() {
		abandonPorts(last.servers)
	} else if loop != nil {
		loop.Post(func() {
			for _, s := range last.servers {
				s.ports.retire(loop)
			}
		})
	}
	return nil
}

// inOrder answers the servers in the order in which they are asked.
func (s *setup) inOrder(r *Resolver, now time.Time) []*server {
	first := 0
	if s.conf.Rotate {
		first = int(r.rotation.Add(1) % uint64(len(s.servers)))
	}
	return inOrder(s.servers, first, now)
}

func sameServers(a, b *setup) bool {
	if len(a.servers) != len(b.servers) {
		return false
	}
	for i := range a.servers {
		if a.servers[i].addr != b.servers[i].addr {
			return false
		}
	}
	return true
}

// reloadIfChanged looks for changes of resolv.conf, at most every checkEvery; a lookup at once that finds one has it read by the
// goroutine in which it is made again.
func (r *Resolver) reloadIfChanged(ctx context.Context) {
	if !r.isDue() {
		return
	}
	once, _ := ctx.(*AtOnce)
	if once == nil {
		r.reloadChanged(diskForLookup())
	} else if r.changed() {
		r.due.Store(true)
		once.missFile()
	}
}

// changed says that there is something to read. That others read just now says it too: they are waited for.
func (r *Resolver) changed() bool {
	if !r.reloading.TryLock() {
		return true
	}
	defer r.reloading.Unlock()
	return !versionOf(r.config.File).same(r.seen)
}

// isDue says that the caller has to look at resolv.conf.
func (r *Resolver) isDue() bool {
	if r.config.File == "" || r.setup.Load().conf.NoReload {
		return false
	}
	now := clock()
	last := r.checked.Load()
	return (last == 0 || now-last >= int64(checkEvery)) && r.checked.CompareAndSwap(last, now)
}

// lookAtResolvConf looks for changes that a lookup waits for.
func (r *Resolver) lookAtResolvConf() {
	if r.due.Swap(false) || r.isDue() {
		r.reloadChanged(diskForLookup())
	}
}

func (r *Resolver) reloadChanged(from disk) {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	if !versionOf(r.config.File).same(r.seen) {
		// A file that can't be read now, as it is being replaced, leaves what was.
		_ = r.load(from)
	}
}

// Close ends the resolver's connections. Lookups under way fail; later ones do too.
func (r *Resolver) Close() {
	r.closed.Store(true)
	r.end()
	servers := r.setup.Load().servers
	for _, s := range servers {
		s.stream.close()
	}
	r.closePorts(servers)
}

// closePorts closes sockets in the loop's thread, and waits for that.
func (r *Resolver) closePorts(servers []*server) {
	loop := r.asked.Load()
	if loop == nil {
		return // nobody was asked
	}
	if loop.Ended() {
		abandonPorts(servers)
		r.lost(loop)
		return
	}
	closed := make(chan struct{})
	loop.Post(func() {
		for _, s := range servers {
			s.ports.end(loop)
		}
		go func() {
			for _, s := range servers {
				s.ports.closing.Wait()
			}
			close(closed)
		}()
	})
	select {
	case <-closed:
	case <-time.After(closeWait):
	}
}

// ResolvConf answers what applies now.
func (r *Resolver) ResolvConf() ResolvConf {
	if r.isDue() {
		r.reloadChanged(diskForCall())
	}
	return r.setup.Load().conf
}

// Answer is what Resolve found.
type Answer struct {
	Name    string    // the canonical one: where the CNAME records lead
	Aliases []string  // the names that lead there, the one that was asked for first
	Records []wire.RR // of the type asked for, with the TTL that is left, in seconds; the caller's
	TTL     time.Duration
	Stale   bool // past its TTL, as no server answers: Config.ServeStale
	// Authenticated: the server says that DNSSEC has proved it, and ResolvConf.TrustAD is set.
	Authenticated bool
}

// Resolve asks for the records of a type (dns.TypeA and so on of github.com/miekg/dns) that a
// name has. The name is taken as absolute, with or without a dot at its end: neither search
// list nor hosts file count. Errors are of type *Error: see ErrNotFound and the others.
//
// The end of ctx ends the lookup, and the work for it unless others wait for the same.
func (r *Resolver) Resolve(ctx context.Context, name string, rrtype uint16) (*Answer, error) {
	full, err := absolute(name)
	if err != nil {
		return nil, err
	}
	entry, stale, err := r.find(ctx, full, rrtype)
	if err == nil && entry.found.kind != nil {
		err = entry.found.kind
	}
	if err != nil {
		return nil, &Error{Name: name, Type: rrtype, Err: err}
	}
	return entry.answer(time.Now(), stale), nil
}

// answer copies the records, as their TTL is another for each who asks.
func (c *cached) answer(now time.Time, stale bool) *Answer {
	left := uint32(staleTTL)
	if !stale {
		left = uint32(max(c.fresh.Sub(now)+time.Second-1, 0) / time.Second)
	}
	a := &Answer{
		Name:          c.found.name,
		Aliases:       c.found.aliases,
		Records:       make([]wire.RR, len(c.found.records)),
		TTL:           time.Duration(left) * time.Second,
		Stale:         stale,
		Authenticated: c.found.authenticated,
	}
	for i, rr := range c.found.records {
		a.Records[i] = wire.Copy(rr)
		a.Records[i].Header().Ttl = left
	}
	return a
}

// find answers what is known or what the servers say, which may be that there is nothing.
func (r *Resolver) find(ctx context.Context, name string, rrtype uint16) (entry *cached, stale bool, err error) {
	r.counters.lookups.Add(1)
	if r.closed.Load() {
		return nil, false, ErrClosed
	}
	once, isOnce := ctx.(*AtOnce)
	if isOnce {
		if what, known := once.known[key{name, rrtype}]; known {
			return what.entry, false, what.err
		}
	}
	if r.reloadIfChanged(ctx); isOnce && once.blocks {
		r.counters.lookups.Add(^uint64(0)) // it is put once more
		return nil, false, context.Canceled
	}
	old, fresh := r.cache.get(name, rrtype, time.Now())
	if fresh {
		r.counters.hits.Add(1)
		return old, false, nil
	}
	if isOnce && (old == nil || time.Now().UnixNano() >= old.retry.Load()) {
		r.counters.lookups.Add(^uint64(0)) // it is put once more
		return nil, false, once.miss(key{name, rrtype}, old != nil)
	}
	if old == nil {
		entry, err = r.fly(ctx, name, rrtype)
		return entry, false, err
	}
	return r.findOrStale(ctx, old, name, rrtype)
}

// findOrStale answers old if the servers take too long, or fail.
func (r *Resolver) findOrStale(ctx context.Context, old *cached, name string, rrtype uint16) (*cached, bool, error) {
	if time.Now().UnixNano() < old.retry.Load() {
		r.counters.stale.Add(1)
		return old, true, nil
	}
	// The work goes on behind the answer, so that the next who asks gets a fresh one.
	working, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.longest())
	result := make(chan *cached, 1)
	go func() {
		defer cancel()
		entry, err := r.fly(working, name, rrtype)
		if err != nil {
			entry = old
			if working.Err() == nil {
				old.retry.Store(time.Now().Add(staleRetry).UnixNano())
			}
		}
		result <- entry
	}()
	late := time.NewTimer(staleWait)
	defer late.Stop()
	select {
	case entry := <-result:
		if entry != old {
			return entry, false, nil
		}
	case <-late.C:
	case <-ctx.Done():
		cancel()
		return nil, false, ctx.Err()
	}
	r.counters.stale.Add(1)
	return old, true, nil
}

// longest is how long asking all servers may take.
func (r *Resolver) longest() time.Duration {
	conf := r.setup.Load().conf
	return conf.Timeout * time.Duration(len(conf.Servers)*conf.Attempts+1)
}

// fly asks, or joins who asks already.
func (r *Resolver) fly(ctx context.Context, name string, rrtype uint16) (*cached, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entry, joined, err := r.flights.do(ctx, r.life, key{name, rrtype}, r.launch)
	if joined {
		r.counters.joined.Add(1)
	}
	return entry, r.whyFailed(err)
}

// join asks, or joins who asks already, without waiting: see flights.join.
func (r *Resolver) join(k key, told func(entry *cached, err error)) (leave func()) {
	leave, joined := r.flights.join(r.life, k, r.launch, func(entry *cached, err error) { told(entry, r.whyFailed(err)) })
	if joined {
		r.counters.joined.Add(1)
	}
	return leave
}

func (r *Resolver) whyFailed(err error) error {
	if err != nil && r.closed.Load() {
		return ErrClosed
	}
	return err
}

// askAll asks, follows aliases as far as they lead, and keeps what it learns. state: what has been begun; nil: nothing.
func (r *Resolver) askAll(ctx context.Context, k key, state *begun) (*cached, error) {
	setup := r.setup.Load()
	whole := newFound(k.name)
	if state != nil && state.whole != nil {
		whole, state = state.whole, nil
	}
	for range hopsMax {
		m, err := r.query(ctx, setup, lowerASCII(whole.name), k.rrtype, state)
		if err != nil {
			return nil, err
		}
		entry, err := r.learn(setup, k, whole, m)
		if entry != nil || err != nil {
			return entry, err
		}
		state = nil
	}
	return nil, fmt.Errorf("%w: %w", ErrServer, ErrLoop)
}

// learn adds to whole what a response says, and keeps it once it is all; nil: it is not.
func (r *Resolver) learn(setup *setup, k key, whole *found, m *wire.Msg) (*cached, error) {
	part, err := follow(m, whole.name, k.rrtype)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrServer, err)
	}
	part.authenticated = setup.conf.TrustAD && m.AuthenticatedData
	if err := whole.append(part); err != nil {
		return nil, err
	}
	if whole.more {
		return nil, nil
	}
	return r.keep(setup, k.name, k.rrtype, whole), nil
}

// append goes on from where a response led.
func (f *found) append(part *found) error {
	for _, alias := range part.aliases {
		for _, before := range f.aliases {
			if equalNames(before, alias) {
				return fmt.Errorf("%w: %w", ErrServer, ErrLoop)
			}
		}
		f.aliases = append(f.aliases, alias)
	}
	f.name, f.records, f.kind, f.more = part.name, part.records, part.kind, part.more
	f.ttl = min(f.ttl, part.ttl)
	f.keep = min(f.ttl, part.keep)
	f.authenticated = f.authenticated && part.authenticated
	return nil
}

// keep puts what was found into the cache.
func (r *Resolver) keep(setup *setup, name string, rrtype uint16, f *found) *cached {
	now := time.Now()
	life := min(time.Duration(f.ttl)*time.Second, r.config.MaxTTL)
	if f.kind != nil {
		life = min(time.Duration(f.keep)*time.Second, r.config.MaxNegativeTTL)
	}
	entry := &cached{key: key{name, rrtype}, found: f, made: now, fresh: now.Add(life)}
	entry.stale = entry.fresh
	if f.kind == nil {
		entry.stale = entry.fresh.Add(r.config.ServeStale)
	}
	if errors.Is(f.kind, ErrNotFound) && len(f.aliases) == 0 {
		entry.key.rrtype = 0 // RFC 2308 section 5: whatever type is asked for
	}
	// Not an answer of servers that are not asked any more.
	if life > 0 && r.setup.Load() == setup {
		r.cache.put(entry)
	}
	return entry
}
