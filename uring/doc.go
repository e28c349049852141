// Package uring is the kernel's io_uring ABI and nothing else: ring set-up,
// SQE preparation, CQE reading, provided buffer rings and feature probes.
//
// It knows nothing of connections, loops or callbacks. Programs that want
// those should use package core. All system calls and all uses of unsafe of
// the I/O path live here, so that the rooms above are ordinary Go.
//
// Names follow io_uring_setup(2), io_uring_enter(2) and io_uring_register(2).
//
// # What the kernel does
//
// The design of this package and of what is built on it follows from these
// facts, each with the test that shows it:
//
//   - A ring with SINGLE_ISSUER belongs to the thread that made or enabled it;
//     others get EEXIST, also from Ring.SyncCancel
//     (TestSecondThreadMayNotSubmit). SQPOLL rings have no such owner
//     (TestSQPollFromAnyThread).
//   - With DEFER_TASKRUN a completion is not in the CQ until the owner enters
//     with IORING_ENTER_GETEVENTS; Ring.TaskrunPending tells
//     (TestTaskrunPending).
//   - Structures that an SQE points at are read when the SQE is consumed and
//     not again (TestMessageIsReadAtSubmission). The bytes they describe are
//     read until the last CQE.
//   - IOSQE_CQE_SKIP_SUCCESS takes a short send for a success, whose rest then
//     vanishes without a CQE (TestShortSendWithoutWaitAll). With MSG_WAITALL a
//     short send fails and has one (TestQuickSend).
//   - A multishot operation may end at any CQE, not only with an error: after
//     more CQEs than the CQ holds, a receive ends with good bytes
//     (TestMultishotEndsWhenCQIsFull). CQE.More alone tells.
//   - A multishot poll is edge-triggered (TestPollMultishot).
//   - A receive that finds no buffer ends with ENOBUFS and leaves its data in
//     the socket (TestRecvMultishotWithoutBuffers).
//   - Completions beyond the CQ's size wait in the kernel, in order, until
//     there is room and somebody enters (TestOverflow).
//   - close(2) ends no operation: a closed listener goes on to accept
//     (TestCloseEndsNoOperation). A synchronous cancel does, but on its own
//     leaves the file of what it cancelled to the next enter
//     (TestPortIsFreeAfterSyncCancel).
//   - Any signal ends a wait with EINTR, whatever its SA_RESTART
//     (TestSignalEndsWait).
//   - A poller that starts with nothing to do sleeps at once, whatever its
//     idle time (TestSQPollWithoutEntering).
package uring
