// Package core is the engine: connections, listeners, connects, polls, timers
// and wake-ups, in completion style, for Go programs and for the C bridge.
//
// There are two ways in:
//
//   - [Loop] owns a thread, its sockets and their life; Go programs want this.
//   - [Engine] is polled: the caller owns the thread, calls [Engine.Poll], or
//     [Engine.Flush] and [Engine.Reap] around a wait of its own. Package
//     pybridge does that.
//
// Everything below the [Driver] interface is the kernel, everything above is
// state that a simulated driver can drive just as well. An engine belongs to
// one thread at a time; only Wake and Post may be called from others.
//
// No completion runs a handler while it is being reaped: completions are
// copied out of the kernel's queue first and handled then, so a handler may
// call anything. What it asks for is queued, and goes to the kernel in one
// system call with the next poll.
package core
