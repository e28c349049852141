# LookupCall: what is looked up by a resolver of the core. A name that is known is answered in the call, others in an
# event of a later poll.

cdef extern from "<netdb.h>" nogil:
    const char *gai_strerror(int code)

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text)
    int PySys_Audit(const char *event, const char *format, ...) except -1
    int PyIter_Send(PyObject *iterator, PyObject *value, PyObject **result)
    object PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)
    object PyUnicode_DecodeLocaleAndSize(const char *text, Py_ssize_t size, const char *errors)

cdef enum:
    # Room for an answer that is known at once: 50 addresses. A longer one comes as an event.
    ANSWER_ROOM = 2048
    PORT_ROOM = 8           # 65535 and its end
    LABEL_MAX = 63          # RFC 1035 section 2.3.4

cdef enum:
    INT32_LEAST = -2147483648
    INT32_MOST = 2147483647

cdef object _gaierror = socket.gaierror
cdef dict _address_families = {int(family): family for family in socket.AddressFamily}
cdef dict _socket_kinds = {int(kind): kind for kind in socket.SocketKind}

ANSWER_ASK_LIBC = KLOOP_ANSWER_ASK_LIBC
ANSWER_NOT_FOUND = KLOOP_ANSWER_NOT_FOUND
ANSWER_NO_DATA = KLOOP_ANSWER_NO_DATA
ANSWER_SERVER = KLOOP_ANSWER_SERVER
ANSWER_TIMEOUT = KLOOP_ANSWER_TIMEOUT
ANSWER_NAME = KLOOP_ANSWER_NAME
ANSWER_BUSY = KLOOP_ANSWER_BUSY
ANSWER_CLOSED = KLOOP_ANSWER_CLOSED


# Set as long as no other resolver, or none, was asked for.
UNSET = object()

# Names that libc is asked for, by a coroutine of this: set by kloop.names.
cdef object _by_libc = None
cdef object _by_names = None
cdef object _explain = None
# What asyncio would call, if it is the standard library's own: see kloop.names.
cdef object _base_events = asyncio.base_events
cdef object _socket_module = socket
cdef object _stock_getaddrinfo = None
cdef object _stock_c_getaddrinfo = None
import _socket as _c_socket_module


def set_names(by_names, by_libc, explain, stock, stock_c):
    """For kloop.names: coroutine functions, and the functions of the socket module in whose place nobody has put others."""
    global _by_names, _by_libc, _explain, _stock_getaddrinfo, _stock_c_getaddrinfo
    _by_names = by_names
    _by_libc = by_libc
    _explain = explain
    _stock_getaddrinfo = stock
    _stock_c_getaddrinfo = stock_c


cpdef bint getaddrinfo_is_stock() except -1:
    """Whether asyncio would call the standard library's own getaddrinfo; tests replace the module that asyncio has, too."""
    return (_base_events.socket is _socket_module and _socket_module.getaddrinfo is _stock_getaddrinfo
            and _c_socket_module.getaddrinfo is _stock_c_getaddrinfo)


