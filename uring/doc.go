// Package uring is the kernel's io_uring ABI and nothing else: ring set-up,
// SQE preparation, CQE reading, provided buffer rings and feature probes.
//
// It knows nothing of connections, loops or callbacks. Programs that want
// those should use package core. All system calls and all uses of unsafe of
// the I/O path live here, so that the rooms above are ordinary Go.
//
// Names follow io_uring_setup(2), io_uring_enter(2) and io_uring_register(2).
package uring
