package uring

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A multishot recvmsg (6.0) begins each buffer with struct io_uring_recvmsg_out,
// behind which lies room for the sender's address, then the datagram.
const (
	// AddressRoom is the room for an address in bytes: struct sockaddr_storage,
	// rounded up so that what follows is aligned.
	AddressRoom = 128
	// DatagramHeader is where in a buffer of PrepRecvMsgMultishot the datagram begins.
	DatagramHeader = recvMsgOutSize + AddressRoom

	recvMsgOutSize    = 16
	recvMsgOutNameLen = 0 // u32: the address's true length, even if that is more than the room
	recvMsgOutFlags   = 12
)

// The room must take every address.
var _ [AddressRoom - unix.SizeofSockaddrAny]struct{}

// SplitDatagram takes apart a buffer filled by PrepRecvMsgMultishot, as long as its CQE
// says: the sender's raw sockaddr, empty if it has none (an unbound Unix socket), and the
// datagram. truncated: the buffer was too small, and the rest of the datagram is lost.
func SplitDatagram(buffer []byte) (from, datagram []byte, truncated bool) {
	size := min(binary.NativeEndian.Uint32(buffer[recvMsgOutNameLen:]), AddressRoom)
	flags := binary.NativeEndian.Uint32(buffer[recvMsgOutFlags:])
	return buffer[recvMsgOutSize:][:size], buffer[DatagramHeader:], flags&unix.MSG_TRUNC != 0
}

// DatagramMsg makes the header of a PrepRecvMsgMultishot that asks for addresses,
// valid until Reset. It answers nil as Msg does.
func (a *MsgArena) DatagramMsg() *Msg {
	m := a.Msg(nil)
	if m != nil {
		m.hdr.nameLen = AddressRoom
		m.hdr.iov = 0
	}
	return m
}

// PrepRecvMsgMultishot receives datagrams with their senders' addresses again and again,
// each into a buffer taken from the buffer ring of that group: see SplitDatagram. m is of
// MsgArena.DatagramMsg. It ends as PrepRecvMultishot does, and after an empty datagram;
// also with an error of the socket, such as -ECONNREFUSED, behind which datagrams may
// follow: prepare it again.
func (s *SQE) PrepRecvMsgMultishot(fd int, m *Msg, group uint16) {
	s.prep(IORING_OP_RECVMSG, fd, uint64(uintptr(unsafe.Pointer(m))), 1, 0)
	s.Flags |= IOSQE_BUFFER_SELECT
	s.IOPrio = IORING_RECV_MULTISHOT
	s.BufGroup = group
}

// SendToNow sends one datagram at once, without a ring: sendto(2) with MSG_DONTWAIT and
// MSG_NOSIGNAL, as a raw system call, since it does not wait. addr is a raw sockaddr,
// empty on a connected socket. Errors are bare unix.Errno values. It does not allocate.
func SendToNow(fd int, p, addr []byte) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL,
		uintptr(unsafe.Pointer(unsafe.SliceData(addr))), uintptr(len(addr)))
	runtime.KeepAlive(p)
	runtime.KeepAlive(addr)
	if errno != 0 {
		return errno
	}
	return nil
}

// ConnectNow connects a Unix datagram socket, which takes no waiting: connect(2) as a raw
// system call, with addr a raw sockaddr. Errors are bare unix.Errno values.
func ConnectNow(fd int, addr []byte) error {
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(addr))),
		uintptr(len(addr)))
	runtime.KeepAlive(addr)
	if errno != 0 {
		return errno
	}
	return nil
}
