package ktls

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Numbers of linux/tls.h.
const (
	tlsTX            = 1
	tlsRX            = 2
	tlsTXZeroCopy    = 3
	tlsRXExpectNoPad = 4
	tlsTXMaxPayload  = 5

	kernelAES128GCM = 51
	kernelAES256GCM = 52
	kernelChaCha20  = 54
)

var kernelCipher = [...]uint16{AES128GCM: kernelAES128GCM, AES256GCM: kernelAES256GCM, ChaCha20Poly1305: kernelChaCha20}

// KernelError says which call to the kernel's TLS failed.
type KernelError struct {
	Op  string
	Err error
}

func (e *KernelError) Error() string { return "ktls: " + e.Op + ": " + e.Err.Error() }

// Unwrap answers the errno.
func (e *KernelError) Unwrap() error { return e.Err }

func kernelError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &KernelError{Op: op, Err: err}
}

// EnableKernel puts the kernel's TLS on a connected TCP socket. It stays there,
// does nothing until a direction is given a key, and may be put there twice.
// ENOTCONN: the peer has already gone.
func EnableKernel(fd int) error {
	err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_ULP, "tls")
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return kernelError(`setsockopt TCP_ULP "tls"`, err)
}

// KernelCan answers nil if the kernel can seal and open a connection's records, of
// which s is one direction; else what it lacks. It probes the kernel, once.
func KernelCan(s *Sealer) error {
	suite := s.Suite()
	features := []*Feature{FeatureULP, FeatureOf(suite, true), FeatureOf(suite, false)}
	if suite.Version == TLS13 {
		features = append(features, FeatureRekey) // the peer may ask for new keys at any time
	}
	if s.max < MaxPlaintext {
		features = append(features, FeatureMaxPayload)
	}
	for _, f := range features {
		if err := Have(f); err != nil {
			return err
		}
	}
	return nil
}

// GiveToKernel has the kernel seal what is sent on fd from now on. The sealer
// keeps the secret for NextKey, after which this is to be called once more. It
// must not seal any more.
func (s *Sealer) GiveToKernel(fd int) error {
	if s.max < MaxPlaintext {
		if err := SetKernelMaxPlaintext(fd, s.max); err != nil {
			return err
		}
	}
	return setCryptoInfo(fd, tlsTX, s.traffic, s.seq, s.explicitNonce())
}

// Advance counts records that the kernel has sealed, so that KeyUpdateDue tells.
func (s *Sealer) Advance(records uint64) { s.seq += records }

// Advance counts records that the kernel has opened, so that KeyUpdateDue tells.
func (o *Opener) Advance(records uint64) { o.seq += records }

// GiveToKernel has the kernel open what is received on fd from now on. Nothing
// that belongs behind the last record that this opener has opened may have been
// read from fd. It keeps the secret for NextKey, after which this is to be
// called once more.
func (o *Opener) GiveToKernel(fd int) error {
	return setCryptoInfo(fd, tlsRX, o.traffic, o.seq, 0)
}

// SetZeroCopy lets sendfile give pages of files to a NIC that encrypts, without
// a copy. The files must then not change, or the peer gets broken records.
func SetZeroCopy(fd int, on bool) error {
	return kernelError("setsockopt TLS_TX_ZEROCOPY_RO", setFlag(fd, tlsTXZeroCopy, on))
}

// SetExpectNoPad tells the kernel that the peer does not pad its TLS 1.3
// records. Records that are padded all the same are decrypted twice.
func SetExpectNoPad(fd int, on bool) error {
	return kernelError("setsockopt TLS_RX_EXPECT_NO_PAD", setFlag(fd, tlsRXExpectNoPad, on))
}

func setFlag(fd, option int, on bool) error {
	value := 0
	if on {
		value = 1
	}
	return unix.SetsockoptInt(fd, unix.SOL_TLS, option, value)
}

// SetKernelMaxPlaintext caps what the kernel puts into one record, in bytes.
func SetKernelMaxPlaintext(fd, n int) error {
	var value [2]byte
	binary.NativeEndian.PutUint16(value[:], uint16(n))
	return kernelError(fmt.Sprintf("setsockopt TLS_TX_MAX_PAYLOAD_LEN %d", n),
		unix.SetsockoptString(fd, unix.SOL_TLS, tlsTXMaxPayload, string(value[:])))
}

const (
	infoHeader    = 4
	seqSize       = 8
	maxInfoSize   = infoHeader + ivSize + maxKeySize + seqSize
	wordSize      = 4
	infoWordPairs = maxInfoSize / (2 * wordSize)
)

// cryptoInfo fills in the struct tls12_crypto_info_* of linux/tls.h and answers
// its size: version, cipher, IV, key, salt, number of the next record.
func cryptoInfo(out *[maxInfoSize]byte, t *Traffic, seq, explicit uint64) int {
	binary.NativeEndian.PutUint16(out[0:], uint16(t.suite.Version))
	binary.NativeEndian.PutUint16(out[2:], kernelCipher[t.suite.Cipher])
	at := infoHeader
	put := func(p []byte) { at += copy(out[at:], p) }
	key := t.key[:t.suite.Cipher.KeySize()]
	switch {
	case !t.suite.Cipher.gcm():
		put(t.iv[:])
		put(key)
	case t.suite.Version == TLS12:
		binary.BigEndian.PutUint64(out[at:], explicit)
		at += explicitSize
		put(key)
		put(t.iv[:saltSize])
	default:
		put(t.iv[saltSize:])
		put(key)
		put(t.iv[:saltSize])
	}
	binary.BigEndian.PutUint64(out[at:], seq)
	return at + seqSize
}

// setCryptoInfo gives a direction to the kernel. The struct goes as pairs of
// words: SetsockoptCanRawFilter is the one setsockopt of x/sys that copies
// nothing and takes any size, so the key is wiped from all memory it was in.
func setCryptoInfo(fd, option int, t *Traffic, seq, explicit uint64) error {
	var info [maxInfoSize]byte
	n := cryptoInfo(&info, t, seq, explicit)
	var words [infoWordPairs]unix.CanFilter
	for i := range words {
		words[i].Id = binary.NativeEndian.Uint32(info[2*wordSize*i:])
		words[i].Mask = binary.NativeEndian.Uint32(info[2*wordSize*i+wordSize:])
	}
	err := unix.SetsockoptCanRawFilter(fd, unix.SOL_TLS, option, words[:n/(2*wordSize)])
	clear(info[:])
	clear(words[:])
	if option == tlsTX {
		return kernelError("setsockopt TLS_TX", err)
	}
	return kernelError("setsockopt TLS_RX", err)
}

// KernelReadError turns what receiving from the kernel's TLS answers into the
// *RecordError whose alert is to be sent, if the peer is to blame.
func KernelReadError(err error) error {
	switch {
	case errors.Is(err, unix.EBADMSG):
		return &RecordError{AlertBadRecordMAC, "a record is not authentic"}
	case errors.Is(err, unix.EMSGSIZE):
		return &RecordError{AlertRecordOverflow, "a record is too long"}
	case errors.Is(err, unix.EINVAL):
		return &RecordError{AlertProtocolVersion, "a record of another version"}
	}
	return err
}
