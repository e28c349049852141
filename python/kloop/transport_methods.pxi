# The methods of transport.StreamTransport, as functions that Python binds: calling one
# makes no bound-method object, and the StreamCore is read straight from its slot.

cdef extern from "Python.h":
    ctypedef struct PyMemberDef:
        Py_ssize_t offset
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member

cdef object _transport_type = None
cdef Py_ssize_t _core_offset = 0


def register_transport_type(cls):
    """Tells where instances of cls hold their StreamCore: in the slot ``_core``."""
    global _transport_type, _core_offset
    _core_offset = _slot_offset(cls, '_core')
    _transport_type = cls


cdef Py_ssize_t _slot_offset(object cls, str name) except -1:
    """Where instances of cls hold what is in the slot of this name, in bytes."""
    return (<PyMemberDescrObject *><PyObject *>cls.__dict__[name]).d_member.offset


cdef inline PyObject *_in_slot(object transport, Py_ssize_t offset) noexcept:
    """What the slot holds, borrowed; NULL if nothing."""
    return (<PyObject **>(<char *><PyObject *>transport + offset))[0]


cdef inline PyObject *_state_of(object transport, object cls, Py_ssize_t offset) except NULL:
    """What the slot of an instance of cls holds, borrowed."""
    cdef PyObject *state
    if not isinstance(transport, cls):
        raise TypeError(f'expected a {cls.__name__}, not {type(transport).__name__!r}')
    state = _in_slot(transport, offset)
    if state is NULL:
        raise RuntimeError('the transport was not initialised')
    return state


cdef inline StreamCore _core_of(object transport):
    return <StreamCore>_state_of(transport, _transport_type, _core_offset)


