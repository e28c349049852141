package core

import (
	"runtime"
	"syscall"

	"kloop/uring"
)

// What an Operation does with a file or a path, in place of a socket. A result is what the
// manual page says, or a negative errno.
const (
	// OpFileRead reads once into Buffer, as pread(2) at File.Offset, or as read(2) at
	// CurrentOffset. Fewer bytes than fit are no error; 0 is the end of the file.
	OpFileRead OpKind = 64 + iota
	// OpFileWrite writes Buffer once, as pwrite(2) or write(2): perhaps fewer bytes.
	OpFileWrite
	// OpOpen opens File.Path, as openat(2), with File.Flags and Mode. A cancelled one leaves no
	// descriptor: if it has succeeded already, that is closed, and the result is -ECANCELED.
	OpOpen
	// OpClose closes FD, as close(2). Nothing cancels it. EINTR, after which the descriptor is gone, is no error.
	OpClose
	// OpStat asks for the state of File.Path, or of FD with AT_EMPTY_PATH in Flags, as statx(2). It is
	// written to Buffer, of uring.StatxSize bytes; Mode is the mask of what is wanted.
	OpStat
	// OpSync is fsync(2), or with uring.IORING_FSYNC_DATASYNC in Flags fdatasync(2).
	OpSync
	// OpTruncate is ftruncate(2) to File.Offset bytes.
	OpTruncate
	// OpRename renames File.Path to Path2, as renameat2(2).
	OpRename
	// OpUnlink removes File.Path, as unlinkat(2).
	OpUnlink
	// OpMkdir makes a folder, as mkdirat(2).
	OpMkdir
	// OpLink gives File.Path the name Path2 as well, as linkat(2).
	OpLink
	// OpSymlink makes a symbolic link at Path2, in the folder FD2, to File.Path, as symlinkat(2).
	OpSymlink
	// OpReadDir reads entries of the folder FD into Buffer, as getdents64(2). 0: no more.
	OpReadDir
	// OpReadLink reads the symbolic link File.Path into Buffer, as readlinkat(2).
	OpReadLink
	// OpCopyRange copies up to File.Length bytes from FD to FD2, at the positions of both, as
	// copy_file_range(2).
	OpCopyRange
	// OpSeek moves the position, as lseek(2), by File.Offset from File.Flags, and answers it.
	OpSeek
	// OpChmod sets the permissions of FD to File.Mode, as fchmod(2).
	OpChmod
	// OpAllocate has the file system allocate File.Length bytes of FD, as fallocate(2) with the mode
	// File.Flags, from File.Offset on.
	OpAllocate
	// OpClone makes FD2 share the blocks of FD, if their file system can (FICLONE of ioctl_ficlone(2)).
	OpClone
	opFileEnd
)

// CurrentOffset, as an offset, is the file's own position, which moves. Of such operations on one
// file only one may be under way at a time.
const CurrentOffset = uring.CurrentOffset

// FileRequest is the part of an OperationSpec that is about files. Paths end with a NUL, and are
// relative to the folder FD, or FD2 for Path2, or with unix.AT_FDCWD to the working directory. They must
// stay until Done.
type FileRequest struct {
	FD2    int
	Path   []byte
	Path2  []byte
	Flags  uint32
	Mode   uint32
	Offset uint64
	Length int64 // bytes
	// Polled says that poll(2) tells when a read or write of FD need not wait: a FIFO, a
	// terminal, a socket. The engine then waits by its driver, and not in a thread.
	Polled bool
}

func (k OpKind) isFile() bool { return k >= OpFileRead && k < opFileEnd }

// hasEffects says whether a file operation may not be done twice.
func (k OpKind) hasEffects() bool {
	return k.isFile() && k != OpFileRead && k != OpStat && k != OpSync && k != OpReadLink
}

var fileOpNames = map[OpKind]string{
	OpFileRead: "file-read", OpFileWrite: "file-write", OpOpen: "open", OpClose: "close", OpStat: "stat",
	OpSync: "sync", OpTruncate: "truncate", OpRename: "rename", OpUnlink: "unlink", OpMkdir: "mkdir",
	OpLink: "link", OpSymlink: "symlink", OpReadDir: "read-dir", OpReadLink: "read-link",
	OpCopyRange: "copy-range", OpSeek: "seek", OpChmod: "chmod", OpAllocate: "allocate", OpClone: "clone",
}

func (s *OperationSpec) validFile() bool {
	path, second := terminated(s.File.Path), terminated(s.File.Path2)
	switch s.Kind {
	case OpFileRead, OpFileWrite, OpReadDir:
		return len(s.Buffer) > 0
	case OpOpen, OpUnlink, OpMkdir:
		return path
	case OpStat:
		return path && len(s.Buffer) >= uring.StatxSize
	case OpReadLink:
		return path && len(s.Buffer) > 0
	case OpRename, OpLink, OpSymlink:
		return path && second
	case OpCopyRange, OpAllocate:
		return s.File.Length > 0
	case OpClose, OpSync, OpTruncate, OpSeek, OpChmod, OpClone:
		return true
	}
	return false
}

func terminated(path []byte) bool { return len(path) > 0 && path[len(path)-1] == 0 }

