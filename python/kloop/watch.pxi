# Operation: a descriptor that the ring polls. And the descriptor of a child process.

cdef extern from *:
    """
    #include <sys/syscall.h>
    #include <unistd.h>
    #ifndef SYS_pidfd_open          /* headers before 5.3; one number on every architecture */
    #define SYS_pidfd_open 434
    #endif
    static inline int kloop_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }
    """
    int kloop_pidfd_open(int pid) nogil


def pidfd_open(int pid):
    """A descriptor of a process, readable once it has ended; raises OSError (pidfd_open(2)).

    os.pidfd_open is missing from Pythons that were built on an old system.
    """
    cdef int fd = kloop_pidfd_open(pid)
    if fd < 0:
        raise _os_error(c_errno)
    return fd


cdef class Operation:
    """A watch that the kernel has under way."""

    cdef LoopCore loop
    cdef object callback
    cdef int fd
    cdef uint32_t mask
    cdef uint32_t id
    cdef bint deferred      # until the loop's thread comes to it
    cdef bint over

    cdef int _start(self) except -1:
        cdef int64_t id = kloop_lib.watch(self.loop.k, self.fd, self.mask, <uint64_t><PyObject *>self)
        if id < 0:
            raise _os_error(<int>-id)
        self.id = <uint32_t>id
        self.loop.operations.add(self)
        return 0

    def _start_deferred(self):
        """What another thread has asked for while the loop slept."""
        if not self.deferred:
            return      # cancelled since
        self.deferred = False
        try:
            self._start()
        except OSError as exc:
            self._on_event(KLOOP_EV_READY, -exc.errno)

    cdef int _on_event(self, uint32_t kind, int32_t res) except -1:
        callback = self.callback
        if kind == KLOOP_EV_UNWATCHED or res < 0:
            self.over = True
            self.callback = None
            self.loop.operations.discard(self)
        if callback is None or kind == KLOOP_EV_UNWATCHED:
            return 0
        try:
            callback(res)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.loop.call_exception_handler({
                'message': f'Exception in {callback!r}, called since a descriptor was ready',
                'exception': exc,
            })
        return 0

    def cancel(self):
        """Ends it; the callback is not called again."""
        if KLOOP_FREE_THREADED and _is_elsewhere(self.loop):
            self.loop._defer(self.cancel, ())
            return
        self.callback = None
        if self.deferred:
            self.deferred = False
            self.over = True
        if self.over or self.loop.k is NULL or self.loop.generation != _fork_generation:
            return
        if _is_elsewhere(self.loop):
            self.loop._defer(self.cancel, ())
            return
        kloop_lib.cancel(self.loop.k, self.id)
