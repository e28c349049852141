package main

import "math/rand/v2"

// maxClosesPerTick bounds the work between two batches: a generator that was
// kept from running does not make up for all that was due at once.
const maxClosesPerTick = 32

// closer ends random connections at a rate, in three ways in turn:
// a reset, a close with bytes under way, and an orderly half close after which every
// byte still has to come back, followed by the server's end of stream.
type closer struct {
	perSecond float64
	random    *rand.Rand
	dueNS     int64
}

func newCloser(perSecond float64, seed uint64) *closer {
	return &closer{perSecond: perSecond, random: rand.New(rand.NewPCG(seed, seed))}
}

func (k *closer) tick(c *echoClient) {
	const second = 1e9
	if k.dueNS == 0 {
		k.dueNS = c.nowNS
	}
	for n := 0; n < maxClosesPerTick && k.dueNS <= c.nowNS; n++ {
		// Exponential intervals, as independent clients have.
		k.dueNS += int64(k.random.ExpFloat64() * second / k.perSecond)
		k.close(&c.conns[k.random.IntN(len(c.conns))])
	}
	k.dueNS = max(k.dueNS, c.nowNS-second)
}

func (k *closer) close(c *echoConn) {
	if c.state != open || c.ending {
		return
	}
	c.client.result.Closes++
	switch k.random.IntN(3) {
	case 0:
		if err := setAbort(c.client.engine.fd(c.index)); err != nil {
			c.client.fail("abort: %v", err)
		}
		c.shut()
		c.again()
	case 1:
		c.shut()
		c.again()
	default:
		c.halfClose()
	}
}
