package core

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A panic in the background loop's thread, or an error of its driver, ends what waits for it, and the next who asks gets another one.
func TestTheBackgroundLoopFails(t *testing.T) {
	t.Run("panic", func(t *testing.T) {
		backgroundFails(t, func(*Loop) { panic("as a test wants it") })
	})
	t.Run("driver", func(t *testing.T) {
		backgroundFails(t, func(loop *Loop) {
			driver, _ := loop.Descriptors()
			null, err := os.Open("/dev/null")
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = null.Close() }()
			if err := unix.Dup3(int(null.Fd()), driver, unix.O_CLOEXEC); err != nil {
				t.Error(err)
			}
		})
	})
}

func backgroundFails(t *testing.T, fail func(loop *Loop)) {
	loop, err := Background()
	if err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := loop.OpenFile(context.Background(), fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	packet, err := loop.DialPacket(netip.MustParseAddrPort("127.0.0.1:9"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 3)
	go func() {
		_, err := file.Read(make([]byte, 1)) // nothing is ever written
		ended <- err
	}()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		_, err := file.ReadAtContext(ctx, make([]byte, 1), 0)
		if errors.Is(err, syscall.ESPIPE) {
			_, err = file.ReadContext(ctx, make([]byte, 1))
		}
		ended <- err
	}()
	go func() {
		_, err := packet.Read(make([]byte, 1))
		ended <- err
	}()
	for loop.operationsNow(t) == 0 {
	}
	loop.Post(func() { fail(loop) })
	for range 3 {
		if err := <-ended; !errors.Is(err, ErrClosed) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
	<-loop.Done()
	if _, err := loop.OpenFile(context.Background(), "/dev/null", os.O_RDONLY, 0); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := file.Close(); err != nil { // by close(2)
		t.Errorf("%v", err)
	}
	if next, err := Background(); err != nil || next == loop {
		t.Fatalf("%v, the failed one: %v", err, next == loop)
	}
	if p, err := ReadFile(context.Background(), "/proc/self/comm", 100); err != nil || len(p) == 0 {
		t.Errorf("%q, %v", p, err)
	}
}

// operationsNow is how many objects the engine has, as its thread sees it.
func (l *Loop) operationsNow(t *testing.T) (count int) {
	t.Helper()
	told := make(chan struct{})
	l.Post(func() { count = l.engine.slots.live; close(told) })
	<-told
	return count
}
