package core

import (
	"os"
	"testing"
	"time"
)

// TestMain has the Go runtime open its own epoll fd and eventfd, which it does with its first
// timer: tests that count descriptors would meet them at any time.
func TestMain(m *testing.M) {
	time.AfterFunc(time.Hour, func() {}).Stop()
	os.Exit(m.Run())
}
