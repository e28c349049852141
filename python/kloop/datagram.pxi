# DatagramCore: one datagram socket. The user sees datagram_transport.DatagramTransport, which
# holds one of these in a slot, as stream transports do. Sending is in datagram_send.pxi.

cdef enum:
    # kloop_event.len of KLOOP_EV_DATAGRAM_ERROR
    DATAGRAM_READ = 1


cdef class DatagramCore:
    cdef LoopCore loop
    cdef readonly object transport      # the cycle is broken in _call_connection_lost
    cdef readonly object protocol
    cdef readonly object sock           # None once closed
    cdef readonly object address        # asyncio's remote_addr: the only one to send to; or None
    cdef object context                 # of every callback of this endpoint
    cdef list pending                   # (bytes, address) and OSErrors that came while paused, or None
    cdef object handle                  # the delivery of pending that is scheduled
    cdef uint32_t id
    cdef int fd
    cdef int family
    cdef int conn_lost                  # connection_lost is scheduled; then counts sends for a warning
    cdef bint connected                 # to a peer that has a name
    cdef bint closing
    cdef bint paused
    cdef bint started
    cdef bint protocol_paused
    cdef bint core_closed               # no operation is left on fd
    cdef bint lost_called
    cdef size_t deferred                # commands of other threads that wait for the loop's thread
    cdef Deferred calls                 # without the GIL: whole calls
    cdef uint64_t queued                # datagrams the kernel refused, which the core sends when it can
    cdef uint64_t queued_size           # of these, as asyncio counts them
    cdef uint64_t high
    cdef uint64_t low

    def __init__(self, LoopCore loop, transport, sock, protocol, address, bint connected):
        cdef int64_t id
        loop._check_core()
        self.loop = loop
        self.transport = transport
        self.sock = sock
        self.fd = sock.fileno()
        self.family = sock.family
        self.protocol = protocol
        self.address = address
        self.connected = connected
        self.context = PyContext_CopyCurrent()
        self.high = 64 * 1024
        self.low = 16 * 1024
        if loop.peers is None:
            loop.peers = PeerTable.__new__(PeerTable)
        id = kloop_lib.endpoint(loop.k, self.fd, <uint64_t><PyObject *>self)
        if id < 0:
            raise _os_error(<int>-id)
        self.id = <uint32_t>id
        displaced = loop.endpoints.get(self.fd)
        if displaced is not None:       # its fd was closed behind its back, but the core still names it
            loop.endpoints[_key_of(displaced)] = displaced
        loop.endpoints[self.fd] = self

    def __repr__(self):
        return f'<endpoint of {self.transport!r}>'

    def schedule_start(self, waiter):
        """Schedules the first callbacks. A protocol without connection_made() fails here, and the socket is closed."""
        try:
            callback = self.protocol.connection_made
        except BaseException:
            self.protocol = None
            self._force_close(None)
            raise
        _push_start(self.loop, callback, self.transport, self._start_reading, waiter, self.context)

    def _start_reading(self):
        self.started = True
        if not self.paused and not self.closing:
            self._tell(KLOOP_CMD_READ_RESUME)

    # ---- the core, which is for the loop's thread alone, though other threads may call a transport

    cdef int _tell(self, uint32_t command) except -1:
        if self.loop.in_core or self.deferred:
            self.deferred += 1
            return self.loop._defer(self._tell_deferred, (command,))
        self.loop._command(command, self.id)
        return 0

    def _tell_deferred(self, uint32_t command):
        self.deferred -= 1
        if not self.core_closed:
            self.loop._command(command, self.id)

    cdef int _schedule(self, object handle) except -1:
        if self.loop.in_core:
            return self.loop._push_foreign(handle)
        return self.loop._push(handle)

    # ---- receiving

    cdef int _on_datagram(self, const kloop_datagram *datagram, uint64_t size) except -1:
        cdef object data, name
        cdef uint32_t address_size = datagram.address_size
        if self.closing:
            return 0
        data = PyBytes_FromStringAndSize(<const char *>(datagram + 1), size)
        if self.family == AF_UNIX:
            name = _unix_name(datagram.address, min(address_size, <uint32_t>sizeof(datagram.address)))
        elif address_size == INET_SIZE or address_size == INET6_SIZE:
            name = self.loop.peers.name_of(datagram.address, address_size)
        else:
            name = None
        if self.paused or self.pending is not None:
            return self._keep((data, name))
        return self._deliver(data, name)

    cdef int _keep(self, object item) except -1:
        if self.pending is None:
            self.pending = []
        self.pending.append(item)
        return 0

    cdef int _deliver(self, object data, object name) except -1:
        PyContext_Enter(self.context)
        try:
            self.protocol.datagram_received(data, name)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._callback_failed(self.protocol.datagram_received, exc)
        finally:
            PyContext_Exit(self.context)
        return 0

    cdef int _on_error(self, int code, uint64_t side) except -1:
        if self.closing and side == DATAGRAM_READ or self.conn_lost:
            return 0
        exc = _os_error(code)
        if side == DATAGRAM_READ and (self.paused or self.pending is not None):
            return self._keep(exc)      # behind the datagrams that came before it
        return self._deliver_error(exc)

    cdef int _deliver_error(self, object exc) except -1:
        PyContext_Enter(self.context)
        try:
            self.protocol.error_received(exc)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as raised:
            self._callback_failed(self.protocol.error_received, raised)
        finally:
            PyContext_Exit(self.context)
        return 0

    cdef int _callback_failed(self, object callback, object exc) except -1:
        """As on asyncio, where the exception reaches the handle that read: the endpoint goes on."""
        self.loop.call_exception_handler({
            'message': f'Exception in callback {format_helpers._format_callback_source(callback, ())}',
            'exception': exc,
            'transport': self.transport,
            'protocol': self.protocol,
        })
        return 0

    def _deliver_pending(self):
        """After resume_reading: what had come before, in order, until paused again."""
        cdef list items
        self.handle = None
        while self.pending and not self.paused and not self.closing:
            item = self.pending.pop(0)
            if isinstance(item, OSError):
                self._deliver_error(item)
            else:
                self._deliver(item[0], item[1])
        if self.closing or not self.pending:
            self.pending = None

    cdef int _pause_reading(self) except -1:
        if self.closing or self.paused:
            return 0
        self.paused = True
        if self.started and not self.core_closed:
            self._tell(KLOOP_CMD_READ_PAUSE)
        if self.loop._debug:
            logger.debug('%r pauses reading', self.transport)
        return 0

    cdef int _resume_reading(self) except -1:
        cdef LoopCore loop = self.loop
        if self.closing or not self.paused:
            return 0
        self.paused = False
        if self.started and not self.core_closed:
            self._tell(KLOOP_CMD_READ_RESUME)
        if self.pending is not None and self.handle is None:
            # Not in this endpoint's context, which each delivery enters for itself.
            self.handle = _new_handle(loop, self._deliver_pending, (), None)
            self._schedule(self.handle)
        if loop._debug:
            logger.debug('%r resumes reading', self.transport)
        return 0

    # ---- closing

    cdef int _close(self) except -1:
        if self.closing:
            return 0
        self.closing = True
        self.pending = None
        if self.queued and not self.core_closed:
            # connection_lost waits for the queue, to which the protocol may still add.
            if self.started and not self.paused:
                self._tell(KLOOP_CMD_READ_PAUSE)
            return 0
        return self._end(KLOOP_CMD_CLOSE, None)

    cdef int _force_close(self, object exc) except -1:
        if self.conn_lost:
            return 0
        self.closing = True
        self.pending = None
        self.queued = self.queued_size = 0
        return self._end(KLOOP_CMD_ABORT, exc)

    cdef int _end(self, uint32_t command, object exc) except -1:
        self.conn_lost += 1
        if not self.core_closed:
            self._tell(command)
        return self._schedule(_new_handle(self.loop, self._call_connection_lost, (exc,), self.context))

    cdef int _fatal_error(self, object exc, object message) except -1:
        if isinstance(exc, OSError):
            if self.loop._debug:
                logger.debug('%r: %s', self.transport, message, exc_info=True)
        else:
            self.loop.call_exception_handler({
                'message': message,
                'exception': exc,
                'transport': self.transport,
                'protocol': self.protocol,
            })
        return self._force_close(exc)

    def _call_connection_lost(self, exc):
        self.lost_called = True
        try:
            if self.protocol is not None:
                self.protocol.connection_lost(exc)
        finally:
            if not self.core_closed and kloop_lib.endpoint_end(self.loop.k, self.id) == 0:
                self.loop.retired.append(self)      # events that are not dispatched yet still name it
                self._on_core_closed()
            with cython.critical_section(self):
                sock = self.sock
                self.sock = None
                self.protocol = None
            self.transport = None
            sock.close()

    cdef int _on_core_closed(self) except -1:
        """The core has nothing of it any more."""
        if self.core_closed:
            return 0
        self.core_closed = True
        if self.loop.endpoints.get(self.fd) is self:
            del self.loop.endpoints[self.fd]
        else:
            self.loop.endpoints.pop(_key_of(self), None)
        return 0

    cdef int _core_gone(self) except -1:
        """The loop was closed: the transport's finalizer warns of a socket that is still open."""
        self.core_closed = True
        self.deferred = 0
        kloop_store_size(&self.calls.calls, 0)
        kloop_store_size(&self.calls.size, 0)
        return 0


cdef object _key_of(DatagramCore displaced):
    """Where LoopCore.endpoints has one whose fd is another's now: where no fd is."""
    return -1 - <int64_t>displaced.id
