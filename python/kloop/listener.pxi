# Listener: a listening socket whose accepts the ring makes, and the addresses of what
# it accepted.

cdef enum:
    ADDRESS_SIZE = 28       # sizeof(struct sockaddr_in6), the largest that is kept raw

# errno values after which accepting is tried again after a while, as asyncio does.
cdef object _OUT_OF_RESOURCES = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


@cython.freelist(64)
cdef class RawAddress:
    """A struct sockaddr_in or sockaddr_in6, decoded when somebody asks."""

    cdef unsigned char raw[ADDRESS_SIZE]


cdef object _decode_address(RawAddress address):
    """(host, port), or (host, port, flowinfo, scope_id), as the socket module answers."""
    if (<unsigned short *>address.raw)[0] == AF_INET:
        return _inet_name(address.raw)
    return _inet6_name(address.raw)


cdef RawAddress _peer_address(int fd):
    """getpeername(2) of an internet socket; None where it has none."""
    cdef RawAddress address = RawAddress.__new__(RawAddress)
    cdef socklen_t size = ADDRESS_SIZE
    if getpeername(fd, <sockaddr *>address.raw, &size) < 0:
        return None
    return address


cdef RawAddress _own_address(int fd, RawAddress usual):
    """getsockname(2) of an internet socket; usual itself if it is that, as for most of a listener's."""
    cdef RawAddress address
    cdef unsigned char raw[ADDRESS_SIZE]
    cdef socklen_t size = ADDRESS_SIZE
    memset(raw, 0, ADDRESS_SIZE)
    if getsockname(fd, <sockaddr *>raw, &size) < 0:
        return None
    if usual is not None and memcmp(raw, usual.raw, ADDRESS_SIZE) == 0:
        return usual
    address = RawAddress.__new__(RawAddress)
    memcpy(address.raw, raw, ADDRESS_SIZE)
    return address


cdef class Listener:
    cdef LoopCore loop
    cdef readonly object sock
    cdef readonly object server
    cdef object protocol_factory
    cdef object context
    cdef RawAddress address         # of the connection accepted last, on our side
    cdef object accepted            # accepted(socket, extra), where a plain TCP transport won't do
    cdef bint plain
    cdef object retry
    cdef uint32_t id
    cdef bint over

    def __init__(self, LoopCore loop, sock, protocol_factory, server, accepted, plain,
                 context=None):
        cdef int64_t id
        loop._check_core()
        self.loop = loop
        self.sock = sock
        self.server = server
        self.protocol_factory = protocol_factory
        self.accepted = accepted
        self.plain = plain and sock.family in (socket.AF_INET, socket.AF_INET6)
        self.context = PyContext_CopyCurrent() if context is None else context
        id = kloop_lib.listen(loop.k, sock.fileno(), <uint64_t><PyObject *>self)
        if id < 0:
            raise _os_error(<int>-id)
        self.id = <uint32_t>id
        loop.operations.add(self)

    def close(self):
        """Ends accepting before it returns; the socket stays open."""
        cdef int result
        if self.over:
            return
        if self.loop.k is not NULL and self.loop.generation == _fork_generation:
            self.loop._check_core()
        self.over = True
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None
        if self.loop.k is NULL or self.loop.generation != _fork_generation:
            return
        result = kloop_lib.unlisten(self.loop.k, self.id)
        self.loop.operations.discard(self)
        self.loop.retired.append(self)      # events that are not dispatched yet still name it
        if result < 0:
            raise _os_error(-result)

    cdef int _on_accepted(self, int fd) except -1:
        if self.over:
            posix_close(fd)
            return 0
        # A copy, so that what the factory sets stays with this connection.
        context = PyContext_Copy(self.context)
        PyContext_Enter(context)
        try:
            self._make_transport(fd)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            if self.loop._debug:
                self.loop.call_exception_handler({
                    'message': 'Error on transport creation for incoming connection',
                    'exception': exc,
                })
        finally:
            PyContext_Exit(context)
        return 0

    cdef int _make_transport(self, int fd) except -1:
        cdef StreamCore core
        cdef int one = 1
        if self.loop._debug or not self.plain:
            return self._make_from_socket(socket.socket(fileno=fd))
        try:
            protocol = self.protocol_factory()
            transport = _transport_type.__new__(_transport_type)
            core = StreamCore.__new__(StreamCore)
            transport._extra = core
            core.peername = _peer_address(fd)
            core.sockname = self.address = _own_address(fd, self.address)
            core._init(self.loop, transport, fd, None, protocol, None)
        except BaseException:
            posix_close(fd)
            raise
        transport._core = core
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
        return core._start(self.server, None)

    cdef int _make_from_socket(self, object sock) except -1:
        sock.setblocking(False)
        try:
            address = sock.getpeername()
        except OSError:
            address = None
        if self.loop._debug:
            logger.debug('%r got a new connection from %r: %r', self.server, address, sock)
        self.accepted(sock, {'peername': address})
        return 0

    cdef int _on_accept_error(self, int code) except -1:
        """Out of resources: reports it once, then tries again after a second."""
        if self.over:
            return 0
        exc = _os_error(code)
        self.loop.call_exception_handler({
            'message': ('socket.accept() out of system resource' if code in _OUT_OF_RESOURCES
                        else 'socket.accept() failed'),
            'exception': exc,
            'socket': trsock.TransportSocket(self.sock),
        })
        self.retry = self.loop.call_later(constants.ACCEPT_RETRY_DELAY, self._resume)
        return 0

    def _resume(self):
        self.retry = None
        if not self.over and self.loop.k is not NULL:
            kloop_lib.listen_resume(self.loop.k, self.id)
