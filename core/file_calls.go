package core

import (
	"syscall"

	"golang.org/x/sys/unix"

	"kloop/epoll"
	"kloop/uring"
)

// fileCall does a file operation by a system call, which may wait. It answers what a
// completion would.
func fileCall(s *OperationSpec) int64 {
	result, err := fileCallOf(s)
	if errno, failed := err.(syscall.Errno); failed {
		return -int64(errno)
	}
	return result
}

func fileCallOf(s *OperationSpec) (int64, error) {
	f := &s.File
	path := pathOf(f.Path)
	switch s.Kind {
	case OpFileRead:
		return readFile(s)
	case OpFileWrite:
		return writeFile(s)
	case OpOpen:
		fd, err := unix.Openat(s.FD, path, int(f.Flags), f.Mode)
		return int64(fd), err
	case OpClose:
		return 0, unix.Close(s.FD)
	case OpStat:
		return 0, uring.Statx(s.FD, f.Path, f.Flags, f.Mode, s.Buffer)
	case OpSync:
		if f.Flags&uring.IORING_FSYNC_DATASYNC != 0 {
			return 0, unix.Fdatasync(s.FD)
		}
		return 0, unix.Fsync(s.FD)
	case OpTruncate:
		return 0, unix.Ftruncate(s.FD, int64(f.Offset))
	case OpRename:
		return 0, unix.Renameat2(s.FD, path, f.FD2, pathOf(f.Path2), uint(f.Flags))
	case OpUnlink:
		return 0, unix.Unlinkat(s.FD, path, int(f.Flags))
	case OpMkdir:
		return 0, unix.Mkdirat(s.FD, path, f.Mode)
	case OpLink:
		return 0, unix.Linkat(s.FD, path, f.FD2, pathOf(f.Path2), int(f.Flags))
	case OpSymlink:
		return 0, unix.Symlinkat(path, f.FD2, pathOf(f.Path2))
	case OpReadDir:
		n, err := unix.Getdents(s.FD, s.Buffer)
		return int64(n), err
	case OpReadLink:
		n, err := unix.Readlinkat(s.FD, path, s.Buffer)
		return int64(n), err
	case OpCopyRange:
		n, err := unix.CopyFileRange(s.FD, nil, f.FD2, nil, int(min(f.Length, uring.MaxLen)), 0)
		return int64(n), err
	case OpSeek:
		return unix.Seek(s.FD, int64(f.Offset), int(f.Flags))
	case OpAllocate:
		return 0, unix.Fallocate(s.FD, f.Flags, int64(f.Offset), f.Length)
	case OpClone:
		return 0, unix.IoctlFileClone(f.FD2, s.FD)
	case OpChmod:
		return 0, unix.Fchmod(s.FD, f.Mode)
	}
	panic("kloop: no such operation on files: " + makeToken(s.Kind, 0).String())
}

func readFile(s *OperationSpec) (int64, error) {
	p := s.Buffer[:min(len(s.Buffer), uring.MaxLen)]
	if s.File.Offset == CurrentOffset {
		n, err := unix.Read(s.FD, p)
		return int64(n), err
	}
	n, err := unix.Pread(s.FD, p, int64(s.File.Offset))
	return int64(n), err
}

func writeFile(s *OperationSpec) (int64, error) {
	p := s.Buffer[:min(len(s.Buffer), uring.MaxLen)]
	if s.File.Offset == CurrentOffset {
		n, err := unix.Write(s.FD, p)
		return int64(n), err
	}
	n, err := unix.Pwrite(s.FD, p, int64(s.File.Offset))
	return int64(n), err
}

// pathOf is a path without its final NUL.
func pathOf(path []byte) string {
	if len(path) == 0 {
		return ""
	}
	return string(path[:len(path)-1])
}

// fileNow implements systemCalls.
func (linux) fileNow(s *OperationSpec) int64 {
	if s.Kind == OpFileWrite {
		return nowOrAgain(s, pollOut, writeSome)
	}
	return nowOrAgain(s, pollIn, readFile)
}

// nowOrAgain makes a call if that does not wait: others may have been faster since the poll.
func nowOrAgain(s *OperationSpec, ready uint32, call func(*OperationSpec) (int64, error)) int64 {
	if nonblocking, errno := epoll.Nonblocking(s.FD); errno == 0 && !nonblocking {
		if now, errno := epoll.Poll(s.FD, int16(ready)); errno == 0 && now == 0 {
			return -int64(syscall.EAGAIN)
		}
	}
	n, err := call(s)
	if errno, failed := err.(syscall.Errno); failed {
		return -int64(errno)
	}
	return n
}

// writeSome writes no more than a pipe takes that poll(2) calls writable: a descriptor that blocks
// would wait for room for the rest.
func writeSome(s *OperationSpec) (int64, error) {
	some := *s
	if nonblocking, errno := epoll.Nonblocking(s.FD); errno != 0 || !nonblocking {
		some.Buffer = some.Buffer[:min(len(some.Buffer), pipeAtomicBytes)]
	}
	return writeFile(&some)
}
