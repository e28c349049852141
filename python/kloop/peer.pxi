# Socket addresses as Python shows them and as the kernel reads them. Building and parsing
# them costs as much as the rest of a datagram's way through Python, so the last ones are kept.

cdef extern from "<sys/socket.h>" nogil:
    enum:
        AF_INET, AF_INET6, AF_UNIX

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char *text, size_t most)

cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int family, const void *address, char *text, socklen_t size)
    int inet_pton(int family, const char *text, void *address)

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PyUnicode_FromString(const char *text)
    object PyUnicode_DecodeFSDefaultAndSize(const char *text, Py_ssize_t size)
    bint PyTuple_CheckExact(object)
    bint PyUnicode_CheckExact(object)
    bint PyLong_CheckExact(object)
    long PyLong_AsLongAndOverflow(object, int *overflow)

cdef enum:
    INET_SIZE = 16          # struct sockaddr_in
    INET_USED = 8           # of it: family, port and address; the rest is 0
    INET6_SIZE = 28         # struct sockaddr_in6
    PATH_OFFSET = 2         # of struct sockaddr_un
    UNIX_ADDRESS_SIZE = 110 # struct sockaddr_un
    ADDRESS_TEXT = 46       # INET6_ADDRSTRLEN
    UNIX_PATH_MAX = 108     # of sun_path, with the NUL byte that ends a path
    PORT_MAX = 65535
    FLOW_MAX = 0xfffff      # sin6_flowinfo has 20 bits
    # Peers that a loop remembers; a power of two. Two tables of pointers, 16 KiB.
    PEERS = 1024
    PEERS_SHIFT = 54        # 64 - log2(PEERS)


@cython.freelist(64)
@cython.no_gc
cdef class Peer:
    """One address in both forms. name is a tuple of str and ints, so no cycle comes by here."""

    cdef object name
    cdef uint32_t size
    cdef unsigned char raw[INET6_SIZE]


cdef inline size_t _slot_of(uint64_t key) noexcept nogil:
    """Fibonacci hashing: the product's upper bits depend on all bits of the key."""
    return (key * <uint64_t>0x9e3779b97f4a7c15) >> PEERS_SHIFT


cdef inline uint64_t _word(const unsigned char *p) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, p, sizeof(word))
    return word


@cython.no_gc
cdef class PeerTable:
    """The last peers, by their address and by the tuple they were given as.

    A program mostly sends to the very tuple that came with a datagram, or to one it keeps: those
    are found by identity. The table keeps the tuple, so no other can have its address in memory.
    """

    cdef PyObject *by_raw[PEERS]        # owned references to Peer, or NULL
    cdef PyObject *by_name[PEERS]

    def __dealloc__(self):
        cdef int i
        for i in range(PEERS):
            _drop_peer(self.by_raw[i])
            _drop_peer(self.by_name[i])

    cdef object name_of(self, const unsigned char *raw, uint32_t size):
        """The tuple of an AF_INET or AF_INET6 address."""
        cdef uint64_t key = _word(raw)
        cdef uint32_t used = INET_USED
        cdef size_t slot
        cdef Peer peer
        if size == INET6_SIZE:
            key ^= _word(raw + 8) * 31 ^ _word(raw + 16) * 37 ^ _word(raw + 20)
            used = INET6_SIZE
        slot = _slot_of(key)
        if self.by_raw[slot] is not NULL:
            peer = <Peer>self.by_raw[slot]
            if peer.size == size and memcmp(peer.raw, raw, used) == 0:
                return peer.name
        peer = Peer.__new__(Peer)
        memcpy(peer.raw, raw, size)
        peer.size = size
        peer.name = _inet_name(raw) if size == INET_SIZE else _inet6_name(raw)
        _set_peer(&self.by_raw[slot], peer)
        _set_peer(&self.by_name[_slot_of(<uint64_t><PyObject *>peer.name)], peer)
        return peer.name

    cdef Peer peer_of(self, object name, int family):
        """The peer with this name; None for one that only Python's socket module understands."""
        cdef size_t slot = _slot_of(<uint64_t><PyObject *>name)
        cdef Peer peer
        if self.by_name[slot] is not NULL:
            peer = <Peer>self.by_name[slot]
            if peer.name is name and (peer.size == INET_SIZE) == (family == AF_INET):
                return peer
        peer = Peer.__new__(Peer)
        if not PyTuple_CheckExact(name):
            return None
        peer.size = _parse_inet(name, peer.raw) if family == AF_INET else _parse_inet6(name, peer.raw)
        if peer.size == 0:
            return None
        peer.name = name
        _set_peer(&self.by_name[slot], peer)
        return peer


