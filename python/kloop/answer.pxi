# What the core packs as an answer: see KLOOP_ANSWER_ and KLOOP_VALUE_ in kloop.h.

cdef object _ipv4_text(const unsigned char *address):
    """As inet_ntop(3), which takes a twentieth of a look-up for its printf."""
    cdef char text[ADDRESS_TEXT]
    cdef int i, end = 0
    cdef unsigned char byte
    for i in range(4):
        byte = address[i]
        if byte >= 100:
            text[end] = <char>(c'0' + byte // 100)
            end += 1
        if byte >= 10:
            text[end] = <char>(c'0' + byte // 10 % 10)
            end += 1
        text[end] = <char>(c'0' + byte % 10)
        text[end + 1] = c'.'
        end += 2
    return PyUnicode_DecodeUTF8(text, end - 1, NULL)


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
        if info.family == AF_INET:
            address = _ipv4_text(info.address)
        else:
            inet_ntop(AF_INET6, info.address, text, ADDRESS_TEXT)
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


# ---- records

cdef extern from "Python.h":
    object PyType_GenericAlloc(PyTypeObject *type, Py_ssize_t items)
    int PyObject_GenericSetAttr(object it, object name, object value) except -1
    void PyTuple_SET_ITEM(object tuple, Py_ssize_t at, PyObject *item)
    object PyTuple_New(Py_ssize_t size)

cdef object _Answer = None
cdef object _make_record = None
cdef dict _of_one_text = {}


def set_records(answer, make_record, of_one_text):
    """For kloop.records: the class of answers, what makes a record of a list, and (class, field) by type for those whose
    data is one text. These two are made here: by the __init__ of frozen dataclasses it would take four times as long."""
    global _Answer, _make_record, _of_one_text
    _Answer = answer
    _make_record = make_record
    _of_one_text = of_one_text


cdef uint32_t _read_size(const char **at) noexcept:
    """Behind the byte that says what it is the size of."""
    cdef uint32_t size
    memcpy(&size, at[0] + 1, sizeof(size))
    at[0] += 1 + sizeof(size)
    return size


cdef object _read_name(const char **at, const char *end, object like):
    """A text, which is `like` if it is the same one."""
    cdef const char *start = at[0]
    cdef const char *text
    cdef uint32_t size = _read_size(at)
    cdef Py_ssize_t like_size
    if PyUnicode_CheckExact(like) and PyUnicode_IS_ASCII(like):
        text = PyUnicode_AsUTF8AndSize(like, &like_size)
        if like_size == size and memcmp(at[0], text, size) == 0:
            at[0] += size
            return like
    at[0] = start
    return _read_value(at, end)


cdef object _read_answer(const char *at, const char *end, object asked):
    """The answer that pybridge's packAnswer has packed. asked: a name, which may be the canonical one."""
    cdef uint32_t i, count
    cdef const char *start
    answer = PyType_GenericAlloc(<PyTypeObject *>_Answer, 0)
    _read_size(&at)
    PyObject_GenericSetAttr(answer, 'name', _read_name(&at, end, asked))
    start = at
    if _read_size(&at) == 0:
        PyObject_GenericSetAttr(answer, 'aliases', ())
    else:
        at = start
        PyObject_GenericSetAttr(answer, 'aliases', tuple(<list>_read_value(&at, end)))
    PyObject_GenericSetAttr(answer, 'ttl', _read_value(&at, end))
    PyObject_GenericSetAttr(answer, 'stale', _read_value(&at, end))
    PyObject_GenericSetAttr(answer, 'authenticated', _read_value(&at, end))
    count = _read_size(&at)
    records = PyTuple_New(count)
    for i in range(count):
        record = _read_record(&at, end)
        Py_INCREF(record)
        PyTuple_SET_ITEM(records, i, <PyObject *>record)
    PyObject_GenericSetAttr(answer, 'records', records)
    return answer


cdef object _read_record(const char **at, const char *end):
    """One that value.record of pybridge has packed: its type and TTL, and what the type has."""
    cdef const char *start = at[0]
    _read_size(at)
    known = _of_one_text.get(_read_value(at, end))
    if known is None:
        at[0] = start
        return _make_record(_read_value(at, end))
    kind, field = <tuple>known
    record = PyType_GenericAlloc(<PyTypeObject *>kind, 0)
    PyObject_GenericSetAttr(record, 'ttl', _read_value(at, end))
    PyObject_GenericSetAttr(record, field, _read_value(at, end))
    return record
