# PipeCore: one direction of a pipe, socket or character device. It is a StreamCore, whose
# machinery for order, flow control and the end it uses; the user sees pipes.ReadPipeTransport
# or pipes.WritePipeTransport, which say what asyncio's pipe transports do otherwise.

cdef class PipeCore(StreamCore):
    cdef bint writer
    cdef bint silent        # a writer whose reader's end nobody learns of

    def __init__(self, LoopCore loop, transport, pipe, protocol, uint32_t kind, bint silent):
        """Takes over pipe, a non-blocking file object. kind: KLOOP_PIPE_* of kloop.h."""
        cdef int64_t id
        loop._check_core()
        self.loop = loop
        self.transport = transport
        self.fd = pipe.fileno()
        self.sock = pipe
        self.kind = 'pipe'
        self.context = PyContext_CopyCurrent()
        self.high = 64 * 1024
        self.low = 16 * 1024
        self.writer = isinstance(transport, asyncio.WriteTransport)
        self.silent = silent
        self._set_protocol(protocol)
        id = kloop_lib.pipe(loop.k, self.fd, kind, <uint64_t><PyObject *>self)
        if id < 0:
            raise _os_error(<int>-id)
        self.id = <uint32_t>id
        loop.unlisted.add(self)

    def __repr__(self):
        return f'<pipe of {self.transport!r}>'

    def start(self, waiter):
        """Schedules connection_made, reading, and the end of waiter, a future or None."""
        self._schedule_start(waiter)

    cdef int _set_protocol(self, object protocol) except -1:
        with cython.critical_section(self):
            self.protocol = protocol
        self.data_received = getattr(protocol, 'data_received', None)   # a writer's may lack it
        return 0

    def _start_reading(self):
        if not self.silent:
            StreamCore._start_reading(self)

    cdef int _deliver(self, object data) except -1:
        """As on asyncio, an exception of the protocol is reported and changes nothing else."""
        PyContext_Enter(self.context)
        try:
            PyObject_CallOneArg(self.data_received, data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.loop.call_exception_handler({
                'message': f'Exception in callback data_received of {self.transport!r}',
                'exception': exc,
                'transport': self.transport,
                'protocol': self.protocol,
            })
        finally:
            PyContext_Exit(self.context)
        return 0

    cdef int _on_eof(self) except -1:
        """The end of what is read; or, of a writer, nobody reads any more."""
        cdef LoopCore loop = self.loop
        if self.writer:
            if self.conn_lost:
                return 0
            self._log_closed_by_peer()
            return self._force_close(BrokenPipeError() if self._unwritten() else None)
        if self.closing:
            return 0
        if self.paused or self.pending is not None:
            return self._keep(_EOF)
        self._log_closed_by_peer()
        loop._push(_new_handle(loop, self.protocol.eof_received, (), self.context))
        return self._close()

    cdef uint64_t _unwritten(self) noexcept:
        return self.backlog if self.backlogged else _unsent_of(self)

    cdef int _log_closed_by_peer(self) except -1:
        if self.loop._debug:
            logger.info('%r was closed by peer', self.transport)
        return 0

    cdef int _fatal_error(self, object exc, object message) except -1:
        """Reports exc, but for what only says that the other end is gone."""
        if isinstance(exc, OSError) and (self.writer or exc.errno == errno.EIO):
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

    cdef int _core_gone(self) except -1:
        """Without the cycle, whose parts end in any order, the transport is the first to be finalized."""
        StreamCore._core_gone(self)
        self.transport = None
        return 0

    # ---- for the transports

    def set_protocol(self, protocol):
        if KLOOP_FREE_THREADED and _must_defer(self):
            _defer(self, self.set_protocol, (protocol,))
            return
        self._set_protocol(protocol)

    def get_protocol(self):
        return _protocol_of(self)

    def is_closing(self):
        return kloop_glance_flag(&self.closing) != 0

    def is_reading(self):
        return not kloop_glance_flag(&self.closing) and not kloop_glance_flag(&self.paused)

    def describe(self, transport):
        """For repr(), as asyncio's pipe transports do."""
        cdef uint64_t size
        info = [type(transport).__name__]
        if KLOOP_FREE_THREADED and _is_elsewhere(self.loop):
            return f'<{info[0]} of a loop that runs in another thread>'
        size = self._unwritten()
        if self.fd < 0:
            info.append('closed')
        elif self.closing:
            info.append('closing')
        info.append(f'fd={self.fd}')
        if self.fd < 0 or self.core_closed:
            info.append('closed' if self.fd < 0 else 'open')
        elif self.writer:
            info.append('polling' if size else 'idle')
            info.append(f'bufsize={size}')
        else:
            info.append('polling' if self.started and self.is_reading() else 'idle')
        return '<{}>'.format(' '.join(info))

    def write(self, data):
        if _must_defer(self):
            data = _as_bytes(data)
            _defer(self, self.write, (data,), PyBytes_GET_SIZE(data))
            return
        if type(data) is not bytes:
            data = _as_bytes(data)
        if PyBytes_GET_SIZE(data) == 0:
            return
        if self.closing or self.conn_lost or self.core_closed:
            self._write_lost()
            return
        _queue_bytes(self, data, PyBytes_GET_SIZE(data))
        # At once, as on asyncio: programs write to a child and then block until it has answered; and
        # what others write to the same pipe comes between writes, not into one of up to PIPE_BUF.
        if self.backlogged:
            _maybe_pause_protocol(self)
        else:
            _send_now(self)

    cdef int _write_lost(self) except -1:
        if self.lost_writes >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
            logger.warning('pipe closed by peer or os.write(pipe, data) raised exception.')
        self.lost_writes += 1
        return 0

    def close(self):
        if _must_defer(self):
            _defer(self, self.close, ())
            return
        self._close()

    def abort(self):
        if _must_defer(self):
            _defer(self, self.abort, ())
            return
        self._force_close(None)

    def pause_reading(self):
        if _must_defer(self):
            _defer(self, self.pause_reading, ())
            return
        self._pause_reading()

    def resume_reading(self):
        if _must_defer(self):
            _defer(self, self.resume_reading, ())
            return
        self._resume_reading()

    def buffer_size(self):
        return _buffer_size(self)

    def limits(self):
        return (self.low, self.high)

    def set_limits(self, high, low):
        if KLOOP_FREE_THREADED and _must_defer(self):
            _defer(self, self.set_limits, _water_marks(high, low))
            return
        _set_limits(self, high, low)
        _maybe_pause_protocol(self)

    def finalize(self):
        """Closes the pipe of a transport that nobody closed; answers whether there was one."""
        if self.fd < 0 or self.lost_called or not self.core_closed:
            return False
        self._close_fd()
        return True