cdef inline int _drop_peer(PyObject *peer) except -1:
    if peer is not NULL:
        Py_DECREF(<object>peer)
    return 0


cdef inline int _set_peer(PyObject **slot, Peer peer) except -1:
    cdef PyObject *old = slot[0]
    Py_INCREF(peer)
    slot[0] = <PyObject *>peer
    return _drop_peer(old)


cdef object _inet_name(const unsigned char *raw):
    cdef char text[ADDRESS_TEXT]
    inet_ntop(AF_INET, raw + 4, text, ADDRESS_TEXT)
    return PyUnicode_FromString(text), (raw[2] << 8) | raw[3]


cdef object _inet6_name(const unsigned char *raw):
    """Without the scope's name, as socket.recvfrom() since Python 3.7."""
    cdef char text[ADDRESS_TEXT]
    cdef uint32_t scope
    cdef uint32_t flow = (raw[4] << 24) | (raw[5] << 16) | (raw[6] << 8) | raw[7]
    memcpy(&scope, raw + 24, sizeof(scope))
    inet_ntop(AF_INET6, raw + 8, text, ADDRESS_TEXT)
    return PyUnicode_FromString(text), (raw[2] << 8) | raw[3], flow, scope


cdef object _unix_name(const unsigned char *raw, uint32_t size):
    """A path, an abstract name as bytes, or None for a socket that has neither."""
    cdef const char *path = <const char *>raw + PATH_OFFSET
    cdef Py_ssize_t length = <Py_ssize_t>size - PATH_OFFSET
    if length <= 0:
        return None
    if path[0] == 0:
        return PyBytes_FromStringAndSize(path, length)
    return PyUnicode_DecodeFSDefaultAndSize(path, strnlen(path, length))


cdef int64_t _number(object value, int64_t most) except -2:
    """An exact int between 0 and most; -1 for anything else."""
    cdef int overflow = 0
    cdef int64_t number
    if not PyLong_CheckExact(value):
        return -1
    number = PyLong_AsLongAndOverflow(value, &overflow)
    return number if not overflow and 0 <= number <= most else -1


cdef int _put_port(object value, unsigned char *raw) except -1:
    """Answers whether value is a port."""
    cdef int64_t port = _number(value, PORT_MAX)
    if port < 0:
        return 0
    raw[2] = port >> 8
    raw[3] = port & 0xff
    return 1


cdef uint32_t _parse_inet(tuple name, unsigned char *raw) except? 0:
    """The size of the sockaddr of ('1.2.3.4', port), or 0."""
    cdef Py_ssize_t length
    if PyTuple_GET_SIZE(name) != 2 or not PyUnicode_CheckExact(name[0]):
        return 0
    memset(raw, 0, INET_SIZE)
    (<unsigned short *>raw)[0] = AF_INET
    text = PyUnicode_AsUTF8AndSize(name[0], &length)
    if strlen(text) != <size_t>length or inet_pton(AF_INET, text, raw + 4) != 1:
        return 0
    return INET_SIZE if _put_port(name[1], raw) else 0


cdef uint32_t _parse_inet6(tuple name, unsigned char *raw) except? 0:
    """The size of the sockaddr of ('::1', port[, flow[, scope]]), or 0: with a zone, for one."""
    cdef Py_ssize_t length
    cdef Py_ssize_t count = PyTuple_GET_SIZE(name)
    cdef int64_t flow = 0, scope = 0
    cdef uint32_t scope_id
    if not 2 <= count <= 4 or not PyUnicode_CheckExact(name[0]):
        return 0
    memset(raw, 0, INET6_SIZE)
    (<unsigned short *>raw)[0] = AF_INET6
    text = PyUnicode_AsUTF8AndSize(name[0], &length)
    if strlen(text) != <size_t>length or inet_pton(AF_INET6, text, raw + 8) != 1:
        return 0
    if count > 2:
        flow = _number(name[2], FLOW_MAX)
    if count > 3:
        scope = _number(name[3], <int64_t>0xffffffff)
    if flow < 0 or scope < 0 or not _put_port(name[1], raw):
        return 0
    raw[5] = flow >> 16
    raw[6] = (flow >> 8) & 0xff
    raw[7] = flow & 0xff
    scope_id = <uint32_t>scope
    memcpy(raw + 24, &scope_id, sizeof(scope_id))
    return INET6_SIZE
