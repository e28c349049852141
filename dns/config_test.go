package dns

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestUnreadableResolvConf: the system's is an empty one then, as for libc; another is an error.
func TestUnreadableResolvConf(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	loop := filepath.Join(folder, "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	defer func(old string) { systemFile = old }(systemFile)
	for path, want := range map[string]syscall.Errno{
		folder: syscall.EISDIR, filepath.Join(file, "resolv.conf"): syscall.ENOTDIR, loop: syscall.ELOOP,
	} {
		c := DefaultConfig()
		c.File = path
		systemFile = ""
		if _, err := c.readResolvConf(disk{}); !errors.Is(err, want) {
			t.Errorf("%s: %v, not %v", path, err, want)
		}
		systemFile = path
		conf, err := c.readResolvConf(disk{})
		if err != nil || len(conf.Servers) != 1 || conf.Servers[0].String() != "127.0.0.1:53" {
			t.Errorf("%s as the system's: %v, %v", path, conf.Servers, err)
		}
	}
}
