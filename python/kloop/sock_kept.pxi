# What a cancelled receive or accept had from the kernel already: kept for the next call of that socket.

cdef int _keep(LoopCore loop, object sock, object item, bint first=False) except -1:
    """item: (bytes, address), (connection, address) or an OSError; first: before what is kept already.

    By the socket object, and only while it lives, so that another one with its descriptor gets
    none of it.
    """
    cdef list items
    if loop.kept is None:
        loop.kept = weakref.WeakKeyDictionary()
    items = loop.kept.setdefault(sock, [])
    items.insert(0 if first else len(items), item)
    return 0


cdef tuple _take_kept(LoopCore loop, object sock, object limit):
    """The first item, or None; of a stream at most limit bytes. Raises what is kept as an error."""
    cdef list items = loop.kept.get(sock)
    if items is None:
        return None
    item = items.pop(0)
    if not isinstance(item, OSError) and type(item[0]) is bytes and len(item[0]) > limit:
        data, address = item
        item = data[:limit], address
        if _socket_type.__get__(sock) == _STREAM:      # the rest of a datagram is lost, as recv(2) says
            items.insert(0, (data[limit:], address))
    if not items:
        del loop.kept[sock]
        if not loop.kept:
            loop.kept = None
    if isinstance(item, OSError):
        raise item
    return item


cdef list _all_kept(LoopCore loop, object sock):
    """For a transport that takes the socket over: what it is to deliver first, as StreamCore.pending has it."""
    cdef list items = loop.kept.pop(sock, None)
    if items is None:
        return None
    return [item if isinstance(item, OSError) else item[0] or _EOF for item in items]


cdef int _drop_kept(LoopCore loop) except -1:
    """At the end of the loop: connections that nobody took are closed."""
    kept = loop.kept
    loop.kept = None
    if kept is not None:
        for items in kept.values():
            for item in items:
                if not isinstance(item, OSError) and type(item[0]) is not bytes:
                    item[0].close()
    return 0
