# What TLS needs once per loop, and where TLS records begin and end.

cdef enum:
    RECORD_HEADER = 5           # type, version, length: RFC 8446, 5.1
    RECORD_PLAIN = 16 * 1024    # the most plaintext in one record: RFC 8446, 5.1
    RECORD_BODY = RECORD_PLAIN + 2048   # the most that may follow a header: RFC 5246, 6.2.3
    RECORD_TYPE_FIRST = 20      # change_cipher_spec
    RECORD_TYPE_DATA = 23       # application_data
    RECORD_TYPE_LAST = 24       # heartbeat
    # What TLS 1.3 adds to the plaintext at least: the content type and the tag, RFC 8446, 5.2 and 5.3.
    RECORD_13_EXTRA = 1 + 16
    # Received bytes are decrypted in pieces of this size: a MemoryBIO never shrinks.
    FEED_SIZE = 64 * 1024
    # Plaintext that is given to a protocol at once. Below the size (128 KiB) from which malloc(3)
    # asks the kernel for each block anew.
    PLAIN_SIZE = 64 * 1024
    # Ciphertext that is collected for one sendmsg(2).
    CIPHER_SIZE = 64 * 1024


@cython.final
cdef class Span:
    """Memory that is lent to one call which takes a bytes-like object."""

    cdef char *at
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer *view, int flags):
        # Not PyBuffer_FillInfo(), which overwrites view.obj: Cython has put a reference to None there.
        view.obj = self
        view.buf = self.at
        view.len = self.size
        view.readonly = 0
        view.itemsize = 1
        view.format = NULL
        if flags & PyBUF_FORMAT:
            view.format = b'B'
        view.ndim = 1
        view.shape = &view.len if flags & PyBUF_ND else NULL
        view.strides = &view.itemsize if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        view.suboffsets = NULL
        view.internal = NULL


@cython.final
cdef class TLSScratch:
    """What the TLS connections of one loop share: a buffer for plaintext, and lists of them."""

    cdef char *plain            # PLAIN_SIZE bytes
    cdef Span span
    cdef list unflushed         # have yet to send
    cdef set earning            # await their hand-over
    cdef bint looking           # for idle ones among these
    cdef int idle               # so many were handed over since their memory was given back
    cdef bint keeps             # the memory, as giving it back takes long
    cdef object snapshot        # kloop.ssl_snapshot: an import may fail when it is needed

    def __cinit__(self):
        self.span = Span.__new__(Span)
        self.unflushed = []
        self.earning = set()
        from kloop import ssl_snapshot
        self.snapshot = ssl_snapshot
        self.plain = <char *>PyMem_RawMalloc(PLAIN_SIZE)
        if self.plain is NULL:
            raise MemoryError()

    def __dealloc__(self):
        PyMem_RawFree(self.plain)

    cdef inline Span lend(self, char *at, Py_ssize_t size):
        self.span.at = at
        self.span.size = size
        return self.span


cdef struct Records:
    # Follows a stream of records. OpenSSL reads no further than the end of a record, so whether it has
    # something to decrypt is known without asking it: it would answer no by an exception.
    uint32_t have               # bytes of the record that is not complete
    uint32_t size               # of that record with its header; known once the header is complete
    uint32_t complete           # records that may be unread: 0, 1, or 2 for more
    uint32_t last               # size of the record that was completed last
    unsigned char header[RECORD_HEADER]
    bint lost                   # these are no TLS records


cdef void _follow_records(Records *r, const unsigned char *data, Py_ssize_t size) noexcept:
    """Counts the records that data completes."""
    cdef Py_ssize_t part
    while size and not r.lost:
        if r.have < RECORD_HEADER:
            part = min(<Py_ssize_t>(RECORD_HEADER - r.have), size)
            memcpy(r.header + r.have, data, part)
            r.have += part
            data += part
            size -= part
            if r.have < RECORD_HEADER:
                return
            r.size = RECORD_HEADER + ((<uint32_t>r.header[3] << 8) | r.header[4])
            r.lost = (r.size > RECORD_HEADER + RECORD_BODY or r.header[0] < RECORD_TYPE_FIRST
                      or r.header[0] > RECORD_TYPE_LAST)
        part = min(<Py_ssize_t>(r.size - r.have), size)
        r.have += part
        data += part
        size -= part
        if r.have == r.size:
            r.have = 0
            r.last = r.size
            r.complete = min(r.complete + 1, <uint32_t>2)
