package main

/*
#include "private.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"kloop/core"
)

// takeCommands hands the host's commands to the engine.
func (l *loop) takeCommands() {
	n := int(l.k.ncmds)
	// First of all, so that a panic does not see them again.
	l.k.ncmds = 0
	for i := range n {
		cmd := &l.cmds[i]
		switch cmd.op {
		case C.KLOOP_CMD_OP:
			l.start((*C.struct_kloop_op)(hostPointer(cmd.ptr)))
			continue
		case C.KLOOP_CMD_OP_CANCEL:
			if o := l.engine.Operation(uint32(cmd.id)); o != nil {
				o.Cancel()
			}
			continue
		}
		c := l.engine.Conn(uint32(cmd.id))
		if c == nil {
			l.endpointCommand(cmd)
			continue
		}
		l.command(c, cmd)
	}
}

func (l *loop) command(c *core.Conn, cmd *C.struct_kloop_cmd) {
	switch cmd.op {
	case C.KLOOP_CMD_WRITE:
		c.WriteOwned(hostBytes(cmd.ptr, cmd.len), uint64(cmd.owner))
	case C.KLOOP_CMD_WRITE_EOF:
		c.WriteEOF()
	case C.KLOOP_CMD_READ_PAUSE:
		c.Pause()
	case C.KLOOP_CMD_READ_RESUME:
		c.Resume()
	case C.KLOOP_CMD_CLOSE:
		c.Close()
	case C.KLOOP_CMD_ABORT:
		c.Abort()
	case C.KLOOP_CMD_TLS_CLOSE:
		c.CloseNotify()
	case C.KLOOP_CMD_TLS_RETURN:
		c.ReturnRecords()
	case C.KLOOP_CMD_TLS_EMITTED:
		l.tlsEmitted(c, hostBytes(cmd.ptr, cmd.len))
		l.release(uint64(cmd.owner))
	case C.KLOOP_CMD_TLS_SENT:
		c.CountSealed(int(cmd.len), int(cmd.len/sendfileRecord))
	default:
		panicUnknown(cmd)
	}
}

// sendfileRecord is about how many bytes sendfile(2) makes a record of at the least, though
// each of its calls may end with a shorter one: a page.
const sendfileRecord = 4096

func panicUnknown(cmd *C.struct_kloop_cmd) {
	panic(fmt.Sprintf("kloop: the host gave a command of unknown kind %d", cmd.op))
}

// hostBytes is memory of the host's, which lives until its owner is released.
func hostBytes(ptr, length C.uint64_t) []byte {
	return unsafe.Slice((*byte)(hostPointer(ptr)), int(length))
}

// hostPointer makes a pointer of an address that the host gave, which is not Go memory.
func hostPointer(ptr C.uint64_t) unsafe.Pointer {
	address := uintptr(ptr)
	return *(*unsafe.Pointer)(unsafe.Pointer(&address))
}
