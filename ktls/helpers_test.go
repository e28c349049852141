package ktls

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// unhex reads hexadecimal with any white space.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	check(t, err)
	return b
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes %.80x, want %d bytes %.80x", what, len(got), got, len(want), want)
	}
}

// patternBytes is what patterns are parts of.
var patternBytes = sync.OnceValue(func() []byte {
	p := make([]byte, 17<<20)
	x := uint32(1)
	for i := range p {
		x = x*1664525 + 1013904223
		p[i] = byte(x >> 24)
	}
	return p
})

// pattern answers n bytes that differ at every offset, and from those of another n.
func pattern(n int) []byte {
	start := n % (1 << 20)
	return bytes.Clone(patternBytes()[start : start+n])
}

// trafficOf answers two equal copies of the keys of one direction.
func trafficOf(t testing.TB, s *Suite, n byte) (*Traffic, *Traffic) {
	t.Helper()
	if s.Version == TLS13 {
		secret := bytes.Repeat([]byte{n}, s.Hash.Size())
		a, err := NewTraffic13(s, secret)
		check(t, err)
		b, err := NewTraffic13(s, secret)
		check(t, err)
		return a, b
	}
	random := bytes.Repeat([]byte{n}, randomSize)
	a, _, err := NewTraffic12(s, make([]byte, masterSize), random, random)
	check(t, err)
	b := *a
	return a, &b
}

// pairOf answers sealer and opener of one direction.
func pairOf(t testing.TB, s *Suite) (*Sealer, *Opener) {
	t.Helper()
	a, b := trafficOf(t, s, 7)
	sealer, err := NewSealer(a, 0)
	check(t, err)
	opener, err := NewOpener(b, 0)
	check(t, err)
	return sealer, opener
}

// distinctSuites answers one suite for each AEAD and version.
func distinctSuites() []*Suite {
	var list []*Suite
	seen := map[string]bool{}
	for i := range suites {
		if key := fmt.Sprint(suites[i].Version, suites[i].Cipher); !seen[key] {
			seen[key] = true
			list = append(list, &suites[i])
		}
	}
	return list
}

// openAll opens whole records and answers their content; all must be of a type.
func openAll(t testing.TB, o *Opener, p []byte, typ ContentType) []byte {
	t.Helper()
	var out []byte
	for len(p) > 0 {
		r, err := o.Open(p)
		check(t, err)
		if r.Size == 0 || r.Type != typ {
			t.Fatalf("a record of type %d and size %d, want type %d", r.Type, r.Size, typ)
		}
		out = append(out, r.Content...)
		p = p[r.Size:]
	}
	return out
}
