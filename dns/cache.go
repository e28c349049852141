package dns

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"
)

// key is what a cache's entry is about. rrtype 0: the name does not exist, which holds for
// every type.
type key struct {
	name   string
	rrtype uint16
}

// cached is an answer, or the error that there is none, and until when it is good.
type cached struct {
	key   key
	found *found
	made  time.Time
	fresh time.Time    // up to here
	stale time.Time    // and up to here where stale answers are served
	retry atomic.Int64 // Unix time in ns up to which no server is asked again, as none answered
}

// cache keeps answers for as long as their TTL says.
type cache struct {
	mu      sync.Mutex
	max     int
	order   *list.List // of *cached, the one used last in front
	entries map[key]*list.Element
}

func newCache(max int) *cache {
	return &cache{max: max, order: list.New(), entries: map[key]*list.Element{}}
}

// get answers what is known, and whether it is fresh. What is too old leaves.
func (c *cache) get(name string, rrtype uint16, now time.Time) (found *cached, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range [...]key{{name, rrtype}, {name, 0}} {
		element := c.entries[k]
		if element == nil {
			continue
		}
		entry := element.Value.(*cached)
		if !now.Before(entry.fresh) && !now.Before(entry.stale) {
			c.remove(element)
			continue
		}
		if now.Before(entry.fresh) {
			c.order.MoveToFront(element)
			return entry, true
		}
		if found == nil {
			found = entry
		}
	}
	return found, false
}

func (c *cache) put(entry *cached) {
	if c.max == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.entries[entry.key]; old != nil {
		c.remove(old)
	}
	if entry.key.rrtype != 0 {
		// The name exists: what said the opposite is out of date.
		if gone := c.entries[key{entry.key.name, 0}]; gone != nil {
			c.remove(gone)
		}
	}
	c.entries[entry.key] = c.order.PushFront(entry)
	for c.order.Len() > c.max {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(element *list.Element) {
	c.order.Remove(element)
	delete(c.entries, element.Value.(*cached).key)
}

func (c *cache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len()
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order.Init()
	clear(c.entries)
}

// all answers the entries, the one used last first.
func (c *cache) all() []*cached {
	c.mu.Lock()
	defer c.mu.Unlock()
	entries := make([]*cached, 0, c.order.Len())
	for element := c.order.Front(); element != nil; element = element.Next() {
		entries = append(entries, element.Value.(*cached))
	}
	return entries
}
