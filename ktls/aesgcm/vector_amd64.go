package aesgcm

import (
	"crypto/cipher"
	"crypto/fips140"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"math/bits"

	"golang.org/x/sys/cpu"
)

// vectors is true where both processor and kernel have what vector_amd64.s uses.
// x/sys reports none of AVX-512 unless the kernel keeps its registers.
var vectors = !fips140.Enabled() && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL &&
	cpu.X86.HasAVX512VAES && cpu.X86.HasAVX512VPCLMULQDQ && cpu.X86.HasAVX2 && cpu.X86.HasAES && cpu.X86.HasBMI2

const (
	blockSize = 16
	most      = 15 // round keys, AES-256's
	aggregate = 16 // blocks that GHASH reduces at once
	chunk     = aggregate * blockSize
)

// vector is one key. vector_amd64.s knows its layout.
type vector struct {
	// AES-128 has its eleven round keys at 0 to 9 and, the last one, at 14.
	round [most][blockSize]byte
	// H^16 to H^1, each a number of 128 bits in little-endian order whose highest
	// bit is the coefficient of x^0, divided by x; and zeros, for the last vector
	// of a message may have fewer than four blocks.
	power [aggregate + 3][blockSize]byte
	long  uint64 // 1: AES-256
	ready bool   // not wiped
}

// message is what one call has beside its text.
type message struct {
	counter [blockSize]byte // J0
	aad     [blockSize]byte // padded with zeros
	sizes   [blockSize]byte // in bits: of additional data and text
}

// crypt encrypts (or decrypts, if open is 1) n bytes, and writes their tag. The last n%chunk
// of them are at rest.
//
//go:noescape
func crypt(v *vector, dst, src, rest *byte, n int, m *message, tag *[TagSize]byte, open uint64)

// multiply sets dst to the product a·b, of which b is divided by x.
//
//go:noescape
func multiply(dst, a, b *[blockSize]byte)

// encryptBlock encrypts one block.
//
//go:noescape
func encryptBlock(v *vector, dst, src *[blockSize]byte)

// substitute is AES's SubWord, without a table.
//
//go:noescape
func substitute(w uint32) uint32

func newVector(key []byte) cipher.AEAD {
	v := &vector{ready: true}
	v.expand(key)
	var h [blockSize]byte
	defer clear(h[:])
	encryptBlock(v, &h, &h)
	// In these numbers, division by x is a shift to the left; what falls out of it, x^-1, is x^127 + x^6 + x + 1.
	hi, lo := binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint64(h[8:])
	out := -(hi >> 63)
	hi, lo = hi<<1|lo>>63, lo<<1
	hi, lo = hi^out&0xc2<<56, lo^out&1
	last := &v.power[aggregate-1]
	binary.LittleEndian.PutUint64(last[:], lo)
	binary.LittleEndian.PutUint64(last[8:], hi)
	for i := aggregate - 2; i >= 0; i-- {
		multiply(&v.power[i], &v.power[i+1], last)
	}
	return v
}

// expand is FIPS 197's KeyExpansion.
func (v *vector) expand(key []byte) {
	words, rounds := len(key)/4, len(key)/4+6
	v.long = uint64(words / 8)
	var w [4 * most]uint32
	defer clear(w[:])
	for i := range words {
		w[i] = binary.LittleEndian.Uint32(key[4*i:])
	}
	constant := uint32(1)
	for i := words; i < 4*(rounds+1); i++ {
		t := w[i-1]
		switch {
		case i%words == 0:
			t = substitute(bits.RotateLeft32(t, -8)) ^ constant
			constant = constant<<1 ^ constant>>7*0x11b
		case words == 8 && i%words == 4:
			t = substitute(t)
		}
		w[i] = w[i-words] ^ t
	}
	for i := range rounds + 1 {
		at := i
		if i == rounds {
			at = most - 1
		}
		for j := range 4 {
			binary.LittleEndian.PutUint32(v.round[at][4*j:], w[4*i+j])
		}
	}
}

func (v *vector) wipe() { *v = vector{} }

func (v *vector) NonceSize() int { return NonceSize }

func (v *vector) Overhead() int { return TagSize }

// start checks what both directions get, and sets m.
func (v *vector) start(m *message, nonce, aad []byte, n int) {
	if !v.ready {
		panic("aesgcm: the key has been wiped")
	}
	if len(nonce) != NonceSize {
		panic("aesgcm: a nonce must have 12 bytes")
	}
	if len(aad) < 1 || len(aad) > MaxAAD {
		panic("aesgcm: additional data must have 1 to 16 bytes")
	}
	if uint64(n) > (1<<32-2)*blockSize {
		panic("aesgcm: a message of more than 64 GiB")
	}
	copy(m.counter[:], nonce)
	m.counter[blockSize-1] = 1
	copy(m.aad[:], aad)
	binary.BigEndian.PutUint64(m.sizes[:], uint64(len(aad))*8)
	binary.BigEndian.PutUint64(m.sizes[8:], uint64(n)*8)
}

func (v *vector) Seal(dst, nonce, plaintext, aad []byte) []byte {
	var m message
	v.start(&m, nonce, aad, len(plaintext))
	out, at := extend(dst, len(plaintext)+TagSize)
	var tag [TagSize]byte
	crypt(v, first(at), first(plaintext), rest(plaintext), len(plaintext), &m, &tag, 0)
	copy(at[len(plaintext):], tag[:])
	return out
}

// SealTyped implements Typed.
func (v *vector) SealTyped(dst, nonce, plaintext []byte, typ byte, aad []byte) {
	n := len(plaintext) + 1
	var m message
	v.start(&m, nonce, aad, n)
	dst = dst[:n+TagSize]
	from, whole := first(plaintext), n-n%chunk
	if whole == n { // typ belongs to the last chunk
		from, whole = &dst[0], 0
	}
	copy(dst[whole:], plaintext[whole:])
	dst[n-1] = typ
	var tag [TagSize]byte
	crypt(v, &dst[0], from, &dst[whole], n, &m, &tag, 0)
	copy(dst[n:], tag[:])
}

var errOpen = errors.New("aesgcm: message authentication failed")

func (v *vector) Open(dst, nonce, ciphertext, aad []byte) ([]byte, error) {
	if len(ciphertext) < TagSize {
		return nil, errOpen
	}
	n := len(ciphertext) - TagSize
	var m message
	v.start(&m, nonce, aad, n)
	var sent, tag [TagSize]byte
	copy(sent[:], ciphertext[n:])
	out, at := extend(dst, n)
	crypt(v, first(at), first(ciphertext), rest(ciphertext[:n]), n, &m, &tag, 1)
	if subtle.ConstantTimeCompare(sent[:], tag[:]) != 1 {
		clear(at)
		return nil, errOpen
	}
	return out, nil
}

// extend answers dst with n bytes more, and those.
func extend(dst []byte, n int) (out, more []byte) {
	if total := len(dst) + n; cap(dst) >= total {
		out = dst[:total]
	} else {
		out = make([]byte, total)
		copy(out, dst)
	}
	return out, out[len(dst):]
}

// rest answers where the last bytes of p are that are no whole chunk, or nil if there are none.
func rest(p []byte) *byte { return first(p[len(p)-len(p)%chunk:]) }

// first answers where p begins, or nil if it is empty.
func first(p []byte) *byte {
	if len(p) == 0 {
		return nil
	}
	return &p[0]
}
