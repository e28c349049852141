# From the core's events to the methods of the objects that they name.

cdef int _release_owners(kloop_shared *k) except -1:
    cdef uint32_t i
    for i in range(k.nreleased):
        Py_DECREF(<object><PyObject *>k.released[i])
    k.nreleased = 0
    return 0


cdef int _dispatch(LoopCore loop) except -1:
    cdef kloop_event *event
    cdef double start
    while loop.k is not NULL and loop.next_event < loop.k.nevents:
        event = &loop.k.events[loop.next_event]
        loop.next_event += 1
        if not loop._debug:
            _dispatch_one(loop, event)
            continue
        start = _monotonic()
        target = _dispatch_one(loop, event)
        if target is not None:
            loop._warn_if_slow(target, _monotonic() - start)
    return 0


cdef object _dispatch_one(LoopCore loop, kloop_event *event):
    """Calls the event's object; answers that object, or None if it tells slowness itself."""
    cdef uint32_t kind = event.kind
    if kind == KLOOP_EV_PANIC:
        _report_panic(loop, event)
        return None
    target = <object><PyObject *>event.user
    if kind == KLOOP_EV_DATA:
        (<StreamCore>target)._on_data(<char *>event.ptr, event.len)
    elif kind == KLOOP_EV_EOF:
        if event.res and (<StreamCore>target).tls is not None:
            (<StreamCore>target).tls.ended = True
        (<StreamCore>target)._on_eof()
    elif kind == KLOOP_EV_BACKLOG:
        _on_backlog(<StreamCore>target, event.len)
    elif kind == KLOOP_EV_SENT:
        _on_sent(<StreamCore>target, event.len, event.res)
    elif kind == KLOOP_EV_CLOSED:
        (<StreamCore>target)._on_closed(event.res, event.len)
    elif kind == KLOOP_EV_TLS_MOVED:
        if (<StreamCore>target).tls is not None:
            _on_records_moved((<StreamCore>target).tls, event.res, (<char *>event.ptr)[:event.len])
    elif kind == KLOOP_EV_TLS_MESSAGE or kind == KLOOP_EV_TLS_FAILED:
        if (<StreamCore>target).tls is not None:
            _on_record_event((<StreamCore>target).tls, kind, event.res, <char *>event.ptr, event.len)
    elif kind == KLOOP_EV_TLS_RETURNED:
        (<StreamCore>target)._on_tls_returned()
    elif kind == KLOOP_EV_ACCEPTED:
        (<Listener>target)._on_accepted(event.res)
    elif kind == KLOOP_EV_ACCEPT_ERROR:
        (<Listener>target)._on_accept_error(event.res)
    elif kind == KLOOP_EV_DATAGRAM:
        (<DatagramCore>target)._on_datagram(<kloop_datagram *>event.ptr, event.len)
    elif kind == KLOOP_EV_DATAGRAM_SENT:
        _on_datagrams_sent(<DatagramCore>target, event.res, event.len)
    elif kind == KLOOP_EV_DATAGRAM_ERROR:
        (<DatagramCore>target)._on_error(event.res, event.len)
    elif kind == KLOOP_EV_DATAGRAM_CLOSED:
        (<DatagramCore>target)._on_core_closed()
    elif kind == KLOOP_EV_DONE or kind == KLOOP_EV_OPENED:
        (<SocketCall>target)._on_done(event.res, <char *>event.ptr, event.len)
        return None
    elif kind == KLOOP_EV_ANSWER:
        (<LookupCall>target)._on_answer(<char *>event.ptr, event.len)
        return None
    elif kind == KLOOP_EV_ANSWERS:
        (<ManyLookups>target)._on_answers(event.res, <char *>event.ptr, event.len)
        return None
    elif kind == KLOOP_EV_ANSWERS_OVER:
        (<ManyLookups>target)._on_over()
        return None
    else:
        (<Operation>target)._on_event(kind, event.res)
        return None
    return target


cdef int _report_panic(LoopCore loop, kloop_event *event) except -1:
    text = (<char *>event.ptr)[:event.len].decode(errors='replace')
    loop.call_exception_handler({
        'message': f'kloop: the core met an error of its own, please report it:\n{text}',
        'exception': RuntimeError('panic in the Go core'),
    })
    return 0


cdef bint _closed_is_here(LoopCore loop, object transport_core) except -1:
    """Whether the events of this iteration that are still to come hold this one's CLOSED.

    connection_lost then closes the socket, before the events have their turn: those who wait for
    the end of a connection go on behind connection_lost, and find the socket closed, as on asyncio.
    """
    cdef kloop_event *event
    cdef uint32_t i
    if loop.k is NULL:
        return False
    for i in range(loop.next_event, loop.k.nevents):
        event = &loop.k.events[i]
        if event.kind == KLOOP_EV_CLOSED and event.user == <uint64_t><PyObject *>transport_core:
            loop.retired.append(transport_core)     # the event still names it
            return True
    return False


cdef int _stash_events(LoopCore loop) except -1:
    """Keeps events that have not been dispatched: the next poll reuses their memory."""
    cdef kloop_event *event
    while loop.next_event < loop.k.nevents:
        event = &loop.k.events[loop.next_event]
        loop.next_event += 1
        if event.kind == KLOOP_EV_PANIC:
            _report_panic(loop, event)
            continue
        target = <object><PyObject *>event.user
        payload = None
        if (event.kind in (KLOOP_EV_DATA, KLOOP_EV_TLS_MESSAGE, KLOOP_EV_TLS_FAILED, KLOOP_EV_TLS_MOVED,
                           KLOOP_EV_ANSWER, KLOOP_EV_ANSWERS)
                or event.kind == KLOOP_EV_DONE and event.ptr):
            payload = PyBytes_FromStringAndSize(<char *>event.ptr, event.len)
        elif event.kind == KLOOP_EV_DATAGRAM:
            payload = PyBytes_FromStringAndSize(<char *>event.ptr, sizeof(kloop_datagram) + event.len)
        loop.stashed.append((event.kind, event.res, event.len, target, payload))
        if event.kind == KLOOP_EV_CLOSED:
            # Its fd is closed now: peers of a stopped loop must see it.
            (<StreamCore>target)._on_core_closed()
        elif event.kind == KLOOP_EV_DATAGRAM_CLOSED:
            (<DatagramCore>target)._on_core_closed()
    return 0


cdef int _dispatch_stashed(LoopCore loop) except -1:
    cdef kloop_event event
    while loop.stashed:
        kind, res, size, target, payload = loop.stashed.pop(0)
        event.kind = kind
        event.res = res
        event.len = size
        event.user = <uint64_t><PyObject *>target
        event.ptr = 0
        if payload is not None:
            event.ptr = <uint64_t>PyBytes_AS_STRING(payload)
        _dispatch_one(loop, &event)
    return 0
