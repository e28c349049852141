package uring

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FeatureFtruncate is PrepFtruncate.
var FeatureFtruncate = &Feature{Name: "truncate of a file", Since: "6.9", probe: probeFtruncate}

// IORING_FSYNC_DATASYNC makes PrepFsync as fdatasync(2) (5.1).
const IORING_FSYNC_DATASYNC = 1 << 0

// StatxSize is the size of struct statx, in bytes (statx(2)).
const StatxSize = 256

// Paths are bytes with a final NUL, and relative to the folder fd before them, or to the
// working directory with unix.AT_FDCWD. They must stay until the operation's CQE.

// PrepOpenat opens a file, as openat(2). Res: the new fd. An open that would wait, as that of a
// FIFO, waits in a thread of the kernel's if IOSQE_ASYNC is set (else it is tried with O_NONBLOCK first, which
// opens a FIFO for reading at once), and can be cancelled: it then answers -ECANCELED, -EINTR, or -512, the kernel's
// own ERESTARTSYS, which no system call shows (seen on 6.18).
func (s *SQE) PrepOpenat(dir int, path []byte, flags, mode uint32) {
	s.prep(IORING_OP_OPENAT, dir, pathAddress(path), mode, 0)
	s.OpFlags = flags
}

// PrepStatx asks for a file's state, as statx(2). flags: AT_*. It is written to the first
// StatxSize bytes of out, which must stay until the CQE.
func (s *SQE) PrepStatx(dir int, path []byte, flags, mask uint32, out []byte) {
	s.prep(IORING_OP_STATX, dir, pathAddress(path), mask, statxAddress(out))
	s.OpFlags = flags
}

// PrepFsync writes a file's state to its device, as fsync(2); with IORING_FSYNC_DATASYNC as
// fdatasync(2).
func (s *SQE) PrepFsync(fd int, flags uint32) {
	s.prep(IORING_OP_FSYNC, fd, 0, 0, 0)
	s.OpFlags = flags
}

// PrepFtruncate sets a file's size in bytes, as ftruncate(2) (6.9).
func (s *SQE) PrepFtruncate(fd int, size uint64) { s.prep(IORING_OP_FTRUNCATE, fd, 0, 0, size) }

// PrepFallocate allocates blocks of a file, as fallocate(2). mode: FALLOC_FL_*.
func (s *SQE) PrepFallocate(fd int, mode uint32, off, size uint64) {
	s.prep(IORING_OP_FALLOCATE, fd, size, mode, off)
}

// PrepRenameat renames, as renameat2(2). flags: RENAME_*.
func (s *SQE) PrepRenameat(dir int, path []byte, newDir int, newPath []byte, flags uint32) {
	s.prep(IORING_OP_RENAMEAT, dir, pathAddress(path), uint32(newDir), pathAddress(newPath))
	s.OpFlags = flags
}

// PrepUnlinkat removes a name, as unlinkat(2). flags: AT_REMOVEDIR.
func (s *SQE) PrepUnlinkat(dir int, path []byte, flags uint32) {
	s.prep(IORING_OP_UNLINKAT, dir, pathAddress(path), 0, 0)
	s.OpFlags = flags
}

// PrepMkdirat makes a folder, as mkdirat(2).
func (s *SQE) PrepMkdirat(dir int, path []byte, mode uint32) {
	s.prep(IORING_OP_MKDIRAT, dir, pathAddress(path), mode, 0)
}

// PrepSymlinkat makes a symbolic link at path, as symlinkat(2).
func (s *SQE) PrepSymlinkat(target []byte, dir int, path []byte) {
	s.prep(IORING_OP_SYMLINKAT, dir, pathAddress(target), 0, pathAddress(path))
}

// PrepLinkat makes another name of a file, as linkat(2). flags: AT_SYMLINK_FOLLOW, AT_EMPTY_PATH.
func (s *SQE) PrepLinkat(dir int, path []byte, newDir int, newPath []byte, flags uint32) {
	s.prep(IORING_OP_LINKAT, dir, pathAddress(path), uint32(newDir), pathAddress(newPath))
	s.OpFlags = flags
}

// pathAddress is the address of a path. One without its final NUL is a mistake of the caller: the kernel
// would read on behind it.
func pathAddress(path []byte) uint64 {
	if len(path) == 0 || path[len(path)-1] != 0 {
		panic("uring: a path without its final NUL")
	}
	return address(path)
}

func statxAddress(out []byte) uint64 {
	_ = out[StatxSize-1]
	return address(out)
}

// Statx is statx(2): it may wait. The error is a bare unix.Errno value.
func Statx(dir int, path []byte, flags, mask uint32, out []byte) error {
	_ = pathAddress(path)
	_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(&path[0])), uintptr(flags), uintptr(mask),
		uintptr(unsafe.Pointer(&out[:StatxSize][0])), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// StatxMode is the field stx_mode of a struct statx: type and permissions.
func StatxMode(statx []byte) uint32 {
	return uint32(statxOf(statx).Mode)
}

// StatxFileSize is the field stx_size of a struct statx, in bytes.
func StatxFileSize(statx []byte) uint64 {
	return statxOf(statx).Size
}

func statxOf(statx []byte) *unix.Statx_t {
	return (*unix.Statx_t)(unsafe.Pointer(&statx[:StatxSize][0]))
}

var _ = [1]struct{}{}[unsafe.Sizeof(unix.Statx_t{})-StatxSize]

// probeFtruncate has a file in memory made longer.
func probeFtruncate(f *Feature) error {
	const size = 1
	fd, err := unix.MemfdCreate("kloop-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("uring: probe: memfd: %w", err)
	}
	err = withRing(func(r *Ring) error {
		r.NextSQE().PrepFtruncate(fd, size)
		c, err := answer(r)
		if err != nil {
			return err
		}
		if err := judge(f, c, 0); err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil {
			return fmt.Errorf("uring: probe: fstat: %w", err)
		}
		if stat.Size != size {
			return f.notSupported(syscall.EINVAL)
		}
		return nil
	})
	return errors.Join(err, unix.Close(fd))
}
