// Package tlsconn is for Go programs: connections whose handshake crypto/tls
// makes, with certificates, ALPN, tickets and all that a tls.Config says, and
// whose records package ktls protects, in Go or by the kernel. What can't be
// taken over stays with crypto/tls, and Offload says why.
//
// Connections of TLS 1.2 that resume a session are not taken over: crypto/tls
// writes no key log for them.
//
// It is apart from ktls so that programs that bring a handshake of their own
// need not link crypto/tls.
package tlsconn
