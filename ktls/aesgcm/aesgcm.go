// Package aesgcm is AES-GCM (NIST SP 800-38D) for TLS records.
//
// Where the processor has vectors of four AES blocks (AVX-512 with VAES and
// VPCLMULQDQ: Intel since Ice Lake, AMD since Zen 4), it is done by those, which
// crypto/aes has no code for (golang/go issue 42726): a record then takes half the
// time. Everywhere else, and in FIPS 140-3 mode (GODEBUG=fips140=on), it is
// crypto/aes's own.
//
// No branch and no address depends on a secret, and no register keeps one.
package aesgcm

import (
	"crypto/aes"
	"crypto/cipher"
)

// Sizes in bytes.
const (
	NonceSize = 12
	TagSize   = 16
	// MaxAAD is the most additional data that one call takes.
	MaxAAD = 16
)

// New makes the AEAD of a key of 16 or 32 bytes; any other is an
// aes.KeySizeError. Its calls take nonces of NonceSize bytes and, of additional
// data, 1 to MaxAAD. They may run side by side, and allocate nothing.
//
// As with every cipher.AEAD, output and input overlap exactly or not at all; an
// Open that fails leaves zeros where it has written.
func New(key []byte) (cipher.AEAD, error) {
	if vectors && (len(key) == 16 || len(key) == 32) {
		return newVector(key), nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Typed is an AEAD of New that seals the content of a TLS 1.3 record from where it is.
type Typed interface {
	cipher.AEAD
	// SealTyped seals plaintext and, behind it, the byte typ into dst, which has room
	// for both and the tag, and does not overlap plaintext.
	SealTyped(dst, nonce, plaintext []byte, typ byte, aad []byte)
}

// Wipe overwrites what an AEAD of New keeps of its key, if that is this package's.
// What crypto/aes keeps is dropped with it, and overwritten by nobody. The AEAD
// is then of no use.
func Wipe(aead cipher.AEAD) {
	if v, ok := aead.(interface{ wipe() }); ok {
		v.wipe()
	}
}
