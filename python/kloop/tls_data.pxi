# How bytes pass a TLSProtocol: decrypting and delivering, encrypting and sending, flow control.
#
# An SSLObject says by an exception that it has nothing more to read, which costs as much as decrypting a
# small record. The boundaries of the records that went into its MemoryBIO are known (Records), and
# OpenSSL takes whole records, so it is only asked when it has something. Where the SSLObject
# is somebody else's, it is asked until it says no, as asyncio does it.

# ---- reading

cdef bint _has_record(TLSProtocol t) except -1:
    """Whether a read will find something. Exact but for records without application data."""
    if not t.framed or t.failure is not None:
        return True
    if t.records.complete > 1 and <Py_ssize_t>t._incoming.pending <= <Py_ssize_t>t.records.have:
        t.records.complete = 0
    if t.records.complete:
        return True
    if t.leftover:
        t.leftover = <Py_ssize_t>t.ssl_pending() > 0
    return t.leftover


cdef int _deliver_all(TLSProtocol t) except -1:
    t.more = True
    while (t.more and not t.ended and not t._app_reading_paused
           and t.state in (TLS_WRAPPED, TLS_FLUSHING)):
        if t.buffered:
            _fill_protocol(t)
            continue
        data = _decrypt(t)
        if data is not None:
            PyObject_CallOneArg(t.deliver, data)
    return 0


cdef object _decrypt(TLSProtocol t):
    """The next plaintext, of one or several records, or None. Sets t.more and t.ended."""
    cdef Py_ssize_t size
    if not t.stock:
        return _decrypt_by_stranger(t)
    if t.framed and t.tls13 and t.records.complete == 1 and not t.leftover and t.failure is None:
        size = <Py_ssize_t>t.records.last - RECORD_HEADER - RECORD_13_EXTRA
        if size > 0:
            # One record of known size: OpenSSL decrypts it into a bytes object that fits.
            t.records.complete = 0
            t.more = False
            try:
                data = t.ssl_read(size)
            except _SSL_AGAIN:
                return None
            t.ended = not data
            return data or None
    size = _decrypt_into(t, t.scratch.plain, PLAIN_SIZE)
    return PyBytes_FromStringAndSize(t.scratch.plain, size) if size else None


cdef Py_ssize_t _decrypt_into(TLSProtocol t, char *to, Py_ssize_t room) except -1:
    """Decrypts records into a buffer until it is full; answers the bytes. Only for stock SSLObjects."""
    cdef Py_ssize_t size = 0, n
    if t.failure is not None:
        failure, t.failure = t.failure, None
        raise failure
    while size < room:
        t.more = _has_record(t)
        if not t.more:
            break
        try:
            n = t.ssl_read(room - size, t.scratch.lend(to + size, room - size))
        except _SSL_AGAIN:
            t.records.complete = 0
            t.leftover = t.more = False
            break
        except Exception as exc:
            if size == 0:
                raise
            t.failure = exc     # behind the data that came before it
            break
        if n == 0:
            t.ended = True
            break
        if t.records.complete == 1:
            t.records.complete = 0
        t.leftover = n == room - size
        size += n
    return size


cdef object _decrypt_by_stranger(TLSProtocol t):
    cdef list chunks = []
    cdef Py_ssize_t size = 0
    try:
        while size < PLAIN_SIZE:
            data = t.ssl_read(PLAIN_SIZE)
            if not data:
                t.ended = True
                break
            chunks.append(data)
            size += len(data)
    except _SSL_AGAIN:
        t.more = False
    return b''.join(chunks) if chunks else None


cdef int _fill_protocol(TLSProtocol t) except -1:
    """One get_buffer() and buffer_updated() of a BufferedProtocol, for as much as there is and fits."""
    cdef Py_buffer view
    cdef Py_ssize_t size = 0
    t.more = _has_record(t)
    if not t.more:
        return 0
    buffer = t.get_buffer(<Py_ssize_t>t._incoming.pending)
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        if view.len == 0:
            raise RuntimeError('get_buffer() returned an empty buffer')
        if t.stock:
            size = _decrypt_into(t, <char *>view.buf, min(view.len, <Py_ssize_t>INT_MAX))
        else:
            size = _fill_by_stranger(t, memoryview(buffer))
    finally:
        PyBuffer_Release(&view)
    if size:
        t.buffer_updated(size)
    return 0


