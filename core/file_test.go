package core

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"kloop/epoll"
	"kloop/uring"
)

func openFile(t *testing.T, l *Loop, name string, flag int) *File {
	t.Helper()
	f, err := l.OpenFile(context.Background(), name, flag, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func mustClose(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestFile(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		name := filepath.Join(t.TempDir(), "file")
		f := openFile(t, l, name, os.O_RDWR|os.O_CREATE)
		p := pattern(1, 200_000)
		if n, err := f.Write(p); n != len(p) || err != nil {
			t.Errorf("Write: %d, %v", n, err)
		}
		if at, err := f.Seek(-1000, io.SeekEnd); at != 199_000 || err != nil {
			t.Errorf("Seek: %d, %v", at, err)
		}
		got := make([]byte, 2000)
		if n, err := f.Read(got); n != 1000 || err != nil || !bytes.Equal(got[:n], p[199_000:]) {
			t.Errorf("Read: %d, %v", n, err)
		}
		if n, err := f.Read(got); n != 0 || err != io.EOF {
			t.Errorf("Read at the end: %d, %v", n, err)
		}
		if n, err := f.ReadAt(got, 199_500); n != 500 || err != io.EOF || !bytes.Equal(got[:n], p[199_500:]) {
			t.Errorf("ReadAt: %d, %v", n, err)
		}
		if n, err := f.WriteAt([]byte("at"), 10); n != 2 || err != nil {
			t.Errorf("WriteAt: %d, %v", n, err)
		}
		if err := errors.Join(f.Sync(context.Background()), f.Truncate(context.Background(), 100)); err != nil {
			t.Error(err)
		}
		if size, err := f.Size(context.Background()); size != 100 || err != nil {
			t.Errorf("Size: %d, %v", size, err)
		}
		mustClose(t, f)
		copy(p[10:], "at")
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, p[:100]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// TestFileReader has testing/iotest look at what an io.Reader, an io.ReaderAt and an io.Seeker promise.
func TestFileReader(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		name := filepath.Join(t.TempDir(), "file")
		p := pattern(2, 1500) // which is looked at byte by byte too
		if err := os.WriteFile(name, p, 0o600); err != nil {
			t.Fatal(err)
		}
		f := openFile(t, l, name, os.O_RDONLY)
		defer mustClose(t, f)
		if err := iotest.TestReader(f, p); err != nil {
			t.Error(err)
		}
	})
}

func TestFileAppends(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		name := filepath.Join(t.TempDir(), "file")
		f := openFile(t, l, name, os.O_WRONLY|os.O_CREATE|os.O_APPEND)
		g := openFile(t, l, name, os.O_WRONLY|os.O_APPEND)
		for range 10 {
			for _, file := range []*File{f, g} {
				if _, err := io.WriteString(file, file.Name()[:1]); err != nil {
					t.Error(err)
				}
			}
		}
		if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("WriteAt: %v", err)
		}
		mustClose(t, f)
		mustClose(t, g)
		if got, _ := os.ReadFile(name); string(got) != strings.Repeat("/", 20) {
			t.Errorf("%q", got)
		}
	})
}

func TestFileErrors(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		dir := t.TempDir()
		for name, want := range map[string]error{"no/file": fs.ErrNotExist, ".": syscall.EISDIR} {
			_, err := l.OpenFile(context.Background(), filepath.Join(dir, name), os.O_RDWR, 0)
			var path *fs.PathError
			if !errors.Is(err, want) || !errors.As(err, &path) || path.Path != filepath.Join(dir, name) {
				t.Errorf("%s: %v", name, err)
			}
		}
		f := openFile(t, l, "/proc/self/mem", os.O_RDONLY)
		if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, syscall.EIO) {
			t.Errorf("a read where no memory is: %v", err)
		}
		if _, err := f.ReadAt(make([]byte, 1), -1); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("a negative offset: %v", err)
		}
		if _, err := f.Write([]byte("x")); !errors.Is(err, syscall.EBADF) {
			t.Errorf("a write: %v", err)
		}
		mustClose(t, f)
		if _, err := f.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
			t.Errorf("a read of a closed file: %v", err)
		}
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("a second Close: %v", err)
		}
		full := openFile(t, l, "/dev/full", os.O_WRONLY)
		if n, err := full.Write(make([]byte, 10)); n != 0 || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a full device: %d, %v", n, err)
		}
		mustClose(t, full)
	})
}

