package ktls

import (
	"crypto"
	"crypto/hmac"
	"hash"
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

// expander is HKDF-Expand-Label of RFC 8446 section 7.1 with one secret, an empty context, and no
// more output than the hash has, which is all that traffic keys need.
type expander struct {
	mac  hash.Hash
	info [maxLabelInfo]byte
	sum  [maxSecretSize]byte
}

const (
	labelPrefix  = "tls13 "
	maxLabel     = len("traffic upd")
	maxLabelInfo = 2 + 1 + len(labelPrefix) + maxLabel + 1 + 1
)

func newExpander(h crypto.Hash, secret []byte) *expander {
	return &expander{mac: hmac.New(h.New, secret)}
}

// label fills out.
func (e *expander) label(out []byte, label string) {
	info := append(e.info[:0], byte(len(out)>>8), byte(len(out)), byte(len(labelPrefix)+len(label)))
	info = append(append(info, labelPrefix...), label...)
	info = append(info, 0, 1) // no context; the first block of output, RFC 5869 section 2.3
	e.mac.Reset()
	e.mac.Write(info)
	copy(out, e.mac.Sum(e.sum[:0]))
	clear(e.sum[:])
}
