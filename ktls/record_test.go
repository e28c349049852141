package ktls

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"
)

var recordSizes = []int{0, 1, 2, 15, 16, 17, 255, 1000, 16383, 16384, 16385, 32768, 100_000, 1 << 20, 16 << 20}

// TestRoundTrip: every suite, from nothing to 16 MiB, in one buffer.
func TestRoundTrip(t *testing.T) {
	for i := range suites {
		s := &suites[i]
		sealer, opener := pairOf(t, s)
		sizes := recordSizes
		if i >= 6 {
			sizes = sizes[:len(sizes)-2] // the others differ from the first six in nothing but the number
		}
		for _, n := range sizes {
			plain := pattern(n)
			sealed, err := sealer.Seal(nil, TypeData, plain)
			check(t, err)
			if len(sealed) != sealer.SealedSize(n) {
				t.Fatalf("%s: %d bytes became %d, not %d", s.Name, n, len(sealed), sealer.SealedSize(n))
			}
			equal(t, s.Name, openAll(t, opener, sealed, TypeData), plain)
		}
		if sealer.Seq() != opener.Seq() {
			t.Errorf("%s: number %d sealed, %d opened", s.Name, sealer.Seq(), opener.Seq())
		}
	}
}

// TestSealAppends: what is before the records stays, and so do the plaintext and
// what is behind in the same array.
func TestSealAppends(t *testing.T) {
	for _, s := range distinctSuites() {
		sealer, opener := pairOf(t, s)
		plain := pattern(20_000)
		kept := append([]byte(nil), plain...)
		buf := bytes.Repeat([]byte{0xEE}, 30_000)
		sealed, err := sealer.Seal(buf[:5], TypeData, plain)
		check(t, err)
		if &sealed[0] != &buf[0] {
			t.Fatal("a new array although there was room")
		}
		equal(t, "prefix", buf[:5], bytes.Repeat([]byte{0xEE}, 5))
		equal(t, "rest", buf[len(sealed):], bytes.Repeat([]byte{0xEE}, 30_000-len(sealed)))
		equal(t, "plaintext", plain, kept)
		equal(t, "content", openAll(t, opener, sealed[5:], TypeData), plain)
	}
}

func TestSealInPlace(t *testing.T) {
	for _, s := range distinctSuites() {
		sealer, opener := pairOf(t, s)
		for _, n := range []int{0, 1, 1000, MaxPlaintext} {
			for _, pad := range []int{0, 1, 255} {
				if pad > 0 && (s.Version != TLS13 || n+pad > MaxPlaintext) {
					continue
				}
				rec := make([]byte, sealer.Prefix()+n+pad+sealer.Suffix())
				copy(rec[sealer.Prefix():], pattern(n))
				check(t, sealer.SealInPlace(rec, TypeData, pad))
				r, err := opener.Open(rec)
				check(t, err)
				equal(t, s.Name, r.Content, pattern(n))
				if n > 0 && &r.Content[0] != &rec[sealer.Prefix()] {
					t.Error("the content is not where it was sealed")
				}
			}
		}
		for _, c := range []struct{ size, pad int }{{sealer.Prefix() + sealer.Suffix() - 1, 0}, {100, -1}, {100, 90},
			{sealer.Prefix() + MaxPlaintext + 1 + sealer.Suffix(), 0}} {
			var use *UseError
			if err := sealer.SealInPlace(make([]byte, c.size), TypeData, c.pad); !errors.As(err, &use) {
				t.Errorf("%s: %d bytes with padding of %d: %v", s.Name, c.size, c.pad, err)
			}
		}
	}
}

// TestSealFrom: the same records as in place, the plaintext untouched, and nothing used by what can't be one.
func TestSealFrom(t *testing.T) {
	for _, s := range distinctSuites() {
		sealer, opener := pairOf(t, s)
		inPlace, _ := pairOf(t, s)
		for _, n := range []int{0, 1, 254, 255, 256, 257, 511, 1000, MaxPlaintext - 1, MaxPlaintext} {
			plain := pattern(n)
			rec := make([]byte, sealer.SealedSize(n))
			check(t, sealer.SealFrom(rec, TypeData, plain))
			equal(t, "plaintext", plain, pattern(n))
			want := make([]byte, len(rec))
			copy(want[inPlace.Prefix():], plain)
			check(t, inPlace.SealInPlace(want, TypeData, 0))
			equal(t, s.Name, rec, want)
			equal(t, "content", openAll(t, opener, rec, TypeData), plain)
		}
		for _, c := range []struct{ rec, plain int }{{99, 100}, {101, 100}, {sealer.SealedSize(MaxPlaintext) + 1, MaxPlaintext + 1}} {
			var use *UseError
			before := sealer.Seq()
			if err := sealer.SealFrom(make([]byte, c.rec), TypeData, make([]byte, c.plain)); !errors.As(err, &use) || sealer.Seq() != before {
				t.Errorf("%s: %d bytes into %d: %v", s.Name, c.plain, c.rec, err)
			}
		}
	}
}

