# The hand-over of a TLS connection's records to the core, once the SSLObject has made the handshake; and
# what a TLSProtocol does from then on. See docs/tls.md.
#
# The core is shown all bytes of the handshake and the lines that it wrote to the key log. If it
# refuses, tls_data.pxi goes on with the SSLObject, as asyncio does. If not, the transport below takes and gives
# plaintext, and the SSLObject is kept for what it knows: of what the peer sends, the core shows it
# messages that are not data (session tickets, alerts), in records made for it. If the peer of a TLS 1.2 connection
# asks for another handshake, all is the SSLObject's again. That of a TLS 1.3 server is of no more use, and most of it
# is freed: see ssl_snapshot.py.

cdef enum:
    HANDSHAKE_MAX = 512 * 1024      # bytes, both directions together
    HANDSHAKE_USUAL = 8 * 1024      # of one direction: so far no more memory is taken than there are bytes

cdef dict _OFFLOADS = {'auto': KLOOP_TLS_AUTO, 'kernel': KLOOP_TLS_KERNEL, 'go': KLOOP_TLS_GO, 'off': KLOOP_TLS_HOST}
cdef dict _OFFLOAD_NAMES = {KLOOP_TLS_KERNEL: 'kernel', KLOOP_TLS_GO: 'go'}


cdef struct HandshakeBytes:
    # What has passed in one direction of a handshake.
    unsigned char *at
    Py_ssize_t size, room
    Py_ssize_t last                 # where begins what has passed last


cdef int _add_handshake(HandshakeBytes *kept, const void *data, Py_ssize_t size) except -1:
    cdef unsigned char *larger
    cdef Py_ssize_t room = kept.size + size
    if size == 0:
        return 0
    if room > kept.room:
        if room > HANDSHAKE_USUAL:
            room *= 2
        larger = <unsigned char *>PyMem_RawRealloc(kept.at, room)
        if larger is NULL:
            raise MemoryError()
        kept.at, kept.room = larger, room
    memcpy(kept.at + kept.size, data, size)
    kept.last = kept.size
    kept.size += size
    return 0


cdef void _keep_unencrypted(HandshakeBytes *kept, Py_ssize_t end) noexcept:
    """Drops, of what ends there, the records that TLS 1.3 has encrypted, in which nothing can be seen."""
    cdef unsigned char *at = kept.at
    cdef Py_ssize_t begin = 0, size, left = 0
    while begin + RECORD_HEADER <= end:
        size = RECORD_HEADER + ((<Py_ssize_t>at[begin + 3] << 8) | at[begin + 4])
        if at[begin] != RECORD_TYPE_DATA or begin + size > end:
            size = min(size, end - begin)
            memmove(at + left, at + begin, size)
            left += size
        begin += size
    memmove(at + left, at + end, kept.size - end)
    kept.last = left
    kept.size -= end - left


cdef void _fit_handshake(HandshakeBytes *kept) noexcept:
    """Gives back what memory there is too much."""
    cdef unsigned char *smaller
    if kept.room > kept.size:
        smaller = <unsigned char *>PyMem_RawRealloc(kept.at, kept.size)
        if smaller is not NULL:
            kept.at, kept.room = smaller, kept.size


cdef void _drop_handshake(HandshakeBytes *kept) noexcept:
    PyMem_RawFree(kept.at)
    memset(kept, 0, sizeof(HandshakeBytes))


