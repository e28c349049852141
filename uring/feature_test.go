package uring

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestProbes finds every feature, unless the kernel is older than it.
func TestProbes(t *testing.T) {
	for _, f := range AllFeatures() {
		err := Have(f)
		if older := kernelBefore(t, f.Since); older && err == nil {
			t.Logf("%s: there before %s", f, f.Since)
		} else if !older && err != nil {
			t.Errorf("%s: %v", f, err)
		}
		if (err == nil) != f.Supported() {
			t.Errorf("%s: Have says %v, Supported %v", f, err, f.Supported())
		}
	}
}

// kernelBefore reports whether the running kernel is older than since.
func kernelBefore(t *testing.T, since string) bool {
	t.Helper()
	var u unix.Utsname
	check(t, unix.Uname(&u))
	return versionLess(unix.ByteSliceToString(u.Release[:]), since)
}

func versionLess(a, b string) bool {
	for range 2 {
		na, ra := leadingNumber(a)
		nb, rb := leadingNumber(b)
		if na != nb {
			return na < nb
		}
		a, b = ra, rb
	}
	return false
}

func leadingNumber(s string) (n int, rest string) {
	i := 0
	for ; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
		n = n*10 + int(s[i]-'0')
	}
	return n, strings.TrimPrefix(s[i:], ".")
}

func TestVersionLess(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"5.15.0-91-generic", "6.0", true}, {"6.1.0", "6.1", false}, {"6.6.12", "6.12", true}, {"6.18.44-fc", "6.12", false}} {
		if got := versionLess(c.a, c.b); got != c.want {
			t.Errorf("%s before %s: %v", c.a, c.b, got)
		}
	}
}

func TestHaveKeepsOnlyWhatIsCertain(t *testing.T) {
	calls := 0
	answers := []error{unix.EMFILE, unix.ENOMEM, nil}
	f := &Feature{Name: "x", Since: "9.9", probe: func(*Feature) error { calls++; return answers[calls-1] }}
	for i, want := range []error{unix.EMFILE, unix.ENOMEM, nil, nil} {
		if err := Have(f); err != want {
			t.Errorf("call %d: %v, want %v", i, err, want)
		}
	}
	if calls != 3 {
		t.Errorf("probed %d times, want 3", calls)
	}
	calls = 0
	f = &Feature{Name: "frobnication", Since: "9.9", probe: func(f *Feature) error { calls++; return f.notSupported(unix.EINVAL) }}
	for range 2 {
		err := Have(f)
		if !errors.Is(err, ErrNotSupported) || !errors.Is(err, unix.EINVAL) ||
			!strings.Contains(err.Error(), "frobnication") || !strings.Contains(err.Error(), "9.9") {
			t.Errorf("not supported: %v", err)
		}
	}
	if calls != 1 {
		t.Errorf("probed %d times, want 1", calls)
	}
}

func TestJudge(t *testing.T) {
	f := &Feature{Name: "x", Since: "9.9"}
	for name, c := range map[string]struct {
		cqe     *CQE
		flags   uint32
		missing bool
		errno   error
	}{
		"no completion":     {nil, 0, true, nil},
		"refused":           {&CQE{Res: -int32(unix.EINVAL)}, 0, true, unix.EINVAL},
		"without the flag":  {&CQE{Res: 1}, IORING_CQE_F_MORE, true, nil},
		"another error":     {&CQE{Res: -int32(unix.ENOMEM)}, 0, false, unix.ENOMEM},
		"done":              {&CQE{Res: 1}, 0, false, nil},
		"done as it should": {&CQE{Res: 1, Flags: IORING_CQE_F_MORE}, IORING_CQE_F_MORE, false, nil},
	} {
		err := judge(f, c.cqe, c.flags)
		if errors.Is(err, ErrNotSupported) != c.missing || (c.errno != nil && !errors.Is(err, c.errno)) ||
			(c.errno == nil && !c.missing && err != nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