cdef Py_ssize_t _fill_by_stranger(TLSProtocol t, object view) except -1:
    cdef Py_ssize_t size = 0, room = len(view), n
    try:
        while size < room:
            n = t.ssl_read(room - size, view[size:])
            if n == 0:
                t.ended = True
                break
            size += n
    except _SSL_AGAIN:
        t.more = False
    return size


cdef int _discard_incoming(TLSProtocol t) except -1:
    """What comes after close() is read and dropped: OpenSSL shuts down only behind it."""
    cdef Py_ssize_t n
    if not t.stock or t.ended:
        return 0
    try:
        while _has_record(t):
            n = _decrypt_into(t, t.scratch.plain, PLAIN_SIZE)
            if n == 0:
                break
    except _SSL_ENDED:
        t.ended = True
    return 0


cdef int _control_reading_below(TLSProtocol t) except -1:
    """The transport below stops reading while the application does not take what has come."""
    cdef Py_ssize_t size
    if t._transport is None or t.offloaded:
        return 0
    size = t._incoming.pending
    if t._app_reading_paused and size >= t.read_high and not t.ssl_reading_paused:
        t.ssl_reading_paused = True
        t._transport.pause_reading()
    elif t.ssl_reading_paused and (size <= t.read_low or not t._app_reading_paused):
        t.ssl_reading_paused = False
        t._transport.resume_reading()
    return 0


# ---- writing

cdef int _tls_write(TLSProtocol t, object data) except -1:
    """Small writes of one iteration become one record; much is encrypted and sent at once."""
    if t.state not in (TLS_HANDSHAKE, TLS_WRAPPED):
        if t.lost_writes >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
            logger.warning('SSL connection is closed')
        t.lost_writes += 1
        return 0
    if t.offloaded:
        return _write(t.stream, data)
    t._write_backlog.append(data)
    t._write_buffer_size += PyBytes_GET_SIZE(data)
    return _after_tls_write(t)


cdef inline int _after_tls_write(TLSProtocol t) except -1:
    if t.state == TLS_HANDSHAKE or t.ssl_writing_paused:
        return _control_app_writing(t)
    if t._write_buffer_size >= DIRECT_WRITE or t._loop.thread_id == NO_THREAD:
        return _flush(t)
    if not t.flush_queued:
        t.flush_queued = True
        t.scratch.unflushed.append(t)
    return 0


cdef int _flush_all(TLSScratch scratch) except -1:
    """At the end of an iteration, before the kernel is entered."""
    cdef list batch
    cdef Py_ssize_t done
    while scratch.unflushed:
        batch, scratch.unflushed = scratch.unflushed, []
        done = 0
        try:
            for t in batch:
                done += 1
                if (<TLSProtocol>t).flush_queued:
                    _flush(<TLSProtocol>t)
                if (<TLSProtocol>t).earning is not None and _has_earned(<TLSProtocol>t, (<TLSProtocol>t).earning):
                    _hand_over_late(<TLSProtocol>t)
        finally:
            if done < len(batch):       # after KeyboardInterrupt in pause_writing(), say
                scratch.unflushed = batch[done:] + scratch.unflushed
    return 0


cdef int _flush(TLSProtocol t) except -1:
    """Encrypts what was written, as far as the transport below takes it, and sends it."""
    t.flush_queued = False
    try:
        if t.offloaded:
            return _write_opened(t)
        if t._write_backlog and t.state in (TLS_WRAPPED, TLS_FLUSHING):
            _encrypt(t)
        else:
            _send_control(t)
        _control_app_writing(t)
    except Exception as exc:
        t._fatal_error(exc, 'Fatal error on SSL protocol')
    return 0


cdef int _encrypt(TLSProtocol t) except -1:
    cdef list parts = None
    cdef Py_ssize_t size = 0
    if t.sending:       # by pause_writing(), or by another thread while OpenSSL works without the GIL
        return 0
    t.sending = True
    try:
        while t._write_backlog and not t.ssl_writing_paused and t.state != TLS_UNWRAPPED:
            try:
                _encrypt_record(t)
            except _SSL_AGAIN:
                _send_control(t)
                break
            data = t.outgoing_read()
            if parts is None and not t._write_backlog:
                return _send_below(t, data)
            if parts is None:
                parts = []
            parts.append(data)
            size += len(data)
            if size >= CIPHER_SIZE:
                _send_parts_below(t, parts)
                parts, size = [], 0
        if parts:
            _send_parts_below(t, parts)
    finally:
        t.sending = False
    return 0


