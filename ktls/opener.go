package ktls

import (
	"bytes"
	"math"
)

// Opener authenticates and decrypts the records of one direction. It belongs to
// one goroutine at a time.
type Opener struct {
	traffic *Traffic
	lane    *lane
	others  []*lane // of OpenParallel
	seq     uint64
	max     int
	failed  error
	change  bool // ChangeCipherSpec is let through
}

// Record is what an opener answers.
type Record struct {
	Type    ContentType // with TLS 1.3 the inner one
	Content []byte
	Size    int // of the whole record; 0: there is none yet
}

// NewOpener makes an opener whose next record has number seq. It owns t.
func NewOpener(t *Traffic, seq uint64) (*Opener, error) {
	o := &Opener{traffic: t, max: MaxPlaintext}
	return o, o.useKey(seq)
}

func (o *Opener) useKey(seq uint64) error {
	l, err := newLane(o.traffic)
	if err != nil {
		return err
	}
	o.lane.wipe()
	o.lane, o.others, o.seq = l, nil, seq
	return nil
}

// Suite answers the suite.
func (o *Opener) Suite() *Suite { return o.traffic.suite }

// Seq answers the next record's number.
func (o *Opener) Seq() uint64 { return o.seq }

// SetMaxPlaintext lowers what a record may hold below 16384 bytes: what this
// side asked for by max_fragment_length or record_size_limit.
func (o *Opener) SetMaxPlaintext(n int) { o.max = min(n, MaxPlaintext) }

// KeyUpdateDue reports whether the peer should be asked for a key update.
func (o *Opener) KeyUpdateDue() bool {
	s := o.traffic.suite
	return s.Version == TLS13 && s.Cipher.gcm() && o.seq >= keyUpdateDue
}

// Prefix answers how many bytes a record has before its plaintext.
func (o *Opener) Prefix() int { return o.lane.prefix() }

// Size answers the size of the record that p begins with, or 0 while p has no
// whole header. A header that no record may have is an error, before any of
// its bytes are awaited.
func (o *Opener) Size(p []byte) (int, error) {
	h, ok := ParseHeader(p)
	if !ok {
		return 0, o.failed
	}
	if o.failed == nil {
		o.failed = o.checkHeader(h)
	}
	return HeaderSize + h.Length, o.failed
}

func (o *Opener) checkHeader(h Header) error {
	limit := MaxPlaintext + maxExpansion12
	switch {
	case o.lane.tls13:
		limit = MaxPlaintext + maxExpansion13
		if h.Type != TypeData {
			// After the handshake even a ChangeCipherSpec is none of TLS 1.3's, RFC 8446 section 5.
			return &RecordError{AlertUnexpectedMessage, "a record without protection"}
		}
	case h.Type < TypeChangeCipherSpec || h.Type > TypeData:
		return &RecordError{AlertUnexpectedMessage, "a record of an unknown type"}
	case h.Version != TLS12:
		return &RecordError{AlertProtocolVersion, "a record of another version"}
	}
	if h.Length > limit {
		return &RecordError{AlertRecordOverflow, "a record is too long"}
	}
	return nil
}

// Open opens the first record of p in place: Content is part of p, and what
// follows the record is not touched. A Size of 0 means that p has no whole
// record yet. After an error every call fails with the same one. Nothing is
// allocated unless it fails.
func (o *Opener) Open(p []byte) (Record, error) {
	n, err := o.Size(p)
	if err != nil || n == 0 || n > len(p) {
		return Record{}, err
	}
	rec := p[:n:n]
	r, err := o.lane.openRecord(o.seq, rec[min(n, o.lane.prefix()):], rec, o.max)
	if err == nil && o.seq == math.MaxUint64 {
		err = ErrKeyUsedUp
	}
	if err == nil && r.Type == TypeChangeCipherSpec && !o.change {
		err = errUnexpected
	}
	if err != nil {
		o.failed = err
		return Record{}, err
	}
	o.seq++
	return r, nil
}

// openRecord opens a whole record into dst and takes TLS 1.3's padding off.
func (l *lane) openRecord(seq uint64, dst, rec []byte, limit int) (Record, error) {
	plain, err := l.open(seq, dst, rec)
	if err != nil {
		return Record{}, err
	}
	r := Record{Type: ContentType(rec[0]), Content: plain, Size: len(rec)}
	if l.tls13 {
		// The limit of record_size_limit covers padding too, RFC 8449 section 4.
		if len(plain) > limit+1 {
			return Record{}, errOverflow
		}
		end := len(bytes.TrimRight(plain, "\x00")) - 1
		if end < 0 {
			return Record{}, &RecordError{AlertUnexpectedMessage, "a record of padding alone"}
		}
		r.Type, r.Content = ContentType(plain[end]), plain[:end]
	}
	if len(r.Content) > limit {
		return Record{}, errOverflow
	}
	if l.tls13 && (r.Type < TypeAlert || r.Type > TypeData) {
		return Record{}, errUnexpected
	}
	return r, nil
}

var (
	errOverflow   = &RecordError{AlertRecordOverflow, "a record holds more than agreed"}
	errUnexpected = &RecordError{AlertUnexpectedMessage, "a record of an unexpected type"}
)

// AllowChange lets TLS 1.2's ChangeCipherSpec through: a new handshake is under way,
// whose keys protect what follows it.
func (o *Opener) AllowChange() { o.change = true }

// NextKey goes on with the next key of TLS 1.3 and number 0: the peer has sent
// a KeyUpdate.
func (o *Opener) NextKey() error {
	if err := o.traffic.update(); err != nil {
		return err
	}
	return o.useKey(0)
}

// Wipe overwrites secrets and drops the key. The opener is then of no use.
func (o *Opener) Wipe() {
	o.traffic.Wipe()
	o.lane.wipe()
	o.others, o.seq = nil, 0
	if o.failed == nil {
		o.failed = &UseError{Reason: "the key has been wiped"}
	}
}