// submitFile starts a file operation: in the driver, or, if that has none, in the pool.
func (o *Operation) submitFile() {
	e := o.engine
	inDriver := e.driver.Does(o.spec.Kind) && o.mayOpenInDriver()
	if !inDriver && !o.awaiting && o.spec.File.Polled && o.movesFileBytes() {
		result := e.calls.fileNow(&o.spec)
		if result != -int64(syscall.EAGAIN) {
			o.fileCompleted(result)
			return
		}
		o.awaiting = true
	}
	o.armed = true
	switch {
	case o.awaiting:
		e.submit(Op{Kind: OpPoll, FD: o.spec.FD, Token: o.token(), Events: o.readiness()})
	case inDriver:
		if o.opensAndWaits() {
			o.opening = true
			e.opening++
		}
		op := Op{Kind: o.spec.Kind, FD: o.spec.FD, Token: o.token(), File: &o.spec.File}
		if len(o.spec.Buffer) > 0 {
			e.parts = append(e.parts[:0], o.spec.Buffer[:min(len(o.spec.Buffer), uring.MaxLen)])
			op.Parts = e.parts
		}
		e.submit(op)
		clear(e.parts)
	default:
		o.pooled = true
		e.pool.Start(o)
	}
}

// openingInDriver is how many opens that may wait for ever the driver has at once: half of the
// threads that the kernel has for all operations of a ring that wait (4 a processor, io_uring_register(2)
// of IORING_REGISTER_IOWQ_MAX_WORKERS). All of them waiting for FIFOs would hold up everything else. The pool has no such limit.
func openingInDriver() int { return 2 * runtime.NumCPU() }

func (o *Operation) opensAndWaits() bool {
	return o.spec.Kind == OpOpen && o.spec.File.Flags&opensAtOnce == 0
}

func (o *Operation) mayOpenInDriver() bool {
	return !o.opensAndWaits() || o.engine.opening < openingInDriver()
}

// opened says that the driver has not got this open any more.
func (o *Operation) opened() {
	if o.opening {
		o.opening = false
		o.engine.opening--
	}
}

func (o *Operation) movesFileBytes() bool {
	return o.spec.Kind == OpFileRead || o.spec.Kind == OpFileWrite
}

func (o *Operation) readiness() uint32 {
	if o.spec.Kind == OpFileWrite {
		return pollOut
	}
	return pollIn
}

// fileCompleted handles the answer to a file operation.
func (o *Operation) fileCompleted(result int64) {
	o.armed, o.answered, o.cancelling, o.pooled = false, false, false, false
	o.opened()
	if o.awaiting {
		o.awaiting = false
		if result >= 0 {
			if o.engine.driver.Does(o.spec.Kind) && !o.cancelled {
				o.queueArm()
				return
			}
			result = o.engine.calls.fileNow(&o.spec)
		}
	}
	if result < 0 {
		o.fileFailed(restarted(syscall.Errno(-result)))
		return
	}
	if o.spec.Kind == OpOpen && o.cancelled {
		if o.engine.closing {
			o.engine.calls.close(int(result))
		} else {
			o.engine.calls.closeLater(int(result))
		}
		result = -int64(syscall.ECANCELED)
	}
	o.finish(int(result), nil)
}

// restarted makes EINTR of what the kernel means to restart, and says to rings by mistake
// (ERESTARTSYS and its kin of <linux/errno.h>).
func restarted(errno syscall.Errno) syscall.Errno {
	const first, last = 512, 516
	if errno >= first && errno <= last {
		return syscall.EINTR
	}
	return errno
}

func (o *Operation) fileFailed(errno syscall.Errno) {
	interrupted := errno == syscall.EINTR || errno == syscall.ECANCELED
	switch {
	case o.spec.Kind == OpClose && errno == syscall.EINTR:
		o.finish(0, nil)
	case interrupted && !o.cancelled:
		// By Leave, or a signal.
		o.queueArm()
	case interrupted:
		o.finish(-int(syscall.ECANCELED), nil)
	case errno == syscall.EAGAIN && o.spec.File.Polled && o.movesFileBytes():
		// The descriptor is O_NONBLOCK, or another reader was faster.
		if o.cancelled {
			o.finish(-int(syscall.ECANCELED), nil)
			return
		}
		o.awaiting = true
		o.queueArm()
	default:
		o.finish(-int(errno), nil)
	}
}

// cancelFile ends a file operation that is under way, as far as that is possible: what a thread
// is in the middle of it does to its end, unless that may never come.
func (o *Operation) cancelFile() {
	switch {
	case o.spec.Kind == OpClose, o.cancelling:
	case o.pooled:
		o.cancelling = true
		o.engine.pool.Cancel(o)
	default:
		o.cancelling = true
		o.engine.cancel(o.token(), makeToken(OpCancel, o.id))
	}
}

// fileNotCancelled handles a failed cancel. With ENOENT the operation is between two states, and is
// cancelled again. With EALREADY it is running, and the kernel has interrupted it if it can be.
func (o *Operation) fileNotCancelled(errno syscall.Errno) {
	if errno != syscall.ENOENT {
		return
	}
	o.cancelling = false
	if o.armed && o.cancelled {
		o.queueArm()
	}
}

// awaitPool ends what the pool has, also if the driver can do nothing any more: its threads use the
// memory of operations.
func (e *Engine) awaitPool() {
	for {
		left := false
		for i := range e.slots.entries {
			if o, ok := e.slots.entries[i].object.(*Operation); ok && o.pooled {
				left = true
				o.Cancel()
				o.cancelFile()
			}
		}
		if !left {
			return
		}
		if e.pool.Reap(pollReapMax, e.told) == 0 {
			e.calls.pause()
		}
	}
}

// filesUnderWay says whether operations on files are the kernel's or the pool's: their memory and
// descriptors may not be given up, however long it takes. inPool: these count too.
func (e *Engine) filesUnderWay(inPool bool) bool {
	for i := range e.slots.entries {
		o, ok := e.slots.entries[i].object.(*Operation)
		if ok && o.armed && o.spec.Kind.isFile() && (inPool || !o.pooled) {
			return true
		}
	}
	return false
}
