package ktls

import (
	"encoding/binary"
	"fmt"
)

// Extensions that matter to records.
const (
	extensionMaxFragmentLength = 1  // RFC 6066 section 4
	extensionRecordSizeLimit   = 28 // RFC 8449
	extensionSupportedVersions = 43 // RFC 8446 section 4.2.1
)

// ClientHello is what records need to know of one.
type ClientHello struct {
	Random            [randomSize]byte
	MaxFragmentLength int // bytes of plaintext, or 0: not asked for
	RecordSizeLimit   int // as in the extension, or 0
}

// ServerHello is what records need to know of one.
type ServerHello struct {
	Random            [randomSize]byte
	Version           Version
	Suite             uint16
	Compression       uint8
	MaxFragmentLength int
	RecordSizeLimit   int
	RetryRequest      bool // a HelloRetryRequest: another ServerHello follows
}

// retryRandom marks a HelloRetryRequest, RFC 8446 section 4.1.3.
var retryRandom = [randomSize]byte{
	0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
	0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
}

// HelloError says that a hello is malformed.
type HelloError struct {
	Message string // "ClientHello" or "ServerHello"
	Reason  string
}

func (e *HelloError) Error() string { return fmt.Sprintf("ktls: %s: %s", e.Message, e.Reason) }

// fields reads a message from its start. After a read beyond its end everything
// is zero and short is set.
type fields struct {
	rest  []byte
	short bool
}

func (f *fields) bytes(n int) []byte {
	if f.short || n > len(f.rest) {
		f.rest, f.short = nil, true
		return nil
	}
	p := f.rest[:n]
	f.rest = f.rest[n:]
	return p
}

func (f *fields) uint8() int {
	if p := f.bytes(1); p != nil {
		return int(p[0])
	}
	return 0
}

func (f *fields) uint16() int {
	if p := f.bytes(2); p != nil {
		return int(binary.BigEndian.Uint16(p))
	}
	return 0
}

// extensions calls each with every extension of what remains, which may be
// nothing at all.
func (f *fields) extensions(each func(kind int, data *fields)) {
	if f.short || len(f.rest) == 0 {
		return
	}
	list := fields{rest: f.bytes(f.uint16())}
	if len(f.rest) > 0 {
		f.short = true
	}
	for len(list.rest) > 0 && !f.short {
		kind := list.uint16()
		data := fields{rest: list.bytes(list.uint16())}
		if !list.short {
			each(kind, &data)
		}
		f.short = f.short || list.short || data.short
	}
}

// fragmentLength reads max_fragment_length.
func fragmentLength(data *fields) int {
	if code := data.uint8(); code >= 1 && code <= 4 {
		return 1 << (8 + code)
	}
	return 0
}

// ParseClientHello reads a ClientHello's body, without the message header.
func ParseClientHello(body []byte) (ClientHello, error) {
	var h ClientHello
	f := fields{rest: body}
	f.uint16() // legacy_version
	copy(h.Random[:], f.bytes(randomSize))
	f.bytes(f.uint8())  // session id
	f.bytes(f.uint16()) // cipher suites
	f.bytes(f.uint8())  // compression methods
	f.extensions(func(kind int, data *fields) {
		switch kind {
		case extensionMaxFragmentLength:
			h.MaxFragmentLength = fragmentLength(data)
		case extensionRecordSizeLimit:
			h.RecordSizeLimit = data.uint16()
		}
	})
	if f.short {
		return ClientHello{}, &HelloError{"ClientHello", "its fields do not fit into it"}
	}
	return h, nil
}

// ParseServerHello reads a ServerHello's or HelloRetryRequest's body.
func ParseServerHello(body []byte) (ServerHello, error) {
	var h ServerHello
	f := fields{rest: body}
	h.Version = Version(f.uint16())
	copy(h.Random[:], f.bytes(randomSize))
	f.bytes(f.uint8()) // session id
	h.Suite = uint16(f.uint16())
	h.Compression = uint8(f.uint8())
	f.extensions(func(kind int, data *fields) {
		switch kind {
		case extensionSupportedVersions:
			h.Version = Version(data.uint16())
		case extensionMaxFragmentLength:
			h.MaxFragmentLength = fragmentLength(data)
		case extensionRecordSizeLimit:
			h.RecordSizeLimit = data.uint16()
		}
	})
	if f.short {
		return ServerHello{}, &HelloError{"ServerHello", "its fields do not fit into it"}
	}
	h.RetryRequest = h.Random == retryRandom
	return h, nil
}
