package main

import "math/rand/v2"

const (
	// patternPeriod is a prime: a stream that was shifted, cut, repeated or
	// crossed with another by any power of two, or by any number of bytes
	// below the period, no longer compares equal. It fits in half of a small
	// second-level cache together with the read buffer.
	patternPeriod = 65_521

	// patternStride separates the streams of two connections. Coprime to the
	// period, so connections 0 to 65,520 all start at different places.
	patternStride = 7_919

	// maxChunk is the most that one read or write moves, in bytes.
	maxChunk = 256 << 10

	patternSeed = 0x6b6c6f6f70 // any fixed value: runs can be compared
)

// pattern is the table of payload bytes. Byte p of connection c's stream is
// table[(p + c*patternStride) mod patternPeriod]; the table repeats itself for
// maxChunk bytes more, so that every chunk is one slice of it: nothing is
// generated while the clock runs, and checking is one comparison of memory.
type pattern struct{ table []byte }

func newPattern() *pattern {
	p := &pattern{table: make([]byte, patternPeriod+maxChunk)}
	r := rand.New(rand.NewPCG(patternSeed, patternSeed))
	for i := 0; i < patternPeriod; i++ {
		p.table[i] = byte(r.Uint32())
	}
	for i := patternPeriod; i < len(p.table); i++ {
		p.table[i] = p.table[i-patternPeriod]
	}
	return p
}

// at gives n bytes of a connection's stream from a position on; n is at most
// maxChunk. The slice is shared: not to be written to.
func (p *pattern) at(serial, position uint64, n int) []byte {
	start := int((serial*patternStride + position) % patternPeriod)
	return p.table[start : start+n : start+n]
}
