# Sending and flow control of a DatagramCore.
#
# A datagram is offered to the kernel when sendto() is called, as on asyncio, so that its error
# is told at once. What the kernel does not take now is queued in the core, with all that
# follows until the queue is empty: DATAGRAM_SENT events count it down.

# The header bytes that asyncio adds to each queued datagram's, and whether it sends empty ones.
# (CPython 3.13.0 adds them and does not take them off; later ones do, and so does this.)
cdef enum:
    HEADER_SIZE = 8
cdef uint64_t _COUNTED_HEADER = HEADER_SIZE if sys.version_info >= (3, 13) else 0
cdef bint _SENDS_EMPTY = sys.version_info >= (3, 13)


cdef int _sendto(DatagramCore s, object data, object name) except -1:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(
            f'data argument must be a bytes-like object, not {type(data).__name__!r}')
    if not _SENDS_EMPTY and not data:
        return 0
    if s.address:
        _check_remote(s, name)
        name = s.address
        if s.conn_lost:
            if s.conn_lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
                logger.warning('socket.send() raised exception.')
            s.conn_lost += 1
            return 0
    if type(data) is bytes:
        return _send_bytes(s, data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), name)
    return _send_buffer(s, data, name)


cdef int _check_remote(DatagramCore s, object name) except -1:
    if s.address and name is not None and name != s.address:
        raise ValueError(f'Invalid address: must be None or {s.address}')
    return 0


cdef int _send_buffer(DatagramCore s, object data, object name) except -1:
    cdef Py_buffer view
    try:
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    except BaseException as exc:
        # A memoryview with gaps, or a released one: socket.send() refuses it too.
        return s._fatal_error(exc, 'Fatal write error on datagram transport')
    try:
        return _send_bytes(s, data, <const char *>view.buf, view.len, name)
    finally:
        PyBuffer_Release(&view)


cdef int _send_bytes(DatagramCore s, object data, const char *p, Py_ssize_t size, object name) except -1:
    cdef LoopCore loop = s.loop
    cdef unsigned char scratch[UNIX_ADDRESS_SIZE]
    cdef const unsigned char *raw = NULL
    cdef uint32_t raw_size = 0
    cdef int64_t result
    cdef Peer peer
    if loop.k is NULL or s.lost_called or loop.generation is not _fork_generation:
        return _send_by_socket(s, data, p, size, name)
    if not s.connected:
        if s.family != AF_UNIX:
            peer = loop.peers.peer_of(name, s.family)
            if peer is not None:
                raw = peer.raw
                raw_size = peer.size
        else:
            raw_size = _parse_unix(name, scratch)
            raw = scratch
        if raw_size == 0:
            return _send_by_socket(s, data, p, size, name)
    if s.queued:
        return _queue(s, p, size, raw, raw_size)
    result = kloop_lib.endpoint_send(loop.k, s.fd, p, size, raw, raw_size)
    if result >= 0:
        return 0
    if result == -EAGAIN or result == -EINTR:
        return _queue(s, p, size, raw, raw_size)
    s.protocol.error_received(_os_error(<int>-result))
    return 0


cdef uint32_t _parse_unix(object name, unsigned char *raw) except? 0:
    """The size of the sockaddr of a path or an abstract name; 0 for what the kernel refuses too."""
    cdef Py_ssize_t size
    cdef bint abstract
    if isinstance(name, str):
        name = os.fsencode(name)
    elif not isinstance(name, (bytes, bytearray, memoryview)):
        return 0
    name = bytes(name)
    size = PyBytes_GET_SIZE(name)
    abstract = size > 0 and PyBytes_AS_STRING(name)[0] == 0
    if size <= 0 or size > UNIX_PATH_MAX or size == UNIX_PATH_MAX and not abstract:
        return 0
    memset(raw, 0, UNIX_ADDRESS_SIZE)
    (<unsigned short *>raw)[0] = AF_UNIX
    memcpy(raw + PATH_OFFSET, PyBytes_AS_STRING(name), size)
    return PATH_OFFSET + size + (0 if abstract else 1)


cdef int _send_by_socket(DatagramCore s, object data, const char *p, Py_ssize_t size, object name) except -1:
    """For what the socket module understands and we don't: names of hosts, zones, wrong types.

    And for transports without a loop, or whose socket is closed.
    """
    try:
        if s.queued:
            return _queue_resolved(s, p, size, name)
        if s.connected:
            s.sock.send(data)
        else:
            s.sock.sendto(data, name)
    except (BlockingIOError, InterruptedError):
        return _queue_resolved(s, p, size, name)
    except OSError as exc:
        s.protocol.error_received(exc)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        return s._fatal_error(exc, 'Fatal write error on datagram transport')
    return 0