// TestFileConcurrent has many goroutines read and write at their own places.
func TestFileConcurrent(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		f := openFile(t, l, filepath.Join(t.TempDir(), "file"), os.O_RDWR|os.O_CREATE)
		defer mustClose(t, f)
		const parts, size = 64, 4096
		var group sync.WaitGroup
		for part := range parts {
			group.Go(func() {
				p, got := pattern(part, size), make([]byte, size)
				for range 10 {
					if _, err := f.WriteAt(p, int64(part*size)); err != nil {
						t.Error(err)
					}
					if _, err := f.ReadAt(got, int64(part*size)); err != nil || !bytes.Equal(got, p) {
						t.Errorf("part %d: %v", part, err)
					}
				}
			})
		}
		group.Wait()
	})
}

// TestFileWaits ends what waits for another process: by a context, and by Close.
func TestFileWaits(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		name := filepath.Join(t.TempDir(), "fifo")
		if err := unix.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, flag := range []int{os.O_RDONLY, os.O_WRONLY} {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			if _, err := l.OpenFile(ctx, name, flag, 0); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("open: %v", err)
			}
			cancel()
		}
		f := openFile(t, l, name, os.O_RDWR)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if _, err := f.ReadContext(ctx, make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		cancel()
		if _, err := f.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		got := make([]byte, 10)
		if n, err := f.Read(got); n != 1 || err != nil {
			t.Errorf("read: %d, %v", n, err)
		}
		if _, err := f.Seek(0, io.SeekStart); !errors.Is(err, syscall.ESPIPE) {
			t.Errorf("seek: %v", err)
		}
		begun, ended := make(chan struct{}), make(chan error)
		go func() {
			close(begun)
			_, err := f.Read(got)
			ended <- err
		}()
		<-begun
		mustClose(t, f)
		if err := <-ended; !errors.Is(err, os.ErrClosed) {
			t.Errorf("a read under Close: %v", err)
		}
	})
}

// TestFIFOsThatNobodyWakes ends opens of FIFOs that have no name any more, or whose other end may not
// be opened. More of them than a driver takes are the pool's. Nothing of them is left.
func TestFIFOsThatNobodyWakes(t *testing.T) {
	changes := map[string]func(name string) error{
		"unlinked":  os.Remove,
		"renamed":   func(name string) error { return os.Rename(name, name+"-other") },
		"forbidden": func(name string) error { return os.Chmod(name, 0) },
	}
	for change, apply := range changes {
		t.Run(change, func(t *testing.T) {
			runningLoops(t, func(t *testing.T, l *Loop) {
				folder := t.TempDir()
				var group sync.WaitGroup
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				count := openingInDriver() + 4
				for n := range count {
					name := filepath.Join(folder, strconv.Itoa(n))
					if err := unix.Mkfifo(name, 0o600); err != nil {
						t.Fatal(err)
					}
					group.Go(func() {
						_, err := l.OpenFile(ctx, name, []int{os.O_RDONLY, os.O_WRONLY}[n%2], 0)
						// One or the other may not have got to its name before, or lost it.
						if !errors.Is(err, context.Canceled) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
							t.Errorf("open %d: %v", n, err)
						}
					})
				}
				for opensUnderWay() < 4 { // those of the pool
					runtime.Gosched()
				}
				for n := range count {
					if err := apply(filepath.Join(folder, strconv.Itoa(n))); err != nil {
						t.Fatal(err)
					}
				}
				cancel()
				group.Wait()
				if left := opensUnderWay(); left != 0 {
					t.Errorf("%d opens are left", left)
				}
			})
		})
	}
}

func opensUnderWay() int {
	workers.mu.Lock()
	defer workers.mu.Unlock()
	return len(workers.opening)
}

