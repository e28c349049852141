package main

/*
#include "private.h"
*/
import "C"

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync"
	"syscall"
	"time"

	"kloop/core"
	"kloop/dns"
)

// many are lookups whose answers are told in batches: waking the host for each would take longer than the lookup.
type many struct {
	l    *loop
	note *lookup
	like question // but for the host
	work *dns.Many[manyQuestion, []byte]

	mu     sync.Mutex
	left   int // answers that will come, as far as is known
	batch  []byte
	count  int // answers in it
	enough int
	late   *time.Timer
	armed  bool
	over   bool
}

type manyQuestion struct {
	ticket uint64
	host   string
}

const (
	// batchMost is how many answers are enough to wake the host for.
	batchMost = 256
	// batchWait is how long the first answer of a batch waits for others.
	batchWait = 5 * time.Millisecond
	// batchShare: fewer are enough where fewer may be under way: this part of them.
	batchShare = 2
	// What stands before the name of a question, and before an answer: see kloop_lookup_many().
	ticketSize, sizeSize = 8, 4
)

//export kloop_go_lookup_many
func kloop_go_lookup_many(handle C.uint64_t, q *C.struct_kloop_lookup, places C.uint32_t) (result C.int64_t) {
	l := loopOf(handle)
	defer l.contain64(&result)
	if l.broken {
		return -C.int64_t(syscall.ENOTRECOVERABLE)
	}
	var m *many
	if q.id != 0 {
		l.lookups.mu.Lock()
		m = l.lookups.many[uint32(q.id)]
		l.lookups.mu.Unlock()
	} else if r := resolverOf(uint64(q.resolver)); r != nil {
		m = l.beginMany(r, q, int(places))
	}
	if m == nil {
		return -C.int64_t(syscall.ENOENT)
	}
	// Without one the lookups tell why.
	_ = startBackground(core.DriverName(l.driver.Name()))
	go m.add(bytes.Clone(hostBytes(q.host, q.host_len))) // the host's thread has done enough
	return 0
}

func (m *many) add(packed []byte) {
	questions := manyQuestions(packed)
	m.mu.Lock()
	m.left += len(questions)
	m.mu.Unlock()
	m.work.Add(questions)
}

func (l *loop) beginMany(r *dns.Resolver, q *C.struct_kloop_lookup, places int) *many {
	like := *q
	like.host = 0
	m := &many{l: l, like: *questionOf(&like), enough: min(max(places/batchShare, 1), batchMost)}
	look := func(ctx context.Context, one manyQuestion) []byte {
		asked := m.like
		asked.host = &one.host
		return asked.answer(ctx, r)
	}
	m.work = dns.NewMany(r, places, look, m.answered)
	m.late = time.AfterFunc(time.Hour, m.tellLate)
	m.late.Stop()
	m.note = l.begin(uint64(q.user), m.cancel)
	q.id = C.uint32_t(m.note.id)
	s := &l.lookups
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.many == nil {
		s.many = map[uint32]*many{}
	}
	s.many[m.note.id] = m
	return m
}

// manyQuestions copies what the host has packed.
func manyQuestions(packed []byte) (questions []manyQuestion) {
	for len(packed) > 0 {
		ticket := binary.NativeEndian.Uint64(packed)
		end := ticketSize + sizeSize + int(binary.NativeEndian.Uint32(packed[ticketSize:]))
		questions = append(questions, manyQuestion{ticket, string(packed[ticketSize+sizeSize : end])})
		packed = packed[end:]
	}
	return questions
}

// answered adds an answer to the batch.
func (m *many) answered(one manyQuestion, packed []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.batch = binary.NativeEndian.AppendUint64(m.batch, one.ticket)
	m.batch = binary.NativeEndian.AppendUint32(m.batch, uint32(len(packed)))
	m.batch = append(m.batch, packed...)
	m.count++
	m.left--
	if m.count >= m.enough || m.left == 0 {
		m.tell()
	} else if !m.armed {
		m.armed = true
		m.late.Reset(batchWait)
	}
}

func (m *many) tellLate() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.armed = false
	if m.count > 0 {
		m.tell()
	}
}

// tell leaves the batch for the loop's thread. m.mu is held.
func (m *many) tell() {
	if !m.over {
		m.l.post(answer{kind: C.KLOOP_EV_ANSWERS, res: C.int32_t(m.count), user: m.note.user, packed: m.batch})
	}
	m.batch, m.count = make([]byte, 0, cap(m.batch)), 0
}

// cancel ends what is under way. The event that tells so is the last one.
func (m *many) cancel() {
	m.mu.Lock()
	over := m.over
	m.over = true
	m.late.Stop()
	m.mu.Unlock()
	if !over {
		m.work.Cancel()
		m.l.end(m.note, answer{kind: C.KLOOP_EV_ANSWERS_OVER, user: m.note.user})
	}
}
