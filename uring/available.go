package uring

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Available reports whether this process can make a ring: nil, or the error of
// New with its cause and remedy. It makes and closes a small ring, each time.
func Available() error {
	p, fd, err := setup(kernelSetup, Options{Entries: 1}, 0) // flags that every kernel with io_uring knows
	if err != nil {
		return err
	}
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("uring: close: %w", err)
	}
	if missing := requiredFeature &^ p.features; missing != 0 {
		return &NotSupportedError{Name: "io_uring with waits that time out", Since: requiredSince}
	}
	return nil
}

// UnavailableError says why this process can't use io_uring at all and what
// would help. It matches ErrNotSupported.
type UnavailableError struct {
	Errno  unix.Errno // EPERM, ENOSYS, EACCES or EOPNOTSUPP
	Cause  string     // such as "blocked by a seccomp filter"
	Remedy string     // such as "run the container with ..."
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("uring: io_uring is not available: %s (%s): %s", e.Cause, e.Errno, e.Remedy)
}

// Unwrap answers the errno.
func (e *UnavailableError) Unwrap() error { return e.Errno }

// Is makes it match ErrNotSupported.
func (e *UnavailableError) Is(target error) bool { return target == ErrNotSupported }

// setupError explains an errno of io_uring_setup(2).
func setupError(errno unix.Errno) error {
	switch errno {
	case unix.EPERM, unix.EACCES:
		return refused(errno, readSmallFile(sysctlPath), readSmallFile(statusPath))
	case unix.ENOSYS, unix.EOPNOTSUPP:
		return absent(errno, readSmallFile(statusPath))
	case unix.ENOMEM:
		return fmt.Errorf("uring: no memory for a ring; before Linux 5.12 rings count against RLIMIT_MEMLOCK (ulimit -l): %w", errno)
	case unix.EMFILE, unix.ENFILE:
		return fmt.Errorf("uring: no file descriptor for a ring; raise RLIMIT_NOFILE (ulimit -n): %w", errno)
	case unix.EINVAL:
		return fmt.Errorf("uring: the kernel refuses these ring options: %w", errno)
	}
	return fmt.Errorf("uring: io_uring_setup: %w", errno)
}

const (
	sysctlPath = "/proc/sys/kernel/io_uring_disabled" // 6.6
	statusPath = "/proc/thread-self/status"           // seccomp filters are per thread

	seccompRemedy = "run the container with a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register"
)

// refused tells the three who may say no apart: the sysctl
// kernel.io_uring_disabled, whose text is sysctl, a seccomp filter, which
// status mentions, and else a security module.
func refused(errno unix.Errno, sysctl, status string) *UnavailableError {
	e := &UnavailableError{Errno: errno}
	value, _ := strconv.Atoi(strings.TrimSpace(sysctl)) // no such file: 0
	switch {
	case value >= 2:
		e.Cause = fmt.Sprintf("disabled for all processes by kernel.io_uring_disabled=%d", value)
		e.Remedy = "sysctl kernel.io_uring_disabled=0"
	case value == 1 && seccompFilters(status):
		e.Cause = "disabled for unprivileged processes by kernel.io_uring_disabled=1, or blocked by a seccomp filter"
		e.Remedy = "sysctl kernel.io_uring_disabled=0, and " + seccompRemedy
	case value == 1:
		e.Cause = "disabled for unprivileged processes by kernel.io_uring_disabled=1"
		e.Remedy = "sysctl kernel.io_uring_disabled=0, or put the user into the group of kernel.io_uring_group"
	case seccompFilters(status):
		e.Cause = "blocked by a seccomp filter, as in the default profiles of Docker, Podman and Kubernetes"
		e.Remedy = seccompRemedy
	default:
		e.Cause = "blocked by the system's security policy"
		e.Remedy = "allow this process to use io_uring (SELinux: io_uring permissions of its domain)"
	}
	return e
}

// absent explains ENOSYS: there is no such system call, or a filter pretends so.
func absent(errno unix.Errno, status string) *UnavailableError {
	e := &UnavailableError{
		Errno:  errno,
		Cause:  "the kernel has no io_uring",
		Remedy: "use Linux " + requiredSince + " or newer built with CONFIG_IO_URING, outside of sandboxes that replace the kernel",
	}
	if seccompFilters(status) {
		e.Cause += ", or a seccomp filter hides it"
		e.Remedy += "; " + seccompRemedy
	}
	return e
}

// seccompFilters reports whether /proc/self/status says "Seccomp: 2".
func seccompFilters(status string) bool {
	for line := range strings.Lines(status) {
		if mode, ok := strings.CutPrefix(line, "Seccomp:"); ok {
			return strings.TrimSpace(mode) == "2"
		}
	}
	return false
}

// readSmallFile answers the first 4 KiB of a file, or nothing when it can't be
// read. It bypasses package os, which would open an epoll instance for it.
func readSmallFile(path string) string {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	var buf [4096]byte
	n, err := unix.Read(fd, buf[:])
	if closeErr := unix.Close(fd); errors.Join(err, closeErr) != nil {
		return ""
	}
	return string(buf[:n])
}