// TestTLS12NoPadding: TLS 1.2's AEADs have none.
func TestTLS12NoPadding(t *testing.T) {
	s, _ := SuiteOf(0xC02F, TLS12)
	sealer, _ := pairOf(t, s)
	if sealer.SealInPlace(make([]byte, 100), TypeData, 1) == nil {
		t.Error("padding is taken")
	}
}

// TestNoAllocation: neither direction allocates for a record.
func TestNoAllocation(t *testing.T) {
	for _, s := range distinctSuites() {
		sealer, opener := pairOf(t, s)
		control := NewControl(s.Version, true)
		plain := pattern(40_000)
		buf := make([]byte, sealer.SealedSize(len(plain)))
		if n := testing.AllocsPerRun(100, func() {
			sealed, err := sealer.Seal(buf[:0], TypeData, plain)
			check(t, err)
			for len(sealed) > 0 {
				r, err := opener.Open(sealed)
				check(t, err)
				if a, err := control.Receive(r.Type, r.Content); a != ActionData || err != nil {
					t.Fatal(a, err)
				}
				sealed = sealed[r.Size:]
			}
			rec := buf[:1000]
			check(t, sealer.SealInPlace(rec, TypeData, 0))
			_, err = opener.Open(rec)
			check(t, err)
			check(t, sealer.SealFrom(rec, TypeData, plain[:len(rec)-sealer.Prefix()-sealer.Suffix()]))
			_, err = opener.Open(rec)
			check(t, err)
		}); n != 0 {
			t.Errorf("%s: %v allocations", s.Name, n)
		}
	}
}

// TestOneByteDelivery: until the last byte there is no record, and nothing is touched.
func TestOneByteDelivery(t *testing.T) {
	for _, s := range distinctSuites() {
		sealer, opener := pairOf(t, s)
		sealed, err := sealer.Seal(nil, TypeData, pattern(700))
		check(t, err)
		kept := append([]byte(nil), sealed...)
		for i := range sealed {
			r, err := opener.Open(sealed[:i:i])
			check(t, err)
			if r.Size != 0 {
				t.Fatalf("%d of %d bytes are a record", i, len(sealed))
			}
		}
		equal(t, "untouched", sealed, kept)
		equal(t, "content", openAll(t, opener, sealed, TypeData), pattern(700))
	}
}

// alertOf answers the alert that an error asks to be sent, or -1.
func alertOf(err error) int {
	var r *RecordError
	if errors.As(err, &r) {
		return int(r.Alert)
	}
	return -1
}

// TestCorruption: whatever bit is wrong, the record is refused, with the right
// alert, and so is everything behind it.
func TestCorruption(t *testing.T) {
	for _, s := range distinctSuites() {
		sealer, _ := pairOf(t, s)
		good, err := sealer.Seal(nil, TypeData, pattern(40))
		check(t, err)
		for i := HeaderSize; i < len(good); i++ {
			_, opener := pairOf(t, s)
			bad := append([]byte(nil), good...)
			bad[i] ^= 1 << (i % 8)
			_, err := opener.Open(bad)
			if alertOf(err) != int(AlertBadRecordMAC) {
				t.Fatalf("%s: byte %d: %v", s.Name, i, err)
			}
			if _, again := opener.Open(append([]byte(nil), good...)); again != err {
				t.Fatalf("%s: after the error: %v", s.Name, again)
			}
		}
		// A record twice, and one that is left out.
		_, opener := pairOf(t, s)
		_, err = opener.Open(append([]byte(nil), good...))
		check(t, err)
		if _, err = opener.Open(append([]byte(nil), good...)); alertOf(err) != int(AlertBadRecordMAC) {
			t.Errorf("%s: a record twice: %v", s.Name, err)
		}
		_, opener = pairOf(t, s)
		next, err := sealer.Seal(nil, TypeData, pattern(40))
		check(t, err)
		if _, err = opener.Open(next); alertOf(err) != int(AlertBadRecordMAC) {
			t.Errorf("%s: a record left out: %v", s.Name, err)
		}
	}
}

