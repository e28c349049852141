# ResolverCore: a resolver of the Go core, which is the process's.

from libc.stdlib cimport free

cdef extern from "<errno.h>":
    enum:
        EINPROGRESS


cdef class ResolverCore:
    """Any thread may use it, and any loop of the process. A forked child has one of its own, made of the same
    configuration when it is first used there, with an empty cache."""

    cdef uint64_t number        # 0: none
    cdef object generation      # of the process that has it
    cdef bytes config
    cdef bint over
    cdef object __weakref__

    def _open(self, bytes config):
        """config: lines of a name and a value; see pybridge/resolver_config.go. Raises OSError, or ValueError."""
        self.config = config
        self._open_here()

    cdef int _open_here(self) except -1:
        cdef char reason[REASON_SIZE]
        cdef int64_t result
        cdef int loaded = _load_library()
        cdef bint late = False
        cdef const char *config = PyBytes_AS_STRING(self.config)
        cdef uint64_t size = PyBytes_GET_SIZE(self.config)
        reason[0] = 0
        with nogil:
            result = kloop_lib.resolver_open(config, size, reason, REASON_SIZE)
            if loaded:
                kloop_library_restore()
        if result < 0:
            text = reason.decode(errors='replace')
            raise ValueError(text) if -result == errno.EINVAL else OSError(-result, text)
        with cython.critical_section(self):
            if self.over or self.number and self.generation == _fork_generation:
                late = True                 # another thread has closed it, or made one, meanwhile
            else:
                self.number = <uint64_t>result
                self.generation = _fork_generation
        if late:
            with nogil:
                kloop_lib.resolver_close(<uint64_t>result)
        return 0

    cdef uint64_t _number_here(self) except 0:
        """The core's number for it, in this process."""
        cdef uint64_t number = 0
        with cython.critical_section(self):
            if self.generation == _fork_generation and not self.over:
                number = self.number
        if number:
            return number
        if not self.over and self.config is not None:
            self._open_here()
            with cython.critical_section(self):
                if not self.over:
                    number = self.number
        if not number:
            raise RuntimeError('the resolver is closed')
        return number

    def __dealloc__(self):
        if self.number and not self.over and self.generation == _fork_generation:
            kloop_lib.resolver_close(self.number)

    @property
    def closed(self):
        """Whether close() was called."""
        with cython.critical_section(self):
            return bool(self.over)

    def close(self):
        """Ends its connections, and the lookups under way, which raise RuntimeError."""
        cdef uint64_t number = 0
        with cython.critical_section(self):
            if not self.over and self.generation == _fork_generation:
                number = self.number
            self.over = True
        if number:
            with nogil:
                kloop_lib.resolver_close(number)

    def reload(self):
        """Reads resolv.conf again, now, and forgets what is known of the servers; if they are others than
        before, what they have answered too. The other files are looked at with the next lookup.

        Raises OSError if the file can't be read.
        """
        cdef char reason[REASON_SIZE]
        cdef uint64_t number = self._number_here()
        cdef int result
        reason[0] = 0
        with nogil:
            result = kloop_lib.resolver_reload(number, reason, REASON_SIZE)
        if result < 0:
            raise OSError(-result, reason.decode(errors='replace'))

    def _cache_len(self):
        return kloop_lib.resolver_cache_len(self._number_here())

    def _cache_clear(self):
        kloop_lib.resolver_cache_clear(self._number_here())

    def _tell(self, str what):
        """'s': statistics, 'e': the cache's entries, 'c': what applies of resolv.conf; see pybridge/resolver.go."""
        cdef char *data = NULL
        cdef const char *at
        cdef int code = ord(what)
        cdef uint64_t number = self._number_here()
        cdef int64_t size
        with nogil:
            size = kloop_lib.resolver_tell(number, code, &data)
        if size < 0:
            raise _os_error(<int>-size)
        try:
            at = data
            return _read_value(&at, data + size)
        finally:
            free(data)


def close_inherited_background():
    """In a forked child: closes the descriptors of the parent's background loop, and its sockets to name servers.

    Only in the first generation, as those of loops.
    """
    if _loaded_generation is None or _loaded_generation + 1 != _fork_generation:
        return
    kloop_lib.close_background()
