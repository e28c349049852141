package ktls

import (
	"bytes"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
)

// Label is a kind of secret in an NSS key log, RFC 9850.
type Label uint8

// The labels. LabelClientRandom is the master secret of TLS 1.2; all others are
// TLS 1.3's.
const (
	LabelClientRandom Label = iota
	LabelClientEarly
	LabelClientHandshake
	LabelServerHandshake
	LabelClientTraffic
	LabelServerTraffic
	LabelEarlyExporter
	LabelExporter
	numLabels
)

var labelNames = [numLabels]string{
	"CLIENT_RANDOM", "CLIENT_EARLY_TRAFFIC_SECRET", "CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET",
	"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "EARLY_EXPORTER_SECRET", "EXPORTER_SECRET",
}

func (l Label) String() string { return labelNames[l] }

// KeyLogError says what is wrong with a key log. It never holds a secret.
type KeyLogError struct {
	Line   int // from 1
	Reason string
}

func (e *KeyLogError) Error() string {
	return fmt.Sprintf("ktls: key log, line %d: %s", e.Line, e.Reason)
}

// Secrets are those of one connection. The zero value has none.
type Secrets struct {
	values    [numLabels][maxSecretSize]byte
	sizes     [numLabels]uint8
	random    [randomSize]byte
	hasRandom bool
}

// Get answers the secret of a label, or nil. It is valid until Wipe.
func (s *Secrets) Get(l Label) []byte {
	if s.sizes[l] == 0 {
		return nil
	}
	return s.values[l][:s.sizes[l]]
}

// Wipe overwrites all secrets.
func (s *Secrets) Wipe() { *s = Secrets{} }

// ParseKeyLog adds the secrets that log, which consists of whole lines, has for
// a client_random (32 bytes). With a nil clientRandom all lines must have the
// same one. Lines of others, comments, empty lines and unknown labels are
// skipped, as RFC 9850 asks for. A malformed line, and a second value for a
// label, are a *KeyLogError: two connections may then be mixed up, and nothing
// may be derived from either.
func (s *Secrets) ParseKeyLog(log, clientRandom []byte) error {
	if clientRandom != nil && len(clientRandom) != randomSize {
		return &UseError{Reason: fmt.Sprintf("a client_random has %d bytes, not %d", randomSize, len(clientRandom))}
	}
	for number := 1; len(log) > 0; number++ {
		end := bytes.IndexByte(log, '\n')
		if end < 0 {
			return &KeyLogError{Line: number, Reason: "the line does not end"}
		}
		line := bytes.TrimSuffix(log[:end], []byte{'\r'})
		log = log[end+1:]
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if reason := s.parseLine(line, clientRandom); reason != "" {
			return &KeyLogError{Line: number, Reason: reason}
		}
	}
	return nil
}

// parseLine answers what is wrong with the line, or "".
func (s *Secrets) parseLine(line, clientRandom []byte) string {
	name, rest, found := bytes.Cut(line, []byte{' '})
	if !found {
		return "no client_random"
	}
	label, known := labelOf(name)
	if !known {
		return ""
	}
	randomHex, secretHex, found := bytes.Cut(rest, []byte{' '})
	if !found {
		return "no secret"
	}
	var random [randomSize]byte
	if len(randomHex) != 2*randomSize {
		return "client_random is not 32 bytes"
	}
	if _, err := hex.Decode(random[:], randomHex); err != nil {
		return "client_random is not hexadecimal"
	}
	if clientRandom != nil && !bytes.Equal(random[:], clientRandom) {
		return ""
	}
	if s.hasRandom && random != s.random {
		return "another connection's client_random"
	}
	var secret [maxSecretSize]byte
	defer clear(secret[:])
	n := len(secretHex) / 2
	if len(secretHex)%2 != 0 || !label.validSize(n) {
		return label.String() + " has a wrong size"
	}
	if _, err := hex.Decode(secret[:], secretHex); err != nil {
		return label.String() + " is not hexadecimal"
	}
	if old := s.Get(label); old != nil && subtle.ConstantTimeCompare(old, secret[:n]) != 1 {
		return "a second value of " + label.String()
	}
	s.random, s.hasRandom = random, true
	s.values[label], s.sizes[label] = secret, uint8(n)
	return ""
}

func labelOf(name []byte) (Label, bool) {
	for l, s := range labelNames {
		if string(name) == s {
			return Label(l), true
		}
	}
	return 0, false
}

// validSize: a master secret has 48 bytes, secrets of TLS 1.3 have their hash's.
func (l Label) validSize(n int) bool {
	return n == masterSize || n == 32 && l != LabelClientRandom
}