// headed answers a record of a length with a header of one's own.
func headed(typ ContentType, v Version, length, bytes int) []byte {
	p := make([]byte, HeaderSize+bytes)
	p[0] = byte(typ)
	binary.BigEndian.PutUint16(p[1:], uint16(v))
	binary.BigEndian.PutUint16(p[3:], uint16(length))
	return p
}

func TestHeaders(t *testing.T) {
	for _, s := range distinctSuites() {
		for name, c := range map[string]struct {
			p                []byte
			alert12, alert13 Alert
		}{
			"too long at its header":   {headed(TypeData, TLS12, 1<<14+2049, 0), AlertRecordOverflow, AlertRecordOverflow},
			"without protection":       {headed(TypeAlert, TLS12, 2, 2), AlertBadRecordMAC, AlertUnexpectedMessage},
			"ChangeCipherSpec":         {headed(TypeChangeCipherSpec, TLS12, 1, 1), AlertBadRecordMAC, AlertUnexpectedMessage},
			"unknown type":             {headed(99, TLS12, 50, 0), AlertUnexpectedMessage, AlertUnexpectedMessage},
			"version 1.1":              {headed(TypeData, 0x0302, 50, 50), AlertProtocolVersion, AlertBadRecordMAC},
			"empty":                    {headed(TypeData, TLS12, 0, 0), AlertBadRecordMAC, AlertBadRecordMAC},
			"a byte less than the tag": {headed(TypeData, TLS12, tagSize-1, tagSize-1), AlertBadRecordMAC, AlertBadRecordMAC},
			"the tag alone":            {headed(TypeData, TLS12, tagSize, tagSize), AlertBadRecordMAC, AlertBadRecordMAC},
		} {
			_, opener := pairOf(t, s)
			want := c.alert12
			if s.Version == TLS13 {
				want = c.alert13
			}
			if _, err := opener.Open(c.p); alertOf(err) != int(want) {
				t.Errorf("%s: %s: %v, want %s", s.Name, name, err, want)
			}
		}
		// The longest that may be is awaited; one more is not.
		limit := 1<<14 + 2048
		if s.Version == TLS13 {
			limit = 1<<14 + 256
		}
		_, opener := pairOf(t, s)
		if n, err := opener.Size(headed(TypeData, TLS12, limit, 0)); n != limit+HeaderSize || err != nil {
			t.Errorf("%s: %d, %v", s.Name, n, err)
		}
		if _, err := opener.Size(headed(TypeData, TLS12, limit+1, 0)); alertOf(err) != int(AlertRecordOverflow) {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}

// TestOverlongPlaintext: a peer that has the key may still not send too much.
func TestOverlongPlaintext(t *testing.T) {
	for _, s := range distinctSuites() {
		for _, c := range []struct{ limit, size int }{{MaxPlaintext, MaxPlaintext + 1}, {512, 513}} {
			sealer, opener := pairOf(t, s)
			opener.SetMaxPlaintext(c.limit)
			sealer.max = c.size
			sealed, err := sealer.Seal(nil, TypeData, pattern(c.limit))
			check(t, err)
			equal(t, "longest", openAll(t, opener, sealed, TypeData), pattern(c.limit))
			sealed, err = sealer.Seal(nil, TypeData, pattern(c.size))
			check(t, err)
			if _, err := opener.Open(sealed); alertOf(err) != int(AlertRecordOverflow) {
				t.Errorf("%s: %d bytes: %v", s.Name, c.size, err)
			}
		}
	}
}

// TestOverlongPadding: padding counts as plaintext.
func TestOverlongPadding(t *testing.T) {
	s, _ := SuiteOf(0x1301, TLS13)
	sealer, opener := pairOf(t, s)
	opener.SetMaxPlaintext(100)
	for _, c := range []struct {
		pad   int
		alert int
	}{{90, -1}, {91, int(AlertRecordOverflow)}} {
		rec := make([]byte, sealer.Prefix()+10+c.pad+sealer.Suffix())
		check(t, sealer.SealInPlace(rec, TypeData, c.pad))
		if _, err := opener.Open(rec); alertOf(err) != c.alert {
			t.Errorf("padding of %d: %v", c.pad, err)
		}
	}
}

func TestInnerTypes(t *testing.T) {
	s13, _ := SuiteOf(0x1301, TLS13)
	for _, typ := range []ContentType{0, 1, TypeChangeCipherSpec, 24, 255} {
		sealer, opener := pairOf(t, s13)
		sealed, err := sealer.Seal(nil, typ, nil)
		check(t, err)
		if _, err := opener.Open(sealed); alertOf(err) != int(AlertUnexpectedMessage) {
			t.Errorf("inner type %d: %v", typ, err)
		}
	}
	s12, _ := SuiteOf(0xC02F, TLS12)
	sealer, opener := pairOf(t, s12)
	sealed, err := sealer.Seal(nil, TypeChangeCipherSpec, []byte{1})
	check(t, err)
	if _, err := opener.Open(sealed); alertOf(err) != int(AlertUnexpectedMessage) {
		t.Errorf("a protected ChangeCipherSpec: %v", err)
	}
}

// TestFragments: records hold no more than the peer asked for.
func TestFragments(t *testing.T) {
	for _, s := range distinctSuites() {
		for _, limit := range []int{1, 63, 512, 4096} {
			sealer, opener := pairOf(t, s)
			check(t, sealer.SetMaxPlaintext(limit))
			opener.SetMaxPlaintext(limit)
			plain := pattern(3*limit + 1)
			sealed, err := sealer.Seal(nil, TypeData, plain)
			check(t, err)
			equal(t, s.Name, openAll(t, opener, sealed, TypeData), plain)
			if opener.Seq() != 4 {
				t.Errorf("%s: %d records of %d bytes", s.Name, opener.Seq(), limit)
			}
		}
	}
	sealer, _ := pairOf(t, &suites[0])
	for _, n := range []int{-1, 0, MaxPlaintext + 1} {
		if sealer.SetMaxPlaintext(n) == nil {
			t.Errorf("records of %d bytes", n)
		}
	}
}

// TestNumbers: both directions go on from any number, to the last one.
func TestNumbers(t *testing.T) {
	for _, s := range distinctSuites() {
		for _, seq := range []uint64{1, 255, 256, 1<<24 - 100_000_00, math.MaxUint64 - 2} {
			a, b := trafficOf(t, s, 3)
			sealer, err := NewSealer(a, seq)
			check(t, err)
			opener, err := NewOpener(b, seq)
			check(t, err)
			if sealer.limit < seq {
				sealer.limit = math.MaxUint64
			}
			for range 2 {
				sealed, err := sealer.Seal(nil, TypeData, pattern(10))
				check(t, err)
				equal(t, fmt.Sprint(s.Name, seq), openAll(t, opener, sealed, TypeData), pattern(10))
			}
		}
		// The number after the last is refused by both, and nothing is sealed with it.
		a, b := trafficOf(t, s, 3)
		sealer, err := NewSealer(a, math.MaxUint64-1)
		check(t, err)
		sealer.limit = math.MaxUint64
		if out, err := sealer.Seal(nil, TypeData, pattern(MaxPlaintext+1)); !errors.Is(err, ErrKeyUsedUp) || len(out) > 0 || sealer.Seq() != math.MaxUint64-1 {
			t.Errorf("%s: two records with one number left: %d bytes, %v", s.Name, len(out), err)
		}
		sealed, err := sealer.Seal(nil, TypeData, nil)
		check(t, err)
		if err := sealer.SealFrom(make([]byte, sealer.SealedSize(100)), TypeData, make([]byte, 100)); !errors.Is(err, ErrKeyUsedUp) {
			t.Errorf("SealFrom: %v", err)
		}
		if err := sealer.SealInPlace(make([]byte, 100), TypeData, 0); !errors.Is(err, ErrKeyUsedUp) {
			t.Errorf("%s: sealed behind the last number: %v", s.Name, err)
		}
		opener, err := NewOpener(b, math.MaxUint64-1)
		check(t, err)
		_, err = opener.Open(sealed)
		check(t, err)
		other, _ := trafficOf(t, s, 3)
		l, err := newLane(other)
		check(t, err)
		rec := l.appendRecord(make([]byte, 0, 100), math.MaxUint64, TypeData, nil)
		if _, err := opener.Open(rec); !errors.Is(err, ErrKeyUsedUp) {
			t.Errorf("%s: opened behind the last number: %v", s.Name, err)
		}
	}
}

// TestExplicitNonce: TLS 1.2 AES-GCM counts its nonces on from the handshake's.
func TestExplicitNonce(t *testing.T) {
	s, _ := SuiteOf(0xC02F, TLS12)
	a, b := trafficOf(t, s, 3)
	sealer, err := NewSealer(a, 1)
	check(t, err)
	opener, err := NewOpener(b, 1)
	check(t, err)
	for _, want := range []uint64{math.MaxUint64, 0, 1} {
		if want == math.MaxUint64 {
			sealer.SetExplicitNonce(want)
		}
		if sealer.explicitNonce() != want {
			t.Errorf("the next nonce is %d, not %d", sealer.explicitNonce(), want)
		}
		sealed, err := sealer.Seal(nil, TypeData, pattern(10))
		check(t, err)
		if got := binary.BigEndian.Uint64(sealed[HeaderSize:]); got != want {
			t.Errorf("nonce %d, want %d", got, want)
		}
		openAll(t, opener, sealed, TypeData)
	}
}

// TestKeyUpdate: each direction changes keys, and old ones are of no use.
func TestKeyUpdate(t *testing.T) {
	for _, s := range distinctSuites() {
		sealer, opener := pairOf(t, s)
		if s.Version != TLS13 {
			if _, err := sealer.KeyUpdate(nil, false); err == nil {
				t.Errorf("%s has a key update", s.Name)
			}
			if opener.NextKey() == nil || sealer.NextKey() == nil {
				t.Errorf("%s has a next key", s.Name)
			}
			continue
		}
		_, old := pairOf(t, s)
		control := NewControl(TLS13, false)
		for round := range 5 {
			request := round%2 == 1
			sealed, err := sealer.KeyUpdate(nil, request)
			check(t, err)
			_, _ = old.Open(append([]byte(nil), sealed...))
			r, err := opener.Open(sealed)
			check(t, err)
			want := ActionNextKeyIn
			if request {
				want |= ActionKeyUpdateOut
			}
			if a, err := control.Receive(r.Type, r.Content); a != want || err != nil {
				t.Fatalf("%s: %v, %v", s.Name, a, err)
			}
			check(t, opener.NextKey())
			sealed, err = sealer.Seal(nil, TypeData, pattern(100))
			check(t, err)
			if _, err := old.Open(append([]byte(nil), sealed...)); alertOf(err) != int(AlertBadRecordMAC) {
				t.Fatalf("%s: the old key opens: %v", s.Name, err)
			}
			equal(t, s.Name, openAll(t, opener, sealed, TypeData), pattern(100))
		}
	}
}

// TestKeyLimit: AES-GCM of TLS 1.3 asks for an update in time, insists on one at
// last, and goes on with it.
func TestKeyLimit(t *testing.T) {
	for _, s := range distinctSuites() {
		limited := s.Version == TLS13 && s.Cipher != ChaCha20Poly1305
		a, b := trafficOf(t, s, 3)
		sealer, err := NewSealer(a, keyUpdateDue-1)
		check(t, err)
		opener, err := NewOpener(b, keyUpdateDue-1)
		check(t, err)
		if sealer.KeyUpdateDue() || opener.KeyUpdateDue() {
			t.Errorf("%s: an update is due too early", s.Name)
		}
		sealed, err := sealer.Seal(nil, TypeData, nil)
		check(t, err)
		openAll(t, opener, sealed, TypeData)
		if sealer.KeyUpdateDue() != limited || opener.KeyUpdateDue() != limited {
			t.Errorf("%s: an update is due: %v, %v", s.Name, sealer.KeyUpdateDue(), opener.KeyUpdateDue())
		}
		sealer.seq = keyLimitGCM
		if _, err := sealer.Seal(nil, TypeData, nil); errors.Is(err, ErrKeyUsedUp) != limited {
			t.Errorf("%s: behind the limit: %v", s.Name, err)
		}
		if !limited {
			continue
		}
		sealer.seq = keyLimitGCM - 1
		_, err = sealer.KeyUpdate(nil, false)
		check(t, err)
		if _, err := sealer.Seal(nil, TypeData, nil); err != nil || sealer.KeyUpdateDue() {
			t.Errorf("%s: after an update: %v", s.Name, err)
		}
	}
}

func TestWipe(t *testing.T) {
	for _, s := range distinctSuites() {
		sealer, opener := pairOf(t, s)
		sealed, err := sealer.Seal(nil, TypeData, nil)
		check(t, err)
		sealer.Wipe()
		opener.Wipe()
		empty := Traffic{suite: s}
		if *sealer.traffic != empty || *opener.traffic != empty || sealer.lane.iv != [ivSize]byte{} || opener.lane.iv != [ivSize]byte{} {
			t.Errorf("%s: something is left", s.Name)
		}
		if _, err := sealer.Seal(nil, TypeData, nil); err == nil {
			t.Errorf("%s: sealed without a key", s.Name)
		}
		if _, err := opener.Open(sealed); err == nil {
			t.Errorf("%s: opened without a key", s.Name)
		}
	}
}
