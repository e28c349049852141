package main

/*
#include "private.h"
*/
import "C"

import (
	"fmt"

	"kloop/core"
	"kloop/uring"
)

// filePolled is KLOOP_OP_FILE_READ's event of files that poll(2) tells of.
const filePolled = 1

// eventOf is the kind of event that tells of an operation's end.
func eventOf(op *C.struct_kloop_op) C.uint32_t {
	if op.code == C.KLOOP_OP_OPEN {
		return C.KLOOP_EV_OPENED
	}
	return C.KLOOP_EV_DONE
}

// fileKinds are the core's names of the host's operations on files.
var fileKinds = map[C.uint32_t]core.OpKind{
	C.KLOOP_OP_FILE_READ: core.OpFileRead, C.KLOOP_OP_FILE_WRITE: core.OpFileWrite, C.KLOOP_OP_OPEN: core.OpOpen,
	C.KLOOP_OP_CLOSE: core.OpClose, C.KLOOP_OP_STAT: core.OpStat, C.KLOOP_OP_SYNC: core.OpSync,
	C.KLOOP_OP_TRUNCATE: core.OpTruncate, C.KLOOP_OP_RENAME: core.OpRename, C.KLOOP_OP_UNLINK: core.OpUnlink,
	C.KLOOP_OP_MKDIR: core.OpMkdir, C.KLOOP_OP_LINK: core.OpLink, C.KLOOP_OP_SYMLINK: core.OpSymlink,
	C.KLOOP_OP_READ_DIR: core.OpReadDir, C.KLOOP_OP_READ_LINK: core.OpReadLink,
	C.KLOOP_OP_COPY_RANGE: core.OpCopyRange, C.KLOOP_OP_SEEK: core.OpSeek, C.KLOOP_OP_CHMOD: core.OpChmod,
	C.KLOOP_OP_ALLOCATE: core.OpAllocate, C.KLOOP_OP_CLONE: core.OpClone,
}

// fileCodes is the inverse.
var fileCodes = func() map[core.OpKind]C.uint32_t {
	codes := make(map[core.OpKind]C.uint32_t, len(fileKinds))
	for code, kind := range fileKinds {
		codes[kind] = code
	}
	return codes
}()

// specOfFile is specOf for files.
func specOfFile(op *C.struct_kloop_op, spec *core.OperationSpec) {
	kind, known := fileKinds[op.code]
	if !known {
		panic(fmt.Sprintf("kloop: the host gave an operation of unknown kind %d", op.code))
	}
	spec.Kind = kind
	f := &spec.File
	f.FD2, f.Flags, f.Offset, f.Mode = int(op.fd2), uint32(op.events), uint64(op.offset), uint32(op.offset)
	switch kind {
	case core.OpFileRead, core.OpFileWrite, core.OpReadDir:
		spec.Buffer, f.Polled = hostBytes(op.ptr, op.len), op.events == filePolled
	case core.OpStat:
		f.Path, f.Mode, spec.Buffer = hostBytes(op.ptr, op.len), statMask, hostBytes(op.ptr2, uring.StatxSize)
	case core.OpReadLink:
		f.Path, spec.Buffer = hostBytes(op.ptr, op.len), hostBytes(op.ptr2, op.len2)
	case core.OpCopyRange, core.OpAllocate:
		f.Length = int64(op.len)
	case core.OpOpen, core.OpUnlink, core.OpMkdir:
		f.Path = hostBytes(op.ptr, op.len)
	case core.OpRename, core.OpLink, core.OpSymlink:
		f.Path, f.Path2 = hostBytes(op.ptr, op.len), hostBytes(op.ptr2, op.len2)
	}
}

// statMask is STATX_BASIC_STATS | STATX_BTIME.
const statMask = 0xfff