cdef int _encrypt_record(TLSProtocol t) except -1:
    """Gives the SSLObject as much of the backlog as fits in one record."""
    cdef list backlog = t._write_backlog
    cdef Py_ssize_t size, n, i = 0
    first = _backlog_item(backlog, 0)
    size = PyBytes_GET_SIZE(first) - t.head
    if t.head == 0 and size <= RECORD_PLAIN and len(backlog) == 1:
        n = t.ssl_write(first)
        return _encrypted(t, n)
    cdef char *plain = PyBytes_AS_STRING(first) + t.head
    if size < RECORD_PLAIN and len(backlog) > 1:
        memcpy(t.scratch.plain, plain, size)
        plain = t.scratch.plain
        while size < RECORD_PLAIN and i + 1 < len(backlog):
            i += 1
            item = _backlog_item(backlog, i)
            n = min(PyBytes_GET_SIZE(item), RECORD_PLAIN - size)
            memcpy(plain + size, PyBytes_AS_STRING(item), n)
            size += n
    size = min(size, <Py_ssize_t>RECORD_PLAIN)
    if t.stock:
        n = t.ssl_write(t.scratch.lend(plain, size))
    else:
        n = t.ssl_write(PyBytes_FromStringAndSize(plain, size))
    return _encrypted(t, n)


cdef bytes _backlog_item(list backlog, Py_ssize_t i):
    """The list can be seen from Python, and what is in it is read as bytes."""
    item = backlog[i]
    return item if type(item) is bytes else bytes(item)


cdef int _encrypted(TLSProtocol t, Py_ssize_t n) except -1:
    """The first n bytes of the backlog are done."""
    cdef list backlog = t._write_backlog
    cdef Py_ssize_t size, gone = 0
    t._write_buffer_size -= n
    n += t.head
    while gone < len(backlog):
        size = len(backlog[gone])
        if n < size:
            break
        n -= size
        gone += 1
    t.head = n
    if gone == len(backlog):
        backlog.clear()
    elif gone:
        del backlog[:gone]
    return 0


cdef int _send_control(TLSProtocol t) except -1:
    """Sends what the SSLObject has written of its own: handshake messages, alerts."""
    data = t.outgoing_read()
    if data:
        if t.handover is not None:
            t.handover._keep(&t.handover.sent, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        _send_below(t, data)
    return 0


cdef int _send_below(TLSProtocol t, object data) except -1:
    if t.earning is not None:
        _earn(t, &t.earning.since_sent, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    if t.stream is not None:
        return _write(t.stream, data)
    if t._transport is not None:
        t._transport.write(data)
    return 0


cdef int _send_parts_below(TLSProtocol t, list parts) except -1:
    if t.earning is not None:
        for data in parts:
            _earn(t, &t.earning.since_sent, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            if t.earning is None:
                break
    if t.stream is not None:
        return _writelines(t.stream, parts)
    if t._transport is not None:
        t._transport.write(b''.join(parts))
    return 0


cdef int _control_app_writing(TLSProtocol t) except -1:
    cdef Py_ssize_t size = t._write_buffer_size
    if size and size >= t.write_high and not t.app_writing_paused:
        t.app_writing_paused = True
        name = 'pause_writing'
    elif t.app_writing_paused and size <= t.write_low:
        t.app_writing_paused = False
        name = 'resume_writing'
    else:
        return 0
    return _tell_app(t, name)


cdef int _tell_app(TLSProtocol t, str name) except -1:
    """Asks the application to pause writing, or to resume it."""
    if t._app_protocol is None:
        return 0
    try:
        getattr(t._app_protocol, name)()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        t._loop.call_exception_handler({
            'message': f'protocol.{name}() failed',
            'exception': exc,
            'transport': t._app_transport,
            'protocol': t,
        })
    return 0


cdef int _set_tls_limits(object high, object low, Py_ssize_t default, Py_ssize_t *to_high,
                         Py_ssize_t *to_low) except -1:
    if high is None:
        high = default if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f'high ({high!r}) must be >= low ({low!r}) must be >= 0')
    to_high[0] = high
    to_low[0] = low
    return 0
