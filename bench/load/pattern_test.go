package main

import (
	"bytes"
	"testing"
)

func TestPatternIsTheStreamByteByByte(t *testing.T) {
	p := newPattern()
	for _, serial := range []uint64{0, 1, 2, 1000, 70_000} {
		for _, position := range []uint64{0, 1, patternPeriod - 1, patternPeriod, 1 << 40} {
			chunk := p.at(serial, position, 5000)
			for i, got := range chunk {
				want := p.at(serial, position+uint64(i), 1)[0]
				if got != want {
					t.Fatalf("stream %d, byte %d: chunk has %#x, single byte is %#x", serial, position+uint64(i), got, want)
				}
			}
		}
	}
}

func TestPatternTellsStreamsAndShiftsApart(t *testing.T) {
	const size = 64
	p := newPattern()
	base := p.at(7, 4096, size)
	for shift := uint64(1); shift < 2*maxChunk; shift *= 2 {
		if bytes.Equal(base, p.at(7, 4096+shift, size)) {
			t.Errorf("a shift by %d bytes is not seen", shift)
		}
	}
	for serial := uint64(8); serial < 5008; serial++ {
		if bytes.Equal(base, p.at(serial, 4096, size)) {
			t.Fatalf("stream %d looks like stream 7", serial)
		}
	}
}
