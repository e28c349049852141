package dns

import (
	"context"
	"sync"
)

// AtOnce is a context under which a lookup answers what it can without waiting for a server: from
// the cache, the hosts file, or the text of an address itself. Where that is not enough the
// lookup fails, and Missed says so: what it then answers means nothing.
type AtOnce struct {
	context.Context
	known  map[key]outcome // besides what the cache knows
	missed bool
	keys   []key // what was missed
	blocks bool  // it takes more than asking for these: a goroutine that waits
	begun  int64 // by clock, which is read once for all the files; 0: not yet
}

// Missed says that the lookup would have had to wait.
func (c *AtOnce) Missed() bool { return c.missed }

// Err implements context.Context.
func (c *AtOnce) Err() error {
	if c.missed {
		return context.Canceled
	}
	return c.Context.Err()
}

func (c *AtOnce) miss(k key, blocks bool) error {
	c.missed = true
	c.keys = append(c.keys, k)
	c.blocks = c.blocks || blocks
	return context.Canceled
}

// missFile is for a file that has to be looked at.
func (c *AtOnce) missFile() { c.missed, c.blocks = true, true }

// clock is the time at which the lookup looks at files; of another lookup, for which c is nil, it is the time now.
func (c *AtOnce) clock() int64 {
	if c == nil {
		return clock()
	}
	if c.begun == 0 {
		c.begun = clock()
	}
	return c.begun
}

func isAtOnce(ctx context.Context) bool {
	_, is := ctx.(*AtOnce)
	return is
}

// readFiles reads all that have changed, whatever the lookup needs of them, so that the next one finds them all.
func (r *Resolver) readFiles() {
	var all sync.WaitGroup
	for _, look := range []func(){r.hosts.look, r.services.look, r.nsswitch.look, r.gaiConf.look, r.hostConf.look, r.lookAtResolvConf} {
		all.Go(look)
	}
	all.Wait()
}
