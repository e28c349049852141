// Package epoll is the kernel's readiness interface and nothing else: an epoll set,
// the array its events come in, and the system calls that serve what is ready.
//
// It knows nothing of connections, loops or callbacks; see package core for those. It
// is package uring's neighbour, for kernels and containers without io_uring, and like
// there all unsafe of this way through the kernel lives here.
//
// # What the kernel does
//
// The driver that is built on it (core.EpollDriver) relies on these facts, each with
// the test that shows it:
//
//   - A registration belongs to an open file and a descriptor number. It ends when the last
//     descriptor of the file is closed, not when this one is: a descriptor that was
//     duplicated, or inherited by a child, goes on to give events under the
//     number it was registered with, although that number may be another file's by then
//     (TestEventsOfAClosedDescriptor). Hence a tag in each event.
//   - EPOLL_CTL_MOD on a number that is another file's answers ENOENT
//     (TestModifyTellsAnotherFile). So it also tells whether a number still is
//     what it was.
//   - EPOLL_CTL_MOD looks at the file anew: what is ready is told, even edge-triggered
//     (TestModifyTellsWhatIsReady).
//   - A read of a TCP socket that fills less than its buffer has emptied it, unless the
//     peer has ended the stream or sent urgent data; then the event says so
//     (TestUrgentDataEndsARead). What comes later is a new edge (epoll(7)). Of pipes and
//     unix sockets only EAGAIN tells: theirs end at a boundary of ancillary data
//     (TestAncillaryDataEndsARead).
//   - Regular files and some devices can't be registered: EPERM. poll(2) calls them always
//     ready (TestRegularFile).
//   - Any signal with a handler ends a wait with EINTR, whatever its SA_RESTART.
package epoll