@cython.final
cdef class LookupCall(SocketCall):
    """A lookup, to be awaited: a coroutine that is its own future, as the calls of sockets are.

    Its result is what ``make`` makes of the answer, and of getaddrinfo the list; None if libc must be asked, unless it is a
    loop's own getaddrinfo, which then goes on in ``inner``, a coroutine. An answer that says why there is nothing is made an
    exception by ``explain``.
    """

    cdef kloop_lookup query
    cdef ResolverCore resolver
    cdef object make
    cdef object explain
    cdef bytes host             # None: NULL
    cdef bytes service
    cdef char port_text[PORT_ROOM]      # in its place: a number
    cdef object inner
    cdef bint whole             # a loop's own getaddrinfo, of which these are the arguments
    cdef object given_host, given_port, family, kind, protocol, flags

    cdef int _begin(self) except -1:
        """A loop's own getaddrinfo: answers 0 if inner goes on."""
        cdef LoopCore loop = self.loop
        cdef object resolver = loop._resolver
        if loop._closed:
            loop._check_closed()
        if resolver is UNSET:
            resolver = loop.resolver
        if resolver is None or loop._debug or not getaddrinfo_is_stock() or not _fits(
                &self.query, self.given_host, self.given_port, self.family, self.kind, self.protocol, self.flags):
            self.inner = _by_names(loop, resolver, self.given_host, self.given_port, self.family, self.kind,
                                   self.protocol, self.flags)
            return 0
        self.resolver = resolver
        if not _plain_host(self.given_host, &self.query):
            self.host = _host_bytes(self.given_host)
        if not _plain_port(self.given_port, self.port_text):
            self.service = _service_bytes(self.given_port)
        elif self.given_port is not None:
            self.query.service = <uint64_t>self.port_text
            self.query.service_len = strlen(self.port_text)
        PySys_Audit("socket.getaddrinfo", "OOiii", <PyObject *>self.given_host, <PyObject *>self.given_port, self.query.family,
                    self.query.socktype, self.query.protocol)
        return 1

    cdef bint _start(self) except -1:
        cdef char room[ANSWER_ROOM]
        cdef kloop_lookup *q = &self.query
        cdef int64_t size
        self.stage = CALL_OVER
        if self.whole and not self._begin():
            return False
        self.loop._check_core()
        q.resolver = self.resolver._number_here()
        q.user = <uint64_t><PyObject *>self
        if self.host is not None:
            q.host = <uint64_t>PyBytes_AS_STRING(self.host)
            q.host_len = strlen(PyBytes_AS_STRING(self.host))      # as C sees it
        if self.service is not None:
            q.service = <uint64_t>PyBytes_AS_STRING(self.service)
            q.service_len = strlen(PyBytes_AS_STRING(self.service))
        q.out = <uint64_t>room
        q.out_size = ANSWER_ROOM
        size = kloop_lib.lookup(self.loop.k, q)
        if size >= 0:
            self._take(room, size)
            return True
        if size != -EINPROGRESS:
            raise self.explain(KLOOP_ANSWER_CLOSED, os.strerror(<int>-size))
        self.stage = CALL_WAITING
        self.loop.lookups.add(self)
        return False

    cdef bint _goes_to_libc(self) except -1:
        """Whether the answer was that libc must be asked, and that is this call's to do: inner goes on."""
        if not self.whole or self.value is not None:
            return False
        self.inner = _by_libc(self.loop, self.given_host, self.given_port, family=self.family, type=self.kind,
                              proto=self.protocol, flags=self.flags)
        return True

    def __await__(self):
        # Of its own, so that the slots that `await` calls are too: a type without shares its base's.
        return self

    def send(self, value):
        if self.inner is not None:
            return self.inner.send(value)
        if self._step() and not self._goes_to_libc():
            value = self.value
            self.value = None
            raise StopIteration(value)
        return self if self.inner is None else self.inner.send(None)

    def throw(self, kind, value=None, traceback=None):
        if self.inner is None:
            return SocketCall.throw(self, kind, value, traceback)
        if value is None and traceback is None:
            return self.inner.throw(kind)
        return self.inner.throw(kind, value, traceback)

    def close(self):
        if self.inner is None:
            self._abandon()
        else:
            self.inner.close()

    cdef int _take(self, const char *data, uint64_t size) except -1:
        """Makes the outcome of an answer."""
        cdef uint32_t status
        cdef int32_t code
        cdef const char *end = data + size
        memcpy(&status, data, sizeof(status))
        data += sizeof(status)
        if status == KLOOP_ANSWER_OK:
            if self.query.kind == KLOOP_LOOKUP_ADDRINFO:
                return self._set(_address_infos(data))
            if self.query.kind == KLOOP_LOOKUP_RECORDS:
                return self._set(_read_answer(data, end, None))
            return self._set(self.make(_read_value(&data, end)))
        if status == KLOOP_ANSWER_GAI:
            memcpy(&code, data, sizeof(code))
            return self._fail(_gaierror(code, gai_strerror(code).decode('utf-8', 'replace')))
        if status == KLOOP_ANSWER_ASK_LIBC:     # of getaddrinfo and getnameinfo alone
            return self._set(None)
        return self._fail(self.explain(status, data[:end - data].decode(errors='replace')))

    cdef int _on_answer(self, const char *data, uint64_t size) except -1:
        """In the walk of the events."""
        cdef LookupCall held = self         # the set's reference may be the last one
        self.loop.lookups.discard(self)
        if self.stage != CALL_WAITING:
            return 0
        try:
            self._take(data, size)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fail(exc)
        self.stage = CALL_DONE
        self._wake()
        return 0

    cdef int _cancel_operation(self) except -1:
        """Ends the work, unless others wait for the same. Its ANSWER still comes."""
        if self.loop.k is not NULL and self.loop.generation == _fork_generation:
            kloop_lib.lookup_cancel(self.loop.k, self.query.id)
        return 0

    def __repr__(self):
        stage = ('created', 'pending', 'finished', 'closed')[self.stage]
        return f'<lookup {stage} of {self.host!r}>'


