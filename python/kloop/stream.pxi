# StreamCore: one connected stream socket. The user sees transport.StreamTransport, which
# holds one of these in a slot (an extension type can't subclass asyncio.Transport) and
# takes its methods from transport_methods.pxi.

cdef enum:
    # A write this large, and as many bytes of small writes, are sent at once with send(2):
    # batching them would hold megabytes of bytes objects, which glibc trims and refaults, and which
    # have left the cache when they are sent (16 KiB x 100: 7.4 µs against 14.5; 4 KiB: 5.1 against 4.7).
    DIRECT_WRITE = 8 * 1024
    DIRECT_SEND = 32 * 1024
    # A unix socket's peer wakes as soon as it is written to: with few messages a turn, holding them until the
    # poll costs a third of the throughput (10 connections), with many it saves a sixth of the CPU (100).
    FEW_EVENTS = 8
    READ_FAILED = 1         # kloop_event.len of KLOOP_EV_CLOSED

cdef object _BufferedProtocol = asyncio.BufferedProtocol
cdef bint _ATTACH_TAKES_TRANSPORT = (
    asyncio.base_events.Server._attach.__code__.co_argcount == 2)
# What stands in StreamCore.pending for the end of the stream.
cdef object _EOF = object()
# And where records for the SSLObject begin (tls_handover.pxi).
cdef object _RETURNED = object()


cdef class TLSProtocol


cdef int _push_start(LoopCore loop, object made, object transport, object read, object waiter,
                     object context) except -1:
    """Schedules connection_made, then reading, then the waiter's end: each a callback of its own, as on asyncio."""
    loop._push(_new_handle(loop, made, (transport,), context))
    loop._push(_new_handle(loop, read, (), context))
    if waiter is not None:
        loop._push(_new_handle(loop, futures._set_result_unless_cancelled, (waiter, None), context))
    return 0


# A bint takes four bytes, of which a stream would have fifty.
ctypedef unsigned char flag


