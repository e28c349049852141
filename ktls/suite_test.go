package ktls

import (
	"crypto"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
)

// TestSuitesAgreeWithCryptoTLS compares numbers, names and versions with
// another table of them.
func TestSuitesAgreeWithCryptoTLS(t *testing.T) {
	known := 0
	for _, c := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		aead := strings.Contains(c.Name, "_GCM_") || strings.Contains(c.Name, "CHACHA20")
		for _, v := range c.SupportedVersions {
			s, err := SuiteOf(c.ID, Version(v))
			var u *UnsupportedError
			switch {
			case aead && err != nil:
				t.Errorf("%s: %v", c.Name, err)
			case aead && s.Name != c.Name:
				t.Errorf("%s is called %s", c.Name, s.Name)
			case !aead && !errors.As(err, &u):
				t.Errorf("%s of %#x: %v", c.Name, v, err)
			case aead:
				known++
			}
		}
	}
	if known < 11 {
		t.Errorf("only %d suites compared", known)
	}
}

// TestSuitesFitTheirNames: the name of a suite says its AEAD and hash.
func TestSuitesFitTheirNames(t *testing.T) {
	ids := map[uint16]bool{}
	for _, s := range Suites() {
		want, hash := ChaCha20Poly1305, crypto.SHA256
		switch {
		case strings.Contains(s.Name, "AES_128_GCM"):
			want = AES128GCM
		case strings.Contains(s.Name, "AES_256_GCM"):
			want, hash = AES256GCM, crypto.SHA384
		}
		if s.Cipher != want || s.Hash != hash {
			t.Errorf("%s: %v and %v", s.Name, s.Cipher, s.Hash)
		}
		if ids[s.ID] {
			t.Errorf("%s: its number is there twice", s.Name)
		}
		ids[s.ID] = true
	}
}

func TestUnsupportedSuitesSayWhy(t *testing.T) {
	for _, c := range []struct {
		id   uint16
		v    Version
		want string
	}{
		{0xC013, TLS12, "cipher suite 0xC013 of TLS 1.2 is not AES-GCM or ChaCha20-Poly1305"},
		{0x1304, TLS13, "cipher suite 0x1304 of TLS 1.3"},
		{0x1301, TLS12, "0x1301"},
		{0xC02F, 0x0301, "TLS version 0x0301 is not 1.2 or 1.3"},
	} {
		_, err := SuiteOf(c.id, c.v)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
