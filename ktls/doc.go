// Package ktls will turn TLS traffic secrets into keys and hand records to
// the kernel's TLS or to a Go record layer. It acts on file descriptors given
// to it and owns none. It holds no code yet.
package ktls
