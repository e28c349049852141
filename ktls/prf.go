package ktls

import (
	"crypto"
	"crypto/hkdf"
	"crypto/hmac"
)

// prf12 fills out with the PRF of TLS 1.2, RFC 5246 section 5.
func prf12(h crypto.Hash, out, secret []byte, label string, seed ...[]byte) {
	mac := hmac.New(h.New, secret)
	begin := func() {
		mac.Write([]byte(label))
		for _, s := range seed {
			mac.Write(s)
		}
	}
	begin()
	a := mac.Sum(nil)
	for len(out) > 0 {
		mac.Reset()
		mac.Write(a)
		begin()
		block := mac.Sum(nil)
		out = out[copy(out, block):]
		clear(block)
		mac.Reset()
		mac.Write(a)
		a = mac.Sum(a[:0])
	}
	clear(a)
	mac.Reset()
}

// hkdfExpandLabel is HKDF-Expand-Label of RFC 8446 section 7.1 with an empty
// context, the only one that traffic keys need. It fills out.
func hkdfExpandLabel(h crypto.Hash, out, secret []byte, label string) error {
	const prefix = "tls13 "
	info := make([]byte, 0, 3+len(prefix)+len(label)+1)
	info = append(info, byte(len(out)>>8), byte(len(out)), byte(len(prefix)+len(label)))
	info = append(info, prefix...)
	info = append(info, label...)
	info = append(info, 0)
	b, err := hkdf.Expand(h.New, secret, string(info), len(out))
	if err != nil {
		return err
	}
	copy(out, b)
	clear(b)
	return nil
}
