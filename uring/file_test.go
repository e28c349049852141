package uring

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// pathOperations are rows of TestOperations about files and their names.
func pathOperations() []operation {
	at := unix.AT_FDCWD
	return []operation{
		{"open", func(t *testing.T, s *SQE) func(CQE) {
			_, path := tempFile(t, []byte("0123456789"))
			s.PrepOpenat(at, terminated(path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			return func(c CQE) {
				got := make([]byte, 20)
				n, err := unix.Read(closeLater(t, int(c.Res)), got)
				check(t, err)
				same(t, got[:n], []byte("0123456789"))
			}
		}, anyRes},
		{"open of nothing", func(t *testing.T, s *SQE) func(CQE) {
			s.PrepOpenat(at, terminated(t.TempDir()+"/no"), unix.O_RDONLY, 0)
			return nil
		}, -int32(unix.ENOENT)},
		{"open that makes a file", func(t *testing.T, s *SQE) func(CQE) {
			path := filepath.Join(t.TempDir(), "new")
			s.PrepOpenat(at, terminated(path), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
			return func(c CQE) {
				closeLater(t, int(c.Res))
				state, err := os.Stat(path)
				check(t, err)
				if state.Mode() != 0o600 {
					t.Errorf("mode %v", state.Mode())
				}
			}
		}, anyRes},
		{"statx", func(t *testing.T, s *SQE) func(CQE) {
			_, path := tempFile(t, []byte("0123456789"))
			out := make([]byte, StatxSize)
			s.PrepStatx(at, terminated(path), 0, unix.STATX_BASIC_STATS, out)
			return func(CQE) {
				again := make([]byte, StatxSize)
				check(t, Statx(at, terminated(path), 0, unix.STATX_BASIC_STATS, again))
				if StatxFileSize(out) != 10 || StatxMode(out)&unix.S_IFMT != unix.S_IFREG || StatxMode(out) != StatxMode(again) {
					t.Errorf("%d bytes, mode %o and %o", StatxFileSize(out), StatxMode(out), StatxMode(again))
				}
			}
		}, 0},
		{"fsync", func(t *testing.T, s *SQE) func(CQE) {
			fd, _ := tempFile(t, []byte("0"))
			s.PrepFsync(fd, IORING_FSYNC_DATASYNC)
			return nil
		}, 0},
		{"fallocate", func(t *testing.T, s *SQE) func(CQE) {
			fd, _ := tempFile(t, []byte("0"))
			s.PrepFallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20)
			return func(CQE) {
				var stat unix.Stat_t
				check(t, unix.Fstat(fd, &stat))
				if stat.Size != 1 || stat.Blocks*512 < 1<<20 {
					t.Errorf("%d bytes, %d blocks", stat.Size, stat.Blocks)
				}
			}
		}, 0},
		{"rename", func(t *testing.T, s *SQE) func(CQE) {
			_, path := tempFile(t, []byte("0"))
			s.PrepRenameat(at, terminated(path), at, terminated(path+"2"), unix.RENAME_NOREPLACE)
			return func(CQE) { exists(t, path+"2", path) }
		}, 0},
		{"unlink", func(t *testing.T, s *SQE) func(CQE) {
			_, path := tempFile(t, []byte("0"))
			s.PrepUnlinkat(at, terminated(path), 0)
			return func(CQE) { exists(t, "/", path) }
		}, 0},
		{"unlink of a folder", func(t *testing.T, s *SQE) func(CQE) {
			s.PrepUnlinkat(at, terminated(t.TempDir()), 0)
			return nil
		}, -int32(unix.EISDIR)},
		{"mkdir", func(t *testing.T, s *SQE) func(CQE) {
			path := filepath.Join(t.TempDir(), "folder")
			s.PrepMkdirat(at, terminated(path), 0o700)
			return func(CQE) { exists(t, path, path+"2") }
		}, 0},
		{"symlink", func(t *testing.T, s *SQE) func(CQE) {
			path := filepath.Join(t.TempDir(), "link")
			s.PrepSymlinkat(terminated("target"), at, terminated(path))
			return func(CQE) {
				if target, err := os.Readlink(path); target != "target" || err != nil {
					t.Errorf("%q, %v", target, err)
				}
			}
		}, 0},
		{"link", func(t *testing.T, s *SQE) func(CQE) {
			_, path := tempFile(t, []byte("0"))
			s.PrepLinkat(at, terminated(path), at, terminated(path+"2"), 0)
			return func(CQE) { exists(t, path+"2", path+"3") }
		}, 0},
	}
}

func terminated(path string) []byte { return append([]byte(path), 0) }

// exists checks that there is one path, and not the other.
func exists(t *testing.T, path, not string) {
	t.Helper()
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(not); err == nil {
		t.Errorf("%s is there", not)
	}
}

func TestFtruncate(t *testing.T) {
	if err := Have(FeatureFtruncate); err != nil {
		t.Skip(err)
	}
	r := newRing(t, anyCPU)
	fd, path := tempFile(t, []byte("0123456789"))
	s := r.NextSQE()
	s.PrepFtruncate(fd, 4)
	s.SetUserData(1)
	if c := awaitOne(t, r, 1); c.Res != 0 {
		t.Fatalf("%+v", c)
	}
	got, err := os.ReadFile(path)
	check(t, err)
	same(t, got, []byte("0123"))
}

// TestOpenOfFIFO cancels an open that waits for the other end.
func TestOpenOfFIFO(t *testing.T) {
	r := newRing(t, anyCPU)
	path := filepath.Join(t.TempDir(), "fifo")
	check(t, unix.Mkfifo(path, 0o600))
	for _, flags := range []uint32{unix.O_RDONLY, unix.O_WRONLY} {
		s := r.NextSQE()
		s.PrepOpenat(unix.AT_FDCWD, terminated(path), flags|unix.O_CLOEXEC, 0)
		s.SetFlags(IOSQE_ASYNC)
		s.SetUserData(1)
		_, err := r.Enter(r.Publish(), 0, 0)
		check(t, err)
		noMore(t, r)
		s = r.NextSQE()
		s.PrepCancel(1, 0)
		s.SetUserData(2)
		for _, c := range await(t, r, 2) {
			if c.UserData == 1 && c.Res != -int32(unix.EINTR) && c.Res != -int32(unix.ECANCELED) && c.Res != -512 {
				t.Errorf("flags %#x: %+v", flags, c)
			}
		}
	}
}

// TestPathWithoutEnd: the kernel would read on behind it.
func TestPathWithoutEnd(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	var s SQE
	s.PrepOpenat(unix.AT_FDCWD, []byte("path"), 0, 0)
}
