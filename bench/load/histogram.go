package main

import "math/bits"

const (
	// subBits gives 64 buckets per power of two: a bucket is at most 1/64,
	// 1.6 %, wide, well below what two runs differ by.
	subBits     = 6
	subBuckets  = 1 << subBits
	bucketCount = (64 - subBits + 1) * subBuckets
)

// histogram counts durations in nanoseconds in buckets of constant relative
// width, without allocating.
type histogram struct {
	counts [bucketCount]uint64
	total  uint64
	maxNS  uint64
}

func bucketOf(ns uint64) int {
	if ns < subBuckets {
		return int(ns)
	}
	exponent := bits.Len64(ns) - 1 - subBits
	return exponent*subBuckets + int(ns>>exponent)
}

// upperBound is the largest number of nanoseconds that falls into bucket i.
func upperBound(i int) uint64 {
	if i < subBuckets {
		return uint64(i)
	}
	exponent := i/subBuckets - 1
	mantissa := uint64(i - exponent*subBuckets)
	return (mantissa+1)<<exponent - 1
}

func (h *histogram) record(ns int64) {
	v := uint64(max(ns, 0))
	h.counts[bucketOf(v)]++
	h.total++
	h.maxNS = max(h.maxNS, v)
}

// quantileUS answers the q-quantile (0 < q <= 1) in microseconds, 0 if nothing
// was recorded.
func (h *histogram) quantileUS(q float64) float64 {
	rank := uint64(q * float64(h.total))
	var seen uint64
	for i, n := range h.counts {
		seen += n
		if n > 0 && seen >= rank {
			return float64(min(upperBound(i), h.maxNS)) / 1e3
		}
	}
	return 0
}
