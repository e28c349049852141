package ktls

import (
	"errors"
	"fmt"
)

// Alert is a TLS alert description, RFC 8446 section 6.
type Alert uint8

// The alerts that this package sends or acts on.
const (
	AlertCloseNotify       Alert = 0
	AlertUnexpectedMessage Alert = 10
	AlertBadRecordMAC      Alert = 20
	AlertRecordOverflow    Alert = 22
	AlertHandshakeFailure  Alert = 40
	AlertIllegalParameter  Alert = 47
	AlertDecodeError       Alert = 50
	AlertProtocolVersion   Alert = 70
	AlertInternalError     Alert = 80
	AlertUserCanceled      Alert = 90
	AlertNoRenegotiation   Alert = 100
)

var alertNames = map[Alert]string{
	0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 21: "decryption_failed", 22: "record_overflow",
	30: "decompression_failure", 40: "handshake_failure", 41: "no_certificate", 42: "bad_certificate",
	43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired", 46: "certificate_unknown",
	47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error", 51: "decrypt_error",
	60: "export_restriction", 70: "protocol_version", 71: "insufficient_security", 80: "internal_error",
	86: "inappropriate_fallback", 90: "user_canceled", 100: "no_renegotiation", 109: "missing_extension",
	110: "unsupported_extension", 111: "certificate_unobtainable", 112: "unrecognized_name",
	113: "bad_certificate_status_response", 114: "bad_certificate_hash_value", 115: "unknown_psk_identity",
	116: "certificate_required", 120: "no_application_protocol", 121: "ech_required",
}

// String answers the name that the RFCs give it.
func (a Alert) String() string {
	if s, ok := alertNames[a]; ok {
		return s
	}
	return fmt.Sprintf("alert(%d)", uint8(a))
}

// Levels of alerts. TLS 1.3 ignores them, RFC 8446 section 6.
const (
	alertWarning = 1
	alertFatal   = 2
	alertSize    = 2
)

// Content answers the two bytes of an alert record: close_notify, user_canceled
// and no_renegotiation are warnings, all others are fatal.
func (a Alert) Content() [alertSize]byte {
	switch a {
	case AlertCloseNotify, AlertUserCanceled, AlertNoRenegotiation:
		return [alertSize]byte{alertWarning, byte(a)}
	}
	return [alertSize]byte{alertFatal, byte(a)}
}

// RecordError says that what the peer sent breaks the protocol. Its alert is to
// be sent, and the connection is then of no use.
type RecordError struct {
	Alert  Alert
	Reason string
}

func (e *RecordError) Error() string { return "tls: " + e.Reason + " (" + e.Alert.String() + ")" }

// PeerAlertError says that the peer ended the connection with an alert.
type PeerAlertError struct{ Alert Alert }

func (e *PeerAlertError) Error() string { return "tls: the peer sent alert " + e.Alert.String() }

// UseError says that the caller asked for what can't be done: a record that is
// too long, a buffer that is too small, a key that has been used up.
type UseError struct{ Reason string }

func (e *UseError) Error() string { return "ktls: " + e.Reason }

// UnsupportedError says why records of a connection can't be taken over. The
// handshake's own implementation goes on with them.
type UnsupportedError struct{ Reason string }

func (e *UnsupportedError) Error() string { return "ktls: no take-over: " + e.Reason }

// Reason is an error's text for people who know what it is about: why there is no take-over,
// without saying that there is none.
func Reason(err error) string {
	var unsupported *UnsupportedError
	if errors.As(err, &unsupported) {
		return unsupported.Reason
	}
	return err.Error()
}

func unsupported(format string, args ...any) error {
	return &UnsupportedError{Reason: fmt.Sprintf(format, args...)}
}
