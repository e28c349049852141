package core

import (
	"errors"
	"syscall"
)

// Errors of this package that carry no errno.
var (
	// ErrCanceled is the outcome of a connect that was cancelled.
	ErrCanceled = errors.New("kloop: operation canceled")
	// ErrClosed is answered by operations on a closed engine, loop or connection.
	ErrClosed = errors.New("kloop: closed")
	// ErrTooMany means that the table of objects is full.
	ErrTooMany = errors.New("kloop: too many open objects")
)

// errUnknownProgress ends a connection whose send was lost with its ring.
const errUnknownProgress = syscall.ECONNABORTED

// OpError says which direction of a connection failed, and how.
type OpError struct {
	Op  string // "read" or "write"
	Err syscall.Errno
}

// Error implements error.
func (e *OpError) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap answers the errno, for errors.Is.
func (e *OpError) Unwrap() error { return e.Err }

// Timeout says whether the kernel gave up waiting for the peer.
func (e *OpError) Timeout() bool { return e.Err.Timeout() }
