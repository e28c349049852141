package aesgcm

import (
	"bytes"
	"testing"
)

func TestWipe(t *testing.T) {
	aead := ours(t, bytes.Repeat([]byte{7}, 32))
	Wipe(aead)
	if *aead.(*vector) != (vector{}) {
		t.Fatal("something of the key is left")
	}
	Wipe(reference(t, make([]byte, 16)))
}
