# The methods of tls.SSLTransport, as functions that Python binds; its TLSProtocol is read
# straight from the slot ``_ssl_protocol``.

cdef object _tls_transport_type = None
cdef Py_ssize_t _tls_offset = 0


def register_tls_transport_type(cls):
    """Tells which class a TLSProtocol makes its transport of, with a slot ``_ssl_protocol``."""
    global _tls_transport_type, _tls_offset
    _tls_offset = _slot_offset(cls, '_ssl_protocol')
    _tls_transport_type = cls


cdef object _new_tls_transport(TLSProtocol t):
    transport = _tls_transport_type.__new__(_tls_transport_type)
    transport._ssl_protocol = t
    return transport


cdef inline TLSProtocol _tls_of(object transport):
    return <TLSProtocol>_state_of(transport, _tls_transport_type, _tls_offset)


# As with TCP, calls of other threads are the loop's to make while it is in the core, and so
# are those behind them, to keep their order.

cdef inline bint _tls_must_defer(TLSProtocol t) noexcept:
    return _is_deferred(t._loop, &t.deferred, False)


cdef int _tls_defer(TLSProtocol t, object method, tuple args, size_t size=0) except -1:
    return _defer_call(t._loop, &t.deferred, _run_tls_deferred, (t, method, args, size), size)


def _run_tls_deferred(TLSProtocol t, method, tuple args, size_t size):
    _run_deferred_call(&t.deferred, method, args, size)


cdef object _tls_bytes(object data):
    """A copy: the caller may change a bytearray as soon as write() has returned."""
    if type(data) is bytes:
        return data
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f'data: expecting a bytes-like instance, got {type(data).__name__}')
    return bytes(data)


def tls_write(self, data):
    """Encrypts and sends data (bytes-like) behind what was written before; never blocks."""
    cdef TLSProtocol t = _tls_of(self)
    data = _tls_bytes(data)
    if not PyBytes_GET_SIZE(data):
        return
    if _tls_must_defer(t):
        _tls_defer(t, tls_write, (self, data), PyBytes_GET_SIZE(data))
        return
    _tls_write(t, data)


def tls_writelines(self, list_of_data):
    """Encrypts and sends several pieces of data in order."""
    tls_write(self, b''.join(list_of_data))


def tls_write_eof(self):
    """Raises NotImplementedError: asyncio's TLS transports can't be closed in halves."""
    raise NotImplementedError


def tls_can_write_eof(self):
    """False."""
    return False


def tls_close(self):
    """Sends what was written, shuts TLS down, then closes; connection_lost(None) follows.

    The peer's close_notify is awaited, for ssl_shutdown_timeout seconds at most.
    """
    cdef TLSProtocol t = _tls_of(self)
    if _tls_must_defer(t):
        _tls_defer(t, tls_close, (self,))
        return
    if t.app_closed:
        return
    t.app_closed = True
    if t.state == TLS_FLUSHING:     # since the stream ended, while reading was paused
        t._limit_shutdown()
        t._do_flush()
    else:
        t._start_shutdown()


def tls_abort(self):
    """Closes at once and drops what is queued; connection_lost(None) follows."""
    tls_force_close(self, None)


def tls_force_close(self, exc):
    """Closes at once; connection_lost(exc) follows."""
    cdef TLSProtocol t = _tls_of(self)
    if _tls_must_defer(t):
        _tls_defer(t, tls_force_close, (self, exc))
        return
    t._abort(exc)


def tls_is_closing(self):
    """Whether the transport is closed or about to be."""
    cdef TLSProtocol t = _tls_of(self)
    with cython.critical_section(t):
        transport = t._transport
    return bool(t.app_closed or (transport is not None and transport.is_closing()))


def tls_is_reading(self):
    """Whether data is delivered to the protocol."""
    return not _tls_of(self)._app_reading_paused


def tls_pause_reading(self):
    """Stops delivery; what had arrived is delivered after resume_reading()."""
    cdef TLSProtocol t = _tls_of(self)
    if (KLOOP_FREE_THREADED or t.offloaded) and _tls_must_defer(t):
        _tls_defer(t, tls_pause_reading, (self,))
        return
    t._pause_reading()


def tls_resume_reading(self):
    """Starts delivery again."""
    cdef TLSProtocol t = _tls_of(self)
    if (KLOOP_FREE_THREADED or t.offloaded) and _tls_must_defer(t):
        _tls_defer(t, tls_resume_reading, (self,))
        return
    t._resume_reading()


def tls_set_protocol(self, protocol):
    """From now on calls protocol."""
    cdef TLSProtocol t = _tls_of(self)
    if KLOOP_FREE_THREADED and _tls_must_defer(t):
        _tls_defer(t, tls_set_protocol, (self, protocol))
        return
    t._set_app_protocol(protocol)