@cython.final
cdef class Handover:
    """What is collected of a handshake: what was sent, what the SSLObject was given, and secrets."""

    cdef HandshakeBytes sent
    cdef HandshakeBytes received
    cdef Lines lines
    cdef str refused                # why there will be no hand-over; '' as long as there may be one
    cdef bint renegotiates          # the SSLObject makes another one if the peer asks; until the version is known: may
    cdef bint settled               # the handshake is over: what passes now is counted, see tls_earning.pxi
    cdef bint idle                  # for long enough
    cdef uint64_t passed            # bytes, when it was last looked whether it is
    cdef Passed since_sent, since_received

    def __cinit__(self):
        self.passed = <uint64_t>-1
        self.refused = ''

    def __dealloc__(self):
        _wipe_lines(&self.lines)
        _drop_handshake(&self.sent)
        _drop_handshake(&self.received)
        _free_passed(&self.since_sent)
        _free_passed(&self.since_received)

    cdef int _refuse(self, str reason) except -1:
        self.refused = reason
        _drop_handshake(&self.sent)
        _drop_handshake(&self.received)
        _wipe_lines(&self.lines)
        return 0

    cdef int _keep(self, HandshakeBytes *where, const void *data, Py_ssize_t size) except -1:
        if not self.refused:
            _add_handshake(where, data, size)
            if self.sent.size + self.received.size > HANDSHAKE_MAX:
                self._refuse(f'a handshake of more than {HANDSHAKE_MAX >> 10} KiB')
        return 0

    cdef int64_t _begin_step(self) except? -1:
        """Before a do_handshake() that may write to the key log; answers from where on, or NO_WINDOW."""
        cdef int64_t begin
        if self.refused or self.received.size == 0:
            return NO_WINDOW        # a client's ClientHello has no secrets
        begin = _open_window()
        if begin == NO_WINDOW:      # of too many handshakes at once; it is emptied behind them
            self._refuse(_LOG_FULL)
        return begin

    cdef int _end_step(self, int64_t begin) except -1:
        """After it: takes its lines, and has them overwritten in the log."""
        cdef int fd = keylog.fd
        cdef str failure = _take_lines(&self.lines, fd, &begin)
        _close_window(fd, begin)
        if failure or self.refused:     # a callback may have ended the connection
            self._refuse(failure or self.refused)
        return 0


cdef object _stock_context = None if ssl is None else ssl.SSLContext


cdef bint _is_armed(object context) except -1:
    """Whether the handshakes of a context write to the key log, as KeyLog.arm() has had them do, which says why not."""
    ref = (<dict>keylog._armed).get(<Py_ssize_t><PyObject *>context)
    return ref is not None and ref() is context and context.keylog_filename == keylog.path


cdef bint _is_ready(object context, bint server_side) except -1:
    """Whether nothing speaks against a hand-over that tls_offload.wrap() would have to look at."""
    return (type(context) is _stock_context and _is_armed(context)
            and not (server_side and (context.sni_callback is not None
                                      or getattr(context, 'post_handshake_auth', False))))


cdef int _prepare_handover(TLSProtocol t) except -1:
    """Makes the SSLObject, so that its secrets can be had where that is wanted and possible."""
    cdef LoopCore loop = t._loop
    if loop.tls_offload == KLOOP_TLS_HOST:
        t._sslobj = t._sslcontext.wrap_bio(
            t._incoming, t._outgoing, server_side=bool(t.server_side), server_hostname=t.server_hostname)
        t._extra['kloop_tls'] = TLSOffload('ssl', 'ssl', "it is switched off (offload='off')")
        return 0
    if _is_ready(t._sslcontext, t.server_side):
        reason = ''
        t._sslobj = t._sslcontext.wrap_bio(
            t._incoming, t._outgoing, server_side=bool(t.server_side), server_hostname=t.server_hostname)
    else:
        t._sslobj, reason = _wrap_armed(
            t._sslcontext, t._incoming, t._outgoing, bool(t.server_side), t.server_hostname)
    if not reason and not _is_stock(t._sslobj):
        reason = 'reading and writing are not those of ssl.SSLObject'
    t.handover = Handover.__new__(Handover)
    if reason:
        t.handover._refuse(reason)
    else:
        t.handover.renegotiates = _renegotiates(t._sslcontext, t.server_side)
    if not loop.watches_key_log:    # a context may have been armed for nothing
        keylog.watch(loop)
    return 0


# SSL_OP_ALLOW_CLIENT_RENEGOTIATION of OpenSSL 3, which module ssl has no name for; those before always do.
cdef object _CLIENT_RENEGOTIATION = 1 << 8
cdef bint _clients_renegotiate = ssl is not None and ssl.OPENSSL_VERSION_INFO < (3,)
# SSLContext's own makes an enum of it.
cdef object _options_of = None if ssl is None else ssl.SSLContext.__base__.options.__get__
cdef str _ANOTHER_HANDSHAKE = ('the peer may ask for another handshake, behind which the kernel can\'t go on: '
                               'ssl.OP_NO_RENEGOTIATION rules it out')


