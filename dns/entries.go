package dns

import (
	"time"

	wire "github.com/miekg/dns"
)

// Cache is a resolver's memory of answers.
type Cache struct{ r *Resolver }

// Cache answers the resolver's cache.
func (r *Resolver) Cache() Cache { return Cache{r} }

// Len is the number of answers.
func (c Cache) Len() int { return c.r.cache.len() }

// Clear forgets all of them.
func (c Cache) Clear() { c.r.cache.clear() }

// CacheEntry is an answer in the cache.
type CacheEntry struct {
	Name      string // absolute, in lower case
	Type      uint16 // 0: any, as the name does not exist
	Canonical string // where its aliases lead
	Records   []wire.RR
	Err       error         // ErrNotFound or ErrNoData, if there is nothing
	Left      time.Duration // of its TTL; negative: it is stale
}

// Entries answers what the cache holds, the answer used last first.
func (c Cache) Entries() []CacheEntry {
	now := time.Now()
	var entries []CacheEntry
	for _, e := range c.r.cache.all() {
		entry := CacheEntry{Name: e.key.name, Type: e.key.rrtype, Canonical: e.found.name, Err: e.found.kind, Left: e.fresh.Sub(now)}
		for _, rr := range e.found.records {
			entry.Records = append(entry.Records, wire.Copy(rr))
		}
		entries = append(entries, entry)
	}
	return entries
}
