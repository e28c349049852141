package ktls

import (
	"crypto/cipher"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"kloop/ktls/aesgcm"
)

const (
	randomSize    = 32 // client_random, server_random
	masterSize    = 48 // TLS 1.2 master secret
	maxSecretSize = 48 // SHA-384
	maxKeySize    = 32
	ivSize        = 12
	saltSize      = 4 // of the IV of TLS 1.2 AES-GCM: the rest is explicit
	tagSize       = 16
)

// Traffic is what protects the records of one direction of one connection: key
// and IV, and with TLS 1.3 the traffic secret that they come from.
type Traffic struct {
	suite  *Suite
	secret [maxSecretSize]byte // TLS 1.3 only
	key    [maxKeySize]byte
	iv     [ivSize]byte // TLS 1.2 AES-GCM: the first 4 bytes
}

// Suite answers the suite.
func (t *Traffic) Suite() *Suite { return t.suite }

// NewTraffic13 derives key and IV from a TLS 1.3 traffic secret, RFC 8446
// section 7.3. The secret is copied.
func NewTraffic13(s *Suite, secret []byte) (*Traffic, error) {
	if s.Version != TLS13 {
		return nil, &UseError{Reason: s.Name + " is not a suite of TLS 1.3"}
	}
	if len(secret) != s.Hash.Size() {
		return nil, &UseError{Reason: fmt.Sprintf("a traffic secret of %s has %d bytes, not %d", s.Name, s.Hash.Size(), len(secret))}
	}
	t := &Traffic{suite: s}
	copy(t.secret[:], secret)
	t.derive13()
	return t, nil
}

func (t *Traffic) derive13() {
	e := newExpander(t.suite.Hash, t.secret[:t.suite.Hash.Size()])
	e.label(t.key[:t.suite.Cipher.KeySize()], "key")
	e.label(t.iv[:], "iv")
}

// update goes on to the next generation of secret, key and IV, RFC 8446
// section 7.2.
func (t *Traffic) update() error {
	if t.suite.Version != TLS13 {
		return &UseError{Reason: "TLS 1.2 has no key update"}
	}
	secret := t.secret[:t.suite.Hash.Size()]
	newExpander(t.suite.Hash, secret).label(secret, "traffic upd")
	t.derive13()
	return nil
}

// NewTraffic12 derives both directions from a TLS 1.2 master secret, RFC 5246
// section 6.3.
func NewTraffic12(s *Suite, master, clientRandom, serverRandom []byte) (client, server *Traffic, err error) {
	if s.Version != TLS12 {
		return nil, nil, &UseError{Reason: s.Name + " is not a suite of TLS 1.2"}
	}
	if len(master) != masterSize || len(clientRandom) != randomSize || len(serverRandom) != randomSize {
		return nil, nil, &UseError{Reason: fmt.Sprintf("TLS 1.2 keys need 48, 32 and 32 bytes, not %d, %d and %d",
			len(master), len(clientRandom), len(serverRandom))}
	}
	n, fixed := s.Cipher.KeySize(), ivSize
	if s.Cipher.gcm() {
		fixed = saltSize
	}
	var block [2 * (maxKeySize + ivSize)]byte
	defer clear(block[:])
	b := block[:2*(n+fixed)]
	prf12(s.Hash, b, master, "key expansion", serverRandom, clientRandom)
	client, server = &Traffic{suite: s}, &Traffic{suite: s}
	b = b[copy(client.key[:n], b):]
	b = b[copy(server.key[:n], b):]
	b = b[copy(client.iv[:fixed], b):]
	copy(server.iv[:fixed], b)
	return client, server, nil
}

// aead makes the AEAD.
func (t *Traffic) aead() (cipher.AEAD, error) {
	key := t.key[:t.suite.Cipher.KeySize()]
	if t.suite.Cipher == ChaCha20Poly1305 {
		return chacha20poly1305.New(key)
	}
	return aesgcm.New(key)
}

// Wipe overwrites secret, key and IV.
func (t *Traffic) Wipe() {
	clear(t.secret[:])
	clear(t.key[:])
	clear(t.iv[:])
}
