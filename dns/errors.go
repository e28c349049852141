package dns

import (
	"errors"
	"fmt"
	"runtime/debug"

	wire "github.com/miekg/dns"
)

// Kinds of failure, for errors.Is on what a Resolver answers.
var (
	// ErrNotFound: the name does not exist (NXDOMAIN, RFC 1035 section 4.1.1).
	ErrNotFound = errors.New("no such name")
	// ErrNoData: the name exists, but has no record of the type (RFC 2308 section 2.2).
	ErrNoData = errors.New("no record of this type")
	// ErrServer: every server answered with a failure (SERVFAIL, REFUSED and the like).
	ErrServer = errors.New("the servers failed")
	// ErrTimeout: no server answered in time.
	ErrTimeout = errors.New("no answer in time")
	// ErrName: the name can't be a domain name (RFC 1035 section 2.3.4).
	ErrName = errors.New("not a domain name")
	// ErrBusy: more lookups wait than Config.Queue allows.
	ErrBusy = errors.New("too many lookups")
	// ErrLoop: the name's CNAME records lead in a circle, or too far.
	ErrLoop = errors.New("CNAME loop")
	// ErrClosed: the resolver is closed.
	ErrClosed = errors.New("resolver closed")
	// ErrAskLibc: libc knows sources of names that this package is not.
	ErrAskLibc = errors.New("libc must be asked")
	// ErrInternal: the resolver has met an error of its own; the text has the trace.
	ErrInternal = errors.New("an error in the resolver, please report it")
)

// contained makes an error of a panic, in each of the package's goroutines: the process is not
// the resolver's to end.
func contained[T any](f func() (T, error)) (result T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v\n%s", ErrInternal, p, debug.Stack())
		}
	}()
	return f()
}

// Error says which lookup failed, and how.
type Error struct {
	Name string
	Type uint16 // 0: several
	Err  error  // one of the kinds above, perhaps wrapped, or a context's error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Type == 0 {
		return fmt.Sprintf("dns: %s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("dns: %s %s: %v", e.Name, wire.Type(e.Type), e.Err)
}

// Unwrap answers the kind.
func (e *Error) Unwrap() error { return e.Err }

// Timeout says whether time ran out, as net.Error's.
func (e *Error) Timeout() bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(e.Err, ErrTimeout) || errors.As(e.Err, &timeout) && timeout.Timeout()
}

// Temporary says whether the lookup may succeed later, as net.Error's.
func (e *Error) Temporary() bool {
	return e.Timeout() || errors.Is(e.Err, ErrServer) || errors.Is(e.Err, ErrBusy)
}
