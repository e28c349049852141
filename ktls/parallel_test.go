package ktls

import (
	"errors"
	"fmt"
	"math"
	"testing"
)

func TestParallel(t *testing.T) {
	for _, s := range distinctSuites() {
		for _, workers := range []int{1, 2, 5} {
			for _, n := range []int{0, MaxPlaintext, MaxPlaintext + 1, 1<<20 + 5} {
				name := fmt.Sprintf("%s, %d workers, %d bytes", s.Name, workers, n)
				one, opener := pairOf(t, s)
				many, parallel := pairOf(t, s)
				plain := pattern(n)
				want, err := one.Seal([]byte("x"), TypeData, plain)
				check(t, err)
				sealed, err := many.SealParallel([]byte("x"), TypeData, plain, workers)
				check(t, err)
				equal(t, name, sealed, want)
				if many.Seq() != one.Seq() {
					t.Fatalf("%s: number %d, want %d", name, many.Seq(), one.Seq())
				}
				records, err := parallel.OpenParallel(make([]byte, len(sealed)), sealed[1:], nil, workers)
				check(t, err)
				var got []byte
				for _, r := range records {
					got = append(got, r.Content...)
				}
				equal(t, name, got, plain)
				equal(t, name, openAll(t, opener, sealed[1:], TypeData), plain)
				if parallel.Seq() != opener.Seq() {
					t.Fatalf("%s: number %d, want %d", name, parallel.Seq(), opener.Seq())
				}
			}
		}
	}
}

// TestOpenParallelStops: at a control record, whose action may change the key; at
// a bad record, after the good ones; and before what is not whole.
func TestOpenParallelStops(t *testing.T) {
	s, _ := SuiteOf(0x1301, TLS13)
	for at := range 10 {
		sealer, opener := pairOf(t, s)
		var sealed, want []byte
		for i := range 10 {
			plain := pattern(100 + i)
			if i == at {
				sealed, _ = sealer.KeyUpdate(sealed, false)
			}
			sealed, _ = sealer.Seal(sealed, TypeData, plain)
			want = append(want, plain...)
		}
		sealed = append(sealed, 23, 3, 3, 1, 0, 7)
		var got []byte
		for rest := sealed; len(rest) > 6; {
			records, err := opener.OpenParallel(make([]byte, len(rest)), rest, nil, 3)
			check(t, err)
			if len(records) == 0 {
				t.Fatal("no progress")
			}
			for _, r := range records {
				rest = rest[r.Size:]
				if r.Type == TypeHandshake {
					check(t, opener.NextKey())
					continue
				}
				got = append(got, r.Content...)
			}
		}
		equal(t, "content", got, want)
	}
	for bad := range 10 {
		sealer, opener := pairOf(t, s)
		var sealed []byte
		for i := range 10 {
			start := len(sealed)
			sealed, _ = sealer.Seal(sealed, TypeData, pattern(100+i))
			if i == bad {
				sealed[start+20] ^= 1
			}
		}
		records, err := opener.OpenParallel(make([]byte, len(sealed)), sealed, nil, 3)
		if len(records) != bad || alertOf(err) != int(AlertBadRecordMAC) || opener.Seq() != uint64(bad) {
			t.Fatalf("record %d is bad: %d records, number %d, %v", bad, len(records), opener.Seq(), err)
		}
		for i, r := range records {
			equal(t, "content", r.Content, pattern(100+i))
		}
		if _, again := opener.OpenParallel(make([]byte, len(sealed)), sealed, nil, 3); again != err {
			t.Fatalf("after the error: %v", again)
		}
	}
	// A bad header behind good records.
	sealer, opener := pairOf(t, s)
	sealed, _ := sealer.Seal(nil, TypeData, pattern(10))
	sealed = append(sealed, headed(TypeAlert, TLS12, 2, 2)...)
	records, err := opener.OpenParallel(make([]byte, len(sealed)), sealed, nil, 2)
	if len(records) != 1 || alertOf(err) != int(AlertUnexpectedMessage) {
		t.Errorf("%d records, %v", len(records), err)
	}
	var use *UseError
	_, opener = pairOf(t, s)
	if _, err := opener.OpenParallel(nil, sealed, nil, 2); !errors.As(err, &use) {
		t.Errorf("no memory: %v", err)
	}
	sealer.seq = math.MaxUint64 - 1
	sealer.limit = math.MaxUint64
	if _, err := sealer.SealParallel(nil, TypeData, pattern(MaxPlaintext+1), 2); !errors.Is(err, ErrKeyUsedUp) {
		t.Errorf("two records with one number left: %v", err)
	}
}
