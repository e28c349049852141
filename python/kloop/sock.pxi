# The sock_* methods: receives and sends are operations of the ring; what needs an address, or
# makes a socket, is the socket's own method, called when a poll of the ring says so.

cdef enum:
    # The core's receive buffers, unless _open_core was told otherwise: a longer datagram needs memory of its own.
    RECEIVE_BUFFER = 128 * 1024

cdef object _socket_type = socket.socket.__base__.type   # as a plain number; socket.socket makes an enum of it
cdef object _inherited = asyncio.SelectorEventLoop
cdef object _WOULD_BLOCK = (BlockingIOError, InterruptedError)
cdef object _STREAM = int(socket.SOCK_STREAM)


cdef class Receive(SocketCall):
    """sock_recv: takes a receive buffer only when there is something, so that waiting costs no memory."""

    cdef object limit               # as it was given
    cdef bytes memory               # for a datagram that may be longer than a receive buffer

    cdef int _prepare(self) except -1:
        cdef Py_ssize_t limit
        try:
            limit = PyNumber_AsSsize_t(self.limit, OverflowError)
        except (TypeError, OverflowError):
            limit = 0
        if limit <= 0:
            # Nothing, or an error, whose type and text are the socket's.
            return self._set(self.sock.recv(self.limit))
        self.op.code = KLOOP_OP_RECEIVE
        self.op.len = limit
        if limit > self.loop.receive_buffer and _socket_type.__get__(self.sock) != _STREAM:
            self.memory = PyBytes_FromStringAndSize(NULL, limit)
            self.op.code = KLOOP_OP_RECEIVE_INTO
            self.op.ptr = <uint64_t>PyBytes_AS_STRING(self.memory)
        return 0

    cdef int _try(self) except -1:
        if self.loop.kept is None:
            return 0
        item = _take_kept(self.loop, self.sock, self.op.len)
        return 0 if item is None else self._set(item[0])

    cdef bytes _received(self, char *data, uint64_t size):
        if self.memory is not None:
            data = PyBytes_AS_STRING(self.memory)
        return PyBytes_FromStringAndSize(data, size)

    cdef int _completed(self, int res, char *data, uint64_t size) except -1:
        if res:
            return self._fail(_os_error(res))
        return self._set(self._received(data, size))

    cdef int _completed_late(self, int res, char *data, uint64_t size) except -1:
        if res == 0:
            _keep(self.loop, self.sock, (self._received(data, size), None))
        elif res != ECANCELED:
            _keep(self.loop, self.sock, _os_error(res))
        return 0

    cdef int _untaken(self) except -1:
        return _keep(self.loop, self.sock, (self.value, None), True)

    cdef int _release(self) except -1:
        self.memory = None
        return 0


