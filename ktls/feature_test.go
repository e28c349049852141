package ktls

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inGuest reports whether this runs on the guest kernel, which has everything.
func inGuest() bool { return os.Getenv("GUEST_RUN") != "" }

// TestProbes: in the guest every feature is found; elsewhere a feature is there
// or is said to be missing, and no probe fails for another reason.
func TestProbes(t *testing.T) {
	for _, f := range AllFeatures() {
		err := Have(f)
		t.Logf("%s: %v", f, err)
		if err != nil && (inGuest() || !errors.Is(err, ErrNotSupported)) {
			t.Errorf("%s: %v", f, err)
		}
		if err != nil && (!strings.Contains(err.Error(), f.Name) || !strings.Contains(err.Error(), f.Since)) {
			t.Errorf("%v does not name %s and %s", err, f.Name, f.Since)
		}
		if (err == nil) != f.Supported() {
			t.Errorf("%s: Have says %v, Supported %v", f, err, f.Supported())
		}
	}
	for _, s := range distinctSuites() {
		for _, tx := range []bool{true, false} {
			if FeatureOf(s, tx) == nil {
				t.Errorf("%s has no feature", s.Name)
			}
		}
	}
}

func TestHaveKeepsOnlyWhatIsCertain(t *testing.T) {
	calls := 0
	answers := []error{unix.EMFILE, unix.ENOMEM, nil}
	f := &Feature{Name: "x", Since: "9.9", probe: func() error { calls++; return answers[calls-1] }}
	for i, want := range []error{unix.EMFILE, unix.ENOMEM, nil, nil} {
		if err := Have(f); err != want {
			t.Errorf("call %d: %v, want %v", i, err, want)
		}
	}
	if calls != 3 {
		t.Errorf("probed %d times, want 3", calls)
	}
	calls = 0
	f = &Feature{Name: "frobnication", Since: "9.9", probe: func() error { calls++; return kernelError("op", unix.ENOPROTOOPT) }}
	for range 2 {
		if err := Have(f); !errors.Is(err, ErrNotSupported) || !errors.Is(err, unix.ENOPROTOOPT) {
			t.Errorf("not supported: %v", err)
		}
	}
	if calls != 1 {
		t.Errorf("probed %d times, want 1", calls)
	}
}

// TestProbesLeaveNothing: no fd stays open.
func TestProbesLeaveNothing(t *testing.T) {
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		check(t, err)
		return len(list)
	}
	before := count()
	for _, f := range AllFeatures() {
		_ = f.probe()
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}
