package dns

import "context"

// AtOnce is a context under which a lookup answers what it can without waiting for a server: from
// the cache, the hosts file, or the text of an address itself. Where that is not enough the
// lookup fails, and Missed says so: what it then answers means nothing.
type AtOnce struct {
	context.Context
	known  map[key]outcome // besides what the cache knows
	missed bool
	keys   []key // what was missed
	blocks bool  // it takes more than asking for these
}

// NewAtOnce makes one, for one lookup of one goroutine.
func NewAtOnce() *AtOnce { return &AtOnce{Context: context.Background()} }

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

func isAtOnce(ctx context.Context) bool {
	_, is := ctx.(*AtOnce)
	return is
}

// Quick says that a lookup has no large file to read before it can begin, as of checkEvery ago. One that must not
// hold up its caller is better made elsewhere if not.
func (r *Resolver) Quick() bool {
	now := clock()
	if now < r.quickUntil.Load() {
		return true
	}
	if !r.hosts.quick() || !r.services.quick() || !r.nsswitch.quick() || !r.gaiConf.quick() || !r.hostConf.quick() {
		return false
	}
	r.quickUntil.Store(now + int64(checkEvery))
	return true
}

// readFiles reads all that have changed, so that the next lookup is quick, whatever it needs of them.
func (r *Resolver) readFiles() {
	r.hosts.get()
	r.services.get()
	r.nsswitch.get()
	r.gaiConf.get()
	r.hostConf.get()
}
