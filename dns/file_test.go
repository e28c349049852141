package dns

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kloop/core"
)

// hostsFIFO is a hosts file that is read only once the test writes it.
func hostsFIFO(t *testing.T) (path string, write func(text string)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "hosts")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// start looks a host up as the bridge does. known: AtOnce answers.
func (r *Resolver) start(host string) (answer <-chan string, known bool) {
	told := make(chan string, 1)
	work := NewLookup(r, func(ctx context.Context) string {
		ips, err := r.LookupIP(ctx, host)
		return fmt.Sprint(ips, err)
	})
	if found, known := work.AtOnce(); known {
		told <- found
		return told, true
	}
	work.Start(func(found string) { told <- found })
	return told, false
}

func wantTold(t *testing.T, told <-chan string, want string) {
	t.Helper()
	select {
	case got := <-told:
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	case <-time.After(patience):
		t.Fatal("no answer")
	}
}

// operationsOf counts the operations on files that the background loop has under way.
func operationsOf(t *testing.T) uint64 {
	t.Helper()
	loop, err := core.Background()
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan uint64)
	loop.Post(func() { told <- loop.Engine().Stats().Operations })
	return <-told
}

// A file is read by operations of the background loop, for which nobody waits but the lookups that need the file.
func TestFilesAreReadByTheLoop(t *testing.T) {
	path, write := hostsFIFO(t)
	r := resolverOf(t, func(c *Config) { c.Hosts = path }, zone{}.serve(t))
	told, known := r.start("own")
	if known {
		t.Fatal("known at once, and yet not read")
	}
	for end := time.Now().Add(patience); operationsOf(t) == 0; {
		if time.Now().After(end) {
			t.Fatal("no operation of the loop reads it")
		}
	}
	if number, known := r.start("192.0.2.1"); !known {
		t.Error("a number waits for a file")
	} else {
		wantTold(t, number, "[192.0.2.1] <nil>")
	}
	write("10.0.0.1 own\n")
	wantTold(t, told, "[10.0.0.1] <nil>")
	if again, known := r.start("own"); !known {
		t.Error("not known at once, and yet read")
	} else {
		wantTold(t, again, "[10.0.0.1] <nil>")
	}
	for end := time.Now().Add(patience); operationsOf(t) != 0; {
		if time.Now().After(end) {
			t.Fatalf("%d operations are left", operationsOf(t))
		}
	}
}

// A change is noticed by the next lookup after a second, which waits for it; an unchanged file costs no waiting.
func TestAChangedFileIsReadByTheLoop(t *testing.T) {
	file := hostsOf(t, "10.0.0.1 own\n")
	r := resolverOf(t, func(c *Config) { c.Hosts = file }, zone{}.serve(t))
	told, _ := r.start("own")
	wantTold(t, told, "[10.0.0.1] <nil>")
	r.hosts.checked.Store(clock() - int64(checkEvery))
	told, known := r.start("own")
	if wantTold(t, told, "[10.0.0.1] <nil>"); !known {
		t.Error("waited for a file that has not changed")
	}
	if err := os.WriteFile(file, []byte("10.0.0.22 own\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.hosts.checked.Store(clock() - int64(checkEvery))
	told, known = r.start("own")
	if wantTold(t, told, "[10.0.0.22] <nil>"); known {
		t.Error("read in the caller's thread")
	}
	told, known = r.start("own")
	if wantTold(t, told, "[10.0.0.22] <nil>"); !known {
		t.Error("waited for what is known")
	}
}

// Without a background loop, or when it fails meanwhile, a goroutine reads.
func TestFilesAreReadWithoutALoop(t *testing.T) {
	path, _ := hostsFIFO(t)
	r := resolverOf(t, func(c *Config) { c.Hosts = path }, zone{}.serve(t))
	told, _ := r.start("own")
	for end := time.Now().Add(patience); operationsOf(t) == 0; {
		if time.Now().After(end) {
			t.Fatal("no operation of the loop reads it")
		}
	}
	t.Setenv("KLOOP_DRIVER", "none such")
	failBackground(t)
	for answered := false; !answered; { // the first to read it may be the operation of the loop that has failed
		if w, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			_, _ = w.WriteString("10.0.0.1 own\n")
			_ = w.Close()
		}
		select {
		case got := <-told:
			if answered = true; !strings.HasPrefix(got, "[10.0.0.1") { // perhaps of two writes
				t.Errorf("got %s", got)
			}
		case <-time.After(time.Millisecond):
		}
	}

	if _, err := core.Background(); err == nil || !strings.Contains(err.Error(), "none such") {
		t.Fatalf("there is a loop: %v", err)
	}
	other := resolverOf(t, func(c *Config) { c.Hosts = hostsOf(t, "10.0.0.2 own\n") }, zone{}.serve(t))
	told, _ = other.start("own")
	wantTold(t, told, "[10.0.0.2] <nil>")
}

// BenchmarkFirstLookup is that of a name of the hosts file by a new resolver, which reads all of its files.
func BenchmarkFirstLookup(b *testing.B) {
	for b.Loop() {
		r, err := New(SystemConfig())
		if err != nil {
			b.Fatal(err)
		}
		told, _ := r.start("localhost")
		<-told
		r.Close()
	}
}
