package aesgcm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"math/rand/v2"
	"testing"
)

// reference is crypto/aes's.
func reference(tb testing.TB, key []byte) cipher.AEAD {
	tb.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		tb.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		tb.Fatal(err)
	}
	return aead
}

// ours is New's, which must be the one with vectors.
func ours(tb testing.TB, key []byte) cipher.AEAD {
	tb.Helper()
	if !vectors {
		tb.Skip("no vectors of four AES blocks here: New answers crypto/aes's own")
	}
	aead, err := New(key)
	if err != nil {
		tb.Fatal(err)
	}
	return aead
}

func random(r *rand.ChaCha8, n int) []byte {
	p := make([]byte, n)
	r.Read(p)
	return p
}

// TestAgainstCryptoAES compares every length that a record may have, and all of additional data.
func TestAgainstCryptoAES(t *testing.T) {
	r := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{16, 32} {
		key := random(r, size)
		a, b := ours(t, key), reference(t, key)
		for n := range 16*1024 + 300 {
			nonce, aad, plain := random(r, NonceSize), random(r, 1+n%MaxAAD), random(r, n)
			sealed := a.Seal(nil, nonce, plain, aad)
			if !bytes.Equal(sealed, b.Seal(nil, nonce, plain, aad)) {
				t.Fatalf("AES-%d, %d bytes: Seal differs", size*8, n)
			}
			if n > 0 {
				typed := make([]byte, n+TagSize)
				a.(Typed).SealTyped(typed, nonce, plain[:n-1:n-1], plain[n-1], aad)
				if !bytes.Equal(sealed, typed) {
					t.Fatalf("AES-%d, %d bytes: SealTyped differs", size*8, n)
				}
			}
			opened, err := a.Open(nil, nonce, sealed, aad)
			if err != nil || !bytes.Equal(opened, plain) {
				t.Fatalf("AES-%d, %d bytes: Open differs: %v", size*8, n, err)
			}
		}
	}
}

// TestInPlace: nothing beside the text and the tag is written, at any alignment.
func TestInPlace(t *testing.T) {
	r := rand.NewChaCha8([32]byte{2})
	for range 3000 {
		key := random(r, 16+16*int(r.Uint64()%2))
		a, b := ours(t, key), reference(t, key)
		n, at := int(r.Uint64()%2000), int(r.Uint64()%70)
		nonce, aad, memory := random(r, NonceSize), random(r, 13), random(r, at+n+TagSize+70)
		want := bytes.Clone(memory)
		b.Seal(want[at:at], nonce, bytes.Clone(memory[at:at+n]), aad)
		before := bytes.Clone(memory)
		a.Seal(memory[at:at], nonce, memory[at:at+n], aad)
		if !bytes.Equal(memory, want) {
			t.Fatalf("%d bytes at %d: sealed otherwise", n, at)
		}
		if _, err := a.Open(memory[at:at], nonce, memory[at:at+n+TagSize], aad); err != nil {
			t.Fatal(err)
		}
		copy(before[at+n:], want[at+n:at+n+TagSize])
		if !bytes.Equal(memory, before) {
			t.Fatalf("%d bytes at %d: opened otherwise", n, at)
		}
	}
}

// TestForgeries: one bit anywhere, and nothing is told; what was written is zero.
func TestForgeries(t *testing.T) {
	r := rand.NewChaCha8([32]byte{3})
	key := random(r, 32)
	a := ours(t, key)
	for n := range 600 {
		nonce, aad := random(r, NonceSize), random(r, 5)
		sealed := a.Seal(nil, nonce, random(r, n), aad)
		bit := int(r.Uint64() % uint64(8*len(sealed)))
		sealed[bit/8] ^= 1 << (bit % 8)
		into := bytes.Repeat([]byte{1}, n)
		if opened, err := a.Open(into[:0], nonce, sealed, aad); err == nil || opened != nil {
			t.Fatalf("%d bytes, bit %d changed: opened", n, bit)
		}
		if !bytes.Equal(into, make([]byte, n)) {
			t.Fatalf("%d bytes: text that is not authentic is left", n)
		}
		sealed[bit/8] ^= 1 << (bit % 8)
		aad[n%5] ^= 0x10
		if _, err := a.Open(nil, nonce, sealed, aad); err == nil {
			t.Fatalf("%d bytes: opened with other additional data", n)
		}
		aad[n%5] ^= 0x10
		nonce[n%NonceSize] ^= 0x80
		if _, err := a.Open(nil, nonce, sealed, aad); err == nil {
			t.Fatalf("%d bytes: opened with another nonce", n)
		}
	}
	for n := range TagSize {
		if _, err := a.Open(nil, make([]byte, NonceSize), make([]byte, n), []byte{0}); err == nil {
			t.Fatalf("opened %d bytes, less than a tag", n)
		}
	}
}