def tls_get_protocol(self):
    """The protocol in use; None once the connection is lost."""
    cdef TLSProtocol t = _tls_of(self)
    with cython.critical_section(t):
        return t._app_protocol


def tls_get_write_buffer_size(self):
    """Bytes that were written and not yet encrypted, for the transport below has much to send."""
    cdef TLSProtocol t = _tls_of(self)
    cdef StreamCore stream
    cdef size_t deferred = kloop_peek_size(&t.deferred.size)
    with cython.critical_section(t):
        stream = t.stream
    if t.offloaded and stream is not None:
        return _buffer_size(stream) + deferred
    if not _tls_must_defer(t) and t.flush_queued:
        _flush(t)
    return kloop_glance(<uint64_t *>&t._write_buffer_size) + deferred


def tls_get_write_buffer_limits(self):
    """(low, high) water, in bytes."""
    cdef TLSProtocol t = _tls_of(self)
    return (t.write_low, t.write_high)


def tls_set_write_buffer_limits(self, high=None, low=None):
    """Sets high and low water, in bytes; raises ValueError unless high >= low >= 0."""
    cdef TLSProtocol t = _tls_of(self)
    if KLOOP_FREE_THREADED and _tls_must_defer(t):
        _tls_defer(t, tls_set_write_buffer_limits, (self, high, low))
        return
    _set_tls_limits(high, low, SSL_WRITE_HIGH, &t.write_high, &t.write_low)
    if t.offloaded and t.stream is not None:
        _set_limits(t.stream, t.write_high, t.write_low)
        _maybe_pause_protocol(t.stream)
    else:
        _control_app_writing(t)


def tls_get_read_buffer_size(self):
    """Bytes of ciphertext that have arrived and were not decrypted."""
    incoming = _tls_of(self)._incoming
    return 0 if incoming is None else incoming.pending      # gone with what is left of OpenSSL


def tls_get_read_buffer_limits(self):
    """(low, high) water, in bytes of ciphertext."""
    cdef TLSProtocol t = _tls_of(self)
    return (t.read_low, t.read_high)


def tls_set_read_buffer_limits(self, high=None, low=None):
    """How much may wait, in bytes, while the application has paused reading.

    Raises ValueError unless high >= low >= 0.
    """
    cdef TLSProtocol t = _tls_of(self)
    if KLOOP_FREE_THREADED and _tls_must_defer(t):
        _tls_defer(t, tls_set_read_buffer_limits, (self, high, low))
        return
    _set_tls_limits(high, low, SSL_READ_HIGH, &t.read_high, &t.read_low)
    _control_reading_below(t)


def tls_get_extra_info(self, name, default=None):
    """'ssl_object', 'sslcontext', 'peercert', 'cipher', 'compression', 'kloop_tls' (a TLSOffload), or what the transport below tells."""
    cdef TLSProtocol t = _tls_of(self)
    if name in t._extra:
        return t._extra[name]
    with cython.critical_section(t):
        transport = t._transport
    if transport is not None:
        return transport.get_extra_info(name, default)
    # A log of what was served is often written once the peer has gone.
    address = t.peername if name == 'peername' else t.sockname if name == 'sockname' else None
    return default if address is None else _name_of(address)


def tls_sealed_by_kernel(self):
    """The transport below, if the kernel makes records of what is sent on its socket; else None.

    For who has much to send: a connection that has yet to earn its hand-over has it now.
    """
    cdef TLSProtocol t = _tls_of(self)
    if t.earning is not None and t._loop.tls_offload != KLOOP_TLS_GO:
        _flush(t)
        _hand_over_late(t)
    return t._transport if t.kernel_seals and t.stream is not None else None


def tls_count_sent(self, size):
    """Tells the core that size bytes were sent past it, for the key to be changed in time."""
    cdef TLSProtocol t = _tls_of(self)
    if t.stream is not None and not t.stream.core_closed:
        t._loop._command(KLOOP_CMD_TLS_SENT, t.stream.id).len = size


def tls_protocol_paused(self):
    """Whether the protocol was asked to pause writing."""
    return bool(_tls_of(self).app_writing_paused)


def tls_finalize(self):
    """__del__: warns of a transport that nobody closed."""
    cdef PyObject *slot = _in_slot(self, _tls_offset)
    if slot is NULL or (<TLSProtocol>slot).app_closed:
        return
    (<TLSProtocol>slot).app_closed = True
    warnings.warn('unclosed transport <asyncio._SSLProtocolTransport object>', ResourceWarning,
                  source=self)
