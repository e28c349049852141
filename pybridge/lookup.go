package main

/*
#include "private.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"kloop/core"
	"kloop/dns"
)

// lookups are a loop's that are under way, and the answers that wait for its thread.
type lookups struct {
	mu       sync.Mutex
	underWay map[uint32]*lookup
	many     map[uint32]*many
	last     uint32
	answers  []answer
	spare    []answer
	over     bool // the loop is closed: its memory may be gone
}

// lookup is one that waits for a server.
type lookup struct {
	user   uint64
	id     uint32
	cancel func()
}

// answer is an event for the host.
type answer struct {
	kind   C.uint32_t
	res    C.int32_t
	user   uint64
	packed []byte
}

// question is what the host asks, in memory of Go's.
type question struct {
	kind          uint32
	host, service *string // of these texts
	texts         [2]string
	hints         dns.Hints
	rrtype, port  uint16
	scope         uint32
}

//export kloop_go_lookup
func kloop_go_lookup(handle C.uint64_t, q *C.struct_kloop_lookup) (result C.int64_t) {
	l := loopOf(handle)
	defer l.contain64(&result)
	if l.broken {
		return -C.int64_t(syscall.ENOTRECOVERABLE)
	}
	r := resolverOf(uint64(q.resolver))
	if r == nil {
		return -C.int64_t(syscall.ENOENT)
	}
	asked := questionOf(q)
	work := dns.NewLookup(r, func(ctx context.Context) []byte { return asked.answer(ctx, r) })
	packed, known := work.AtOnce()
	if known && len(packed) <= int(q.out_size) {
		copy(hostBytes(q.out, q.out_size), packed)
		return C.int64_t(len(packed))
	}
	begun := l.begin(uint64(q.user), func() { work.Cancel(failureOf(context.Canceled)) })
	q.id = C.uint32_t(begun.id)
	// Without one the lookup tells why, if it needs it: files are read all the same.
	_ = startBackground(core.DriverName(l.driver.Name()))
	if known {
		l.leave(begun, packed)
	} else {
		work.Start(func(packed []byte) { l.leave(begun, packed) })
	}
	return -C.int64_t(syscall.EINPROGRESS)
}

//export kloop_go_lookup_cancel
func kloop_go_lookup_cancel(handle C.uint64_t, id C.uint32_t) C.int {
	l := loopOf(handle)
	l.lookups.mu.Lock()
	found := l.lookups.underWay[uint32(id)]
	l.lookups.mu.Unlock()
	if found != nil {
		found.cancel() // a panic in it is an answer: see question.answer
	}
	return 0
}

func questionOf(q *C.struct_kloop_lookup) *question {
	asked := &question{
		kind:   uint32(q.kind),
		hints:  dns.Hints{Flags: int(q.flags), Family: int(q.family), SockType: int(q.socktype), Protocol: int(q.protocol)},
		rrtype: uint16(q._type),
		port:   uint16(q.port),
		scope:  uint32(q.scope),
	}
	if q.host != 0 {
		asked.texts[0] = string(hostBytes(q.host, q.host_len))
		asked.host = &asked.texts[0]
	}
	if q.service != 0 {
		asked.texts[1] = string(hostBytes(q.service, q.service_len))
		asked.service = &asked.texts[1]
	}
	return asked
}

// begin notes a lookup of which an answer will be left.
func (l *loop) begin(user uint64, cancel func()) *lookup {
	work := &lookup{user: user, cancel: cancel}
	s := &l.lookups
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.underWay == nil {
		s.underWay = map[uint32]*lookup{}
	}
	for s.last++; s.last == 0 || s.underWay[s.last] != nil; s.last++ {
	}
	work.id = s.last
	s.underWay[work.id] = work
	return work
}

// leave leaves the answer of a lookup.
func (l *loop) leave(work *lookup, packed []byte) {
	l.end(work, answer{kind: C.KLOOP_EV_ANSWER, user: work.user, packed: packed})
}

// end forgets a lookup, of which this is the last event.
func (l *loop) end(work *lookup, last answer) {
	s := &l.lookups
	s.mu.Lock()
	delete(s.underWay, work.id)
	delete(s.many, work.id)
	s.mu.Unlock()
	l.post(last)
}

// post leaves an event for the loop's thread, and wakes it.
func (l *loop) post(event answer) {
	s := &l.lookups
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.answers = append(s.answers, event)
	atomic.StoreUint32(l.answered(), 1)
	C.kloop_wake(l.k)
}

func (l *loop) answered() *uint32 { return (*uint32)(unsafe.Pointer(&l.k.answered)) }

// takeAnswers makes events of the answers there are.
func (l *loop) takeAnswers() {
	if atomic.LoadUint32(l.answered()) == 0 {
		return
	}
	s := &l.lookups
	s.mu.Lock()
	atomic.StoreUint32(l.answered(), 0)
	answers := s.answers
	s.answers, s.spare = s.spare[:0], nil
	s.mu.Unlock()
	for i := range answers {
		l.emitMemory(C.struct_kloop_event{kind: answers[i].kind, res: answers[i].res, user: C.uint64_t(answers[i].user)}, answers[i].packed)
		answers[i] = answer{}
	}
	s.mu.Lock()
	s.spare = answers
	s.mu.Unlock()
}

// endLookups ends those under way. What they would answer nobody wants any more.
func (l *loop) endLookups() {
	s := &l.lookups
	s.mu.Lock()
	s.over = true
	underWay := s.underWay
	s.underWay, s.many, s.answers = nil, nil, nil
	s.mu.Unlock()
	for _, work := range underWay {
		work.cancel()
	}
}

// background is the process's loop, which does the resolvers' I/O.
var background struct {
	once sync.Mutex
	loop atomic.Pointer[core.Loop]
}

// startBackground makes the background loop run, on this driver, and tells of its descriptors.
func startBackground(driver core.DriverName) error {
	if loop := background.loop.Load(); loop != nil && !loop.Ended() {
		return nil
	}
	background.once.Lock()
	defer background.once.Unlock()
	loop, err := core.BackgroundOn(driver)
	if err != nil {
		return err
	}
	ring, wake := loop.Descriptors()
	noteDescriptor(ring, true)
	noteDescriptor(wake, true)
	core.WatchDescriptors(noteDescriptor)
	background.loop.Store(loop)
	return nil
}

// noteDescriptor has a descriptor closed in a forked child, or not any more.
func noteDescriptor(fd int, open bool) { C.kloop_note_descriptor(C.int32_t(fd), C._Bool(open)) }

// answer looks up what is asked, and packs what kloop.h's kloop_lookup says.
func (q *question) answer(ctx context.Context, r *dns.Resolver) (packed []byte) {
	defer func() {
		if p := recover(); p != nil {
			packed = failureOf(fmt.Errorf("%w: %v\n%s", dns.ErrInternal, p, debug.Stack()))
		}
	}()
	switch q.kind {
	case C.KLOOP_LOOKUP_ADDRINFO:
		infos, err := r.Getaddrinfo(ctx, q.host, q.service, q.hints)
		if err != nil {
			return failureOf(err)
		}
		return packAddrInfos(infos)
	case C.KLOOP_LOOKUP_NAMEINFO:
		return q.nameInfo(ctx, r)
	case C.KLOOP_LOOKUP_RECORDS:
		found, err := r.Resolve(ctx, *q.host, q.rrtype)
		if err != nil {
			return failureOf(err)
		}
		return packAnswer(found)
	case C.KLOOP_LOOKUP_IP:
		return q.ips(ctx, r)
	case C.KLOOP_LOOKUP_ADDR:
		return q.names(ctx, r)
	}
	return failureOf(fmt.Errorf("kloop: the host asks for a lookup of unknown kind %d", q.kind))
}

func (q *question) nameInfo(ctx context.Context, r *dns.Resolver) []byte {
	ip, err := netip.ParseAddr(*q.host)
	if err != nil {
		return failureOf(err)
	}
	host, service, err := r.Getnameinfo(ctx, netip.AddrPortFrom(ip, q.port), q.scope, q.hints.Flags)
	if err != nil {
		return failureOf(err)
	}
	v := success()
	v.list(2)
	v.bytes(host)
	v.text(service)
	return v
}

// networks are the names by which package dns knows families.
var networks = map[int]string{syscall.AF_UNSPEC: "ip", syscall.AF_INET: "ip4", syscall.AF_INET6: "ip6"}

func (q *question) ips(ctx context.Context, r *dns.Resolver) []byte {
	ips, err := r.LookupNetIP(ctx, networks[q.hints.Family], *q.host)
	if err != nil {
		return failureOf(err)
	}
	v := success()
	v.list(len(ips))
	for _, ip := range ips {
		v.text(ip.String())
	}
	return v
}

func (q *question) names(ctx context.Context, r *dns.Resolver) []byte {
	ip, err := netip.ParseAddr(*q.host)
	if err != nil {
		return failureOf(err)
	}
	names, err := r.LookupAddr(ctx, ip)
	if err != nil {
		return failureOf(err)
	}
	v := success()
	v.texts(names)
	return v
}

// packAnswer tells an answer: canonical name, aliases, TTL in seconds, whether it is stale,
// whether authenticated, and the records.
func packAnswer(a *dns.Answer) []byte {
	v := success()
	v.list(6)
	v.name(a.Name)
	v.list(len(a.Aliases))
	for _, alias := range a.Aliases {
		v.name(alias)
	}
	v.int(int64(a.TTL / time.Second))
	v.bool(a.Stale)
	v.bool(a.Authenticated)
	v.records(a.Records)
	return v
}

var statuses = []struct {
	kind   error
	status uint32
}{
	{dns.ErrAskLibc, C.KLOOP_ANSWER_ASK_LIBC},
	{dns.ErrNotFound, C.KLOOP_ANSWER_NOT_FOUND},
	{dns.ErrNoData, C.KLOOP_ANSWER_NO_DATA},
	{dns.ErrServer, C.KLOOP_ANSWER_SERVER},
	{dns.ErrTimeout, C.KLOOP_ANSWER_TIMEOUT},
	{dns.ErrName, C.KLOOP_ANSWER_NAME},
	{dns.ErrBusy, C.KLOOP_ANSWER_BUSY},
	{dns.ErrClosed, C.KLOOP_ANSWER_CLOSED},
	{context.Canceled, C.KLOOP_ANSWER_CANCELED},
	{context.DeadlineExceeded, C.KLOOP_ANSWER_TIMEOUT},
}

func statusOf(err error) uint32 {
	for _, s := range statuses {
		if errors.Is(err, s.kind) {
			return s.status
		}
	}
	return C.KLOOP_ANSWER_OTHER
}
