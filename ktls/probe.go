package ktls

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What kernels differ in. Each is probed by doing it on a connection of its own,
// over loopback.
var (
	FeatureULP = &Feature{Name: `TCP_ULP "tls"`, Since: "4.13", probe: func() error {
		return withConnection(EnableKernel)
	}}
	// FeatureRekey: a key can be replaced, which TLS 1.3 needs for KeyUpdate.
	FeatureRekey = &Feature{Name: "rekey", Since: "6.14", probe: func() error { return probeOption(TLS13, true, rekey) }}
	// FeatureZeroCopy: sendfile through a NIC that encrypts does not copy.
	FeatureZeroCopy = &Feature{Name: "TLS_TX_ZEROCOPY_RO", Since: "5.19", probe: func() error {
		return probeOption(TLS12, true, func(fd int, _ *Suite) error { return SetZeroCopy(fd, true) })
	}}
	// FeatureExpectNoPad: TLS 1.3 records are decrypted straight into the reader's memory.
	FeatureExpectNoPad = &Feature{Name: "TLS_RX_EXPECT_NO_PAD", Since: "6.0", probe: func() error {
		return probeOption(TLS13, false, func(fd int, _ *Suite) error { return SetExpectNoPad(fd, true) })
	}}
	// FeatureMaxPayload: records can be kept shorter than 16 KiB.
	FeatureMaxPayload = &Feature{Name: "TLS_TX_MAX_PAYLOAD_LEN", Since: "6.19", probe: func() error {
		return probeOption(TLS12, true, func(fd int, _ *Suite) error { return SetKernelMaxPlaintext(fd, 512) })
	}}

	kernelCiphers = cipherFeatures()
)

// cipherKey finds a feature of kernelCiphers.
type cipherKey struct {
	version Version
	cipher  Cipher
	tx      bool
}

// cipherSince has the kernels that had each cipher first, for sending TLS 1.2.
// Receiving came with 4.17, TLS 1.3 with 5.1.
var cipherSince = map[Cipher]string{AES128GCM: "4.13", AES256GCM: "5.1", ChaCha20Poly1305: "5.11"}

func cipherFeatures() map[cipherKey]*Feature {
	features := map[cipherKey]*Feature{}
	for _, v := range []Version{TLS12, TLS13} {
		for c, since := range cipherSince {
			for _, tx := range []bool{true, false} {
				direction := "sending"
				if !tx {
					direction = "receiving"
				}
				switch {
				case c == AES128GCM && v == TLS13:
					since = "5.1"
				case c == AES128GCM && !tx:
					since = "4.17"
				}
				features[cipherKey{v, c, tx}] = &Feature{Name: fmt.Sprintf("%s %s by %s", direction, v, c), Since: since,
					probe: func() error { return probeCipher(v, c, tx, nil) }}
			}
		}
	}
	return features
}

// FeatureOf answers the feature that a direction of a suite needs. With
// FeatureRekey it is all that TLS 1.3 needs.
func FeatureOf(s *Suite, tx bool) *Feature { return kernelCiphers[cipherKey{s.Version, s.Cipher, tx}] }

// AllFeatures answers every feature.
func AllFeatures() []*Feature {
	list := []*Feature{FeatureULP}
	for _, v := range []Version{TLS12, TLS13} {
		for _, c := range []Cipher{AES128GCM, AES256GCM, ChaCha20Poly1305} {
			list = append(list, kernelCiphers[cipherKey{v, c, true}], kernelCiphers[cipherKey{v, c, false}])
		}
	}
	return append(list, FeatureZeroCopy, FeatureExpectNoPad, FeatureRekey, FeatureMaxPayload)
}

// refused reports whether an error is how kernels refuse what they do not know,
// have been built without, or do not allow.
func refused(err error) bool {
	for _, errno := range []error{unix.EINVAL, unix.EOPNOTSUPP, unix.ENOTSUP, unix.ENOPROTOOPT, unix.ENOENT, unix.ENOSYS,
		unix.EBUSY, unix.EPERM, unix.EACCES} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// probeOption tries something on a connection whose one direction has a key.
func probeOption(v Version, tx bool, do func(fd int, s *Suite) error) error {
	return probeCipher(v, AES128GCM, tx, do)
}

// probeCipher gives one direction of a connection to the kernel, with a key of
// zeros, and then calls do.
func probeCipher(v Version, c Cipher, tx bool, do func(fd int, s *Suite) error) error {
	suite := &Suite{Version: v, Cipher: c}
	return withConnection(func(fd int) error {
		if err := EnableKernel(fd); err != nil {
			return err
		}
		option := tlsRX
		if tx {
			option = tlsTX
		}
		if err := setCryptoInfo(fd, option, &Traffic{suite: suite}, 0, 0); err != nil {
			return err
		}
		if do == nil {
			return nil
		}
		return do(fd, suite)
	})
}

func rekey(fd int, s *Suite) error {
	return setCryptoInfo(fd, tlsTX, &Traffic{suite: s, key: [maxKeySize]byte{1}}, 0, 0)
}

// withConnection calls do with one end of a connection over loopback.
func withConnection(do func(fd int) error) error {
	const flags = unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	listener, err := unix.Socket(unix.AF_INET, flags, 0)
	if err != nil {
		return fmt.Errorf("ktls: probe: socket: %w", err)
	}
	defer unix.Close(listener)
	fd, err := unix.Socket(unix.AF_INET, flags, 0)
	if err != nil {
		return fmt.Errorf("ktls: probe: socket: %w", err)
	}
	defer unix.Close(fd)
	loopback := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := unix.Bind(listener, loopback); err != nil {
		return probeFailed("bind", err)
	}
	if err := unix.Listen(listener, 1); err != nil {
		return probeFailed("listen", err)
	}
	address, err := unix.Getsockname(listener)
	if err != nil {
		return probeFailed("getsockname", err)
	}
	if err := unix.Connect(fd, address); err != nil {
		return probeFailed("connect", err)
	}
	return do(fd)
}

// probeFailed makes an error that says nothing about a feature, whatever the errno.
func probeFailed(what string, err error) error {
	return fmt.Errorf("ktls: probe: %s over loopback: %s", what, err.Error())
}
