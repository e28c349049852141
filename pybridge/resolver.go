package main

/*
#include <stdlib.h>
#include "private.h"
*/
import "C"

import (
	"fmt"
	"sync"
	"syscall"

	"kloop/dns"
)

// resolvers are the process's, by the numbers that the host knows them by.
var resolvers struct {
	mu    sync.RWMutex
	table map[uint64]*dns.Resolver
	last  uint64
}

func resolverOf(number uint64) *dns.Resolver {
	resolvers.mu.RLock()
	defer resolvers.mu.RUnlock()
	return resolvers.table[number]
}

// guarded calls f for a resolver; a panic is an error. It answers a negative errno, or what f does.
func guarded(number uint64, f func(r *dns.Resolver) (int64, error)) (result int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			result, err = -int64(syscall.ENOTRECOVERABLE), fmt.Errorf("%w: %v", dns.ErrInternal, p)
		}
	}()
	r := resolverOf(number)
	if r == nil {
		return -int64(syscall.ENOENT), dns.ErrClosed
	}
	result, err = f(r)
	if err != nil {
		result = int64(failure(err))
	}
	return result, err
}

//export kloop_go_resolver_open
func kloop_go_resolver_open(config *C.char, size C.uint64_t, reason *C.char, reasonSize C.uint64_t) (result C.int64_t) {
	defer func() {
		if p := recover(); p != nil {
			result = C.int64_t(explain(fmt.Errorf("%w: %v", dns.ErrInternal, p), reason, reasonSize))
		}
	}()
	parsed, err := parseConfig(C.GoStringN(config, C.int(size)))
	if err != nil {
		return C.int64_t(explain(err, reason, reasonSize))
	}
	r, err := dns.New(parsed)
	if err != nil {
		return C.int64_t(explain(err, reason, reasonSize))
	}
	resolvers.mu.Lock()
	defer resolvers.mu.Unlock()
	if resolvers.table == nil {
		resolvers.table = map[uint64]*dns.Resolver{}
	}
	resolvers.last++
	resolvers.table[resolvers.last] = r
	return C.int64_t(resolvers.last)
}

//export kloop_go_resolver_close
func kloop_go_resolver_close(number C.uint64_t) C.int {
	result, _ := guarded(uint64(number), func(r *dns.Resolver) (int64, error) {
		resolvers.mu.Lock()
		delete(resolvers.table, uint64(number))
		resolvers.mu.Unlock()
		r.Close()
		return 0, nil
	})
	return C.int(result)
}

//export kloop_go_resolver_reload
func kloop_go_resolver_reload(number C.uint64_t, reason *C.char, reasonSize C.uint64_t) C.int {
	result, err := guarded(uint64(number), func(r *dns.Resolver) (int64, error) { return 0, r.Reload() })
	if err != nil {
		explain(err, reason, reasonSize)
	}
	return C.int(result)
}

//export kloop_go_resolver_cache_len
func kloop_go_resolver_cache_len(number C.uint64_t) C.int64_t {
	result, _ := guarded(uint64(number), func(r *dns.Resolver) (int64, error) { return int64(r.Cache().Len()), nil })
	return C.int64_t(result)
}

//export kloop_go_resolver_cache_clear
func kloop_go_resolver_cache_clear(number C.uint64_t) C.int {
	result, _ := guarded(uint64(number), func(r *dns.Resolver) (int64, error) {
		r.Cache().Clear()
		return 0, nil
	})
	return C.int(result)
}

//export kloop_go_resolver_tell
func kloop_go_resolver_tell(number C.uint64_t, what C.int, out **C.char) C.int64_t {
	result, _ := guarded(uint64(number), func(r *dns.Resolver) (int64, error) {
		var v value
		switch what {
		case 's':
			v.stats(r)
		case 'e':
			v.entries(r.Cache().Entries())
		case 'c':
			v.resolvConf(r.ResolvConf())
		default:
			return 0, syscall.EINVAL
		}
		*out = (*C.char)(C.CBytes(v))
		return int64(len(v)), nil
	})
	return C.int64_t(result)
}

// stats tells pairs of a name and a number, then the servers, then which sources are libc's.
func (v *value) stats(r *dns.Resolver) {
	s := r.Stats()
	counters := []struct {
		name  string
		count uint64
	}{
		{"lookups", s.Lookups}, {"hits", s.Hits}, {"stale", s.Stale}, {"joined", s.Joined}, {"hosts", s.Hosts},
		{"asked_libc", s.AskedLibc}, {"udp", s.UDP}, {"tcp", s.TCP}, {"tls", s.TLS}, {"answers", s.Answers},
		{"foreign", s.Foreign}, {"case", s.Case}, {"malformed", s.Malformed}, {"truncated", s.Truncated},
		{"failures", s.Failures}, {"timeouts", s.Timeouts}, {"canceled", s.Canceled}, {"reloads", s.Reloads},
		{"running", uint64(s.Running)}, {"waiting", uint64(s.Waiting)}, {"entries", uint64(s.Entries)},
	}
	v.list(3)
	v.list(len(counters))
	for _, c := range counters {
		v.list(2)
		v.text(c.name)
		v.int(int64(c.count))
	}
	v.list(len(s.Servers))
	for _, server := range s.Servers {
		v.list(5)
		v.text(server.Addr.String())
		v.float(server.RTT.Seconds())
		v.int(int64(server.Failures))
		v.bool(server.Down)
		v.text(server.Records)
	}
	hosts, services := r.NeedsLibc()
	v.texts([]string{hosts, services})
}

// entries tells of each its name, its type's number (0: any), where its aliases lead, the records,
// why there are none (a KLOOP_ANSWER_), and the seconds left of its TTL.
func (v *value) entries(entries []dns.CacheEntry) {
	v.list(len(entries))
	for _, e := range entries {
		status := uint32(C.KLOOP_ANSWER_OK)
		if e.Err != nil {
			status = statusOf(e.Err)
		}
		v.list(6)
		v.name(e.Name)
		v.int(int64(e.Type))
		v.name(e.Canonical)
		v.records(e.Records)
		v.int(int64(status))
		v.float(e.Left.Seconds())
	}
}

func (v *value) resolvConf(c dns.ResolvConf) {
	v.list(14)
	v.list(len(c.Servers))
	for _, at := range c.Servers {
		v.text(at.String())
	}
	v.texts(c.Search)
	v.int(int64(c.Ndots))
	v.float(c.Timeout.Seconds())
	v.int(int64(c.Attempts))
	for _, b := range []bool{c.Rotate, c.UseTCP, c.EDNS0, c.TrustAD, c.SingleRequest, c.NoAAAA, c.NoTLDQuery, c.NoReload} {
		v.bool(b)
	}
	v.texts(c.Unknown)
}