cdef int _queue_resolved(DatagramCore s, const char *p, Py_ssize_t size, object name) except -1:
    """Queues a datagram for a name that only the socket module understands."""
    cdef Peer peer
    cdef int flags = 0
    s.loop._check_open()
    if s.family == AF_UNIX:
        s.sock.sendto(b'', name)        # raises: _parse_unix has refused it
        return 0
    host, port = name[:2]
    if not host:
        flags = socket.AI_PASSIVE
    elif host == '<broadcast>':
        host = '255.255.255.255'
    found = socket.getaddrinfo(host or None, port, s.family, socket.SOCK_DGRAM, 0, flags)
    numeric = found[0][4][:2] + name[2:] if s.family == AF_INET else (
        found[0][4][:2] + (name[2:] or found[0][4][2:]))
    peer = s.loop.peers.peer_of(numeric, s.family)
    if peer is None:
        raise OSError(f'cannot send to {name!r}')
    return _queue(s, p, size, peer.raw, peer.size)


cdef int _queue(DatagramCore s, const char *p, Py_ssize_t size, const unsigned char *raw,
                uint32_t raw_size) except -1:
    """Gives a copy to the core, whose reference comes back with the owners."""
    cdef object owner = PyBytes_FromStringAndSize(NULL, sizeof(kloop_datagram) + size)
    cdef kloop_datagram *datagram = <kloop_datagram *>PyBytes_AS_STRING(owner)
    memset(datagram, 0, sizeof(kloop_datagram))
    datagram.address_size = raw_size
    datagram.size = <uint32_t>size
    if raw_size:
        memcpy(datagram.address, raw, raw_size)
    memcpy(<char *>(datagram + 1), p, size)
    s.queued += 1
    s.queued_size += size + _COUNTED_HEADER
    if s.loop.in_core or s.deferred:
        s.deferred += 1
        s.loop._defer(_hand_over_deferred, (s, owner))
    else:
        _hand_over(s, owner)
    return _maybe_pause_endpoint(s)


cdef int _hand_over(DatagramCore s, object owner) except -1:
    """Gives a struct kloop_datagram to the core, in a bytes object."""
    cdef kloop_cmd *command = s.loop._command(KLOOP_CMD_SENDTO, s.id)
    Py_INCREF(owner)
    command.ptr = <uint64_t>PyBytes_AS_STRING(owner)
    command.len = PyBytes_GET_SIZE(owner) - sizeof(kloop_datagram)
    command.owner = <uint64_t><PyObject *>owner
    return 0


def _hand_over_deferred(DatagramCore s, owner):
    s.deferred -= 1
    if not s.conn_lost and not s.core_closed:
        _hand_over(s, owner)


cdef int _on_datagrams_sent(DatagramCore s, uint64_t count, uint64_t size) except -1:
    if s.conn_lost:
        return 0
    s.queued -= count
    s.queued_size -= size + count * _COUNTED_HEADER
    _maybe_resume_endpoint(s)
    if s.closing and not s.queued and not s.conn_lost:
        return s._end(KLOOP_CMD_CLOSE, None)
    return 0


cdef int _maybe_pause_endpoint(DatagramCore s) except -1:
    if s.queued_size <= s.high or s.protocol_paused:
        return 0
    s.protocol_paused = True
    try:
        s.protocol.pause_writing()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        _endpoint_flow_failed(s, 'protocol.pause_writing() failed', exc)
    return 0


cdef int _maybe_resume_endpoint(DatagramCore s) except -1:
    if not s.protocol_paused or s.queued_size > s.low:
        return 0
    s.protocol_paused = False
    PyContext_Enter(s.context)
    try:
        s.protocol.resume_writing()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        _endpoint_flow_failed(s, 'protocol.resume_writing() failed', exc)
    finally:
        PyContext_Exit(s.context)
    return 0


cdef int _endpoint_flow_failed(DatagramCore s, object message, object exc) except -1:
    s.loop.call_exception_handler({
        'message': message,
        'exception': exc,
        'transport': s.transport,
        'protocol': s.protocol,
    })
    return 0
