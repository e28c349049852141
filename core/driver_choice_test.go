package core

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"kloop/uring"
)

func TestDriverChoice(t *testing.T) {
	for _, c := range []struct {
		variable string
		asked    DriverName
		want     string
		reason   string
	}{
		{"", "", "io_uring", "the kernel has io_uring"},
		{"", DriverAuto, "io_uring", "the kernel has io_uring"},
		{"auto", "", "io_uring", "the kernel has io_uring"},
		{"epoll", "", "epoll", "by KLOOP_DRIVER"},
		{"io_uring", "", "io_uring", "by KLOOP_DRIVER"},
		{"epoll", DriverIOUring, "io_uring", "by the program"},
		{"io_uring", DriverEpoll, "epoll", "by the program"},
	} {
		t.Run(fmt.Sprintf("%s=%s, %q", driverVariable, c.variable, c.asked), func(t *testing.T) {
			t.Setenv(driverVariable, c.variable)
			driver, reason, err := NewDriver(DriverOptions{Name: c.asked})
			if err != nil {
				t.Fatal(err)
			}
			if driver.Name() != c.want || !strings.Contains(reason, c.reason) {
				t.Errorf("%s: %s", driver.Name(), reason)
			}
			if err := driver.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDriversThatAreNone(t *testing.T) {
	for _, o := range []DriverOptions{
		{Name: "kqueue"},
		{Name: DriverEpoll, Uring: UringOptions{SQPoll: true}},
	} {
		if _, _, err := NewDriver(o); !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestWrongOptionsOfARing are no reason for epoll, nor to be remembered.
func TestWrongOptionsOfARing(t *testing.T) {
	if _, _, err := NewDriver(DriverOptions{Name: DriverAuto, Uring: UringOptions{Buffers: 3}}); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	if unavailable.err != nil {
		t.Error(unavailable.err)
	}
}

func TestFallbackIsRemembered(t *testing.T) {
	t.Cleanup(func() { unavailable.err = nil })
	unavailable.err = &uring.UnavailableError{Errno: syscall.EPERM, Cause: "the cause", Remedy: "the remedy"}
	driver, reason, err := NewDriver(DriverOptions{Name: DriverAuto, Uring: UringOptions{SQPoll: true}})
	if err != nil {
		t.Fatal(err)
	}
	if driver.Name() != "epoll" || !strings.Contains(reason, "the cause") || !strings.Contains(reason, "SQPOLL") {
		t.Errorf("%s: %s", driver.Name(), reason)
	}
	if err := driver.Close(); err != nil {
		t.Error(err)
	}
}

func TestErrorsThatChooseEpoll(t *testing.T) {
	nothing := func() error { return syscall.EINVAL }
	something := func() error { return nil }
	for _, err := range []error{
		syscall.EPERM, syscall.EACCES, syscall.ENOSYS, syscall.EINVAL, syscall.EOPNOTSUPP,
		&uring.NotSupportedError{Name: "a ring"},
	} {
		if !choosesEpoll(fmt.Errorf("making a ring: %w", err), nothing) {
			t.Errorf("%v does not", err)
		}
	}
	for _, err := range []error{
		syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.EAGAIN, syscall.EINVAL, errors.New("another"),
	} {
		if choosesEpoll(fmt.Errorf("making a ring: %w", err), something) {
			t.Errorf("%v does", err)
		}
	}
}