_CALL_NAMES[LookupCall] = 'getaddrinfo'


cdef int _lookup_send(PyObject *call, PyObject *value, PyObject **result) except -1:
    """am_send, as _call_send."""
    cdef LookupCall lookup = <LookupCall>call
    if lookup.inner is None:
        if lookup._step() and not lookup._goes_to_libc():
            given = lookup.value
            lookup.value = None
            Py_INCREF(given)
            result[0] = <PyObject *>given
            return PYGEN_RETURN
        if lookup.inner is None:
            Py_INCREF(lookup)
            result[0] = call
            return PYGEN_NEXT
        value = <PyObject *>None
    elif value is NULL:
        value = <PyObject *>None
    return PyIter_Send(<PyObject *>lookup.inner, value, result)


kloop_set_slots(LookupCall, _lookup_send)


cdef int _end_lookups(LoopCore loop) except -1:
    """After the core has ended."""
    for call in loop.lookups:
        (<LookupCall>call)._loop_closed()
    loop.lookups.clear()
    return 0


# ---- questions

cdef inline bint _int32(object number, int32_t *into) except -1:
    """Whether it is an int, or an enum's, that fits into a C int."""
    cdef int overflow = 0
    cdef long value
    if not isinstance(number, int):
        return False
    value = PyLong_AsLongAndOverflow(number, &overflow)
    if overflow or value < INT32_LEAST or value > INT32_MOST:
        return False
    into[0] = <int32_t>value
    return True


cdef bint _is_plain(const char *text, Py_ssize_t size) noexcept:
    """Whether an ASCII host name is its own IDNA form: encodings.idna has the same bounds of labels."""
    cdef Py_ssize_t i, label = 0
    for i in range(size):
        if text[i] != c'.':
            label += 1
        elif label == 0 or label > LABEL_MAX:
            return False
        else:
            label = 0
    return label <= LABEL_MAX


cdef bint _plain_host(object host, kloop_lookup *query) except -1:
    """Whether it is given as it is, as most are."""
    cdef Py_ssize_t size
    cdef const char *text
    if not PyUnicode_CheckExact(host) or not PyUnicode_IS_ASCII(host):
        return False
    text = PyUnicode_AsUTF8AndSize(host, &size)     # lives as long as host
    if not _is_plain(text, size):
        return False
    query.host = <uint64_t>text
    query.host_len = strlen(text)
    return True


cdef bint _plain_port(object port, char *text) except -1:
    """Whether it is a number that is written into text, or none."""
    cdef long number
    cdef int i = PORT_ROOM - 1, overflow = 0
    if port is None:
        return True
    if not PyLong_CheckExact(port):
        return False
    number = PyLong_AsLongAndOverflow(port, &overflow)
    if overflow or number < 0 or number > PORT_MAX:
        return False
    text[i] = 0
    while True:
        i -= 1
        text[i] = <char>(c'0' + number % 10)
        number = number // 10
        if number == 0:
            break
    memmove(text, text + i, PORT_ROOM - i)
    return True


cdef bytes _host_bytes(object host):
    """The name as socket.getaddrinfo() gives it to libc; raises UnicodeError as it does."""
    cdef bytes plain
    if host is None or isinstance(host, bytes):
        return host
    if host.isascii():
        plain = host.encode('ascii')
        if _is_plain(PyBytes_AS_STRING(plain), PyBytes_GET_SIZE(plain)):
            return plain
    return host.encode('idna')


