package ktls

import (
	"bytes"
	"runtime"
	"slices"
	"testing"
	"time"
)

// BenchmarkWorkers seals and opens one stream of 64 MiB, by one goroutine and by two in
// turns, with the suite that most peers agree on. times-one is the median of the ratios of each turn.
func BenchmarkWorkers(b *testing.B) {
	const streamBytes = 64 << 20
	if runtime.GOMAXPROCS(0) < 2 {
		b.Skip("two goroutines on one core")
	}
	s, err := SuiteOf(0x1301, TLS13)
	check(b, err)
	sizes, _ := pairOf(b, s)
	plain := bytes.Repeat(pattern(1<<20), streamBytes>>20)
	sealed := make([]byte, 0, sizes.SealedSize(streamBytes))
	opened := make([]byte, cap(sealed))
	var records []Record
	stream := func(workers int) (sealing, opening time.Duration) {
		// Keys of their own: a benchmark that runs for long would use one key up.
		sealer, opener := pairOf(b, s)
		var err error
		begin := time.Now()
		sealed, err = sealer.SealParallel(sealed[:0], TypeData, plain, workers)
		sealing = time.Since(begin)
		check(b, err)
		begin = time.Now()
		records, err = opener.OpenParallel(opened, sealed, records[:0], workers)
		opening = time.Since(begin)
		check(b, err)
		return sealing, opening
	}
	stream(1) // memory that nobody has touched yet costs as much as sealing it
	checkStream(b, records, plain)
	stream(2)
	checkStream(b, records, plain)
	var one, two [2]time.Duration
	var ratios [3][]float64
	for b.Loop() {
		seal1, open1 := stream(1)
		seal2, open2 := stream(2)
		one[0], one[1], two[0], two[1] = one[0]+seal1, one[1]+open1, two[0]+seal2, two[1]+open2
		for i, r := range []float64{ratio(seal1, seal2), ratio(open1, open2), ratio(seal1+open1, seal2+open2)} {
			ratios[i] = append(ratios[i], r)
		}
	}
	for i, name := range []string{"seal", "open"} {
		rate := func(d time.Duration) float64 { return float64(len(ratios[i])) * streamBytes / (1 << 20) / d.Seconds() }
		b.ReportMetric(rate(one[i]), name+"-1-MiB/s")
		b.ReportMetric(rate(two[i]), name+"-2-MiB/s")
	}
	for i, name := range []string{"seal-times-one", "open-times-one", "both-times-one"} {
		slices.Sort(ratios[i])
		b.ReportMetric(ratios[i][len(ratios[i])/2], name)
	}
	b.ReportMetric(0, "ns/op") // of all four, which says nothing
}

func ratio(one, two time.Duration) float64 { return float64(one) / float64(two) }

// checkStream: what is measured has to be right.
func checkStream(b *testing.B, records []Record, want []byte) {
	b.Helper()
	for _, r := range records {
		if len(r.Content) > len(want) || !bytes.Equal(r.Content, want[:len(r.Content)]) {
			b.Fatal("opened bytes differ from those that were sealed")
		}
		want = want[len(r.Content):]
	}
	if len(want) > 0 {
		b.Fatalf("%d bytes are missing", len(want))
	}
}