// fifoPool is a pool with the open of a new FIFO that it waits for.
func fifoPool(t *testing.T, flags uint32) (name string, o *Operation, p FilePool, answer func() int64) {
	name = filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	woken := make(chan struct{}, 1)
	p = NewFilePool(func() { woken <- struct{}{} })
	path := append([]byte(name), 0)
	o = &Operation{spec: OperationSpec{Kind: OpOpen, FD: unix.AT_FDCWD, File: FileRequest{Path: path, Flags: flags | unix.O_CLOEXEC}}}
	p.Start(o)
	return name, o, p, func() (result int64) {
		<-woken
		p.Reap(1, func(told *Operation, got int64) {
			if told != o {
				t.Errorf("%p, not %p", told, o)
			}
			result = got
		})
		return result
	}
}

// TestFIFOOpensLeaveOthersAlone: a cancelled open lets nobody go on who waits for the other end, and no descriptor is left.
func TestFIFOOpensLeaveOthersAlone(t *testing.T) {
	for range 50 {
		name, o, p, answer := fifoPool(t, unix.O_WRONLY)
		beside := make(chan int, 1)
		go func() {
			fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
			}
			beside <- fd
		}()
		for opensUnderWay() == 0 {
			runtime.Gosched()
		}
		p.Cancel(o)
		if result := answer(); result != -int64(syscall.ECANCELED) {
			t.Fatal(result)
		}
		for range 100 {
			select {
			case <-beside:
				t.Fatal("somebody has opened the other end")
			default:
				runtime.Gosched()
			}
		}
		reader, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		CloseDescriptor(<-beside)
		CloseDescriptor(reader)
	}
}

// TestFIFOOpensSeeTheOtherEnd that opens and does nothing, that writes, that comes and goes; and the descriptor blocks.
func TestFIFOOpensSeeTheOtherEnd(t *testing.T) {
	for name, use := range map[string]func(fd int){
		"there":   func(int) {},
		"written": func(fd int) { _, _ = unix.Write(fd, []byte("x")) },
		"gone":    CloseDescriptor,
	} {
		for _, reads := range []bool{true, false} {
			if !reads && name != "there" {
				continue
			}
			t.Run(name, func(t *testing.T) {
				flags, other := uint32(unix.O_WRONLY), unix.O_RDONLY
				if reads {
					flags, other = unix.O_RDONLY, unix.O_WRONLY
				}
				path, _, _, answer := fifoPool(t, flags)
				fd, err := unix.Open(path, other|unix.O_CLOEXEC, 0) // waits for the pool's
				if err != nil {
					t.Fatal(err)
				}
				use(fd)
				if name != "gone" {
					defer CloseDescriptor(fd)
				}
				result := answer()
				if result < 0 {
					t.Fatal(syscall.Errno(-result))
				}
				defer CloseDescriptor(int(result))
				if on, errno := epoll.Nonblocking(int(result)); errno != 0 || on {
					t.Errorf("it does not block: %v, %v", on, errno)
				}
			})
		}
	}
}

func TestFileOfAClosedLoop(t *testing.T) {
	runningLoops(t, func(t *testing.T, l *Loop) {
		other, err := NewLoop(LoopOptions{})
		if err != nil {
			t.Fatal(err)
		}
		mustClose(t, other)
		if _, err := other.OpenFile(context.Background(), "/dev/null", os.O_RDONLY, 0); !errors.Is(err, ErrClosed) {
			t.Errorf("open: %v", err)
		}
	})
}

func TestReadFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	p := pattern(3, 100_000)
	if err := os.WriteFile(name, p, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for limit, want := range map[int64]error{100_000: nil, 99_999: syscall.EFBIG, 1 << 40: nil, 0: syscall.EFBIG} {
		got, err := ReadFile(ctx, name, limit)
		if !errors.Is(err, want) || want == nil && !bytes.Equal(got, p) {
			t.Errorf("limit %d: %d bytes, %v", limit, len(got), err)
		}
	}
	if got, err := ReadFile(ctx, "/proc/self/status", 1<<20); err != nil || !bytes.HasPrefix(got, []byte("Name:")) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := ReadFile(ctx, name+"x", 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestFileOperations does each kind on each driver, in an engine that the test polls, and looks at what it did.
func TestFileOperations(t *testing.T) {
	everyMode(t, func(w *world) {
		t := w.t.(*testing.T)
		dir := t.TempDir() + "/"
		path := func(name string) []byte { return append([]byte(dir+name), 0) }
		r := newOutcomes(t)
		tag := uint64(0)
		do := func(spec OperationSpec) int {
			t.Helper()
			tag++
			w.start(spec, tag, r)
			w.until("the answer to "+makeToken(spec.Kind, 0).String(), r.done(tag))
			return r.result[tag]
		}
		want := func(what string, got, want int) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %d, want %d", what, got, want)
			}
		}
		at := unix.AT_FDCWD
		fd := do(OperationSpec{Kind: OpOpen, FD: at, File: FileRequest{Path: path("a"), Flags: unix.O_CREAT | unix.O_RDWR, Mode: 0o640}})
		if fd < 0 {
			t.Fatalf("open: %v", syscall.Errno(-fd))
		}
		buffer := []byte("contents")
		want("write", do(OperationSpec{Kind: OpFileWrite, FD: fd, Buffer: buffer, File: FileRequest{Offset: 2}}), 8)
		want("truncate", do(OperationSpec{Kind: OpTruncate, FD: fd, File: FileRequest{Offset: 6}}), 0)
		want("sync", do(OperationSpec{Kind: OpSync, FD: fd}), 0)
		want("datasync", do(OperationSpec{Kind: OpSync, FD: fd, File: FileRequest{Flags: uring.IORING_FSYNC_DATASYNC}}), 0)
		want("read", do(OperationSpec{Kind: OpFileRead, FD: fd, Buffer: buffer}), 6)
		if string(buffer[:6]) != "\x00\x00cont" {
			t.Errorf("read %q", buffer)
		}
		want("seek", do(OperationSpec{Kind: OpSeek, FD: fd, File: FileRequest{Flags: io.SeekEnd}}), 6)
		want("chmod", do(OperationSpec{Kind: OpChmod, FD: fd, File: FileRequest{Mode: 0o600}}), 0)
		state := make([]byte, uring.StatxSize)
		want("stat", do(OperationSpec{Kind: OpStat, FD: fd, Buffer: state, File: FileRequest{
			Path: []byte{0}, Flags: unix.AT_EMPTY_PATH, Mode: unix.STATX_BASIC_STATS}}), 0)
		if mode, size := uring.StatxMode(state), uring.StatxFileSize(state); mode != unix.S_IFREG|0o600 || size != 6 {
			t.Errorf("mode %o, %d bytes", mode, size)
		}
		want("mkdir", do(OperationSpec{Kind: OpMkdir, FD: at, File: FileRequest{Path: path("d"), Mode: 0o700}}), 0)
		want("mkdir again", do(OperationSpec{Kind: OpMkdir, FD: at, File: FileRequest{Path: path("d")}}), -int(syscall.EEXIST))
		want("link", do(OperationSpec{Kind: OpLink, FD: at, File: FileRequest{Path: path("a"), FD2: at, Path2: path("d/b")}}), 0)
		want("symlink", do(OperationSpec{Kind: OpSymlink, File: FileRequest{Path: []byte("target\x00"), FD2: at, Path2: path("s")}}), 0)
		target := make([]byte, 100)
		want("readlink", do(OperationSpec{Kind: OpReadLink, FD: at, Buffer: target, File: FileRequest{Path: path("s")}}), 6)
		if string(target[:6]) != "target" {
			t.Errorf("read the link %q", target[:6])
		}
		want("rename", do(OperationSpec{Kind: OpRename, FD: at, File: FileRequest{Path: path("d/b"), FD2: at, Path2: path("c")}}), 0)
		other := do(OperationSpec{Kind: OpOpen, FD: at, File: FileRequest{Path: path("e"), Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o600}})
		want("allocate", do(OperationSpec{Kind: OpAllocate, FD: other, File: FileRequest{Flags: unix.FALLOC_FL_KEEP_SIZE, Length: 1 << 20}}), 0)
		if n := do(OperationSpec{Kind: OpClone, FD: fd, File: FileRequest{FD2: other}}); n > 0 {
			t.Errorf("clone: %d", n)
		}
		want("seek", do(OperationSpec{Kind: OpSeek, FD: fd, File: FileRequest{Flags: io.SeekStart}}), 0)
		if n := do(OperationSpec{Kind: OpCopyRange, FD: fd, File: FileRequest{FD2: other, Length: 100}}); n != 6 {
			t.Errorf("copied %d", n)
		}
		dirFD := do(OperationSpec{Kind: OpOpen, FD: at, File: FileRequest{Path: path(""), Flags: unix.O_RDONLY | unix.O_DIRECTORY}})
		entries := make([]byte, 4096)
		if n := do(OperationSpec{Kind: OpReadDir, FD: dirFD, Buffer: entries}); n <= 0 || !bytes.Contains(entries[:n], []byte("c\x00")) {
			t.Errorf("entries: %d", n)
		}
		want("rmdir", do(OperationSpec{Kind: OpUnlink, FD: at, File: FileRequest{Path: path("d"), Flags: unix.AT_REMOVEDIR}}), 0)
		want("unlink", do(OperationSpec{Kind: OpUnlink, FD: at, File: FileRequest{Path: path("c")}}), 0)
		want("unlink again", do(OperationSpec{Kind: OpUnlink, FD: at, File: FileRequest{Path: path("c")}}), -int(syscall.ENOENT))
		for _, open := range []int{fd, other, dirFD} {
			want("close", do(OperationSpec{Kind: OpClose, FD: open}), 0)
			want("close again", do(OperationSpec{Kind: OpClose, FD: open}), -int(syscall.EBADF))
		}
		w.nonePending()
	})
}

