package core

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

var descriptorWatch atomic.Pointer[func(fd int, open bool)]

// WatchDescriptors has f told of the sockets and files for goroutines (NetConn, NetPacketConn, File), and of what OwnDescriptor tells:
// when one is open, and just before it is closed. f is called by any thread. It is for a host that forks without exec(2), whose
// child has them all.
func WatchDescriptors(f func(fd int, open bool)) { descriptorWatch.Store(&f) }

// OwnDescriptor says that fd will be closed by CloseDescriptor.
func OwnDescriptor(fd int) {
	if f := descriptorWatch.Load(); f != nil {
		(*f)(fd, true)
	}
}

// CloseDescriptor closes what is the core's own, or of a package on top of it. On Linux it is closed whatever close(2) answers.
func CloseDescriptor(fd int) {
	disownDescriptor(fd)
	_ = unix.Close(fd)
}

func disownDescriptor(fd int) {
	if f := descriptorWatch.Load(); f != nil {
		(*f)(fd, false)
	}
}
