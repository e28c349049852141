# Reads and writes of files, and calls on paths.

cdef class FileRead(FileCall):
    """Reads into bytes of its own."""

    cdef object size                # as it was given
    cdef bytes into
    cdef Py_ssize_t got
    cdef bint full                  # until size bytes are there, or the end of the file

    cdef int _prepare(self) except -1:
        cdef Py_ssize_t size = PyNumber_AsSsize_t(self.size, OverflowError)
        if size < 0:
            raise _file_error(EINVAL_ERRNO, self.handle.name)
        self._find_place()
        if size == 0:
            return self._set(b'')
        if self.here and self.handle.kept is not None:
            return self._set(_take_kept_bytes(self.handle, size))
        self.into = PyBytes_FromStringAndSize(NULL, size)
        self.op.ptr = <uint64_t>PyBytes_AS_STRING(self.into)
        self.op.len = size
        return 0

    cdef int _completed(self, int res, char *data, uint64_t size) except -1:
        if res:
            return self._fail(_file_error(res, self.handle.name))
        self.got += size
        if self.here:
            self._move(size)
        if size == self.op.len:
            return self._set(self.into)
        if size == 0 or not self.full:
            return self._set(self.into[:self.got])
        self.op.ptr += size
        self.op.len -= size
        self.op.offset += size
        return 0

    cdef int _completed_late(self, int res, char *data, uint64_t size) except -1:
        if res == 0 and size and self.op.offset == CURRENT_OFFSET:
            _keep_bytes(self.handle, self.into[:size])
        return 0

    cdef int _untaken(self) except -1:
        if self.here:
            _put_back(self.handle, self.value)
        return 0

    cdef int _release(self) except -1:
        self.into = None
        return 0