// TestFileSpecs refuses what is no operation.
func TestFileSpecs(t *testing.T) {
	w := newWorld(t, modes["ring"])
	for _, spec := range []OperationSpec{
		{Kind: OpFileRead}, {Kind: OpOpen}, {Kind: OpOpen, File: FileRequest{Path: []byte("no end")}},
		{Kind: OpStat, Buffer: make([]byte, 10), File: FileRequest{Path: []byte{0}}}, {Kind: OpRename, File: FileRequest{Path: []byte{0}}},
		{Kind: OpCopyRange}, {Kind: OpReadLink, File: FileRequest{Path: []byte{0}}}, {Kind: opFileEnd},
	} {
		if _, err := w.e.Start(spec, 0, newOutcomes(t)); err != syscall.EINVAL {
			t.Errorf("%v: %v", makeToken(spec.Kind, 0), err)
		}
	}
}

// TestFileFaults has a scripted driver give what disks seldom do.
func TestFileFaults(t *testing.T) {
	w, d, _, _ := script(t)
	d.files = true
	r := newOutcomes(t)
	answer := func(errnoOrBytes int32) {
		for _, op := range d.ops {
			if op.Kind.isFile() {
				d.done = append(d.done, Completion{Token: op.Token, Res: errnoOrBytes})
			}
		}
		d.ops = nil
		w.poll(0)
	}
	for tag, step := range []struct {
		kind    OpKind
		answers []int32
		want    int
	}{
		{OpFileRead, []int32{-int32(syscall.EINTR), -int32(syscall.ECANCELED), 3}, 3},
		{OpFileWrite, []int32{-int32(syscall.EIO)}, -int(syscall.EIO)},
		{OpFileWrite, []int32{2}, 2},
		{OpFileWrite, []int32{-int32(syscall.ENOSPC)}, -int(syscall.ENOSPC)},
		{OpFileWrite, []int32{-512, 4}, 4}, // ERESTARTSYS
		{OpClose, []int32{-int32(syscall.EINTR)}, 0},
		{OpClose, []int32{-int32(syscall.ECANCELED), -int32(syscall.EIO)}, -int(syscall.EIO)},
		{OpSync, []int32{-int32(syscall.EINTR), -int32(syscall.EDQUOT)}, -int(syscall.EDQUOT)},
		{OpFileRead, []int32{-int32(syscall.EAGAIN)}, -int(syscall.EAGAIN)}, // it is not polled
	} {
		spec := OperationSpec{Kind: step.kind, FD: 5}
		if step.kind == OpFileRead || step.kind == OpFileWrite {
			spec.Buffer = make([]byte, 4)
		}
		w.start(spec, uint64(tag), r)
		w.poll(0)
		for _, value := range step.answers {
			answer(value)
			w.poll(0)
		}
		if got, done := r.result[uint64(tag)]; !done || got != step.want {
			t.Errorf("%d: %d (%v), want %d", tag, got, done, step.want)
		}
	}
	w.nonePending()
}
