package uring

import (
	"testing"
	"unsafe"
)

func TestMsgCoversWhatItSays(t *testing.T) {
	a, err := NewMsgArena()
	check(t, err)
	defer a.Close()
	many := make([][]byte, IOVMax+10)
	for i := range many {
		many[i] = []byte{1, 2}
	}
	half, err := mapRegion(-1, 0, MaxLen/2+4096) // never touched, so it costs no memory
	check(t, err)
	defer half.unmap()
	large := unsafe.Slice((*byte)(half.base), half.size)
	for _, c := range []struct {
		name          string
		parts         [][]byte
		length, count int
	}{
		{"none", nil, 0, 0},
		{"empty ones", [][]byte{nil, {}}, 0, 2},
		{"two", [][]byte{{1}, {2, 3}}, 3, 2},
		{"as many as the kernel takes", many[:IOVMax], 2 * IOVMax, IOVMax},
		{"more than the kernel takes", many, 2 * IOVMax, IOVMax},
		{"more bytes than the kernel takes", [][]byte{large, large, {1}}, MaxLen, 2},
	} {
		m := a.Msg(c.parts)
		if m.Len() != c.length || m.Parts() != c.count {
			t.Errorf("%s: %d bytes in %d parts, want %d in %d", c.name, m.Len(), m.Parts(), c.length, c.count)
		}
	}
}

// TestArena fills more than one chunk, checks that messages do not overlap, and
// that Reset uses the same memory again.
func TestArena(t *testing.T) {
	a, err := NewMsgArena()
	check(t, err)
	parts := make([][]byte, IOVMax)
	for i := range parts {
		parts[i] = []byte{byte(i)}
	}
	first := a.Msg(parts)
	messages := []*Msg{first}
	for range 19 {
		messages = append(messages, a.Msg(parts))
	}
	for i, m := range messages {
		if m.Parts() != IOVMax || m.Len() != IOVMax {
			t.Errorf("message %d was overwritten: %d parts", i, m.Parts())
		}
	}
	chunks := len(a.chunks)
	if chunks < 2 {
		t.Errorf("%d chunks for 20 large messages", chunks)
	}
	for range 3 {
		a.Reset()
		if m := a.Msg(parts[:1]); m != first {
			t.Error("Reset does not start again")
		}
		for range 19 {
			a.Msg(parts)
		}
	}
	if len(a.chunks) != chunks {
		t.Errorf("%d chunks instead of %d after Reset", len(a.chunks), chunks)
	}
	a.Close()
	a.Close()
	if a.Msg(parts) != nil {
		t.Error("a message of a closed arena")
	}
}

func TestArenaIsBounded(t *testing.T) {
	a, err := NewMsgArena()
	check(t, err)
	defer a.Close()
	parts := make([][]byte, IOVMax)
	count := 0
	for a.Msg(parts) != nil {
		if count++; count > arenaChunksMax*arenaChunkSize/IOVMax {
			t.Fatal("no limit")
		}
	}
	if len(a.chunks) != arenaChunksMax {
		t.Errorf("limit reached with %d chunks", len(a.chunks))
	}
	a.Reset()
	if a.Msg(parts) == nil {
		t.Error("no message after Reset")
	}
}