cdef class ReceiveInto(SocketCall):
    """sock_recv_into: the kernel writes into the caller's buffer, which stays exported until its last answer."""

    cdef object buffer
    cdef Py_buffer view
    cdef bint exported

    cdef int _prepare(self) except -1:
        try:
            PyObject_GetBuffer(self.buffer, &self.view, PyBUF_WRITABLE)
        except (TypeError, BufferError):
            return self._set(self.sock.recv_into(self.buffer))     # whose error is asyncio's
        self.exported = True
        if self.view.len == 0:
            self._release()
            return self._set(0)     # without a look at the socket, as socket.recv_into()
        self.op.code = KLOOP_OP_RECEIVE_INTO
        self.op.ptr = <uint64_t>self.view.buf
        self.op.len = self.view.len
        return 0

    cdef int _try(self) except -1:
        if self.loop.kept is None:
            return 0
        item = _take_kept(self.loop, self.sock, self.op.len)
        if item is None:
            return 0
        data = item[0]
        memcpy(self.view.buf, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return self._set(PyBytes_GET_SIZE(data))

    cdef int _completed(self, int res, char *data, uint64_t size) except -1:
        if res:
            return self._fail(_os_error(res))
        return self._set(size)

    cdef int _completed_late(self, int res, char *data, uint64_t size) except -1:
        if res == 0:
            _keep(self.loop, self.sock, (PyBytes_FromStringAndSize(<char *>self.view.buf, size), None))
        elif res != ECANCELED:
            _keep(self.loop, self.sock, _os_error(res))
        return 0

    cdef int _untaken(self) except -1:
        with memoryview(self.buffer) as view:
            return _keep(self.loop, self.sock, (bytes(view.cast('B')[:self.value]), None), True)

    cdef int _release(self) except -1:
        if self.exported:
            self.exported = False
            PyBuffer_Release(&self.view)
        return 0


cdef class SendAll(SocketCall):
    """sock_sendall: what send(2) takes at once needs no operation, the rest is one, which sends all."""

    cdef object data
    cdef Py_buffer view
    cdef bint exported

    cdef dict _queue(self):
        return self.loop.sending

    cdef int _prepare(self) except -1:
        self.op.code = KLOOP_OP_SEND
        if type(self.data) is bytes:
            self.op.ptr = <uint64_t>PyBytes_AS_STRING(self.data)
            self.op.len = PyBytes_GET_SIZE(self.data)
            return 0
        try:
            PyObject_GetBuffer(self.data, &self.view, PyBUF_SIMPLE)
        except (TypeError, BufferError):
            self.sock.send(self.data)       # whose error is asyncio's
            raise
        self.exported = True
        self.op.ptr = <uint64_t>self.view.buf
        self.op.len = self.view.len
        return 0

    cdef int _try(self) except -1:
        cdef ssize_t n = c_send(self.op.fd, <void *>self.op.ptr, self.op.len, MSG_DONTWAIT | MSG_NOSIGNAL)
        cdef int code = c_errno if n < 0 else 0
        if code and code != EAGAIN and code != EINTR:
            if code == ECONNRESET:
                self._leave_reset()
            raise _os_error(code)
        if n > 0:
            self.op.ptr += n
            self.op.len -= n
        if self.op.len == 0:
            return self._set(None)
        if n < 0 and _socket_type.__get__(self.sock) != _STREAM:
            # Not a send in the ring: it may try a datagram again whose bytes it has used up.
            self.op.code = KLOOP_OP_POLL
            self.op.events = POLLOUT
        return 0

    cdef int _leave_reset(self) except -1:
        """A socket tells its reset once: to the receive that was called before, though the kernel has that with the poll."""
        cdef SocketCall receive = self.loop.receiving.get(self.sock)
        if receive is not None and receive.submitted and receive.op.state == KLOOP_OP_NEW:
            receive.reset = True
        return 0

    cdef int _completed(self, int res, char *data, uint64_t size) except -1:
        if res:
            return self._fail(_os_error(res))
        if self.op.code == KLOOP_OP_SEND:
            return self._set(None)
        try:
            return self._try()
        except OSError as exc:
            return self._fail(exc)

    cdef int _release(self) except -1:
        if self.exported:
            self.exported = False
            PyBuffer_Release(&self.view)
        return 0


cdef class Attempt(SocketCall):
    """A method of the socket that is called at once, and again whenever a poll says so, until it does not block."""

    cdef str method                 # looked up for each try, as asyncio does
    cdef tuple arguments

    cdef int _prepare(self) except -1:
        self.op.code = KLOOP_OP_POLL
        return 0

    cdef int _try(self) except -1:
        """Answers 1 if it did not block."""
        try:
            return self._set(getattr(self.sock, self.method)(*self.arguments))
        except _WOULD_BLOCK:
            return 0

    cdef int _completed(self, int res, char *data, uint64_t size) except -1:
        try:
            if self._try():
                return 1
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            return self._fail(exc)
        if res:
            return self._fail(_os_error(res))
        return 0


cdef class ReceiveFrom(Attempt):
    """sock_recvfrom."""

    cdef int _prepare(self) except -1:
        self.op.code = KLOOP_OP_POLL
        self.op.events = POLLIN
        self.method = 'recvfrom'
        return 0

    cdef int _try(self) except -1:
        if self.loop.kept is not None:
            item = _take_kept(self.loop, self.sock, self.arguments[0])
            if item is not None:
                return self._set(item)
        return Attempt._try(self)

    cdef int _untaken(self) except -1:
        return _keep(self.loop, self.sock, self.value, True)


cdef class ReceiveFromInto(Attempt):
    """sock_recvfrom_into."""

    cdef int _prepare(self) except -1:
        buffer, size = self.arguments
        if not size:
            self.arguments = (buffer, len(buffer))
        self.op.code = KLOOP_OP_POLL
        self.op.events = POLLIN
        self.method = 'recvfrom_into'
        return 0

    cdef int _try(self) except -1:
        if self.loop.kept is not None:
            item = _take_kept(self.loop, self.sock, self.arguments[1])
            if item is not None:
                data, address = item
                with memoryview(self.arguments[0]) as view:
                    view.cast('B')[:len(data)] = data
                return self._set((len(data), address))
        return Attempt._try(self)

    cdef int _untaken(self) except -1:
        size, address = self.value
        with memoryview(self.arguments[0]) as view:
            return _keep(self.loop, self.sock, (bytes(view.cast('B')[:size]), address), True)


cdef class SendTo(Attempt):
    """sock_sendto."""

    cdef dict _queue(self):
        return self.loop.sending

    cdef int _prepare(self) except -1:
        self.op.code = KLOOP_OP_POLL
        self.op.events = POLLOUT
        self.method = 'sendto'
        return 0


cdef class Connect(Attempt):
    """The part of sock_connect that has a resolved address: connect(2), and a poll for its end."""

    cdef dict _queue(self):
        return self.loop.sending

    cdef int _prepare(self) except -1:
        self.op.code = KLOOP_OP_POLL
        self.op.events = POLLOUT
        self.method = 'connect'
        return 0

    cdef int _completed(self, int res, char *data, uint64_t size) except -1:
        try:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError as exc:
            return self._fail(exc)
        if code:
            return self._fail(OSError(code, f'Connect call failed {self.arguments[0]}'))
        return self._set(None)


cdef class Accept(Attempt):
    """sock_accept."""

    cdef int _prepare(self) except -1:
        self.op.code = KLOOP_OP_POLL
        self.op.events = POLLIN
        self.method = 'accept'
        return 0

    cdef int _try(self) except -1:
        if self.loop.kept is not None:
            item = _take_kept(self.loop, self.sock, 0)
            if item is not None:
                return self._set(item)
        if not Attempt._try(self):
            return 0
        self.value[0].setblocking(False)
        return 1

    cdef int _untaken(self) except -1:
        return _keep(self.loop, self.sock, self.value, True)


# ---- the methods

# Other types of sockets may have methods of their own, which asyncio's code then calls.

def sock_recv(LoopCore self, sock, n):
    """Receives up to n bytes of a socket; b'' at the end of the stream. As asyncio's."""
    cdef Receive call
    if type(sock) is not _plain_socket:
        return _inherited.sock_recv(self, sock, n)
    call = Receive.__new__(Receive)
    call.loop = self
    call.sock = sock
    call.limit = n
    return call


def sock_recv_into(LoopCore self, sock, buf):
    """Receives into a writable buffer; answers the number of bytes. As asyncio's."""
    cdef ReceiveInto call
    if type(sock) is not _plain_socket:
        return _inherited.sock_recv_into(self, sock, buf)
    call = ReceiveInto.__new__(ReceiveInto)
    call.loop = self
    call.sock = sock
    call.buffer = buf
    return call


def sock_sendall(LoopCore self, sock, data):
    """Sends all of data, a bytes-like object. As asyncio's."""
    cdef SendAll call
    if type(sock) is not _plain_socket:
        return _inherited.sock_sendall(self, sock, data)
    call = SendAll.__new__(SendAll)
    call.loop = self
    call.sock = sock
    call.data = data
    return call


cdef Attempt _new_attempt(type kind, LoopCore loop, object sock, tuple arguments):
    cdef Attempt call = kind.__new__(kind)
    call.loop = loop
    call.sock = sock
    call.arguments = arguments
    return call


def sock_recvfrom(LoopCore self, sock, bufsize):
    """Receives a datagram of up to bufsize bytes; answers (bytes, address). As asyncio's."""
    return _new_attempt(ReceiveFrom, self, sock, (bufsize,))


def sock_recvfrom_into(LoopCore self, sock, buf, nbytes=0):
    """Receives a datagram into buf, up to nbytes; answers (bytes, address). As asyncio's."""
    return _new_attempt(ReceiveFromInto, self, sock, (buf, nbytes))


def sock_sendto(LoopCore self, sock, data, address):
    """Sends a datagram to address; answers the number of bytes. As asyncio's."""
    return _new_attempt(SendTo, self, sock, (data, address))


def connect_resolved(LoopCore self, sock, address):
    """The part of sock_connect that follows the look-up of names."""
    return _new_attempt(Connect, self, sock, (address,))


def sock_accept(LoopCore self, sock):
    """Accepts a connection; answers (socket, address). As asyncio's."""
    return _new_attempt(Accept, self, sock, ())


cdef dict _CALL_NAMES = {
    Receive: 'sock_recv', ReceiveInto: 'sock_recv_into', SendAll: 'sock_sendall',
    ReceiveFrom: 'sock_recvfrom', ReceiveFromInto: 'sock_recvfrom_into', SendTo: 'sock_sendto',
    Connect: 'sock_connect', Accept: 'sock_accept',
}
for _type in _CALL_NAMES:
    kloop_set_slots(_type, _call_send)
for _function in (sock_recv, sock_recv_into, sock_sendall, sock_recvfrom, sock_recvfrom_into,
                  sock_sendto, sock_accept):
    kloop_mark_coroutine(_function)
