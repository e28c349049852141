# Operation: a descriptor that the ring polls.

cdef class Operation:
    """A watch that the kernel has under way."""

    cdef LoopCore loop
    cdef object callback
    cdef uint32_t id
    cdef bint over

    cdef int _on_event(self, uint32_t kind, int32_t res) except -1:
        callback = self.callback
        if kind == KLOOP_EV_UNWATCHED or res < 0:
            self.over = True
            self.callback = None
            self.loop.operations.discard(self)
        if callback is not None and kind != KLOOP_EV_UNWATCHED:
            callback(res)
        return 0

    def cancel(self):
        """Ends it; the callback is not called again."""
        self.callback = None
        if self.over or self.loop.k is NULL or self.loop.generation != _fork_generation:
            return
        kloop_lib.cancel(self.loop.k, self.id)