cdef bint _renegotiates(object context, bint server_side) except -1:
    """Asked before the handshake: OpenSSL's object has the options of this moment, and of this context."""
    options = _options_of(context)
    if options & ssl.OP_NO_RENEGOTIATION:
        return False
    return not server_side or _clients_renegotiate or bool(options & _CLIENT_RENEGOTIATION)


cdef int _finish_handover(TLSProtocol t) except -1:
    """The handshake is complete: the core takes the records that follow, at once or later, or it is told why not."""
    cdef Handover h = t.handover
    t.handover = None
    if not h.refused and t.stream is None:
        h._refuse('the transport below is not a socket of the loop')
    if not h.refused:
        # A callback may have put another one in the place of the first.
        if not _is_armed(t._sslobj._sslobj.context):
            reason = keylog.arm(t._sslobj.context)
            if reason:
                h._refuse(reason)
    h.renegotiates = h.renegotiates and not t.tls13
    if not h.refused and t._loop.tls_offload == KLOOP_TLS_KERNEL and h.renegotiates:
        h._refuse(_ANOTHER_HANDSHAKE)
    if not h.refused and t._loop.tls_after and t.framed:
        return _start_earning(t, h)
    return _hand_records_over(t, h)


cdef int _hand_records_over(TLSProtocol t, Handover h) except -1:
    """The core takes the records that follow, unless something speaks against it."""
    try:
        if not h.refused:
            _start_records(t, h)
    except Exception as exc:
        h._refuse(f'{type(exc).__name__}: {exc}')
    finally:
        _wipe_lines(&h.lines)
    if h.refused:
        t._extra['kloop_tls'] = TLSOffload('ssl', 'ssl', h.refused)
        if not h.settled:
            t._loop.tls_ssl += 1
        if t._loop._debug:
            logger.debug('%r: TLS stays with the SSLObject: %s', t, h.refused)
    elif h.settled:
        t._loop.tls_ssl -= 1
    return 0


cdef int _start_records(TLSProtocol t, Handover h) except -1:
    cdef StreamCore s = t.stream
    cdef LoopCore loop = t._loop
    cdef kloop_tls request
    cdef uint32_t offload = loop.tls_offload
    cdef str because = ''
    cdef int result
    if offload == KLOOP_TLS_AUTO and h.renegotiates:
        offload, because = KLOOP_TLS_GO, _ANOTHER_HANDSHAKE
    unread = t._incoming.read()
    try:
        behind = unread + _behind(t, s, False)
    except BaseException:
        t.incoming_write(unread)
        raise
    memset(&request, 0, sizeof(request))
    request.client = not t.server_side
    request.offload = offload
    request.workers = loop.tls_workers
    request.threshold = loop.tls_threshold
    request.background = loop.tls_background
    request.hints = loop.tls_hints
    request.sent = <uint64_t>h.sent.at
    request.sent_len = h.sent.size
    request.received = <uint64_t>h.received.at
    request.received_len = h.received.size
    if h.settled:
        request.sent_records = h.since_sent.records
        request.last_sent = <uint64_t>h.since_sent.last
        request.last_sent_len = h.since_sent.last_size
        request.received_records = h.since_received.records
        request.last_received = <uint64_t>h.since_received.last
        request.last_received_len = h.since_received.last_size
    else:
        request.received_len -= PyBytes_GET_SIZE(unread)
    request.behind = <uint64_t>PyBytes_AS_STRING(behind)
    request.behind_len = PyBytes_GET_SIZE(behind)
    request.log = <uint64_t>h.lines.at
    request.log_len = h.lines.size
    loop._check_core()
    result = kloop_lib.tls_start(loop.k, s.id, &request)
    _release_owners(loop.k)
    reason = request.reason.decode(errors='replace')
    if result < 0:
        if unread:
            t.incoming_write(unread)
        return h._refuse(reason or os.strerror(-result))
    if behind:
        _behind(t, s, True)
    t.offloaded = True
    t.framed = False
    loop.tls_go += 1
    _tell_offload(t, request.tx, request.rx, reason or because)
    _set_limits(s, t.write_high, t.write_low)
    return _release_openssl(t)


