# Writing and flow control of a StreamCore.
#
# Bytes are in one of two states. While the kernel takes all that is written, they are
# `unsent` of the current turn, and the next kloop_poll() sends them: no event tells.
# Once the kernel refused some, the stream is `backlogged`: `backlog` counts what the core
# has queued and what is on its way there, and SENT events count it down to 0.

cdef enum:
    # From so many bytes on the GIL is given up while they are sealed (16 µs); and while another thread
    # competes for it, which then keeps it for 5 ms.
    SEAL_ALONE = 64 * 1024
    SEAL_CONTENDED = 1024 * 1024


cdef inline uint64_t _unsent_of(StreamCore s) noexcept:
    return s.unsent if s.unsent_turn == s.loop.turn else 0


cdef inline int _command_with_bytes(StreamCore s, uint32_t op, object data) except -1:
    """Appends a command about a bytes object; the core gives the reference back."""
    cdef kloop_cmd *command = s.loop._command(op, s.id)
    Py_INCREF(data)
    command.ptr = <uint64_t>PyBytes_AS_STRING(data)
    command.len = PyBytes_GET_SIZE(data)
    command.owner = <uint64_t><PyObject *>data
    return 0


cdef int _queue_bytes(StreamCore s, object data, Py_ssize_t size) except -1:
    _command_with_bytes(s, KLOOP_CMD_WRITE, data)
    if s.backlogged:
        s.backlog += size
    elif s.unsent_turn == s.loop.turn:
        s.unsent += size
    else:
        s.unsent = size
        s.unsent_turn = s.loop.turn
    return 0


cdef inline bint _is_alone(StreamCore s) noexcept:
    """Whether this stream's one event is all that came, now and before: one request, one answer.

    The peer then waits for nothing else, and sending at once gives it what is left of the iteration (a tenth of
    the time with one connection; with two, batching is as fast). Not if it writes several times a turn.
    """
    cdef LoopCore loop = s.loop
    cdef bint again = loop.last_writer == <void *>s
    if again and loop.last_write_turn == loop.turn:
        loop.last_writer = NULL
        return False
    loop.last_writer = <void *>s
    loop.last_write_turn = loop.turn
    return again and loop.k.nevents == 1


cdef inline int _after_queueing(StreamCore s, Py_ssize_t size) except -1:
    if s.backlogged:
        return _maybe_pause_protocol(s)
    if (size >= DIRECT_WRITE or s.unsent >= DIRECT_SEND or s.loop.thread_id == NO_THREAD
            or (s.eager and s.loop.k.nevents <= FEW_EVENTS) or _is_alone(s)):
        return _send_now(s)
    return 0


cdef int _send_now(StreamCore s) except -1:
    """Offers what is queued to the kernel at once."""
    cdef LoopCore loop = s.loop
    cdef PyThreadState *state
    cdef uint64_t much = SEAL_CONTENDED if loop.contended else SEAL_ALONE
    cdef int64_t left
    loop._check_core()
    if s.tls is not None and s.tls.offloaded and s.unsent >= much:
        loop.in_core = True
        state = PyEval_SaveThread()
        left = kloop_lib.send_now(loop.k, s.id)
        loop._take_gil(state)
        loop.in_core = False
    else:
        left = kloop_lib.send_now(loop.k, s.id)
    _release_owners(s.loop.k)
    s.unsent = 0
    s.offered_turn = loop.turn
    if left < 0:
        return s._fatal_error(_os_error(<int>-left), f'Fatal write error on {s.kind} transport')
    if left > 0:
        s.backlogged = True
        s.backlog = left
        return _maybe_pause_protocol(s)
    return 0


cdef inline int _write(StreamCore s, object data) except -1:
    cdef Py_ssize_t size
    if type(data) is not bytes:
        data = _as_bytes(data)
    if s.eof:
        raise RuntimeError('Cannot call write() after write_eof()')
    if s.empty_waiter is not None:
        raise RuntimeError('unable to write; sendfile is in progress')
    size = PyBytes_GET_SIZE(data)
    if size == 0:
        return 0
    if s.conn_lost or s.core_closed or s.close_sent:
        return _write_lost(s)
    _queue_bytes(s, data, size)
    return _after_queueing(s, size)


