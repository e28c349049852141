package ktls

import (
	"crypto/cipher"
	"encoding/binary"

	"kloop/ktls/aesgcm"
)

// ContentType is a record's, RFC 8446 section 5.1.
type ContentType uint8

// The content types.
const (
	TypeChangeCipherSpec ContentType = 20
	TypeAlert            ContentType = 21
	TypeHandshake        ContentType = 22
	TypeData             ContentType = 23
)

// Sizes of records, in bytes.
const (
	HeaderSize   = 5
	MaxPlaintext = 1 << 14
	// MaxRecord is the longest record that a peer may send: TLS 1.2's limit of
	// RFC 5246 section 6.2.3; TLS 1.3's is lower.
	MaxRecord = HeaderSize + MaxPlaintext + maxExpansion12

	maxExpansion12 = 2048
	maxExpansion13 = 256
	explicitSize   = 8 // of the nonce of TLS 1.2 AES-GCM
)

// Header is the first bytes of a record, as they are on the wire.
type Header struct {
	Type    ContentType
	Version Version
	Length  int // of what follows the header
}

// ParseHeader reads a header. ok is false while p is shorter than one.
func ParseHeader(p []byte) (h Header, ok bool) {
	if len(p) < HeaderSize {
		return Header{}, false
	}
	return Header{ContentType(p[0]), Version(binary.BigEndian.Uint16(p[1:])), int(binary.BigEndian.Uint16(p[3:]))}, true
}

// lane is what one goroutine needs to seal or open: the AEAD, which all lanes of
// a direction share, and memory for nonce and additional data.
type lane struct {
	aead     cipher.AEAD
	tls13    bool
	explicit bool // part of the nonce is in the record
	iv       [ivSize]byte
	base     uint64 // explicit nonce of the record with number 0
	nonce    [ivSize]byte
	aad      [13]byte
}

// wipe overwrites what can be: see aesgcm.Wipe. The lane, if there is one, and those that share its AEAD are then of no use.
func (l *lane) wipe() {
	if l == nil {
		return
	}
	aesgcm.Wipe(l.aead)
	*l = lane{tls13: l.tls13, explicit: l.explicit}
}

func newLane(t *Traffic) (*lane, error) {
	aead, err := t.aead()
	if err != nil {
		return nil, err
	}
	tls13 := t.suite.Version == TLS13
	return &lane{aead: aead, tls13: tls13, explicit: !tls13 && t.suite.Cipher.gcm(), iv: t.iv}, nil
}

// setNonce: RFC 5288 section 3, RFC 7905 section 2, RFC 8446 section 5.3.
func (l *lane) setNonce(seq, explicit uint64) {
	l.nonce = l.iv
	if l.explicit {
		binary.BigEndian.PutUint64(l.nonce[saltSize:], explicit)
		return
	}
	at := l.nonce[ivSize-8:]
	binary.BigEndian.PutUint64(at, binary.BigEndian.Uint64(at)^seq)
}

// setAAD answers the additional data for a header: with TLS 1.3 the header
// itself, with TLS 1.2 number, type, version and the plaintext's length.
func (l *lane) setAAD(seq uint64, header []byte, plain int) []byte {
	if l.tls13 {
		return l.aad[:copy(l.aad[:], header[:HeaderSize])]
	}
	binary.BigEndian.PutUint64(l.aad[:], seq)
	copy(l.aad[8:], header[:3])
	binary.BigEndian.PutUint16(l.aad[11:], uint16(plain))
	return l.aad[:]
}

// prefix is how many bytes are before the ciphertext.
func (l *lane) prefix() int {
	if l.explicit {
		return HeaderSize + explicitSize
	}
	return HeaderSize
}

// suffix is how many bytes are behind the plaintext, without padding.
func (l *lane) suffix() int {
	if l.tls13 {
		return 1 + tagSize
	}
	return tagSize
}

// seal turns rec, whose plaintext is in place, into a record.
func (l *lane) seal(seq uint64, rec []byte, typ ContentType, pad int) {
	start, end := l.prefix(), len(rec)-tagSize
	if l.tls13 {
		rec[end-pad-1] = byte(typ)
		clear(rec[end-pad : end])
	}
	aad := l.begin(seq, rec, typ)
	l.aead.Seal(rec[start:start], l.nonce[:], rec[start:end], aad)
}

// sealFrom seals plain into rec, which is as long as the record will be.
func (l *lane) sealFrom(seq uint64, rec []byte, typ ContentType, plain []byte) {
	start := l.prefix()
	typed, ok := l.aead.(aesgcm.Typed)
	switch {
	case !l.tls13:
		aad := l.begin(seq, rec, typ)
		l.aead.Seal(rec[start:start], l.nonce[:], plain, aad)
	case ok:
		aad := l.begin(seq, rec, typ)
		typed.SealTyped(rec[start:], l.nonce[:], plain, byte(typ), aad)
	default:
		copy(rec[start:], plain)
		l.seal(seq, rec, typ, 0)
	}
}

// begin writes what a record has before its ciphertext, sets its nonce, and answers its additional data.
func (l *lane) begin(seq uint64, rec []byte, typ ContentType) (aad []byte) {
	if l.tls13 {
		typ = TypeData
	}
	rec[0] = byte(typ)
	binary.BigEndian.PutUint16(rec[1:], uint16(TLS12))
	binary.BigEndian.PutUint16(rec[3:], uint16(len(rec)-HeaderSize))
	if l.explicit {
		binary.BigEndian.PutUint64(rec[HeaderSize:], l.base+seq)
	}
	l.setNonce(seq, l.base+seq)
	return l.setAAD(seq, rec, len(rec)-l.prefix()-tagSize)
}

// open authenticates and decrypts rec, a whole record, into dst[:0], which has
// room for it: part of rec itself from prefix() on, or other memory.
func (l *lane) open(seq uint64, dst, rec []byte) ([]byte, error) {
	start := l.prefix()
	if len(rec) < start+tagSize {
		return nil, &RecordError{AlertBadRecordMAC, "a record is too short for its authentication tag"}
	}
	var explicit uint64
	if l.explicit {
		explicit = binary.BigEndian.Uint64(rec[HeaderSize:])
	}
	l.setNonce(seq, explicit)
	aad := l.setAAD(seq, rec, len(rec)-start-tagSize)
	plain, err := l.aead.Open(dst[:0], l.nonce[:], rec[start:], aad)
	if err != nil {
		return nil, &RecordError{AlertBadRecordMAC, "a record is not authentic"}
	}
	return plain, nil
}
