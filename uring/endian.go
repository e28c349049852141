package uring

import "encoding/binary"

// halves answers the word that has first in its two lower addresses and second
// in the two higher ones, whatever the byte order.
func halves(first, second uint16) uint32 {
	var b [4]byte
	binary.NativeEndian.PutUint16(b[:2], first)
	binary.NativeEndian.PutUint16(b[2:], second)
	return binary.NativeEndian.Uint32(b[:])
}

// pollEvents orders events for field poll32_events: its first half-word is the
// older 16-bit field on every machine.
func pollEvents(events uint32) uint32 {
	return halves(uint16(events), uint16(events>>16))
}
