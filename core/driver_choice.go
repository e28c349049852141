package core

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"kloop/uring"
)

// DriverName says which driver is wanted.
type DriverName string

const (
	// DriverAuto is io_uring where it is there and quick, else epoll.
	DriverAuto    DriverName = "auto"
	DriverIOUring DriverName = "io_uring"
	DriverEpoll   DriverName = "epoll"
)

// driverVariable is looked at where a program doesn't say what it wants.
const driverVariable = "KLOOP_DRIVER"

// DriverOptions say how to make a driver. The zero value is the default.
type DriverOptions struct {
	Name  DriverName // "": what KLOOP_DRIVER says, or else DriverAuto
	Uring UringOptions
	Epoll EpollOptions
}

// unavailable remembers for the process that it can't have io_uring, which a filter or a
// sysctl seldom takes back.
var unavailable struct {
	mu  sync.Mutex
	err error
}

// quickSince is the first kernel whose io_uring is quicker than epoll: it has all that
// UringDriver relies on, and DEFER_TASKRUN.
const quickSince = "6.1"

// NewDriver makes the driver that is wanted, and says in words why it is this one.
//
// DriverAuto takes epoll where the kernel has no io_uring, or refuses it to this process
// (EPERM, EACCES, ENOSYS, EINVAL, EOPNOTSUPP), or has one older than 6.1. Other errors, such as
// ENOMEM and EMFILE, are answered, and EINVAL where only these options are wrong. With DriverEpoll no system call of io_uring is made. An
// unknown name is answered with os.ErrInvalid.
func NewDriver(o DriverOptions) (driver Driver, reason string, err error) {
	from := "by the program"
	if o.Name == "" {
		if o.Name = DriverName(os.Getenv(driverVariable)); o.Name == "" {
			o.Name = DriverAuto
		}
		from = "by " + driverVariable
	}
	switch o.Name {
	case DriverAuto:
		return autoDriver(o)
	case DriverIOUring:
		ring, err := NewUringDriver(o.Uring)
		if err != nil {
			return nil, "", err
		}
		return ring, "io_uring was asked for " + from, nil
	case DriverEpoll:
		if o.Uring.SQPoll {
			return nil, "", fmt.Errorf("kloop: SQPOLL is io_uring's, and driver epoll was asked for %s: %w", from, os.ErrInvalid)
		}
		set, err := NewEpollDriver(o.Epoll)
		if err != nil {
			return nil, "", err
		}
		return set, "epoll was asked for " + from, nil
	}
	return nil, "", fmt.Errorf("kloop: there is no driver %q: use auto, io_uring or epoll: %w", string(o.Name), os.ErrInvalid)
}

func autoDriver(o DriverOptions) (Driver, string, error) {
	unavailable.mu.Lock()
	refused := unavailable.err
	unavailable.mu.Unlock()
	if refused == nil {
		ring, err := quickUring(o.Uring)
		if err == nil {
			return ring, "the kernel has io_uring and lets this process use it", nil
		}
		if !choosesEpoll(err, uring.Available) {
			return nil, "", err
		}
		refused = err
		unavailable.mu.Lock()
		unavailable.err = err
		unavailable.mu.Unlock()
	}
	set, err := NewEpollDriver(o.Epoll)
	if err != nil {
		return nil, "", err
	}
	reason := refused.Error()
	if o.Uring.SQPoll {
		reason += "; so there is no SQPOLL either"
	}
	return set, reason, nil
}

// quickUring is NewUringDriver that takes no ring without DEFER_TASKRUN, which excludes SQPOLL;
// for that the feature's probe makes a ring of its own.
func quickUring(o UringOptions) (*UringDriver, error) {
	ring, err := NewUringDriver(o)
	if err != nil {
		return nil, err
	}
	// A filter may let a ring be made and not be entered: EBADFD says that this one is not
	// enabled yet.
	if _, err := ring.Ring().Enter(0, 0, 0); err == syscall.EPERM || err == syscall.ENOSYS {
		refused := &uring.UnavailableError{
			Errno: err.(syscall.Errno), Cause: "io_uring_enter is blocked by a seccomp filter",
			Remedy: "use a profile that allows io_uring_setup, io_uring_enter and io_uring_register",
		}
		if err := ring.Close(); err != nil {
			return nil, err
		}
		return nil, refused
	}
	quick := ring.Ring().Flags()&uring.IORING_SETUP_DEFER_TASKRUN != 0
	if o.SQPoll {
		quick = uring.FeatureDeferTaskrun.Supported()
	}
	if quick {
		return ring, nil
	}
	old := &uring.NotSupportedError{Name: "io_uring as quick as epoll", Since: quickSince}
	if err := ring.Close(); err != nil {
		return nil, err
	}
	return nil, old
}

// choosesEpoll says whether an error means that this process can't have io_uring, and
// not that something has run out. EINVAL means that only if available, which makes the smallest
// ring there is, can't either: else the options are wrong.
func choosesEpoll(err error, available func() error) bool {
	if errors.Is(err, uring.ErrNotSupported) {
		return true
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case syscall.EPERM, syscall.EACCES, syscall.ENOSYS, syscall.EOPNOTSUPP:
		return true
	case syscall.EINVAL:
		return available() != nil
	}
	return false
}
