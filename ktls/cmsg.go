package ktls

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Control messages of linux/tls.h.
const (
	cmsgSetRecordType = 1
	cmsgGetRecordType = 2
)

// ControlSize is the room that a control message with a record's type needs.
var ControlSize = unix.CmsgSpace(1)

// cmsg lengths are words of the machine.
const cmsgWord = unix.SizeofCmsghdr - 8

// RecordTypeControl answers the control message that makes sendmsg(2) seal a
// record of a type other than application data.
func RecordTypeControl(typ ContentType) []byte {
	p := make([]byte, ControlSize)
	n := uint64(unix.CmsgLen(1))
	if cmsgWord == 8 {
		binary.NativeEndian.PutUint64(p, n)
	} else {
		binary.NativeEndian.PutUint32(p, uint32(n))
	}
	binary.NativeEndian.PutUint32(p[cmsgWord:], unix.SOL_TLS)
	binary.NativeEndian.PutUint32(p[cmsgWord+4:], cmsgSetRecordType)
	p[unix.CmsgLen(0)] = byte(typ)
	return p
}

// ParseRecordType finds the type of the record that recvmsg(2) has answered in
// its control data. Without one the record is application data.
func ParseRecordType(control []byte) ContentType {
	for len(control) >= unix.CmsgLen(1) {
		n := uint64(binary.NativeEndian.Uint32(control))
		if cmsgWord == 8 {
			n = binary.NativeEndian.Uint64(control)
		}
		if n < uint64(unix.CmsgLen(0)) || n > uint64(len(control)) {
			break
		}
		level := binary.NativeEndian.Uint32(control[cmsgWord:])
		kind := binary.NativeEndian.Uint32(control[cmsgWord+4:])
		if level == unix.SOL_TLS && kind == cmsgGetRecordType && n >= uint64(unix.CmsgLen(1)) {
			return ContentType(control[unix.CmsgLen(0)])
		}
		space := unix.CmsgSpace(int(n) - unix.CmsgLen(0))
		if space >= len(control) {
			break
		}
		control = control[space:]
	}
	return TypeData
}

// SendRecord has the kernel send one record of a type, on a socket whose TX it
// has, and answers how many bytes of content went: all, or an errno. It does not
// wait: EAGAIN.
func SendRecord(fd int, typ ContentType, content []byte) (int, error) {
	return unix.SendmsgN(fd, content, RecordTypeControl(typ), nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
}

// ClearError takes the error off a socket that it has after receiving a bad
// record: with it, the alert that says so would not be sent.
func ClearError(fd int) error {
	_, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	return kernelError("getsockopt SO_ERROR", err)
}

// ReceiveRecord receives from a socket whose RX the kernel has: application data
// of one or more records, or the content of one record of another type. control
// is memory of ControlSize bytes. 0 bytes and no error with TypeData is the end
// of the stream. It neither waits (EAGAIN) nor allocates.
func ReceiveRecord(fd int, p, control []byte) (n int, typ ContentType, err error) {
	iov := unix.Iovec{Base: unsafe.SliceData(p)}
	iov.SetLen(len(p))
	hdr := unix.Msghdr{Iov: &iov, Control: unsafe.SliceData(control)}
	hdr.SetIovlen(1)
	hdr.SetControllen(len(control))
	res, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdr)), unix.MSG_DONTWAIT)
	runtime.KeepAlive(&iov)
	runtime.KeepAlive(p)
	runtime.KeepAlive(control)
	if errno != 0 {
		return 0, TypeData, errno
	}
	return int(res), ParseRecordType(control[:hdr.Controllen]), nil
}
