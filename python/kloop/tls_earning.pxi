# A TLS connection that has yet to earn its hand-over, which costs as much as OpenSSL takes for a quarter of a
# megabyte more than the core does: see TLSOptions.after. Its records are the SSLObject's. What is kept: the secrets,
# what of the handshake tells what they are for, how many records have passed since, and the last one of either
# direction, by which the core proves keys and numbers.
#
# A server's of TLS 1.3 that is idle for a while has its hand-over too, with which OpenSSL's object is freed.

cdef extern from *:
    """
    #include <stdlib.h>
    #ifdef __GLIBC__
    #include <malloc.h>
    #else
    #define malloc_trim(pad) 0
    #endif
    """
    int malloc_trim(size_t pad) nogil

cdef enum:
    TRIM_AFTER = 64             # idle connections, with which OpenSSL has freed a megabyte
    TRIM_MOST_NS = 5_000_000
    RECORD_CREDIT = 1024        # bytes that a record counts beside its own
    IDLE_AT_ONCE = 16           # idle connections handed over in one iteration: one or two milliseconds
    LOOKS_AT_ONCE = 4096        # connections looked at in one: 0.4 milliseconds
    LOOKS_TO_RELEASE = 16       # so many looks takes the one whether OpenSSL's object can be freed

cdef struct Passed:
    uint64_t records            # whole ones
    uint64_t size               # bytes
    unsigned char *last         # the last whole record
    unsigned char *part         # the one that is not whole, of which there are
    uint32_t last_size
    uint32_t have               # so many bytes
    uint32_t part_size          # of it, header included; known once that is there
    uint32_t last_room, part_room


cdef unsigned char *_with_room(unsigned char *at, uint32_t *room, uint32_t size) except NULL:
    if room[0] < size:
        at = <unsigned char *>PyMem_RawRealloc(at, size)
        if at is NULL:
            raise MemoryError()
        room[0] = size
    return at


cdef inline uint32_t _record_size(const unsigned char *header) noexcept:
    return RECORD_HEADER + ((<uint32_t>header[3] << 8) | header[4])


cdef int _count_passed(Passed *p, const unsigned char *data, Py_ssize_t size) except -1:
    """Takes what has passed; answers 0, or 1 if these are no records."""
    cdef const unsigned char *last = NULL
    cdef uint32_t n = 0, last_size = 0
    p.size += size
    if p.have:
        n = _complete_passed(p, data, size)
        if p.part_size > RECORD_HEADER + RECORD_BODY:
            return 1
        data += n
        size -= n
    # Of those that came whole, none but the last is copied.
    while size >= RECORD_HEADER:
        n = _record_size(data)
        if n > RECORD_HEADER + RECORD_BODY:
            return 1
        if size < n:
            break
        p.records += 1
        last, last_size = data, n
        data += n
        size -= n
    if last is not NULL:
        p.last = _with_room(p.last, &p.last_room, last_size)
        memcpy(p.last, last, last_size)
        p.last_size = last_size
    if size:
        p.part_size = _record_size(data) if size >= RECORD_HEADER else 0
        p.part = _with_room(p.part, &p.part_room, max(p.part_size, <uint32_t>RECORD_HEADER))
        memcpy(p.part, data, size)
        p.have = size
    return 0


cdef uint32_t _complete_passed(Passed *p, const unsigned char *data, Py_ssize_t size) except? 0:
    """Goes on with the record that is not whole; answers how many bytes are of it."""
    cdef uint32_t n = 0, taken = 0
    if p.have < RECORD_HEADER:
        taken = min(<Py_ssize_t>(RECORD_HEADER - p.have), size)
        memcpy(p.part + p.have, data, taken)
        p.have += taken
        if p.have < RECORD_HEADER:
            return taken
        p.part_size = _record_size(p.part)
        if p.part_size > RECORD_HEADER + RECORD_BODY:
            return taken
        p.part = _with_room(p.part, &p.part_room, p.part_size)
    n = min(<Py_ssize_t>(p.part_size - p.have), size - taken)
    memcpy(p.part + p.have, data + taken, n)
    p.have += n
    if p.have == p.part_size:
        p.records += 1
        p.last, p.part = p.part, p.last
        p.last_room, p.part_room = p.part_room, p.last_room
        p.last_size, p.have = p.have, 0
    return taken + n


cdef void _free_passed(Passed *p) noexcept:
    PyMem_RawFree(p.last)
    PyMem_RawFree(p.part)
    memset(p, 0, sizeof(Passed))


cdef object _WAITING = TLSOffload('ssl', 'ssl', 'it has carried too little for a hand-over to pay so far')