// TestRoundKeys compares single blocks of many keys: KeyExpansion has no other test of its own.
func TestRoundKeys(t *testing.T) {
	r := rand.NewChaCha8([32]byte{4})
	nonce, aad := make([]byte, NonceSize), make([]byte, 5)
	for range 20_000 {
		key := random(r, 16+16*int(r.Uint64()%2))
		if !bytes.Equal(ours(t, key).Seal(nil, nonce, aad, aad), reference(t, key).Seal(nil, nonce, aad, aad)) {
			t.Fatalf("differs with key %x", key)
		}
	}
}

// TestNothingIsAllocated, and calls may run side by side.
func TestNothingIsAllocated(t *testing.T) {
	aead := ours(t, make([]byte, 16))
	nonce, aad := make([]byte, NonceSize), make([]byte, 5)
	p := make([]byte, 1000+TagSize)
	if n := testing.AllocsPerRun(100, func() {
		aead.Seal(p[:0], nonce, p[:1000], aad)
		if _, err := aead.Open(p[:0], nonce, p, aad); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
	done := make(chan []byte)
	for range 8 {
		go func() {
			p := make([]byte, 5000, 5000+TagSize)
			for range 200 {
				p = aead.Seal(p[:0], nonce, p[:5000], aad)
			}
			done <- p
		}()
	}
	want := <-done
	for range 7 {
		if !bytes.Equal(<-done, want) {
			t.Fatal("calls side by side disturb each other")
		}
	}
}

func TestMisuse(t *testing.T) {
	for _, size := range []int{0, 15, 17, 33} {
		if _, err := New(make([]byte, size)); err != aes.KeySizeError(size) {
			t.Errorf("a key of %d bytes: %v", size, err)
		}
	}
	aead := ours(t, make([]byte, 16))
	for name, call := range map[string]func(){
		"nonce": func() { aead.Seal(nil, make([]byte, 8), nil, []byte{1}) },
		"none":  func() { aead.Seal(nil, make([]byte, NonceSize), nil, nil) },
		"long":  func() { aead.Seal(nil, make([]byte, NonceSize), nil, make([]byte, MaxAAD+1)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			call()
		}()
	}
}

func FuzzAgainstCryptoAES(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), []byte("a nonce of 12 bytes"), []byte("header"), []byte("text"))
	f.Fuzz(func(t *testing.T, key, nonce, aad, text []byte) {
		if len(nonce) < NonceSize || len(aad) == 0 || len(key) < 16 {
			return
		}
		size := 16
		if len(key) >= 32 {
			size = 32
		}
		key, nonce, aad = key[:size], nonce[:NonceSize], aad[:min(len(aad), MaxAAD)]
		a, b := ours(t, key), reference(t, key)
		sealed := a.Seal(nil, nonce, text, aad)
		if !bytes.Equal(sealed, b.Seal(nil, nonce, text, aad)) {
			t.Fatal("Seal differs")
		}
		flipped := bytes.Clone(sealed)
		flipped[len(text)/2] ^= 1
		for _, p := range [][]byte{sealed, flipped, text} {
			mine, one := a.Open(nil, nonce, p, aad)
			theirs, other := b.Open(nil, nonce, p, aad)
			if (one == nil) != (other == nil) || !bytes.Equal(mine, theirs) {
				t.Fatalf("Open differs: %v, %v", one, other)
			}
		}
	})
}

func benchmark(b *testing.B, make_ func(testing.TB, []byte) cipher.AEAD) {
	for _, size := range []int{16, 32} {
		for _, n := range []int{64, 1025, 16385} {
			aead := make_(b, make([]byte, size))
			nonce, aad, p := make([]byte, NonceSize), make([]byte, 5), make([]byte, n+TagSize)
			b.Run(fmt.Sprintf("AES%d/Seal/%d", size*8, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					aead.Seal(p[:0], nonce, p[:n], aad)
				}
			})
			sealed, into := aead.Seal(nil, nonce, p[:n], aad), make([]byte, n)
			b.Run(fmt.Sprintf("AES%d/Open/%d", size*8, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					if _, err := aead.Open(into[:0], nonce, sealed, aad); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	b.Run("New", func(b *testing.B) {
		for b.Loop() {
			make_(b, make([]byte, 16))
		}
	})
}

func BenchmarkVectors(b *testing.B)   { benchmark(b, ours) }
func BenchmarkCryptoAES(b *testing.B) { benchmark(b, reference) }