cdef int _release_openssl(TLSProtocol t) except -1:
    """Frees the most of the SSLObject, if it is of no more use."""
    try:
        if not t.tls13 or not t.server_side or not t.scratch.snapshot.can_release(t._sslobj):
            return 0
        t.scratch.snapshot.release_openssl(t._sslobj)
    except Exception:       # for want of memory: then it is kept
        if t._loop._debug:
            logger.debug('%r: OpenSSL\'s object is kept', t, exc_info=True)
        return 0
    t._incoming = t._outgoing = None
    t.incoming_write = t.outgoing_read = t.ssl_read = t.ssl_write = t.ssl_pending = None
    return 0


cdef int _tell_offload(TLSProtocol t, uint32_t tx, uint32_t rx, object reason) except -1:
    t._extra['kloop_tls'] = TLSOffload(_OFFLOAD_NAMES[tx], _OFFLOAD_NAMES[rx], reason)
    if (tx == KLOOP_TLS_KERNEL) != t.kernel_seals:
        t.kernel_seals = not t.kernel_seals
        t._loop.tls_kernel += 1
        t._loop.tls_go -= 1
    return 0


cdef int _on_records_moved(TLSProtocol t, int sides, bytes reason) except -1:
    return _tell_offload(t, sides & 0xff, sides >> 8, reason.decode(errors='replace'))


cdef bytes _behind(TLSProtocol t, StreamCore s, bint take):
    """What has arrived of the stream and was not given to t yet; with `take` it never will be.

    Nor then will the stream's end: the core tells it once more, behind what it opens of this.
    """
    cdef kloop_event *event
    cdef LoopCore loop = s.loop
    cdef list parts = []
    cdef uint32_t i
    for waiting in (t.undelivered, s.pending):
        if waiting is not None:
            parts += [item for item in waiting if type(item) is bytes]
            if take:
                waiting[:] = [item for item in waiting if type(item) is not bytes and item is not _EOF]
    if s.pending is not None and not s.pending:
        s.pending = None            # else what comes next would be kept behind it
    for i, (kind, res, size, target, payload) in enumerate(loop.stashed):
        if target is s and kind in (KLOOP_EV_DATA, KLOOP_EV_EOF):
            parts.append(payload or b'')
            if take:
                loop.stashed[i] = KLOOP_EV_DATA, 0, 0, target, b''
    for i in range(loop.next_event, loop.k.nevents):
        event = &loop.k.events[i]
        if event.user != <uint64_t><PyObject *>s or event.kind not in (KLOOP_EV_DATA, KLOOP_EV_EOF):
            continue
        if event.kind == KLOOP_EV_DATA:
            parts.append(PyBytes_FromStringAndSize(<char *>event.ptr, event.len))
        if take:
            event.kind, event.len = KLOOP_EV_DATA, 0
    return b''.join(parts)


# ---- a connection whose records the core has

cdef int _deliver_opened(TLSProtocol t, char *data, Py_ssize_t size) except -1:
    """Data, in memory that is valid during the call. What comes after close() is dropped."""
    cdef Py_buffer view
    cdef Py_ssize_t n
    try:
        while size and t.state == TLS_WRAPPED:
            if t._app_reading_paused:
                return t.stream._keep(PyBytes_FromStringAndSize(data, size))
            if not t.buffered:
                PyObject_CallOneArg(t.deliver, PyBytes_FromStringAndSize(data, size))
                return 0
            PyObject_GetBuffer(t.get_buffer(size), &view, PyBUF_WRITABLE)
            n = min(view.len, size)
            memcpy(view.buf, data, n)
            PyBuffer_Release(&view)
            if n == 0:
                raise RuntimeError('get_buffer() returned an empty buffer')
            data += n
            size -= n
            t.buffer_updated(n)
    except Exception as exc:
        t._fatal_error(exc, 'Fatal error on SSL protocol')
    return 0


