package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hostTimeLimit is how long a test host may run.
const hostTimeLimit = time.Minute

// TestHosts runs the C programs of testdata, each a host of its own, against the
// library as it is shipped: the bridge's tests need a process that is not Go's.
func TestHosts(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler: ", err)
	}
	dir := t.TempDir()
	library := filepath.Join(dir, "libkloop.so")
	build := exec.Command("go", "build", "-buildmode=c-shared", "-o", library,
		"-ldflags=-X=runtime.godebugDefault=asyncpreemptoff=1", ".")
	build.Env = append(os.Environ(), "CGO_CFLAGS=-O2 -Wall -Werror")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	sources, err := filepath.Glob("testdata/*.c")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no hosts: %v", err)
	}
	for _, source := range sources {
		name := strings.TrimSuffix(filepath.Base(source), ".c")
		t.Run(name, func(t *testing.T) { runHost(t, cc, source, filepath.Join(dir, name), dir) })
	}
}

func runHost(t *testing.T, cc, source, program, library string) {
	compile := exec.Command(cc, "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-o", program, source,
		"-L"+library, "-lkloop", "-Wl,-rpath,"+library, "-lpthread")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), hostTimeLimit)
	defer cancel()
	for _, driver := range [][]string{nil, {"HOST_DRIVER=epoll"}} {
		run := exec.CommandContext(ctx, program)
		run.Env = append(os.Environ(), driver...)
		if out, err := run.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", driver, program, err, out)
		}
	}
}