@cython.freelist(128)
cdef class StreamCore:
    cdef LoopCore loop
    cdef readonly object transport      # the cycle is broken in _call_connection_lost
    cdef readonly object protocol
    cdef object data_received           # the protocol's bound methods
    cdef object get_buffer
    cdef object buffer_updated
    cdef TLSProtocol tls                # the protocol, if it is one
    cdef object context                 # of every callback of this connection
    cdef object server
    cdef str kind                       # 'socket' or 'pipe', for messages
    cdef object sock                    # made when asked for, if accepted
    cdef object shown_sock              # get_extra_info('socket'), the same each time
    cdef object extra                   # what the maker of the transport tells of it, or None
    cdef object peername
    cdef object sockname
    cdef list pending                   # completed while paused: bytes, _EOF or an OSError; or None
    cdef object handle                  # the delivery of pending that is scheduled
    cdef object empty_waiter
    cdef uint32_t id
    cdef int fd
    cdef flag eager                     # writes are sent at once while few connections are busy
    cdef int lost_writes                # counts those after the end, for a warning
    cdef flag conn_lost                 # connection_lost is scheduled
    cdef flag buffered
    cdef flag closing
    cdef flag paused
    cdef flag started
    cdef flag eof
    cdef flag backlogged                # the kernel refused bytes, and SENT events count them down
    cdef flag protocol_paused
    cdef flag core_closed               # no operation is left on fd
    cdef flag close_sent                # KLOOP_CMD_CLOSE
    cdef flag lost_called
    cdef Deferred deferred              # see transport_methods.pxi
    cdef uint64_t backlog               # bytes
    cdef uint64_t unsent                # bytes written in this turn
    cdef uint64_t unsent_turn
    cdef uint64_t offered_turn          # the last turn in which the kernel was offered all at once
    cdef uint64_t high
    cdef uint64_t low

    cdef int _init(self, LoopCore loop, object transport, int fd, object sock, object protocol,
                   object context) except -1:
        cdef int64_t id
        loop._check_core()
        self.loop = loop
        self.transport = transport
        self.fd = fd
        self.sock = sock
        self.kind = 'socket'
        self.context = PyContext_CopyCurrent() if context is None else context
        self.high = 64 * 1024
        self.low = 16 * 1024
        self._set_protocol(protocol)
        id = kloop_lib.conn(loop.k, fd, <uint64_t><PyObject *>self)
        if id < 0:
            raise _os_error(<int>-id)
        self.id = <uint32_t>id
        displaced = loop.streams.get(fd)
        if displaced is not None:       # the core still names it in events
            loop.unlisted.add(displaced)
        loop.streams[fd] = self
        return 0

    cdef int _start(self, object server, object waiter) except -1:
        """Attaches to the server and schedules the first callbacks; closes the socket if that fails."""
        try:
            if server is not None:
                if _ATTACH_TAKES_TRANSPORT:
                    server._attach(self.transport)
                else:
                    server._attach()
                self.server = server
            self._schedule_start(waiter)
        except BaseException:
            self.protocol = None        # which was never told of the connection, nor is of its end
            self._force_close(None)
            raise
        return 0

    def __repr__(self):
        return f'<stream of {self.transport!r}>'

    def get(self, name, default=None):
        """The transport's _extra is this, not a dictionary: get_extra_info(), which is asyncio's, asks it.

        Names of addresses are made when asked for.
        """
        if name == 'socket':
            return _shown_socket_of(self)
        if name == 'peername':
            return _name_of(self.peername)
        if name == 'sockname':
            return _name_of(self.sockname)
        return default if self.extra is None else self.extra.get(name, default)

    cdef int _set_protocol(self, object protocol) except -1:
        with cython.critical_section(self):
            self.protocol = protocol
        self.tls = protocol if type(protocol) is TLSProtocol else None
        self.buffered = isinstance(protocol, _BufferedProtocol)
        if self.buffered:
            self.get_buffer = protocol.get_buffer
            self.buffer_updated = protocol.buffer_updated
            self.data_received = None
        else:
            # A protocol without it (a SubprocessProtocol, say) fails when data comes, as on asyncio.
            self.data_received = getattr(protocol, 'data_received', None)
            self.get_buffer = self.buffer_updated = None
        return 0

    cdef int _schedule_start(self, object waiter) except -1:
        return _push_start(self.loop, self.protocol.connection_made, self.transport, self._start_reading, waiter,
                           self.context)

    def _start_reading(self):
        self.started = True
        if not self.paused and not self.closing:
            self.loop._command(KLOOP_CMD_READ_RESUME, self.id)
            if self.pending is not None:        # what a cancelled sock_recv() had
                self._schedule_pending()

    # ---- receiving

    cdef int _on_data(self, char *data, uint64_t size) except -1:
        if self.closing:
            return 0
        if self.paused or self.pending is not None:
            self._keep(PyBytes_FromStringAndSize(data, size))
        elif self.tls is not None:
            self._deliver_tls(data, size)
        elif self.buffered:
            self._deliver_buffered(data, size)
        else:
            self._deliver(PyBytes_FromStringAndSize(data, size))
        return 0

    cdef int _keep(self, object item) except -1:
        if self.pending is None:
            self.pending = []
        self.pending.append(item)
        return 0

    cdef int _deliver(self, object data) except -1:
        PyContext_Enter(self.context)
        try:
            PyObject_CallOneArg(self.data_received, data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, 'Fatal error: protocol.data_received() call failed.')
        finally:
            PyContext_Exit(self.context)
        return 0

    cdef int _deliver_tls(self, char *data, uint64_t size) except -1:
        """The ciphertext stays where the kernel has put it: TLS takes it from there."""
        PyContext_Enter(self.context)
        try:
            self.tls._feed(data, size)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, 'Fatal error: protocol.data_received() call failed.')
        finally:
            PyContext_Exit(self.context)
        return 0

    cdef int _deliver_buffered(self, char *data, uint64_t size) except -1:
        """Copies into the protocol's buffers, as many times as these are too small."""
        cdef Py_ssize_t n
        while size and not self.closing:
            if self.paused or not self.buffered:
                rest = PyBytes_FromStringAndSize(data, size)
                if self.paused:
                    self._keep(rest)
                else:
                    self._deliver(rest)
                return 0
            PyContext_Enter(self.context)
            try:
                n = self._fill_buffer(data, size)
            finally:
                PyContext_Exit(self.context)
            if n < 0:
                return 0
            data += n
            size -= n
        return 0

    cdef Py_ssize_t _fill_buffer(self, char *data, uint64_t size) except? -1:
        """One get_buffer and buffer_updated; answers the bytes taken, or -1 after a fatal error."""
        cdef Py_buffer view
        cdef Py_ssize_t n
        try:
            PyObject_GetBuffer(self.get_buffer(-1), &view, PyBUF_WRITABLE)
            n = view.len if <uint64_t>view.len < size else <Py_ssize_t>size
            memcpy(view.buf, data, n)
            PyBuffer_Release(&view)
            if n == 0:
                raise RuntimeError('get_buffer() returned an empty buffer')
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, 'Fatal error: protocol.get_buffer() call failed.')
            return -1
        try:
            self.buffer_updated(n)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, 'Fatal error: protocol.buffer_updated() call failed.')
            return -1
        return n

    cdef int _on_eof(self) except -1:
        if self.closing:
            return 0
        if self.paused or self.pending is not None:
            return self._keep(_EOF)
        if self.loop._debug:
            logger.debug('%r received EOF', self.transport)
        PyContext_Enter(self.context)
        try:
            keep_open = self.protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, 'Fatal error: protocol.eof_received() call failed.')
            return 0
        finally:
            PyContext_Exit(self.context)
        if not keep_open:
            self._close()
        return 0

    cdef int _on_tls_returned(self) except -1:
        if self.closing or self.tls is None:
            return 0
        if self.paused or self.pending is not None:
            return self._keep(_RETURNED)
        return _take_records_back(self.tls)

    cdef int _schedule_pending(self) except -1:
        # Not in this connection's context, which each delivery enters for itself.
        self.handle = _new_handle(self.loop, self._deliver_pending, (), None)
        return self.loop._push(self.handle)

    def _deliver_pending(self):
        """After resume_reading: what had completed before, in order, until paused again."""
        cdef list items
        self.handle = None
        while self.pending and not self.paused and not self.closing:
            items = self.pending
            item = items.pop(0)
            self.pending = None         # so that it is delivered and not kept
            if self.tls is not None:
                self.tls.undelivered = items
            try:
                if item is _EOF:
                    self._on_eof()
                elif item is _RETURNED:
                    self._on_tls_returned()
                elif isinstance(item, OSError):
                    self._fatal_error(item, f'Fatal read error on {self.kind} transport')
                elif self.buffered:
                    self._deliver_buffered(PyBytes_AS_STRING(item), PyBytes_GET_SIZE(item))
                else:
                    self._deliver(item)
            finally:
                # What a pause in the middle of a buffered delivery has kept comes first.
                items = (self.pending or []) + items
                self.pending = items if items else None
                if self.tls is not None:
                    self.tls.undelivered = None
        if self.closing:
            self.pending = None

    cdef int _pause_reading(self) except -1:
        if self.closing or self.paused:
            return 0
        self.paused = True
        if self.started and not self.core_closed:
            self.loop._command(KLOOP_CMD_READ_PAUSE, self.id)
        if self.loop._debug:
            logger.debug('%r pauses reading', self.transport)
        return 0

    cdef int _resume_reading(self) except -1:
        cdef LoopCore loop = self.loop
        if self.closing or not self.paused:
            return 0
        self.paused = False
        if self.started and not self.core_closed:
            loop._command(KLOOP_CMD_READ_RESUME, self.id)
        if self.pending is not None and self.handle is None:
            self._schedule_pending()
        if loop._debug:
            logger.debug('%r resumes reading', self.transport)
        return 0

    # ---- closing

    cdef int _close(self) except -1:
        if self.closing:
            return 0
        self.closing = True
        self.pending = None
        if self.core_closed:
            return self._schedule_lost(None)
        if self.backlogged:
            # The protocol may add to a backlog until it is sent: resume_writing() is still to come.
            if not self.paused:
                self.loop._command(KLOOP_CMD_READ_PAUSE, self.id)
            return 0
        return self._close_core()

    cdef int _close_core(self) except -1:
        self.close_sent = True
        self.loop._command(KLOOP_CMD_CLOSE, self.id)
        # With bytes under way connection_lost waits for CLOSED, which says whether they were sent.
        return 0 if _unsent_of(self) else self._schedule_lost(None)

    cdef int _force_close(self, object exc) except -1:
        if self.conn_lost:
            return 0
        self.closing = True
        self.pending = None
        self.backlog = 0
        self.backlogged = False
        self.unsent = 0
        if not self.core_closed:
            self.loop._command(KLOOP_CMD_ABORT, self.id)
        return self._schedule_lost(exc)

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

    cdef int _schedule_lost(self, object exc) except -1:
        cdef LoopCore loop = self.loop
        self.conn_lost = True
        loop._push(_new_handle(loop, self._call_connection_lost, (exc,), self.context))
        return 0

    def _call_connection_lost(self, exc):
        transport = self.transport
        server = self.server
        self.lost_called = True
        try:
            if self.protocol is not None:
                self.protocol.connection_lost(exc)
        finally:
            if not self.core_closed and _closed_is_here(self.loop, self):
                self._on_core_closed()
            if self.core_closed:
                self._close_fd()
            with cython.critical_section(self):
                self.protocol = None
            self.data_received = self.get_buffer = self.buffer_updated = None
            self.tls = None
            self.transport = None
            self.server = None
            if self.empty_waiter is not None and not self.empty_waiter.done():
                self.empty_waiter.set_exception(
                    ConnectionError('Connection is closed by peer'))
            if server is not None:
                if _ATTACH_TAKES_TRANSPORT:
                    server._detach(transport)
                else:
                    server._detach()

    cdef int _on_core_closed(self) except -1:
        """No operation is left on the socket: it may be closed."""
        if self.core_closed:
            return 0
        self.core_closed = True
        if self.loop.streams.get(self.fd) is self:
            del self.loop.streams[self.fd]
        else:
            self.loop.unlisted.discard(self)
        if self.lost_called:
            self._close_fd()
        return 0

    cdef int _on_closed(self, int32_t code, uint64_t side) except -1:
        self._on_core_closed()
        if self.conn_lost:
            return 0
        if code == 0:
            return self._schedule_lost(None)
        exc = _os_error(code)
        if side == READ_FAILED:
            if self.paused or self.pending is not None:
                return self._keep(exc)      # behind the bytes that came before it
            return self._fatal_error(exc, f'Fatal read error on {self.kind} transport')
        return self._fatal_error(exc, f'Fatal write error on {self.kind} transport')

    cdef int _core_gone(self) except -1:
        """The loop was closed: the transport's finalizer warns of a socket that is still open."""
        self.core_closed = True
        kloop_store_size(&self.deferred.calls, 0)
        kloop_store_size(&self.deferred.size, 0)
        if self.lost_called:
            self._close_fd()
        return 0

    cdef int _close_fd(self) except -1:
        cdef int fd
        with cython.critical_section(self):
            fd = self.fd
            sock = self.sock
            self.fd = -1
        if fd < 0:
            return 0
        if sock is not None:
            sock.close()
        else:
            posix_close(fd)
        return 0
