package ktls

import (
	"crypto"
	_ "crypto/sha256" // the hashes of the suites below
	_ "crypto/sha512"
)

// Version is a protocol version as on the wire.
type Version uint16

// The versions whose records this package can take over.
const (
	TLS12 Version = 0x0303
	TLS13 Version = 0x0304
)

func (v Version) String() string {
	switch v {
	case TLS12:
		return "TLS 1.2"
	case TLS13:
		return "TLS 1.3"
	}
	return "TLS version " + hex16(uint16(v))
}

// Cipher is an AEAD.
type Cipher uint8

// The AEADs, all with tags of 16 bytes.
const (
	AES128GCM Cipher = iota
	AES256GCM
	ChaCha20Poly1305
)

var cipherNames = [...]string{"AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"}

func (c Cipher) String() string { return cipherNames[c] }

// KeySize answers the key's size in bytes.
func (c Cipher) KeySize() int {
	if c == AES128GCM {
		return 16
	}
	return 32
}

// gcm reports whether TLS 1.2 sends part of the nonce with each record.
func (c Cipher) gcm() bool { return c != ChaCha20Poly1305 }

// Suite is what a cipher suite means for records.
type Suite struct {
	ID      uint16
	Name    string // IANA's
	Version Version
	Cipher  Cipher
	Hash    crypto.Hash // of the PRF or of HKDF
}

// suites are IANA's suites with these AEADs: RFC 5288, 5289, 5487, 7905, 8442
// and 8446.
var suites = []Suite{
	{0x1301, "TLS_AES_128_GCM_SHA256", TLS13, AES128GCM, crypto.SHA256},
	{0x1302, "TLS_AES_256_GCM_SHA384", TLS13, AES256GCM, crypto.SHA384},
	{0x1303, "TLS_CHACHA20_POLY1305_SHA256", TLS13, ChaCha20Poly1305, crypto.SHA256},

	{0xC02B, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", TLS12, AES128GCM, crypto.SHA256},
	{0xC02C, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", TLS12, AES256GCM, crypto.SHA384},
	{0xC02F, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", TLS12, AES128GCM, crypto.SHA256},
	{0xC030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", TLS12, AES256GCM, crypto.SHA384},
	{0xCCA8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", TLS12, ChaCha20Poly1305, crypto.SHA256},
	{0xCCA9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", TLS12, ChaCha20Poly1305, crypto.SHA256},
	{0xCCAA, "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256", TLS12, ChaCha20Poly1305, crypto.SHA256},
	{0xCCAB, "TLS_PSK_WITH_CHACHA20_POLY1305_SHA256", TLS12, ChaCha20Poly1305, crypto.SHA256},
	{0xCCAC, "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256", TLS12, ChaCha20Poly1305, crypto.SHA256},
	{0xCCAD, "TLS_DHE_PSK_WITH_CHACHA20_POLY1305_SHA256", TLS12, ChaCha20Poly1305, crypto.SHA256},
	{0xCCAE, "TLS_RSA_PSK_WITH_CHACHA20_POLY1305_SHA256", TLS12, ChaCha20Poly1305, crypto.SHA256},

	{0x009C, "TLS_RSA_WITH_AES_128_GCM_SHA256", TLS12, AES128GCM, crypto.SHA256},
	{0x009D, "TLS_RSA_WITH_AES_256_GCM_SHA384", TLS12, AES256GCM, crypto.SHA384},
	{0x009E, "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256", TLS12, AES128GCM, crypto.SHA256},
	{0x009F, "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384", TLS12, AES256GCM, crypto.SHA384},
	{0x00A0, "TLS_DH_RSA_WITH_AES_128_GCM_SHA256", TLS12, AES128GCM, crypto.SHA256},
	{0x00A1, "TLS_DH_RSA_WITH_AES_256_GCM_SHA384", TLS12, AES256GCM, crypto.SHA384},
	{0x00A2, "TLS_DHE_DSS_WITH_AES_128_GCM_SHA256", TLS12, AES128GCM, crypto.SHA256},
	{0x00A3, "TLS_DHE_DSS_WITH_AES_256_GCM_SHA384", TLS12, AES256GCM, crypto.SHA384},
	{0x00A4, "TLS_DH_DSS_WITH_AES_128_GCM_SHA256", TLS12, AES128GCM, crypto.SHA256},
	{0x00A5, "TLS_DH_DSS_WITH_AES_256_GCM_SHA384", TLS12, AES256GCM, crypto.SHA384},
	{0x00A6, "TLS_DH_anon_WITH_AES_128_GCM_SHA256", TLS12, AES128GCM, crypto.SHA256},
	{0x00A7, "TLS_DH_anon_WITH_AES_256_GCM_SHA384", TLS12, AES256GCM, crypto.SHA384},
	{0x00A8, "TLS_PSK_WITH_AES_128_GCM_SHA256", TLS12, AES128GCM, crypto.SHA256},
	{0x00A9, "TLS_PSK_WITH_AES_256_GCM_SHA384", TLS12, AES256GCM, crypto.SHA384},
	{0x00AA, "TLS_DHE_PSK_WITH_AES_128_GCM_SHA256", TLS12, AES128GCM, crypto.SHA256},
	{0x00AB, "TLS_DHE_PSK_WITH_AES_256_GCM_SHA384", TLS12, AES256GCM, crypto.SHA384},
	{0x00AC, "TLS_RSA_PSK_WITH_AES_128_GCM_SHA256", TLS12, AES128GCM, crypto.SHA256},
	{0x00AD, "TLS_RSA_PSK_WITH_AES_256_GCM_SHA384", TLS12, AES256GCM, crypto.SHA384},
	{0xC02D, "TLS_ECDH_ECDSA_WITH_AES_128_GCM_SHA256", TLS12, AES128GCM, crypto.SHA256},
	{0xC02E, "TLS_ECDH_ECDSA_WITH_AES_256_GCM_SHA384", TLS12, AES256GCM, crypto.SHA384},
	{0xC031, "TLS_ECDH_RSA_WITH_AES_128_GCM_SHA256", TLS12, AES128GCM, crypto.SHA256},
	{0xC032, "TLS_ECDH_RSA_WITH_AES_256_GCM_SHA384", TLS12, AES256GCM, crypto.SHA384},
	{0xD001, "TLS_ECDHE_PSK_WITH_AES_128_GCM_SHA256", TLS12, AES128GCM, crypto.SHA256},
	{0xD002, "TLS_ECDHE_PSK_WITH_AES_256_GCM_SHA384", TLS12, AES256GCM, crypto.SHA384},
}

// Suites answers all suites whose records can be taken over.
func Suites() []Suite { return append([]Suite(nil), suites...) }

// SuiteOf answers the suite with IANA's number id in a version, or an
// *UnsupportedError: CBC, CCM, ARIA, Camellia and RC4 are not taken over.
func SuiteOf(id uint16, v Version) (*Suite, error) {
	if v != TLS12 && v != TLS13 {
		return nil, unsupported("%s is not 1.2 or 1.3", v)
	}
	for i := range suites {
		if s := &suites[i]; s.ID == id && s.Version == v {
			return s, nil
		}
	}
	return nil, unsupported("cipher suite %s of %s is not AES-GCM or ChaCha20-Poly1305", hex16(id), v)
}

// hex16 writes a number as IANA's registries do.
func hex16(n uint16) string {
	const digits = "0123456789ABCDEF"
	return string([]byte{'0', 'x', digits[n>>12], digits[n>>8&15], digits[n>>4&15], digits[n&15]})
}
