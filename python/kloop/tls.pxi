# TLSProtocol: TLS by the SSLObject of the user's SSLContext, between a transport and the
# application's protocol. Any context will do: all that is asked of it is wrap_bio().
#
# The course of a connection is that of asyncio.sslproto of Python 3.14, on every Python:
#
#     UNWRAPPED -> HANDSHAKE -> WRAPPED -> FLUSHING -> SHUTDOWN -> UNWRAPPED
#
# FLUSHING: no more is accepted for writing, what was is still to be sent. SHUTDOWN: our close_notify is on
# its way, and the peer's is awaited. How bytes pass is in tls_data.pxi, or, where the core has taken over the
# records, in tls_handover.pxi; the transport that the application sees takes its methods from tls_transport.pxi.

cdef enum TLSState:
    TLS_UNWRAPPED
    TLS_HANDSHAKE
    TLS_WRAPPED
    TLS_FLUSHING
    TLS_SHUTDOWN

cdef enum AppState:
    APP_INIT                # connection_made is still to be called
    APP_CONNECTED
    APP_EOF                 # eof_received was called
    APP_LOST                # connection_lost was called

cdef enum:
    SSL_READ_HIGH = 256 * 1024      # constants.FLOW_CONTROL_HIGH_WATER_SSL_READ
    SSL_WRITE_HIGH = 512 * 1024     # constants.FLOW_CONTROL_HIGH_WATER_SSL_WRITE
# asyncio.constants has it from Python 3.11.
cdef double _SSL_SHUTDOWN_TIMEOUT_S = getattr(constants, 'SSL_SHUTDOWN_TIMEOUT', 30.0)

try:
    import ssl as _ssl_module
except ImportError:     # a Python built without OpenSSL
    _ssl_module = None
cdef object ssl = _ssl_module
# More of the stream is wanted before the SSLObject can go on.
cdef tuple _SSL_AGAIN = () if ssl is None else (ssl.SSLWantReadError, ssl.SSLSyscallError)
cdef object _SSL_ENDED = () if ssl is None else ssl.SSLZeroReturnError


cdef object _checked_timeout(object seconds, str name, double default):
    if seconds is None:
        return default
    if seconds <= 0:
        raise ValueError(f'{name} should be a positive number, got {seconds}')
    return seconds


cdef object _default_client_context(bint server_side, object server_hostname):
    """For ssl=True, with which asyncio gives no context."""
    if server_side:
        raise ValueError('Server side SSL needs a valid SSLContext')
    context = ssl.create_default_context()
    if not server_hostname:
        context.check_hostname = False
    return context


cdef bint _is_stock(object sslobj):
    """Whether reading and writing are the standard library's own, over OpenSSL's MemoryBIO."""
    cls = type(sslobj)
    return (isinstance(sslobj, ssl.SSLObject) and cls.read is ssl.SSLObject.read
            and cls.write is ssl.SSLObject.write and cls.pending is ssl.SSLObject.pending
            and hasattr(getattr(sslobj, '_sslobj', None), 'pending'))


