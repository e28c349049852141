// Command pybridge is the C library libkloop.so (-buildmode=c-shared): the C ABI
// of kloop.h on package core.
//
// It knows nothing of Python, so that one file serves every version of it. All
// memory shared with the host is C memory. What the host calls is C (calls.c,
// poll.c); what these call are the short kloop_go_* functions here, none of which
// blocks except kloop_go_leave, kloop_go_unlisten and kloop_go_close, which wait for
// the kernel to end operations.
//
// The scheduler's preemption signal must not interrupt the host: link with
// -ldflags=-X=runtime.godebugDefault=asyncpreemptoff=1, as the Makefile does.
package main

import "time"

// The Go runtime opens an epoll fd and an eventfd when its first timer starts, which its own
// memory scavenger does some time or other. A host that counts descriptors had better see them
// when the library is loaded than an hour later.
func init() { time.AfterFunc(time.Hour, func() {}).Stop() }

func main() {}