cdef object _as_bytes(object data):
    """A copy: the caller may change a bytearray as soon as write() has returned."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f'data argument must be a bytes-like object, not {type(data).__name__!r}')
    return bytes(data)


cdef int _write_lost(StreamCore s) except -1:
    s.lost_writes += 1
    if s.lost_writes >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
        logger.warning('socket.send() raised exception.')
    return 0


cdef int _writelines(StreamCore s, object lines) except -1:
    cdef Py_ssize_t size = 0
    cdef list parts = [data if type(data) is bytes else _as_bytes(data) for data in lines]
    if s.eof:
        raise RuntimeError('Cannot call writelines() after write_eof()')
    if s.empty_waiter is not None:
        raise RuntimeError('unable to writelines; sendfile is in progress')
    if not parts:
        return 0
    if s.conn_lost or s.core_closed or s.close_sent:
        return _write_lost(s)
    for data in parts:
        if PyBytes_GET_SIZE(data):
            _queue_bytes(s, data, PyBytes_GET_SIZE(data))
            size += PyBytes_GET_SIZE(data)
    return _after_queueing(s, size)


cdef int _write_eof(StreamCore s) except -1:
    if s.closing or s.eof:
        return 0
    s.eof = True
    if s.core_closed:
        return 0
    s.loop._command(KLOOP_CMD_WRITE_EOF, s.id)
    return 0


cdef uint64_t _buffer_size(StreamCore s) except? 0:
    """As on asyncio, where a write is offered to the kernel before write() returns."""
    cdef size_t deferred = kloop_peek_size(&s.deferred.size)
    if KLOOP_FREE_THREADED and _is_elsewhere(s.loop):
        return kloop_glance(&s.backlog) + deferred
    if not s.backlogged and _unsent_of(s) and not s.core_closed and not _is_elsewhere(s.loop):
        _send_now(s)
    return (s.backlog if s.backlogged else 0) + deferred


cdef int _on_backlog(StreamCore s, uint64_t queued) except -1:
    cdef uint64_t later = _unsent_of(s)         # written after the poll that brought this event
    # A callback that came before this event may have offered all to the kernel since: what that left, if
    # anything, is known, and of a backlog that is over no SENT event will tell.
    if s.conn_lost or s.offered_turn == s.loop.turn:
        return 0
    s.backlogged = True
    s.backlog = queued + later
    return _maybe_pause_protocol(s)


cdef int _on_sent(StreamCore s, uint64_t size, int drained) except -1:
    if s.conn_lost:
        return 0
    s.backlog -= size if size < s.backlog else s.backlog
    if drained:
        s.backlogged = False
        s.unsent = s.backlog
        s.unsent_turn = s.loop.turn
        s.backlog = 0
        if s.empty_waiter is not None and not s.empty_waiter.done():
            s.empty_waiter.set_result(None)
    _maybe_resume_protocol(s)
    if s.closing and not s.backlogged and not s.close_sent and not s.conn_lost:
        return s._close_core()
    return 0


cdef int _maybe_pause_protocol(StreamCore s) except -1:
    if s.backlog <= s.high or s.protocol_paused:
        return 0
    s.protocol_paused = True
    try:
        s.protocol.pause_writing()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        _flow_failed(s, 'protocol.pause_writing() failed', exc)
    return 0


cdef int _maybe_resume_protocol(StreamCore s) except -1:
    if not s.protocol_paused or s.backlog > s.low:
        return 0
    s.protocol_paused = False
    PyContext_Enter(s.context)
    try:
        s.protocol.resume_writing()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        _flow_failed(s, 'protocol.resume_writing() failed', exc)
    finally:
        PyContext_Exit(s.context)
    return 0


cdef object _flow_failed(StreamCore s, object message, object exc):
    s.loop.call_exception_handler({
        'message': message,
        'exception': exc,
        'transport': s.transport,
        'protocol': s.protocol,
    })


cdef int _set_limits(StreamCore s, object high, object low) except -1:
    s.high, s.low = _water_marks(high, low)
    return 0


cdef tuple _water_marks(object high, object low):
    """(high, low) in bytes, of which either may be None."""
    if high is None:
        high = 64 * 1024 if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f'high ({high!r}) must be >= low ({low!r}) must be >= 0')
    return high, low
