package core

import (
	"fmt"

	"golang.org/x/sys/unix"

	"kloop/uring"
)

// Does implements Driver.
func (d *UringDriver) Does(kind OpKind) bool {
	switch kind {
	case OpTruncate:
		return uring.FeatureFtruncate.Supported()
	case OpReadDir, OpReadLink, OpCopyRange, OpSeek, OpChmod, OpClone:
		return false
	}
	return kind.isFile()
}

// opensAtOnce are flags with which an open waits for no other process.
const opensAtOnce = unix.O_NONBLOCK | unix.O_PATH | unix.O_DIRECTORY

func prepareFile(sqe *uring.SQE, op *Op) {
	f := op.File
	switch op.Kind {
	case OpFileRead:
		sqe.PrepRead(op.FD, op.Parts[0], f.Offset)
	case OpFileWrite:
		sqe.PrepWrite(op.FD, op.Parts[0], f.Offset)
	case OpOpen:
		sqe.PrepOpenat(op.FD, f.Path, f.Flags, f.Mode)
		if f.Flags&opensAtOnce == 0 {
			// Else the kernel tries it with O_NONBLOCK first, and a FIFO has a reader before its writer.
			sqe.SetFlags(uring.IOSQE_ASYNC)
		}
	case OpClose:
		sqe.PrepClose(op.FD)
	case OpStat:
		sqe.PrepStatx(op.FD, f.Path, f.Flags, f.Mode, op.Parts[0])
	case OpSync:
		sqe.PrepFsync(op.FD, f.Flags)
	case OpTruncate:
		sqe.PrepFtruncate(op.FD, f.Offset)
	case OpAllocate:
		sqe.PrepFallocate(op.FD, f.Flags, f.Offset, uint64(f.Length))
	case OpRename:
		sqe.PrepRenameat(op.FD, f.Path, f.FD2, f.Path2, f.Flags)
	case OpUnlink:
		sqe.PrepUnlinkat(op.FD, f.Path, f.Flags)
	case OpMkdir:
		sqe.PrepMkdirat(op.FD, f.Path, f.Mode)
	case OpLink:
		sqe.PrepLinkat(op.FD, f.Path, f.FD2, f.Path2, f.Flags)
	case OpSymlink:
		sqe.PrepSymlinkat(f.Path, f.FD2, f.Path2)
	default:
		panic(fmt.Sprintf("kloop: no such operation: %d", op.Kind))
	}
}
