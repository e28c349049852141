package uring

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const filtered = "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name           string
		sysctl, status string
		words          []string
	}{
		{"sysctl for all", "2\n", filtered, []string{"all processes", "io_uring_disabled=2", "sysctl kernel.io_uring_disabled=0"}},
		{"sysctl for some", "1\n", "Seccomp:\t0\n", []string{"unprivileged", "io_uring_disabled=1", "io_uring_group"}},
		{"either", "1\n", filtered, []string{"io_uring_disabled=1", "seccomp"}},
		{"seccomp", "0\n", filtered, []string{"seccomp filter", "Docker", "profile that allows io_uring_setup"}},
		{"seccomp, no sysctl", "", filtered, []string{"seccomp filter"}},
		{"neither", "0\n", "Seccomp:\t0\n", []string{"security policy"}},
		{"nothing readable", "", "", []string{"security policy"}},
	} {
		err := refused(unix.EPERM, c.sysctl, c.status)
		for _, word := range c.words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q does not mention %q", c.name, err, word)
			}
		}
		if err.Cause == "" || err.Remedy == "" {
			t.Errorf("%s: %+v", c.name, err)
		}
	}
}

func TestSetupErrors(t *testing.T) {
	for errno, c := range map[unix.Errno]struct {
		missing bool
		word    string
	}{
		unix.EPERM:      {true, "blocked"},
		unix.EACCES:     {true, "blocked"},
		unix.ENOSYS:     {true, "Linux 5.11"},
		unix.EOPNOTSUPP: {true, "Linux 5.11"},
		unix.ENOMEM:     {false, "RLIMIT_MEMLOCK"},
		unix.EMFILE:     {false, "RLIMIT_NOFILE"},
		unix.ENFILE:     {false, "RLIMIT_NOFILE"},
		unix.EINVAL:     {false, "options"},
		unix.EFAULT:     {false, "io_uring_setup"},
	} {
		err := setupError(errno)
		if !errors.Is(err, errno) || errors.Is(err, ErrNotSupported) != c.missing || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%v: %v", errno, err)
		}
	}
	if err := absent(unix.ENOSYS, filtered); !strings.Contains(err.Error(), "seccomp") {
		t.Errorf("ENOSYS behind a filter: %v", err)
	}
}

// TestSeccomp blocks io_uring_setup in a thread of its own, as container runtimes
// do, with either errno.
func TestSeccomp(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EPERM, unix.ENOSYS} {
		type result struct{ install, available, create error }
		var r result
		inLostThread(func() {
			if r.install = blockSetup(errno); r.install == nil {
				r.available = Available()
				_, r.create = New(anyCPU)
			}
		})
		check(t, r.install)
		for _, err := range []error{r.available, r.create} {
			var u *UnavailableError
			if !errors.As(err, &u) || u.Errno != errno || !strings.Contains(u.Cause, "seccomp filter") ||
				!errors.Is(err, ErrNotSupported) || !errors.Is(err, errno) {
				t.Errorf("%v: %v", errno, err)
			}
		}
	}
	check(t, Available()) // other threads are not touched
}

// inLostThread runs do in a thread that ends with it and is not the process's first,
// which /proc/self stands for.
func inLostThread(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		if unix.Gettid() == unix.Getpid() {
			inLostThread(do) // elsewhere, as this thread is taken
			runtime.UnlockOSThread()
			return
		}
		do()
	}()
	<-done
}

// blockSetup has io_uring_setup answer errno in the calling thread.
func blockSetup(errno unix.Errno) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_IO_URING_SETUP, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}

func TestNoFileDescriptor(t *testing.T) {
	var limit unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	low := limit
	low.Cur = 0
	check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	err := Available()
	_, createErr := New(anyCPU)
	check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	for _, err := range []error{err, createErr} {
		if !errors.Is(err, unix.EMFILE) || errors.Is(err, ErrNotSupported) {
			t.Errorf("%v, want EMFILE that is not ErrNotSupported", err)
		}
	}
}
