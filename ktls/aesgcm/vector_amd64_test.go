package aesgcm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// guarded answers n bytes that begin, or end, at memory which can't be touched.
func guarded(t *testing.T, n int, atEnd bool) []byte {
	page := unix.Getpagesize()
	inner := (n + page) / page * page
	all, err := unix.Mmap(-1, 0, inner+2*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(all) })
	p := all[page : page+inner : page+inner]
	if err := unix.Mprotect(p, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	if atEnd {
		return p[inner-n:]
	}
	return p[:n:n]
}

// TestBounds: nothing is touched before or behind a message, wherever it comes from and goes to.
func TestBounds(t *testing.T) {
	const most = 1100
	r := rand.NewChaCha8([32]byte{5})
	key, nonce, aad := random(r, 32), random(r, NonceSize), random(r, 13)
	a, b := ours(t, key), reference(t, key)
	for _, atEnd := range []bool{false, true} {
		from, to := guarded(t, most+TagSize, atEnd), guarded(t, most+TagSize, atEnd)
		part := func(p []byte, n int) []byte {
			if atEnd {
				return p[len(p)-n:]
			}
			return p[:n:n]
		}
		for n := range most {
			plain, sealed := part(from, n), part(to, n+TagSize)
			r.Read(plain)
			want := b.Seal(nil, nonce, plain, aad)
			a.Seal(sealed[:0], nonce, plain, aad)
			if !bytes.Equal(sealed, want) {
				t.Fatalf("%d bytes: Seal differs", n)
			}
			if n > 0 {
				clear(sealed)
				typ := plain[n-1]
				text := part(from, n-1)
				copy(text, want) // anything
				want = b.Seal(nil, nonce, append(bytes.Clone(text), typ), aad)
				a.(Typed).SealTyped(sealed, nonce, text, typ, aad)
				if !bytes.Equal(sealed, want) {
					t.Fatalf("%d bytes: SealTyped differs", n)
				}
			}
			opened := part(from, n)
			if _, err := a.Open(opened[:0], nonce, sealed, aad); err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			if again, _ := b.Open(nil, nonce, sealed, aad); !bytes.Equal(opened, again) {
				t.Fatalf("%d bytes: Open differs", n)
			}
		}
	}
}

// TestCounterWraps: within its 32 bits, as SP 800-38D wants it, which no record reaches.
func TestCounterWraps(t *testing.T) {
	r := rand.NewChaCha8([32]byte{6})
	key := random(r, 16)
	v := ours(t, key).(*vector)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	for before := range uint32(20) {
		var m message
		r.Read(m.counter[:])
		binary.BigEndian.PutUint32(m.counter[12:], -before)
		plain := random(r, 700)
		got, want := make([]byte, len(plain)), make([]byte, len(plain))
		var tag [TagSize]byte
		crypt(v, first(got), first(plain), rest(plain), len(plain), &m, &tag, 0)
		counter := m.counter
		for i := 0; i < len(plain); i += blockSize {
			binary.BigEndian.PutUint32(counter[12:], binary.BigEndian.Uint32(counter[12:])+1)
			cipher.NewCTR(block, counter[:]).XORKeyStream(want[i:min(len(plain), i+blockSize)], plain[i:min(len(plain), i+blockSize)])
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("differs %d blocks before the end", before)
		}
	}
}

func TestWipe(t *testing.T) {
	aead := ours(t, bytes.Repeat([]byte{7}, 32))
	Wipe(aead)
	if *aead.(*vector) != (vector{}) {
		t.Fatal("something of the key is left")
	}
	defer func() {
		if recover() == nil {
			t.Fatal("sealed without a key")
		}
	}()
	Wipe(reference(t, make([]byte, 16)))
	aead.Seal(nil, make([]byte, NonceSize), nil, []byte{1})
}
