package uring

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendNowParts bounds the parts of one sendmsg(2) of SendMsgNow: they are listed
// on the stack, 1 KiB of it, and direct sends are for few large parts.
const sendNowParts = 64

// SendNow sends p at once, without a ring: send(2) with MSG_DONTWAIT and
// MSG_NOSIGNAL added to flags, as a raw system call, since it does not wait. It
// answers the bytes that were taken, which may be fewer than len(p). Errors are
// bare unix.Errno values: EAGAIN when the socket's buffer is full, EPIPE,
// ECONNRESET, ... It does not allocate.
func SendNow(fd int, p []byte, flags int) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)), uintptr(flags|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL), 0, 0)
	runtime.KeepAlive(p)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// SendMsgNow is SendNow for parts, sent in order as one stream with sendmsg(2). It
// stops at the first short send. An error is answered only when nothing was
// sent; otherwise the next call will meet it. On datagram sockets it must not be
// given more than 64 parts, as each 64 are a message of their own.
func SendMsgNow(fd int, parts [][]byte, flags int) (int, error) {
	sent := 0
	for len(parts) > 0 {
		n, wanted, errno := sendParts(fd, parts[:min(len(parts), sendNowParts)], flags)
		if errno != 0 && sent == 0 {
			return 0, errno
		}
		if errno != 0 {
			return sent, nil
		}
		sent += n
		if n < wanted {
			return sent, nil
		}
		parts = parts[min(len(parts), sendNowParts):]
	}
	return sent, nil
}

// sendParts calls sendmsg(2) once. Header and list hold true pointers, so that
// the runtime adjusts them should the stack move before the call.
func sendParts(fd int, parts [][]byte, flags int) (n, wanted int, errno unix.Errno) {
	var iov [sendNowParts]unix.Iovec
	for i, p := range parts {
		iov[i].Base = unsafe.SliceData(p)
		iov[i].SetLen(len(p))
		wanted += len(p)
	}
	hdr := unix.Msghdr{Iov: &iov[0]}
	hdr.SetIovlen(len(parts))
	res, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdr)),
		uintptr(flags|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL))
	runtime.KeepAlive(&iov)
	if errno != 0 {
		return 0, wanted, errno
	}
	return int(res), wanted, 0
}
