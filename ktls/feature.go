package ktls

import (
	"errors"
	"fmt"
	"sync"
)

// ErrNotSupported is matched, by errors.Is, by every error that says that the
// kernel lacks something or does not let this process use it.
var ErrNotSupported = errors.New("not supported by the kernel")

// NotSupportedError says which feature is missing and which kernel has it first.
// It matches ErrNotSupported.
type NotSupportedError struct {
	Name  string // what is missing
	Since string // first kernel that has it, such as "6.14"
	Err   error  // how the kernel refused
}

func (e *NotSupportedError) Error() string {
	return fmt.Sprintf("ktls: %s is not supported (requires Linux %s): %v", e.Name, e.Since, e.Err)
}

// Unwrap answers how the kernel refused.
func (e *NotSupportedError) Unwrap() error { return e.Err }

// Is makes it match ErrNotSupported.
func (e *NotSupportedError) Is(target error) bool { return target == ErrNotSupported }

// Feature is something that only some kernels can do, with a probe that tries
// it. Versions are for people: distributions backport and disable, so only the
// probe decides.
type Feature struct {
	Name  string // such as "rekey"
	Since string // first kernel of kernel.org that has it, such as "6.14"

	// probe answers nil, the errno by which the kernel refuses, or an error that
	// says nothing about the feature (no memory, no fd).
	probe func() error

	mu    sync.Mutex
	known bool
	err   error
}

// Have reports whether the running kernel has f: nil, an error that matches
// ErrNotSupported and names the feature and its first kernel, or the error that
// kept the probe from finding out. The first two are kept, the last is not.
func Have(f *Feature) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known {
		return f.err
	}
	err := f.probe()
	if refused(err) {
		err = &NotSupportedError{Name: f.Name, Since: f.Since, Err: err}
	}
	f.known = err == nil || errors.Is(err, ErrNotSupported)
	f.err = err
	return err
}

// Supported is Have for callers that fall back to something else.
func (f *Feature) Supported() bool { return Have(f) == nil }

func (f *Feature) String() string { return f.Name }