cdef class FileReadInto(FileCall):
    """Reads into the caller's buffer, which stays exported until the core's last answer."""

    cdef object buffer
    cdef Py_buffer view
    cdef bint exported
    cdef Py_ssize_t got
    cdef bint full

    cdef int _prepare(self) except -1:
        self._find_place()
        PyObject_GetBuffer(self.buffer, &self.view, PyBUF_WRITABLE)
        self.exported = True
        if self.view.len == 0:
            return self._set(0)
        if self.here and self.handle.kept is not None:
            data = _take_kept_bytes(self.handle, self.view.len)
            memcpy(self.view.buf, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            return self._set(PyBytes_GET_SIZE(data))
        self.op.ptr = <uint64_t>self.view.buf
        self.op.len = self.view.len
        return 0

    cdef int _completed(self, int res, char *data, uint64_t size) except -1:
        if res:
            return self._fail(_file_error(res, self.handle.name))
        self.got += size
        if self.here:
            self._move(size)
        if size == 0 or size == self.op.len or not self.full:
            return self._set(self.got)
        self.op.ptr += size
        self.op.len -= size
        self.op.offset += size
        return 0

    cdef int _completed_late(self, int res, char *data, uint64_t size) except -1:
        if res == 0 and size and self.op.offset == CURRENT_OFFSET:
            _keep_bytes(self.handle, PyBytes_FromStringAndSize(<char *>self.view.buf, size))
        return 0

    cdef int _untaken(self) except -1:
        if self.here:
            with memoryview(self.buffer) as view:
                _put_back(self.handle, bytes(view.cast('B')[:self.value]))
        return 0

    cdef int _release(self) except -1:
        if self.exported:
            self.exported = False
            PyBuffer_Release(&self.view)
        return 0


cdef class FileWrite(FileCall):
    """Writes from the caller's buffer, which stays exported until the core's last answer."""

    cdef object data
    cdef Py_buffer view
    cdef bint exported
    cdef Py_ssize_t got
    cdef bint full                  # all of it

    cdef int _prepare(self) except -1:
        self._find_place()
        PyObject_GetBuffer(self.data, &self.view, PyBUF_SIMPLE)
        self.exported = True
        if self.view.len == 0:
            return self._set(0)
        self.op.ptr = <uint64_t>self.view.buf
        self.op.len = self.view.len
        return 0

    cdef int _completed(self, int res, char *data, uint64_t size) except -1:
        if res:
            return self._fail(_file_error(res, self.handle.name))
        self.got += size
        if self.here:
            self._move(size)
            self.handle.moved += size
        if size == self.op.len or size == 0 or not self.full:
            return self._set(self.got)
        self.op.ptr += size
        self.op.len -= size
        self.op.offset += size
        return 0

    cdef int _completed_late(self, int res, char *data, uint64_t size) except -1:
        if res == 0 and self.here:
            self._move(size)
            self.handle.moved += size
        return 0

    cdef int _untaken(self) except -1:
        return 0

    cdef int _release(self) except -1:
        if self.exported:
            self.exported = False
            PyBuffer_Release(&self.view)
        return 0


cdef int _put_back(FileHandle handle, bytes data) except -1:
    """Has the next read find what one has read whose outcome nobody takes."""
    if not data or handle.fd < 0:
        return 0
    if handle.seekable and not handle.polled:
        c_lseek(handle.fd, -<int64_t>PyBytes_GET_SIZE(data), SEEK_CUR)
    else:
        handle.kept = data if handle.kept is None else data + handle.kept
    return 0


cdef int _keep_bytes(FileHandle handle, bytes data) except -1:
    """Has the next read find what a cancelled one had taken from a pipe or the like. What was put back meanwhile
    came before it: reads that have begun found nothing kept."""
    handle.kept = data if handle.kept is None else handle.kept + data
    return 0


cdef bytes _take_kept_bytes(FileHandle handle, Py_ssize_t size):
    kept = handle.kept
    handle.kept = kept[size:] or None
    return kept[:size]


# ---- calls on paths

cdef bytes _c_path(object path):
    """The bytes of a path, with a final NUL."""
    cdef bytes raw = os.fsencode(path)
    if b'\0' in raw:
        raise ValueError('embedded null byte')
    return raw + b'\0'


def file_path_call(LoopCore loop not None, str code, path, path2=None, *, dir_fd=None, dir_fd2=None,
                   uint32_t flags=0, uint32_t mode=0, name=None, fd=None, bint temporary=False):
    """An operation on a path, by its name: 'open', 'stat', 'rename', 'unlink', 'mkdir', 'link', 'symlink', 'readlink'.

    path2 is the second path, or for 'stat' and 'readlink' a bytearray for the answer. fd: with 'stat', what
    to look at in place of a path. temporary: with 'open', what it makes is removed if nobody takes its outcome.
    Answers an awaitable of what the system call answers.
    """
    cdef bytes first = _c_path(path)
    cdef bytes second = None if path2 is None or type(path2) is bytearray else _c_path(path2)
    cdef int folder = AT_FDCWD if dir_fd is None else dir_fd
    cdef int folder2 = AT_FDCWD if dir_fd2 is None else dir_fd2
    cdef FileCall call = _file_call(loop, None, _PATH_CODES[code], folder if fd is None else fd, flags, mode)
    call.name = name
    call.temporary = temporary
    call.memory = first
    call.op.ptr = <uint64_t>PyBytes_AS_STRING(first)
    call.op.len = PyBytes_GET_SIZE(first)
    call.op.fd2 = folder2
    if second is not None:
        call.memory2 = second
        call.op.ptr2 = <uint64_t>PyBytes_AS_STRING(second)
        call.op.len2 = PyBytes_GET_SIZE(second)
    elif path2 is not None:
        call.memory2 = path2
        call.op.ptr2 = <uint64_t><char *>path2
        call.op.len2 = len(path2)
    return call


def file_close(LoopCore loop not None, int fd, name=None):
    """Closes a descriptor. A cancelled close closes it all the same."""
    cdef FileCall call = _file_call(loop, None, KLOOP_OP_CLOSE, fd, 0, 0)
    call.name = name
    call.certain = True
    return call


def file_close_later(LoopCore loop not None, int fd):
    """Closes a descriptor without a wait, and without telling of errors."""
    _close_file_later(loop, fd)


cdef dict _PATH_CODES = {
    'open': KLOOP_OP_OPEN, 'stat': KLOOP_OP_STAT, 'rename': KLOOP_OP_RENAME, 'unlink': KLOOP_OP_UNLINK,
    'mkdir': KLOOP_OP_MKDIR, 'link': KLOOP_OP_LINK, 'symlink': KLOOP_OP_SYMLINK, 'readlink': KLOOP_OP_READ_LINK,
}
cdef dict _FILE_CALL_NAMES = {
    **{code: name for name, code in _PATH_CODES.items()},
    KLOOP_OP_FILE_READ: 'read', KLOOP_OP_FILE_WRITE: 'write', KLOOP_OP_CLOSE: 'close', KLOOP_OP_SYNC: 'fsync',
    KLOOP_OP_TRUNCATE: 'truncate', KLOOP_OP_READ_DIR: 'readdir', KLOOP_OP_COPY_RANGE: 'copy', KLOOP_OP_SEEK: 'seek',
    KLOOP_OP_CHMOD: 'chmod', KLOOP_OP_ALLOCATE: 'allocate', KLOOP_OP_CLONE: 'clone',
}
for _type in (FileCall, FileRead, FileReadInto, FileWrite):
    kloop_set_slots(_type, _call_send)
