package ktls

import (
	"fmt"
	"math"
	"slices"
)

// AES-GCM may protect about 2^24.5 full records with one key, RFC 8446 section
// 5.5. A key update is due long before; with TLS 1.2, which has none, RFC 5246
// sets no limit but that of the numbers.
const (
	keyUpdateDue = 1 << 23
	keyLimitGCM  = 23_726_566
)

// ErrKeyUsedUp says that a key may not protect another record.
var ErrKeyUsedUp = &UseError{Reason: "the key may not protect another record"}

// Sealer protects the records of one direction. It belongs to one goroutine at
// a time.
type Sealer struct {
	traffic *Traffic
	lane    *lane
	others  []*lane // of SealParallel
	seq     uint64
	limit   uint64 // first number that may not be used
	max     int    // plaintext bytes of one record
}

// NewSealer makes a sealer whose next record has number seq. It owns t.
func NewSealer(t *Traffic, seq uint64) (*Sealer, error) {
	s := &Sealer{traffic: t, max: MaxPlaintext}
	return s, s.useKey(seq)
}

func (s *Sealer) useKey(seq uint64) error {
	l, err := newLane(s.traffic)
	if err != nil {
		return err
	}
	s.lane.wipe()
	s.lane, s.others, s.seq, s.limit = l, nil, seq, math.MaxUint64
	if suite := s.traffic.suite; suite.Version == TLS13 && suite.Cipher.gcm() {
		s.limit = keyLimitGCM
	}
	return nil
}

// Suite answers the suite.
func (s *Sealer) Suite() *Suite { return s.traffic.suite }

// Seq answers the next record's number.
func (s *Sealer) Seq() uint64 { return s.seq }

// SetExplicitNonce sets the explicit nonce of the next record of TLS 1.2
// AES-GCM; those of later records count on from it. Without it they are the
// records' numbers.
func (s *Sealer) SetExplicitNonce(n uint64) { s.lane.base = n - s.seq }

// explicitNonce answers that of the next record.
func (s *Sealer) explicitNonce() uint64 { return s.lane.base + s.seq }

// SetMaxPlaintext caps what one record takes: what the peer asked for by
// max_fragment_length or record_size_limit, up to 16384 bytes.
func (s *Sealer) SetMaxPlaintext(n int) error {
	if n < 1 || n > MaxPlaintext {
		return &UseError{Reason: fmt.Sprintf("records of %d bytes: must be 1 to %d", n, MaxPlaintext)}
	}
	s.max = n
	return nil
}

// MaxPlaintext answers what one record takes at most.
func (s *Sealer) MaxPlaintext() int { return s.max }

// Prefix answers how many bytes a record has before its plaintext.
func (s *Sealer) Prefix() int { return s.lane.prefix() }

// Suffix answers how many it has behind plaintext and padding.
func (s *Sealer) Suffix() int { return s.lane.suffix() }

// SealedSize answers the size of the records for n bytes of plaintext.
func (s *Sealer) SealedSize(n int) int {
	records := max(1, (n+s.max-1)/s.max)
	return n + records*(s.Prefix()+s.Suffix())
}

// KeyUpdateDue reports whether KeyUpdate should be called soon. It is never due
// with TLS 1.2 and with ChaCha20-Poly1305.
func (s *Sealer) KeyUpdateDue() bool { return s.limit == keyLimitGCM && s.seq >= keyUpdateDue }

// SealInPlace turns rec into a record. The plaintext is already there, at
// rec[Prefix() : len(rec)-Suffix()-pad]. pad, of TLS 1.3 alone, is how many
// zeros hide its length. Nothing is allocated.
func (s *Sealer) SealInPlace(rec []byte, typ ContentType, pad int) error {
	n := len(rec) - s.Prefix() - s.Suffix() - pad
	if n < 0 || pad < 0 || n+pad > s.max || pad > 0 && !s.lane.tls13 {
		return &UseError{Reason: fmt.Sprintf("a buffer of %d bytes with padding of %d is no record", len(rec), pad)}
	}
	if s.seq >= s.limit {
		return ErrKeyUsedUp
	}
	s.lane.seal(s.seq, rec, typ, pad)
	s.seq++
	return nil
}

// SealFrom seals plain into rec, which is as long as the record: Prefix() and Suffix()
// bytes longer than plain, and apart from it. Nothing is allocated.
func (s *Sealer) SealFrom(rec []byte, typ ContentType, plain []byte) error {
	if len(plain) > s.max || len(rec) != s.Prefix()+len(plain)+s.Suffix() {
		return &UseError{Reason: fmt.Sprintf("a buffer of %d bytes is no record of %d bytes of plaintext", len(rec), len(plain))}
	}
	if s.seq >= s.limit {
		return ErrKeyUsedUp
	}
	s.lane.sealFrom(s.seq, rec, typ, plain)
	s.seq++
	return nil
}

// Seal appends the records of plain to dst, one at least, and answers dst. It
// allocates nothing if dst has room for SealedSize(len(plain)) bytes more. With
// an error no record is used.
func (s *Sealer) Seal(dst []byte, typ ContentType, plain []byte) ([]byte, error) {
	records := uint64(max(1, (len(plain)+s.max-1)/s.max))
	if s.limit-s.seq < records {
		return dst, ErrKeyUsedUp
	}
	dst = slices.Grow(dst, s.SealedSize(len(plain)))
	for range records {
		n := min(len(plain), s.max)
		dst = s.lane.appendRecord(dst, s.seq, typ, plain[:n])
		plain = plain[n:]
		s.seq++
	}
	return dst, nil
}

// appendRecord seals plain into dst, which has room.
func (l *lane) appendRecord(dst []byte, seq uint64, typ ContentType, plain []byte) []byte {
	at := len(dst)
	dst = dst[:at+l.prefix()+len(plain)+l.suffix()]
	l.sealFrom(seq, dst[at:], typ, plain)
	return dst
}

// KeyUpdate appends a KeyUpdate to dst, asks the peer for one if request is
// set, and goes on with the next key. TLS 1.3 alone has it.
func (s *Sealer) KeyUpdate(dst []byte, request bool) ([]byte, error) {
	message := KeyUpdateMessage(request)
	if s.traffic.suite.Version != TLS13 {
		return dst, &UseError{Reason: "TLS 1.2 has no key update"}
	}
	dst, err := s.Seal(dst, TypeHandshake, message[:])
	if err != nil {
		return dst, err
	}
	return dst, s.NextKey()
}

// NextKey goes on with the next key of TLS 1.3 and number 0.
func (s *Sealer) NextKey() error {
	if err := s.traffic.update(); err != nil {
		return err
	}
	return s.useKey(0)
}

// Wipe overwrites secrets and drops the key. The sealer is then of no use.
func (s *Sealer) Wipe() {
	s.traffic.Wipe()
	s.lane.wipe()
	s.others, s.seq, s.limit = nil, 0, 0
}
