// Package ktls turns TLS traffic secrets into keys, and protects records with
// them: in Go, without allocating, or by the kernel's TLS. It takes over
// connections whose handshake something else has made, such as OpenSSL or
// crypto/tls, from what that writes to its NSS key log. TLS 1.2 and 1.3, AES-GCM
// and ChaCha20-Poly1305.
//
// It makes no handshakes and no system calls but those of the kernel's TLS. It
// acts on file descriptors given to it and owns none.
//
//   - Watch follows a handshake, Secrets holds the key log's lines of it, and
//     TakeOver makes of both a Sealer and an Opener.
//   - Sealer and Opener are one direction each.
//   - Control tells what received alerts and handshake messages ask for.
//
// Errors are typed: *RecordError names the alert to send, *PeerAlertError is one
// that came, *UnsupportedError says why a connection is not taken over, and
// *UseError is the caller's fault.
package ktls
