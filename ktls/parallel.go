package ktls

import (
	"math"
	"slices"
	"sync"
)

// lanes answers at least n lanes that share first's AEAD.
func lanes(others []*lane, first *lane, n int) []*lane {
	for len(others) < n {
		l := *first
		others = append(others, &l)
	}
	for _, l := range others {
		l.base = first.base
	}
	return others
}

// spread calls do(worker, from, to) for equal parts of n items, each in a
// goroutine of its own, and waits for all.
func spread(n, workers int, do func(worker, from, to int)) {
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() { do(w, part(n, workers, w), part(n, workers, w+1)) })
	}
	group.Wait()
}

// part is the first of n items that worker has to do.
func part(n, workers, worker int) int { return n * worker / workers }

// SealParallel is Seal with several goroutines: each seals its part of the
// records, and they are in order. It pays from about 8 records for each.
func (s *Sealer) SealParallel(dst []byte, typ ContentType, plain []byte, workers int) ([]byte, error) {
	records := max(1, (len(plain)+s.max-1)/s.max)
	workers = min(workers, records)
	if workers <= 1 {
		return s.Seal(dst, typ, plain)
	}
	if s.limit-s.seq < uint64(records) {
		return dst, ErrKeyUsedUp
	}
	dst = slices.Grow(dst, s.SealedSize(len(plain)))
	at, extra := len(dst), s.Prefix()+s.Suffix()
	s.others = lanes(s.others, s.lane, workers)
	spread(records, workers, func(worker, from, to int) {
		l := s.others[worker]
		for i := from; i < to; i++ {
			p := plain[i*s.max : min(len(plain), (i+1)*s.max)]
			begin := at + i*(s.max+extra)
			// The capacity ends where the next record, another goroutine's, begins.
			l.appendRecord(dst[begin:begin:begin+len(p)+extra], s.seq+uint64(i), typ, p)
		}
	})
	s.seq += uint64(records)
	return dst[:at+s.SealedSize(len(plain))], nil
}

// OpenParallel opens the whole records that src begins with, by several
// goroutines, into dst, which must be as long as src and apart from it. It
// appends them to records, up to the first that is not application data: that
// may change the key of those behind it. What is opened has the sizes that the
// records say. An error comes after the records that were good.
func (o *Opener) OpenParallel(dst, src []byte, records []Record, workers int) ([]Record, error) {
	first := len(records)
	records, err := o.findRecords(src, records)
	found := records[first:]
	if len(dst) < len(src) {
		return records[:first], &UseError{Reason: "the memory to open into is shorter than the records"}
	}
	if math.MaxUint64-o.seq < uint64(len(found)) {
		return records[:first], ErrKeyUsedUp
	}
	workers = max(1, min(workers, len(found)))
	o.others = lanes(o.others, o.lane, workers)
	errs := make([]error, workers)
	done := make([]int, workers)   // index behind the last record that was opened
	starts := make([]int, workers) // bytes before each goroutine's first record, which others write to
	for w, i, at := 1, 0, 0; w < workers; w++ {
		for ; i < part(len(found), workers, w); i++ {
			at += found[i].Size
		}
		starts[w] = at
	}
	spread(len(found), workers, func(worker, from, to int) {
		at := starts[worker]
		done[worker] = from
		for i := from; i < to && errs[worker] == nil; i++ {
			n := found[i].Size
			var r Record
			r, errs[worker] = o.others[worker].openRecord(o.seq+uint64(i), dst[at:at:at+n], src[at:at+n], o.max)
			at += n
			if errs[worker] == nil {
				found[i] = r
				done[worker] = i + 1
			}
		}
	})
	good := 0
	for w := range workers {
		for ; good < done[w]; good++ {
			if found[good].Type == TypeChangeCipherSpec && !o.change {
				o.seq, o.failed = o.seq+uint64(good), errUnexpected
				return records[:first+good], o.failed
			}
			if found[good].Type != TypeData {
				o.seq += uint64(good) + 1
				return records[:first+good+1], nil
			}
		}
		if errs[w] != nil {
			o.seq += uint64(good)
			o.failed = errs[w]
			return records[:first+good], errs[w]
		}
	}
	o.seq += uint64(good)
	if err != nil {
		o.failed = err
	}
	return records[:first+good], err
}

// findRecords appends a Record with a size for each whole record of src. It
// leaves the opener's own failure to the caller: a bad header counts only once
// all records before it are good.
func (o *Opener) findRecords(src []byte, records []Record) ([]Record, error) {
	if o.failed != nil {
		return records, o.failed
	}
	for {
		h, ok := ParseHeader(src)
		if !ok {
			return records, nil
		}
		if err := o.checkHeader(h); err != nil {
			return records, err
		}
		n := HeaderSize + h.Length
		if n > len(src) {
			return records, nil
		}
		records = append(records, Record{Size: n})
		src = src[n:]
	}
}
