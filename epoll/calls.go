package epoll

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls here are raw: they don't wait, so that Go's scheduler need not know of them. They
// don't allocate, and answer a bare errno, 0 for success.

// Receive is recv(2) with MSG_DONTWAIT.
func Receive(fd int, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
	runtime.KeepAlive(p)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// ReceiveFrom receives one datagram as recvmsg(2) with MSG_DONTWAIT does, and its sender's raw
// sockaddr into from. It answers the true length of that, even if it is more than from has
// room for, and msg_flags, such as MSG_TRUNC.
func ReceiveFrom(fd int, p, from []byte) (n, fromSize int, flags int32, errno unix.Errno) {
	iov := unix.Iovec{Base: unsafe.SliceData(p)}
	iov.SetLen(len(p))
	hdr := unix.Msghdr{Name: unsafe.SliceData(from), Namelen: uint32(len(from)), Iov: &iov}
	hdr.SetIovlen(1)
	res, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdr)), unix.MSG_DONTWAIT)
	runtime.KeepAlive(&iov)
	runtime.KeepAlive(p)
	runtime.KeepAlive(from)
	if errno != 0 {
		return 0, 0, 0, errno
	}
	return int(res), int(hdr.Namelen), hdr.Flags, 0
}

// Read is read(2). fd must be O_NONBLOCK, or be ready.
func Read(fd int, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	runtime.KeepAlive(p)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// Accept is accept4(2) without an address, for a non-blocking and close-on-exec socket. fd must
// be O_NONBLOCK.
func Accept(fd int) (int, unix.Errno) {
	conn, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(conn), 0
}

// Connect is connect(2) to a raw sockaddr. fd must be O_NONBLOCK.
func Connect(fd int, addr []byte) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(addr))), uintptr(len(addr)))
	runtime.KeepAlive(addr)
	return errno
}

// Poll answers the poll(2) events of fd that are true now, of those asked for and of POLLERR,
// POLLHUP and POLLNVAL.
func Poll(fd int, events int16) (int16, unix.Errno) {
	p := unix.PollFd{Fd: int32(fd), Events: events}
	var now unix.Timespec
	_, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return p.Revents, errno
}

// Option answers an integer socket option (getsockopt(2)).
func Option(fd, level, name int) (int, unix.Errno) {
	var value int32
	size := uint32(unsafe.Sizeof(value))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&size)), 0)
	return int(value), errno
}

// Nonblocking answers whether fd is O_NONBLOCK.
func Nonblocking(fd int) (bool, unix.Errno) {
	flags, _, errno := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_GETFL, 0)
	return flags&unix.O_NONBLOCK != 0, errno
}

// SetNonblocking sets or clears O_NONBLOCK, for every descriptor of the open file.
func SetNonblocking(fd int, on bool) unix.Errno {
	flags, _, errno := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_GETFL, 0)
	if errno != 0 {
		return errno
	}
	flags &^= unix.O_NONBLOCK
	if on {
		flags |= unix.O_NONBLOCK
	}
	_, _, errno = unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFL, flags)
	return errno
}