cdef object _record_failure(TLSProtocol t, int32_t res, str text):
    """Why the records have ended, as OpenSSL would say it, if it would."""
    try:
        if res & KLOOP_TLS_FROM_PEER:
            return t.scratch.snapshot.alert_failure(res & 0xff)
        if res == ssl.AlertDescription.ALERT_DESCRIPTION_BAD_RECORD_MAC:
            return t.scratch.snapshot.corrupt_failure()
    except Exception:       # no peer may end the loop, whatever OpenSSL lacks just now
        if t._loop._debug:
            logger.debug('%r: OpenSSL has no words for it', t, exc_info=True)
    return ssl.SSLError(ssl.SSL_ERROR_SSL, text)


cdef int _on_record_event(TLSProtocol t, uint32_t kind, int32_t res, char *data, Py_ssize_t size) except -1:
    """The core has a message for the SSLObject, or tells what has ended the records."""
    if t.stream is None or t.stream.conn_lost:
        return 0
    failure = None
    if kind == KLOOP_EV_TLS_FAILED:
        failure = _record_failure(t, res, data[:size].decode(errors='replace'))
    else:
        t.incoming_write(PyBytes_FromStringAndSize(data, size))
        try:
            t.ssl_read(1)
        except _SSL_AGAIN:
            emitted = t.outgoing_read()
            if emitted:
                _command_with_bytes(t.stream, KLOOP_CMD_TLS_EMITTED, emitted)
        except Exception as exc:
            failure = exc
    if failure is None:
        return 0
    if t.stream.paused or t.stream.pending is not None:
        return t.stream._keep(failure)      # behind the data that came before it
    return t._fatal_error(failure, 'Fatal error on SSL protocol')


cdef int _write_opened(TLSProtocol t) except -1:
    """Gives the core what was written before it had the records."""
    cdef list backlog
    t.flush_queued = False
    if t._write_backlog and t.stream is not None and t.state in (TLS_WRAPPED, TLS_FLUSHING):
        backlog, t._write_backlog = t._write_backlog, []
        t._write_buffer_size = 0
        _writelines(t.stream, backlog)
    return 0


cdef int _shut_down_records(TLSProtocol t) except -1:
    """Behind what was written follows our close_notify; then the peer's is awaited, unless it has come.

    As on asyncio, who has shut down the stream below TLS gets none.
    """
    if t.stream is None:
        return 0
    _write_opened(t)
    t.state = TLS_SHUTDOWN
    if t.server_side and t._outgoing is not None:
        t.scratch.snapshot.end_session(t._sslobj._sslobj)
        t.outgoing_read()
    if t.ended or not t.eof_received_below:
        t._loop._command(KLOOP_CMD_TLS_CLOSE, t.stream.id)
    if not t.eof_received_below:
        return t.stream._resume_reading()
    t._call_eof_received()
    return t._on_shutdown_complete(None)


cdef int _records_ended(TLSProtocol t) except -1:
    """The peer has sent close_notify, or has shut down its side below TLS."""
    if t.state == TLS_WRAPPED:
        t._call_eof_received()
        return t._start_shutdown()
    if t.state == TLS_SHUTDOWN:
        t._call_eof_received()
        return t._on_shutdown_complete(None)
    return 0


cdef int _take_records_back(TLSProtocol t) except -1:
    """The peer wants another handshake, which is the SSLObject's to make: it goes on with all that follows."""
    cdef StreamCore s = t.stream
    if s is None or t.state != TLS_WRAPPED:     # what comes now is dropped anyway
        return 0
    t.offloaded = False
    t._extra['kloop_tls'] = TLSOffload('ssl', 'ssl', 'the peer has asked for another handshake')
    t._loop._command(KLOOP_CMD_TLS_RETURN, s.id)
    memset(&t.records, 0, sizeof(t.records))
    t.framed = t.stock
    t.ssl_reading_paused = s.paused
    t.ssl_writing_paused = s.protocol_paused
    _set_limits(s, None, None)
    return _control_app_writing(t)