cdef class TLSProtocol:
    """The protocol of a transport that carries TLS; ``_app_transport`` is what the application gets.

    Raises ValueError for timeouts (seconds) that are not positive, and what the context's wrap_bio() raises.
    """

    cdef readonly LoopCore _loop
    cdef readonly object _transport             # below us, from connection_made to connection_lost
    cdef StreamCore stream                      # the same, if it is one of ours
    cdef object peername, sockname              # its, from connection_lost on
    cdef readonly object _app_transport
    cdef readonly object _app_protocol
    cdef readonly object _sslcontext
    cdef readonly object _sslobj
    cdef readonly dict _extra
    cdef readonly object _incoming              # MemoryBIOs of ciphertext
    cdef readonly object _outgoing
    cdef readonly object _waiter
    cdef TLSScratch scratch
    cdef object ssl_read                        # bound methods
    cdef object ssl_write
    cdef object ssl_pending
    cdef object incoming_write
    cdef object outgoing_read
    cdef object deliver                         # the application protocol's data_received
    cdef object get_buffer
    cdef object buffer_updated
    cdef object failure                         # met behind data that is still to be delivered
    cdef object server_hostname
    cdef object handshake_timeout               # seconds
    cdef object shutdown_timeout
    cdef object handshake_handle
    cdef object shutdown_handle
    cdef double handshake_start
    cdef TLSState state
    cdef AppState app_state
    cdef Records records
    cdef Handover handover                      # during a handshake, unless offloading is switched off
    cdef Handover earning                       # from then on, if the hand-over awaits that it pays
    cdef list undelivered                       # what the stream below has yet to deliver, while it delivers
    cdef bint offloaded                         # the core has the records
    cdef bint kernel_seals                      # and has given those it sends to the kernel
    cdef bint server_side
    cdef bint stock                             # the bound methods are OpenSSL's own
    cdef bint framed                            # records tells when there is something to read
    cdef bint tls13
    cdef bint leftover                          # the last read may have left plaintext in OpenSSL
    cdef bint more                              # the last read may not have been the last
    cdef bint ended                             # the peer's close_notify was read
    cdef bint buffered
    cdef bint reading                           # in _do_read
    cdef bint sending                           # in _encrypt
    cdef bint flush_wanted                      # by a close() inside _do_read
    cdef bint flush_queued                      # in scratch.unflushed
    cdef bint eof_received_below
    cdef bint app_closed
    cdef readonly bint _app_reading_paused
    cdef bint app_writing_paused
    cdef bint ssl_reading_paused                # the transport below does not read
    cdef bint ssl_writing_paused                # the transport below has much to send
    cdef int lost_writes
    cdef Deferred deferred                      # see transport_methods.pxi
    cdef Py_ssize_t read_high, read_low, write_high, write_low
    # What is to be encrypted: bytes objects; of the first one `head` bytes are done.
    cdef readonly list _write_backlog
    cdef public Py_ssize_t _write_buffer_size
    cdef Py_ssize_t head
    cdef object __weakref__

    def __init__(self, LoopCore loop, app_protocol, sslcontext, waiter, server_side=False,
                 server_hostname=None, call_connection_made=True, ssl_handshake_timeout=None,
                 ssl_shutdown_timeout=None):
        if ssl is None:
            raise RuntimeError('stdlib ssl module not available')
        self.handshake_timeout = _checked_timeout(
            ssl_handshake_timeout, 'ssl_handshake_timeout', constants.SSL_HANDSHAKE_TIMEOUT)
        self.shutdown_timeout = _checked_timeout(
            ssl_shutdown_timeout, 'ssl_shutdown_timeout', _SSL_SHUTDOWN_TIMEOUT_S)
        if not sslcontext:
            sslcontext = _default_client_context(server_side, server_hostname)
        self._loop = loop
        self.server_side = server_side
        self.server_hostname = server_hostname if server_hostname and not server_side else None
        self._sslcontext = sslcontext
        self._extra = {'sslcontext': sslcontext}
        self._waiter = waiter
        self._write_backlog = []
        self.read_high, self.read_low = SSL_READ_HIGH, SSL_READ_HIGH // 4
        self.write_high, self.write_low = SSL_WRITE_HIGH, SSL_WRITE_HIGH // 4
        self.app_state = APP_INIT if call_connection_made else APP_CONNECTED
        if loop.tls is None:
            loop.tls = TLSScratch()
        self.scratch = loop.tls
        self._set_app_protocol(app_protocol)
        self._wrap()
        self._app_transport = _new_tls_transport(self)

    cdef int _wrap(self) except -1:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.incoming_write = self._incoming.write
        self.outgoing_read = self._outgoing.read
        _prepare_handover(self)
        sslobj = self._sslobj
        self.stock = self.framed = _is_stock(sslobj)
        if self.stock:
            sslobj = sslobj._sslobj     # whose methods SSLObject's only call
        self.ssl_read = sslobj.read
        self.ssl_write = sslobj.write
        self.ssl_pending = sslobj.pending if self.stock else None
        return 0

    cdef int _set_app_protocol(self, object protocol) except -1:
        with cython.critical_section(self):
            self._app_protocol = protocol
        self.buffered = isinstance(protocol, _BufferedProtocol)
        if self.buffered:
            self.get_buffer = protocol.get_buffer
            self.buffer_updated = protocol.buffer_updated
            self.deliver = None
        else:
            self.deliver = getattr(protocol, 'data_received', None)
            self.get_buffer = self.buffer_updated = None
        return 0

    cdef int _wake_waiter(self, object exc) except -1:
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return 0
        if exc is not None:
            waiter.set_exception(exc)
        else:
            waiter.set_result(None)
        return 0

    # ---- what the transport below calls

    def connection_made(self, transport):
        """Starts the handshake."""
        self._transport = transport
        if type(transport) is _transport_type:
            self.stream = _core_of(transport)
        if self.app_closed:     # given up before there was a connection
            transport.abort()
            return
        self._start_handshake()

    def data_received(self, data):
        """Ciphertext of a transport that is not one of ours, or of one that had been paused."""
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self._feed(<char *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef int _feed(self, char *data, Py_ssize_t size) except -1:
        """Ciphertext, in memory that is valid during the call."""
        cdef Py_ssize_t part
        if self.offloaded:
            return _deliver_opened(self, data, size)
        while size and self.state != TLS_UNWRAPPED:
            part = min(size, <Py_ssize_t>FEED_SIZE)
            if self.handover is not None:
                part = size     # all of it: what a handshake leaves unread is handed over with it
                self.handover._keep(&self.handover.received, data, size)
            if self.framed:
                _follow_records(&self.records, <unsigned char *>data, part)
                if self.records.lost:
                    self.framed = False
            if self.earning is not None:
                _earn(self, &self.earning.since_received, data, part)
            self.incoming_write(self.scratch.lend(data, part))
            data += part
            size -= part
            if self.state == TLS_WRAPPED:
                self._do_read()
            else:
                self._go_on()
        return 0

    cdef int _go_on(self) except -1:
        """Whatever the connection was waiting for may have come."""
        if self.state == TLS_HANDSHAKE:
            return self._do_handshake()
        if self.state == TLS_WRAPPED:
            return self._do_read()
        if self.state == TLS_FLUSHING:
            return self._do_flush()
        if self.state == TLS_SHUTDOWN:
            return self._do_shutdown()
        return 0

    def eof_received(self):
        """The peer has shut down its side below TLS. True: the transport below stays open."""
        self.eof_received_below = True
        if self._loop._debug:
            logger.debug('%r received EOF', self)
        if self.offloaded:
            _records_ended(self)
            return True     # who closes the transport below behind close_notify
        if self.state == TLS_HANDSHAKE:
            self._on_handshake_complete(ConnectionResetError())
        elif self.state == TLS_WRAPPED:
            self.state = TLS_FLUSHING
            if not self._app_reading_paused:
                self._do_flush()
        else:
            self._go_on()
        return self.state == TLS_FLUSHING   # the peer may still read what is left to send

    def connection_lost(self, exc):
        """The transport below is gone."""
        cdef TLSState state = self.state
        protocol = self._app_protocol
        self.state = TLS_UNWRAPPED
        self._write_backlog.clear()
        self._write_buffer_size = self.head = 0
        self.lost_writes += 1
        self.app_closed = True
        self._cancel_timers()
        _stop_earning(self)
        if self.handover is not None:
            self.handover._refuse('the connection was lost')    # and forget its secrets
        if state == TLS_HANDSHAKE and exc is None:
            exc = ConnectionAbortedError('the connection was closed during the SSL handshake')
        self._wake_waiter(exc)
        with cython.critical_section(self):
            if self.stream is not None:
                self.peername, self.sockname = self.stream.peername, self.stream.sockname
            self._transport = self.stream = self._app_transport = None
            self._app_protocol = None
        self.deliver = self.get_buffer = self.buffer_updated = None
        if state != TLS_HANDSHAKE and self.app_state in (APP_CONNECTED, APP_EOF):
            self.app_state = APP_LOST
            protocol.connection_lost(exc)

    def pause_writing(self):
        """The transport below has more to send than its high water mark."""
        if self.offloaded:
            if not self.app_writing_paused:
                self.app_writing_paused = True
                _tell_app(self, 'pause_writing')
            return
        self.ssl_writing_paused = True

    def resume_writing(self):
        """The transport below has sent most of it."""
        if self.offloaded:
            if self.app_writing_paused:
                self.app_writing_paused = False
                _tell_app(self, 'resume_writing')
            return
        self.ssl_writing_paused = False
        if self.state == TLS_FLUSHING:
            self._do_flush()
        else:
            _flush(self)

    cdef int _cancel_timers(self) except -1:
        if self.handshake_handle is not None:
            self.handshake_handle.cancel()
            self.handshake_handle = None
        if self.shutdown_handle is not None:
            self.shutdown_handle.cancel()
            self.shutdown_handle = None
        return 0

    # ---- handshake

    cdef int _start_handshake(self) except -1:
        if self._loop._debug:
            logger.debug('%r starts SSL handshake', self)
        self.handshake_start = _monotonic()
        self.state = TLS_HANDSHAKE
        self.handshake_handle = self._loop.call_later(
            self.handshake_timeout, self._check_handshake_timeout)
        if self.server_side and self.stock:
            return 0        # the client begins
        return self._do_handshake()

    def _check_handshake_timeout(self):
        self.handshake_handle = None
        if self.state == TLS_HANDSHAKE:
            self._fatal_error(ConnectionAbortedError(
                f'SSL handshake is taking longer than {self.handshake_timeout} seconds: '
                f'aborting the connection'), 'Fatal error on transport')

    cdef int _do_handshake(self) except -1:
        cdef Handover h = self.handover
        cdef int64_t window = NO_WINDOW if h is None else h._begin_step()
        try:
            self._sslobj.do_handshake()
        except _SSL_AGAIN:
            if window != NO_WINDOW:
                h._end_step(window)
            return _send_control(self)
        except BaseException as exc:
            if window != NO_WINDOW:
                h._end_step(window)
            if not isinstance(exc, Exception):
                raise
            return self._on_handshake_complete(exc)
        if window != NO_WINDOW:
            h._end_step(window)
        return self._on_handshake_complete(None)

    cdef int _on_handshake_complete(self, object failure) except -1:
        if self.handshake_handle is not None:
            self.handshake_handle.cancel()
            self.handshake_handle = None
        if failure is None:
            try:
                self._established()
            except Exception as exc:
                failure = exc
        if failure is None:
            if self.handover is not None:
                _send_control(self)
                _finish_handover(self)
            else:
                self._loop.tls_ssl += 1
            return self._start_application()
        self.handover = None
        self._send_alert()
        self.state = TLS_UNWRAPPED
        message = ('SSL handshake failed on verifying the certificate'
                   if isinstance(failure, ssl.CertificateError) else 'SSL handshake failed')
        self._fatal_error(failure, message)
        return self._wake_waiter(failure)

    cdef int _established(self) except -1:
        """The session is agreed on, and no application data has passed yet."""
        sslobj = self._sslobj
        self._extra.update(peercert=sslobj.getpeercert(), cipher=sslobj.cipher(),
                           compression=sslobj.compression(), ssl_object=sslobj)
        self.state = TLS_WRAPPED
        self.tls13 = self.stock and sslobj.version() == 'TLSv1.3'
        self.records.complete = 2       # how many of them the handshake has taken is not known
        if self._loop._debug:
            logger.debug('%r: SSL handshake took %.1f ms', self,
                         (_monotonic() - self.handshake_start) * 1e3)
        return 0

    cdef int _start_application(self) except -1:
        if self.app_state == APP_INIT:
            self.app_state = APP_CONNECTED
            self._app_protocol.connection_made(self._app_transport)
        self._wake_waiter(None)
        self._do_read()
        return _flush(self)

    cdef int _send_alert(self) except -1:
        """Tells the peer why, as far as the socket takes it: what follows drops what is queued."""
        try:
            _send_control(self)
            if self.stream is not None and _unsent_of(self.stream):
                _send_now(self.stream)
        except Exception:
            if self._loop._debug:
                logger.debug('%r: the alert could not be sent', self, exc_info=True)
        return 0

    # ---- shutdown

    cdef int _start_shutdown(self) except -1:
        if self.state in (TLS_UNWRAPPED, TLS_FLUSHING, TLS_SHUTDOWN):
            return 0
        self.app_closed = True
        _stop_earning(self)
        if self.state == TLS_HANDSHAKE:
            return self._abort(None)
        self.state = TLS_FLUSHING
        self._limit_shutdown()
        if self.offloaded:
            return _shut_down_records(self)
        return self._do_flush()

    cdef int _limit_shutdown(self) except -1:
        """From here on the connection ends after a while, whatever the peer does."""
        if self.shutdown_handle is None:
            self.shutdown_handle = self._loop.call_later(
                self.shutdown_timeout, self._check_shutdown_timeout)
        return 0

    def _check_shutdown_timeout(self):
        self.shutdown_handle = None
        if self._transport is not None:
            self._transport._force_close(asyncio.TimeoutError('SSL shutdown timed out'))

    cdef int _do_flush(self) except -1:
        """What came is delivered, what was written is sent; then the shutdown begins."""
        if self.reading:        # in data_received(); _do_read comes back here
            self.flush_wanted = True
            return 0
        self._do_read()
        if self.state != TLS_FLUSHING:
            return 0
        if not self.app_closed and self._app_reading_paused and self.framed and _has_record(self):
            return 0                    # the stream has ended behind what the application will still take
        _flush(self)
        if self.state != TLS_FLUSHING:
            return 0
        if self._write_backlog:         # resume_writing() or more of the stream goes on
            return self._limit_shutdown()
        self.state = TLS_SHUTDOWN
        return self._do_shutdown()

    cdef int _do_shutdown(self) except -1:
        try:
            if not self.eof_received_below:
                _discard_incoming(self)
                self._sslobj.unwrap()
        except _SSL_AGAIN:
            return _send_control(self)
        except Exception as exc:
            return self._on_shutdown_complete(exc)
        _send_control(self)
        self._call_eof_received()
        return self._on_shutdown_complete(None)

    cdef int _on_shutdown_complete(self, object exc) except -1:
        if self._transport is None or self.state == TLS_UNWRAPPED:
            return 0
        if exc is not None:
            return self._fatal_error(exc, 'Fatal error on transport')
        # A peer that does not read could delay the end of the transport below forever.
        self._limit_shutdown()
        self._loop.call_soon(self._transport.close)
        return 0

    cdef int _abort(self, object exc) except -1:
        self.state = TLS_UNWRAPPED
        self.app_closed = True
        if self._transport is not None:
            self._transport._force_close(exc)
        return 0

    cdef int _call_eof_received(self) except -1:
        if self.app_state != APP_CONNECTED:
            return 0
        self.app_state = APP_EOF
        try:
            keep_open = self._app_protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            return self._fatal_error(exc, 'Error calling eof_received()')
        if keep_open:
            logger.warning('returning true from eof_received() has no effect when using ssl')
        return 0

    cdef int _fatal_error(self, object exc, object message) except -1:
        if self._transport is not None:
            self._transport._force_close(exc)
        if isinstance(exc, OSError):
            if self._loop._debug:
                logger.debug('%r: %s', self, message, exc_info=True)
        elif not isinstance(exc, asyncio.CancelledError):
            self._loop.call_exception_handler({
                'message': message,
                'exception': exc,
                'transport': self._transport,
                'protocol': self,
            })
        return 0

    # ---- reading

    cdef int _do_read(self) except -1:
        """Delivers what can be decrypted, until the application pauses reading."""
        if self.reading or self.offloaded or self.state not in (TLS_WRAPPED, TLS_FLUSHING):
            return 0
        self.reading = True
        try:
            if not self._app_reading_paused:
                _deliver_all(self)
            if self._app_reading_paused or self.ssl_reading_paused:
                _control_reading_below(self)
        except Exception as exc:
            if self.stock and isinstance(exc, ssl.SSLError):
                self._send_alert()
            self._fatal_error(exc, 'Fatal error on SSL protocol')
        finally:
            self.reading = False
        if self.ended:
            self._call_eof_received()
            self._start_shutdown()
        elif not self.flush_queued and self.state == TLS_WRAPPED:
            _flush(self)        # an answer to a KeyUpdate, say
        if self.flush_wanted:
            self.flush_wanted = False
            return self._do_flush()
        return 0

    cdef int _pause_reading(self) except -1:
        self._app_reading_paused = True
        if self.offloaded and self.stream is not None:
            return self.stream._pause_reading()
        return 0

    cdef int _resume_reading(self) except -1:
        if self._app_reading_paused:
            self._app_reading_paused = False
            if self.offloaded:
                return 0 if self.stream is None else self.stream._resume_reading()
            self._loop.call_soon(self._go_on_reading)
        return 0

    def _go_on_reading(self):
        if self.state != TLS_HANDSHAKE and not self.offloaded:
            self._go_on()
