# The methods of datagram_transport.DatagramTransport, as functions that Python binds.

cdef object _datagram_type = None
cdef Py_ssize_t _datagram_core_offset = 0


def register_datagram_type(cls):
    """Tells where instances of cls hold their DatagramCore: in the slot ``_core``."""
    global _datagram_type, _datagram_core_offset
    _datagram_core_offset = _slot_offset(cls, '_core')
    _datagram_type = cls


cdef inline DatagramCore _endpoint_of(object transport):
    return <DatagramCore>_state_of(transport, _datagram_type, _datagram_core_offset)


# Under the GIL these bear with other threads themselves (DatagramCore._tell). Without it, the loop's thread makes their calls.

cdef inline bint _endpoint_must_defer(DatagramCore core) noexcept:
    return KLOOP_FREE_THREADED and (_is_elsewhere(core.loop) or _is_deferred(core.loop, &core.calls, core.core_closed))


cdef int _endpoint_defer(DatagramCore core, object method, tuple args, size_t size=0) except -1:
    return _defer_call(core.loop, &core.calls, _run_endpoint_deferred, (core, method, args, size), size)


def _run_endpoint_deferred(DatagramCore core, method, tuple args, size_t size):
    _run_deferred_call(&core.calls, method, args, size)


def datagram_sendto(self, data, addr=None):
    """Sends data (bytes-like) as one datagram to addr, or without it to the remote address.

    Never blocks. Errors of the network go to the protocol's error_received(). Raises TypeError for
    other types of data, ValueError for another address than the remote one.
    """
    cdef DatagramCore core = _endpoint_of(self)
    if _endpoint_must_defer(core):
        data = _as_bytes(data)
        _check_remote(core, addr)
        _endpoint_defer(core, datagram_sendto, (self, data, addr), PyBytes_GET_SIZE(data))
        return
    _sendto(core, data, addr)


def datagram_close(self):
    """Sends what is queued, then closes; connection_lost(None) follows."""
    cdef DatagramCore core = _endpoint_of(self)
    if _endpoint_must_defer(core):
        _endpoint_defer(core, datagram_close, (self,))
        return
    core._close()


def datagram_abort(self):
    """Closes at once and drops what is queued; connection_lost(None) follows."""
    cdef DatagramCore core = _endpoint_of(self)
    if _endpoint_must_defer(core):
        _endpoint_defer(core, datagram_abort, (self,))
        return
    core._force_close(None)


def datagram_is_closing(self):
    """Whether the transport is closed or about to be."""
    return bool(_endpoint_of(self).closing)


def datagram_is_reading(self):
    """Whether datagrams are delivered to the protocol."""
    cdef DatagramCore core = _endpoint_of(self)
    return not core.closing and not core.paused


def datagram_pause_reading(self):
    """Stops delivery; what had arrived is delivered after resume_reading()."""
    cdef DatagramCore core = _endpoint_of(self)
    if _endpoint_must_defer(core):
        _endpoint_defer(core, datagram_pause_reading, (self,))
        return
    core._pause_reading()


def datagram_resume_reading(self):
    """Starts delivery again."""
    cdef DatagramCore core = _endpoint_of(self)
    if _endpoint_must_defer(core):
        _endpoint_defer(core, datagram_resume_reading, (self,))
        return
    core._resume_reading()


def datagram_set_protocol(self, protocol):
    """From now on calls protocol."""
    cdef DatagramCore core = _endpoint_of(self)
    if _endpoint_must_defer(core):
        _endpoint_defer(core, datagram_set_protocol, (self, protocol))
        return
    with cython.critical_section(core):
        core.protocol = protocol


def datagram_get_protocol(self):
    """The protocol in use."""
    cdef DatagramCore core = _endpoint_of(self)
    with cython.critical_section(core):
        return core.protocol


def datagram_get_write_buffer_size(self):
    """Bytes of the datagrams that the kernel has not taken; from Python 3.13 on, 8 more for each."""
    cdef DatagramCore core = _endpoint_of(self)
    return kloop_glance(&core.queued_size) + kloop_peek_size(&core.calls.size)


def datagram_get_write_buffer_limits(self):
    """(low, high) water, in bytes."""
    cdef DatagramCore core = _endpoint_of(self)
    return (core.low, core.high)


def datagram_set_write_buffer_limits(self, high=None, low=None):
    """Sets high and low water, in bytes; raises ValueError unless high >= low >= 0."""
    cdef DatagramCore core = _endpoint_of(self)
    if _endpoint_must_defer(core):
        _endpoint_defer(core, datagram_set_write_buffer_limits, (self, *_water_marks(high, low)))
        return
    core.high, core.low = _water_marks(high, low)
    _maybe_pause_endpoint(core)


def datagram_socket(self):
    """The socket; None once it is closed."""
    return _endpoint_of(self).sock


def datagram_address(self):
    """The remote address given to create_datagram_endpoint(), resolved, or None."""
    return _endpoint_of(self).address


def datagram_describe(self):
    """repr(): class, fd, and what is under way."""
    cdef DatagramCore core = _endpoint_of(self)
    info = [type(self).__name__]
    if core.sock is None:
        info.append('closed')
    elif core.closing:
        info.append('closing')
    info.append(f'fd={core.fd}')
    if core.sock is not None and not core.loop.closed:
        reading = core.started and not core.paused and not core.closing
        info.append('read=polling' if reading else 'read=idle')
        state = 'polling' if core.queued else 'idle'
        info.append(f'write=<{state}, bufsize={core.queued_size}>')
    return '<{}>'.format(' '.join(info))


def datagram_finalize(self):
    """__del__: warns of a socket that nobody closed, and closes it."""
    cdef PyObject *slot = _in_slot(self, _datagram_core_offset)
    cdef DatagramCore core
    if slot is NULL:
        return
    core = <DatagramCore>slot
    if core.sock is None or not core.core_closed:
        return
    warnings.warn(f'unclosed transport {self!r}', ResourceWarning, source=self)
    core.sock.close()