def init(self, LoopCore loop, sock, protocol, waiter=None, extra=None, server=None,
         context=None):
    """Takes over a connected, non-blocking stream socket.

    The protocol is called in context; None: in a copy of the current one.
    """
    cdef StreamCore core = StreamCore.__new__(StreamCore)
    cdef int one = 1
    core.extra = extra
    try:
        core.sockname = sock.getsockname()
    except OSError:
        core.sockname = None
    if extra is None or 'peername' not in extra:
        try:
            core.peername = sock.getpeername()
        except OSError:
            core.peername = None
    else:
        core.peername = extra['peername']
    self._core = self._extra = core
    core._init(loop, self, sock.fileno(), sock, protocol, context)
    if loop.kept is not None:
        core.pending = _all_kept(loop, sock)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        setsockopt(core.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
    elif sock.family == socket.AF_UNIX:
        core.eager = True
    core._start(server, waiter)


# asyncio's transports are for the loop's thread alone too, but bear with others: a collector that
# runs in another thread closes a StreamWriter, and programs write from threads. While the
# loop's thread is in the core, which has no lock (without the GIL: while the loop runs), such a call is the
# loop's to make; so are those behind it, to keep their order.

cdef inline bint _is_deferred(LoopCore loop, Deferred *deferred, bint core_closed) noexcept:
    """Whether a call is to be made later, by the loop's thread."""
    if core_closed:
        return False
    return _is_elsewhere(loop) or kloop_load_size(&deferred.calls) != 0 and not deferred.running


cdef int _defer_call(LoopCore loop, Deferred *deferred, object runner, tuple args, size_t size) except -1:
    kloop_add_size(&deferred.calls, 1)      # first: it may run before we are back
    kloop_add_size(&deferred.size, size)
    try:
        loop._defer(runner, args)
    except BaseException:
        kloop_take_size(&deferred.size, size)
        kloop_take_size(&deferred.calls, 1)
        raise
    return 0


cdef int _run_deferred_call(Deferred *deferred, object method, tuple args, size_t size) except -1:
    cdef bint before = deferred.running
    deferred.running = True
    try:
        method(*args)
    finally:
        deferred.running = before
        kloop_take_size(&deferred.size, size)
        kloop_take_size(&deferred.calls, 1)
    return 0


cdef inline bint _must_defer(StreamCore core) noexcept:
    if KLOOP_FREE_THREADED and _is_elsewhere(core.loop):
        return True         # without a look at what is the loop's thread's
    return _is_deferred(core.loop, &core.deferred, core.core_closed)


cdef int _defer(StreamCore core, object method, tuple args, size_t size=0) except -1:
    return _defer_call(core.loop, &core.deferred, _run_deferred, (core, method, args, size), size)


def _run_deferred(StreamCore core, method, tuple args, size_t size):
    _run_deferred_call(&core.deferred, method, args, size)


def write(self, data):
    """Sends data (bytes-like) behind what was written before; never blocks.

    Raises RuntimeError after write_eof(), TypeError for other types.
    """
    cdef StreamCore core = _core_of(self)
    if _must_defer(core):
        data = _as_bytes(data)
        _defer(core, write, (self, data), PyBytes_GET_SIZE(data))
        return
    _write(core, data)


def writelines(self, list_of_data):
    """Sends several pieces of data in order."""
    cdef StreamCore core = _core_of(self)
    if _must_defer(core):
        data = b''.join([_as_bytes(part) for part in list_of_data])
        _defer(core, write, (self, data), PyBytes_GET_SIZE(data))
        return
    _writelines(core, list_of_data)


def write_eof(self):
    """Shuts down the sending side once everything written is sent."""
    cdef StreamCore core = _core_of(self)
    if _must_defer(core):
        _defer(core, write_eof, (self,))
        return
    _write_eof(core)


def can_write_eof(self):
    """True: a stream socket can be closed in halves."""
    return True


def close(self):
    """Sends what is queued, then closes; connection_lost(None) follows."""
    cdef StreamCore core = _core_of(self)
    if _must_defer(core):
        _defer(core, close, (self,))
        return
    core._close()


def abort(self):
    """Closes at once and drops what is queued; connection_lost(None) follows."""
    cdef StreamCore core = _core_of(self)
    if _must_defer(core):
        _defer(core, abort, (self,))
        return
    if _unsent_of(core) and not core.backlogged and not core.closing and not core.core_closed:
        _send_now(core)     # on asyncio, what write() could send has left by now
    core._force_close(None)


def force_close(self, exc):
    """Closes at once; connection_lost(exc) follows."""
    cdef StreamCore core = _core_of(self)
    if KLOOP_FREE_THREADED and _must_defer(core):
        _defer(core, force_close, (self, exc))
        return
    core._force_close(exc)


def fatal_error(self, exc, message='Fatal error on transport'):
    """Reports exc, then closes at once."""
    cdef StreamCore core = _core_of(self)
    if KLOOP_FREE_THREADED and _must_defer(core):
        _defer(core, fatal_error, (self, exc, message))
        return
    core._fatal_error(exc, message)


def is_closing(self):
    """Whether the transport is closed or about to be."""
    return kloop_glance_flag(&_core_of(self).closing) != 0


def is_reading(self):
    """Whether data is delivered to the protocol."""
    cdef StreamCore core = _core_of(self)
    return not kloop_glance_flag(&core.closing) and not kloop_glance_flag(&core.paused)


def pause_reading(self):
    """Stops delivery; what had arrived is delivered after resume_reading()."""
    cdef StreamCore core = _core_of(self)
    if _must_defer(core):
        _defer(core, pause_reading, (self,))
        return
    core._pause_reading()


def resume_reading(self):
    """Starts delivery again."""
    cdef StreamCore core = _core_of(self)
    if _must_defer(core):
        _defer(core, resume_reading, (self,))
        return
    core._resume_reading()


def set_protocol(self, protocol):
    """From now on calls protocol."""
    cdef StreamCore core = _core_of(self)
    if KLOOP_FREE_THREADED and _must_defer(core):
        _defer(core, set_protocol, (self, protocol))
        return
    core._set_protocol(protocol)


def get_protocol(self):
    """The protocol in use."""
    return _protocol_of(_core_of(self))


def get_write_buffer_size(self):
    """Bytes that were written and that the kernel has not taken."""
    return _buffer_size(_core_of(self))


def get_write_buffer_limits(self):
    """(low, high) water, in bytes."""
    cdef StreamCore core = _core_of(self)
    return (kloop_glance(&core.low), kloop_glance(&core.high))


def set_write_buffer_limits(self, high=None, low=None):
    """Sets high and low water, in bytes; raises ValueError unless high >= low >= 0."""
    cdef StreamCore core = _core_of(self)
    if KLOOP_FREE_THREADED and _must_defer(core):
        _defer(core, set_write_buffer_limits, (self, *_water_marks(high, low)))
        return
    _set_limits(core, high, low)
    _maybe_pause_protocol(core)


def reading_paused(self):
    """Whether pause_reading() is in effect."""
    return bool(_core_of(self).paused)


def protocol_paused(self):
    """Whether the protocol was asked to pause writing."""
    return bool(_core_of(self).protocol_paused)


def make_empty_waiter(self):
    """A future that is done when the write buffer is empty; writing fails until it is reset."""
    cdef StreamCore core = _core_of(self)
    if core.empty_waiter is not None:
        raise RuntimeError('Empty waiter is already set')
    core.empty_waiter = core.loop.create_future()
    if _buffer_size(core) == 0:
        core.empty_waiter.set_result(None)
    return core.empty_waiter


def reset_empty_waiter(self):
    """Allows writing again."""
    _core_of(self).empty_waiter = None


def describe(self):
    """repr(): class, fd, and what is under way."""
    cdef StreamCore core = _core_of(self)
    info = [type(self).__name__]
    if KLOOP_FREE_THREADED and _is_elsewhere(core.loop):
        return f'<{info[0]} of a loop that runs in another thread>'
    if core.fd < 0:
        info.append('closed')
    elif core.closing:
        info.append('closing')
    info.append(f'fd={core.fd}')
    if core.fd >= 0 and not core.loop.closed:
        reading = core.started and not core.paused and not core.closing
        info.append('read=polling' if reading else 'read=idle')
        state = 'polling' if core.backlogged else 'idle'
        size = core.backlog if core.backlogged else _unsent_of(core)
        info.append(f'write=<{state}, bufsize={size}>')
    return '<{}>'.format(' '.join(info))


def finalize(self):
    """__del__: warns of a socket that nobody closed, and closes it."""
    cdef PyObject *slot = _in_slot(self, _core_offset)
    cdef StreamCore core
    if slot is NULL:
        return
    core = <StreamCore>slot
    if core.fd < 0 or core.lost_called or not core.core_closed:
        return
    warnings.warn(f'unclosed transport {self!r}', ResourceWarning, source=self)
    core._close_fd()
    if core.server is not None:
        if _ATTACH_TAKES_TRANSPORT:
            core.server._detach(self)
        else:
            core.server._detach()


@cython.critical_section
cdef object _protocol_of(StreamCore core):
    return core.protocol


cdef object _socket_of(StreamCore core):
    """The socket object; for an accepted connection made only when somebody asks, in whichever thread."""
    cdef int fd
    with cython.critical_section(core):
        fd = core.fd
        sock = core.sock
    if sock is not None:
        return sock
    if fd < 0:
        made = socket.socket()
        made.close()
    else:
        made = socket.socket(fileno=fd)
    with cython.critical_section(core):
        if core.sock is None and core.fd == fd:
            core.sock = made
            return made
    made.detach()       # of a descriptor that another one owns, or that was closed meanwhile
    return _socket_of(core)


cdef object _shown_socket_of(StreamCore core):
    """The TransportSocket, always the same."""
    with cython.critical_section(core):
        shown = core.shown_sock
    if shown is None:
        made = trsock.TransportSocket(_socket_of(core))
        with cython.critical_section(core):
            if core.shown_sock is None:
                core.shown_sock = made
            shown = core.shown_sock
    return shown


cdef object _name_of(object address):
    """A socket address as Python shows it; accepted connections keep the kernel's bytes."""
    if type(address) is not RawAddress:
        return address
    return _decode_address(<RawAddress>address)
