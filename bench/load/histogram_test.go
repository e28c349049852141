package main

import (
	"math"
	"testing"
)

func TestBucketsAreNarrowAndInOrder(t *testing.T) {
	for _, ns := range []uint64{0, 1, 63, 64, 65, 127, 128, 1000, 123_456, 1e9, 1 << 62, math.MaxUint64} {
		i := bucketOf(ns)
		if i < 0 || i >= bucketCount {
			t.Fatalf("%d ns: bucket %d of %d", ns, i, bucketCount)
		}
		upper := upperBound(i)
		if upper < ns || float64(upper-ns) > float64(ns)/subBuckets {
			t.Errorf("%d ns is counted as %d ns", ns, upper)
		}
		if i > 0 && upperBound(i-1) >= ns {
			t.Errorf("%d ns belongs to bucket %d or below, not %d", ns, i-1, i)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var h histogram
	if got := h.quantileUS(0.5); got != 0 {
		t.Errorf("an empty histogram has a median of %v", got)
	}
	for us := int64(1); us <= 1000; us++ {
		h.record(us * 1000)
	}
	for _, c := range []struct{ q, want float64 }{{0.5, 500}, {0.99, 990}, {1, 1000}} {
		if got := h.quantileUS(c.q); math.Abs(got-c.want) > c.want/subBuckets {
			t.Errorf("quantile %v is %v µs, want %v", c.q, got, c.want)
		}
	}
}
