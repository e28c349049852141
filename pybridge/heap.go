package main

import "runtime/metrics"

const liveHeapMetric = "/gc/heap/live:bytes"

// liveHeapBytes answers what the last garbage collection of the process found alive: without the garbage that
// waits for the next one, so that growth is a leak.
func liveHeapBytes() uint64 {
	sample := []metrics.Sample{{Name: liveHeapMetric}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}