cdef bytes _service_bytes(object port):
    if port is None or isinstance(port, bytes):
        return port
    if type(port) is int:
        return b'%d' % port
    return port.encode()


cdef LookupCall _new_lookup(LoopCore loop, ResolverCore resolver, uint32_t kind, object make, object explain):
    cdef LookupCall call = LookupCall.__new__(LookupCall)
    call.loop = loop
    call.resolver = resolver
    call.query.kind = kind
    call.make = make
    call.explain = explain
    return call


cdef bint _fits(kloop_lookup *query, host, port, family, kind, protocol, flags) except -1:
    """Whether socket.getaddrinfo() would not complain of what these are; the numbers are then in query."""
    cdef int32_t number
    return ((host is None or isinstance(host, (str, bytes)))
            and (port is None or isinstance(port, (str, bytes)) or PyLong_CheckExact(port) and _int32(port, &number))
            and _int32(family, &query.family) and _int32(kind, &query.socktype)
            and _int32(protocol, &query.protocol) and _int32(flags, &query.flags))


def getaddrinfo(LoopCore self, host, port, *, family=0, type=0, proto=0, flags=0):
    """Resolves a host, with what socket.getaddrinfo() answers; see docs/dns.md for what goes to libc."""
    cdef LookupCall call = LookupCall.__new__(LookupCall)
    call.loop = self
    call.query.kind = KLOOP_LOOKUP_ADDRINFO
    call.whole = True
    call.explain = _explain
    call.given_host = host
    call.given_port = port
    call.family = family
    call.kind = type
    call.protocol = proto
    call.flags = flags
    return call


kloop_mark_coroutine(getaddrinfo)


def lookup_addrinfo(LoopCore loop, ResolverCore resolver, host, port, family, type, proto, flags, explain):
    """What getaddrinfo is asked: answers None for arguments that socket.getaddrinfo() itself must complain of."""
    cdef bytes name, service
    cdef LookupCall call
    cdef kloop_lookup query
    memset(&query, 0, sizeof(query))
    if not _fits(&query, host, port, family, type, proto, flags):
        return None
    name = _host_bytes(host)
    service = _service_bytes(port)
    call = _new_lookup(loop, resolver, KLOOP_LOOKUP_ADDRINFO, None, explain)
    call.query = query
    call.query.kind = KLOOP_LOOKUP_ADDRINFO
    call.host = name
    call.service = service
    return call


def lookup_nameinfo(LoopCore loop, ResolverCore resolver, str host, uint16_t port, uint32_t scope, int32_t flags,
                    explain):
    """The names of an address, which is text, and a port."""
    cdef LookupCall call = _new_lookup(loop, resolver, KLOOP_LOOKUP_NAMEINFO, _name_info, explain)
    call.host = host.encode('ascii')
    call.query.port = port
    call.query.scope = scope
    call.query.flags = flags
    return call


def _name_info(list value):
    host, service = value
    return PyUnicode_DecodeLocaleAndSize(PyBytes_AS_STRING(host), PyBytes_GET_SIZE(host), 'surrogateescape'), service


def lookup_records(LoopCore loop, ResolverCore resolver, bytes name, uint16_t type, explain):
    """The records of a type."""
    cdef LookupCall call = _new_lookup(loop, resolver, KLOOP_LOOKUP_RECORDS, None, explain)
    call.host = name
    call.query.type = type
    return call


def lookup_ip(LoopCore loop, ResolverCore resolver, bytes host, int32_t family, make, explain):
    """The addresses of a host."""
    cdef LookupCall call = _new_lookup(loop, resolver, KLOOP_LOOKUP_IP, make, explain)
    call.host = host
    call.query.family = family
    return call


def lookup_addr(LoopCore loop, ResolverCore resolver, bytes address, make, explain):
    """The names of an address."""
    cdef LookupCall call = _new_lookup(loop, resolver, KLOOP_LOOKUP_ADDR, make, explain)
    call.host = address
    return call
