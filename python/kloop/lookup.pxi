# LookupCall: what is looked up by a resolver of the core. A name that is known is answered in the call, others in an
# event of a later poll.

cdef extern from "<netdb.h>" nogil:
    const char *gai_strerror(int code)

cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)
    object PyUnicode_DecodeLocaleAndSize(const char *text, Py_ssize_t size, const char *errors)

cdef enum:
    # Room for an answer that is known at once: 50 addresses. A longer one comes as an event.
    ANSWER_ROOM = 2048
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


@cython.final
cdef class LookupCall(SocketCall):
    """A lookup, to be awaited: a coroutine that is its own future, as the calls of sockets are.

    Its result is what ``make`` makes of the answer, and of getaddrinfo the list; None if libc must be asked. An answer
    that says why there is nothing is made an exception by ``explain``.
    """

    cdef kloop_lookup query
    cdef ResolverCore resolver
    cdef object make
    cdef object explain
    cdef bytes host             # None: NULL
    cdef bytes service

    cdef bint _start(self) except -1:
        cdef char room[ANSWER_ROOM]
        cdef kloop_lookup *q = &self.query
        cdef int64_t size
        self.stage = CALL_OVER
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

    def __del__(self):
        """Without a warning if it was never awaited: only the package's own coroutines have one."""

    def __repr__(self):
        stage = ('created', 'pending', 'finished', 'closed')[self.stage]
        return f'<lookup {stage} of {self.host!r}>'


_CALL_NAMES[LookupCall] = 'lookup'
kloop_set_slots(LookupCall, _call_send)


cdef int _end_lookups(LoopCore loop) except -1:
    """After the core has ended."""
    for call in loop.lookups:
        (<LookupCall>call)._loop_closed()
    loop.lookups.clear()
    return 0


# ---- answers

cdef list _address_infos(const char *data):
    """The list that socket.getaddrinfo() answers."""
    cdef kloop_addrinfo info
    cdef uint32_t size, count, i
    cdef char text[ADDRESS_TEXT]
    memcpy(&size, data, sizeof(size))
    data += sizeof(size)
    canonical = PyUnicode_DecodeUTF8(data, size, NULL)
    data += size
    memcpy(&count, data, sizeof(count))
    data += sizeof(count)
    found = []
    for i in range(count):
        memcpy(&info, data, sizeof(info))
        data += sizeof(info)
        inet_ntop(info.family, info.address, text, ADDRESS_TEXT)
        address = PyUnicode_DecodeUTF8(text, strlen(text), NULL)
        if info.family == AF_INET6:
            sockaddr = (address, info.port, 0, info.scope)
        else:
            sockaddr = (address, info.port)
        found.append((_address_families[info.family], _socket_kinds.get(info.socktype, info.socktype),
                      info.protocol, canonical if i == 0 else '', sockaddr))
    return found


cdef object _read_value(const char **at, const char *end):
    """Reads a value; see KLOOP_VALUE_ in kloop.h."""
    cdef char kind
    cdef int64_t number
    cdef double fraction
    cdef uint32_t size, i
    cdef const char *data
    kind = at[0][0]
    at[0] += 1
    if kind == KLOOP_VALUE_INT:
        memcpy(&number, at[0], sizeof(number))
        at[0] += sizeof(number)
        return number
    if kind == KLOOP_VALUE_FLOAT:
        memcpy(&fraction, at[0], sizeof(fraction))
        at[0] += sizeof(fraction)
        return fraction
    if kind == KLOOP_VALUE_NONE:
        return None
    if kind == KLOOP_VALUE_TRUE or kind == KLOOP_VALUE_FALSE:
        return kind == KLOOP_VALUE_TRUE
    memcpy(&size, at[0], sizeof(size))
    at[0] += sizeof(size)
    if kind == KLOOP_VALUE_LIST:
        values = []
        for i in range(size):
            values.append(_read_value(at, end))
        return values
    data = at[0]
    if size > end - data:
        raise SystemError(f'kloop: the core gave a value of {size} bytes, which is longer than its answer')
    at[0] += size
    if kind == KLOOP_VALUE_TEXT:
        return PyUnicode_DecodeUTF8(data, size, 'surrogateescape')
    return PyBytes_FromStringAndSize(data, size)


# ---- questions

cdef inline bint _is_int32(object number) except -1:
    """Whether it is an int, or an enum's, that fits into a C int."""
    return isinstance(number, int) and INT32_LEAST <= number <= INT32_MOST


cdef bint _is_plain(bytes host) noexcept:
    """Whether an ASCII host name is its own IDNA form: encodings.idna has the same bounds of labels."""
    cdef const char *text = PyBytes_AS_STRING(host)
    cdef Py_ssize_t i, size = PyBytes_GET_SIZE(host), label = 0
    for i in range(size):
        if text[i] != b'.':
            label += 1
        elif label == 0 or label > LABEL_MAX:
            return False
        else:
            label = 0
    return label <= LABEL_MAX


cdef bytes _host_bytes(object host):
    """The name as socket.getaddrinfo() gives it to libc; raises UnicodeError as it does."""
    cdef bytes plain
    if host is None or isinstance(host, bytes):
        return host
    if host.isascii():
        plain = host.encode('ascii')
        if _is_plain(plain):
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


def lookup_addrinfo(LoopCore loop, ResolverCore resolver, host, port, family, type, proto, flags, explain):
    """What getaddrinfo is asked: answers None for arguments that socket.getaddrinfo() itself must complain of."""
    cdef LookupCall call
    if not ((host is None or isinstance(host, (str, bytes)))
            and (port is None or isinstance(port, (str, bytes))
                 or PyLong_CheckExact(port) and INT32_LEAST <= port <= INT32_MOST)
            and _is_int32(family) and _is_int32(type) and _is_int32(proto) and _is_int32(flags)):
        return None
    call = _new_lookup(loop, resolver, KLOOP_LOOKUP_ADDRINFO, None, explain)
    call.host = _host_bytes(host)
    call.service = _service_bytes(port)
    call.query.family = family
    call.query.socktype = type
    call.query.protocol = proto
    call.query.flags = flags
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


def lookup_records(LoopCore loop, ResolverCore resolver, bytes name, uint16_t type, make, explain):
    """The records of a type."""
    cdef LookupCall call = _new_lookup(loop, resolver, KLOOP_LOOKUP_RECORDS, make, explain)
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