cdef int _start_earning(TLSProtocol t, Handover h) except -1:
    """The handshake is complete, and the SSLObject goes on for now."""
    cdef bytes unread
    if t._incoming.pending:
        unread = t._incoming.read()
        t.incoming_write(unread)
        h.received.size -= PyBytes_GET_SIZE(unread)
        if _count_passed(&h.since_received, <const unsigned char *>PyBytes_AS_STRING(unread), PyBytes_GET_SIZE(unread)):
            h._refuse('what came behind the handshake is no record')
            return _hand_records_over(t, h)
    if t.tls13:
        _keep_unencrypted(&h.received, h.received.size)
        _keep_unencrypted(&h.sent, h.sent.last)     # of a server, the last step's tickets count
    _fit_handshake(&h.received)
    _fit_handshake(&h.sent)
    h.settled = True
    t.earning = h
    t._extra['kloop_tls'] = _WAITING
    t._loop.tls_ssl += 1
    if t._loop.tls_idle > 0 and t.tls13 and t.server_side:
        t.scratch.earning.add(t)
        if not t.scratch.looking:
            t.scratch.looking = True
            _look_later(t._loop)
    return 0


cdef int _look_later(LoopCore loop) except -1:
    """In no connection's context, whose variables would live as long as this goes on."""
    loop.call_later(loop.tls_idle, _look_for_idle, loop, None, context=contextvars.Context())
    return 0


cdef int _stop_earning(TLSProtocol t) except -1:
    if t.earning is not None:
        t.earning = None
        t.scratch.earning.discard(t)
    return 0


cdef bint _can_release(TLSProtocol t) noexcept:
    """Whether a hand-over would free OpenSSL's object, which is what one without much to protect is for."""
    try:
        return t.scratch.snapshot.can_release(t._sslobj)
    except Exception:       # for want of memory: then it is kept
        return False


def _look_for_idle(LoopCore loop, list rest):
    """Has those handed over that nothing has passed since the last time. rest: who is still to be looked at."""
    cdef TLSScratch scratch = loop.tls
    cdef TLSProtocol t
    cdef Handover h
    cdef int left = IDLE_AT_ONCE, looks = LOOKS_AT_ONCE
    cdef uint64_t passed
    if rest is None:
        rest = list(scratch.earning)
    while rest and left and looks > 0:
        looks -= 1
        t = rest.pop()
        h = t.earning
        if h is None:
            continue
        passed = h.since_received.size + h.since_sent.size
        if passed != h.passed:
            h.passed = passed
            continue
        if not _can_release(t):
            looks -= LOOKS_TO_RELEASE
            scratch.earning.discard(t)
            continue
        h.idle = True
        left -= 1
        if not t.flush_queued:
            t.flush_queued = True
            scratch.unflushed.append(t)
    scratch.idle += IDLE_AT_ONCE - left
    if rest:
        loop.call_soon(_look_for_idle, loop, rest)
        return
    if scratch.idle >= TRIM_AFTER and not scratch.keeps:
        loop.call_soon(_give_back, scratch)     # once those of this iteration are freed too
    scratch.looking = bool(scratch.earning)
    if scratch.looking:
        _look_later(loop)


def _give_back(TLSScratch scratch):
    """Has glibc give the kernel the memory back that OpenSSL's objects had: between what is in use it would keep it for the
    next ones. It looks at all that is free, 17 ns for a piece: not again where there is so much that it took long."""
    cdef timespec begun, ended
    with nogil:
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begun)
        malloc_trim(0)
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ended)
    scratch.idle = 0
    scratch.keeps = (ended.tv_sec - begun.tv_sec) * 1_000_000_000 + ended.tv_nsec - begun.tv_nsec > TRIM_MOST_NS


cdef int _earn(TLSProtocol t, Passed *p, const char *data, Py_ssize_t size) except -1:
    """More has passed. The hand-over itself awaits the end of the iteration."""
    cdef Handover h = t.earning
    if _count_passed(p, <const unsigned char *>data, size):
        return _stop_earning(t)
    if not t.flush_queued and _has_earned(t, h):
        t.flush_queued = True
        t.scratch.unflushed.append(t)
    return 0


cdef bint _has_earned(TLSProtocol t, Handover h) noexcept:
    return h.idle or (h.since_received.size + h.since_sent.size + RECORD_CREDIT * (h.since_received.records + h.since_sent.records)
            >= t._loop.tls_after)


cdef int _hand_over_late(TLSProtocol t) except -1:
    """Where both directions are between two records, as far as OpenSSL knows; else another time."""
    cdef Handover h = t.earning
    cdef StreamCore s = t.stream
    cdef bint was_paused
    if (t.state != TLS_WRAPPED or s is None or s.conn_lost or s.closing or t.eof_received_below or t.ended or t.reading
            or t.sending or t._app_reading_paused or t.ssl_reading_paused or not t.framed or t.failure is not None
            or _has_record(t) or <Py_ssize_t>t._incoming.pending != <Py_ssize_t>t.records.have):
        return 0
    if t._outgoing.pending:
        _send_control(t)        # an answer that has not been sent is a record that was not counted
    _stop_earning(t)
    was_paused = s.protocol_paused
    s.protocol_paused = False   # what the stream says next is for the application
    _hand_records_over(t, h)
    if not t.offloaded:
        s.protocol_paused = was_paused
        return 0
    t.ssl_writing_paused = False
    if t.head:
        t._write_backlog[0] = _backlog_item(t._write_backlog, 0)[t.head:]
        t.head = 0
    _write_opened(t)
    _maybe_pause_protocol(s)
    if t.app_writing_paused and not s.protocol_paused:
        t.resume_writing()
    return 0
