# FileCall: what a call on a file or a path answers, and FileHandle, whose calls most of them are.

cdef extern from "<unistd.h>" nogil:
    int64_t c_lseek "lseek"(int fd, int64_t offset, int whence)
    int c_unlink "unlink"(const char *path)
    enum:
        SEEK_SET, SEEK_CUR
        FILE_END "SEEK_END"

cdef extern from "<fcntl.h>":
    enum:
        AT_FDCWD
        AT_EMPTY_PATH

cdef extern from "<linux/falloc.h>":
    enum:
        FALLOC_FL_KEEP_SIZE

cdef enum:
    FILE_POLLED = 1     # of kloop_op.events
    EINVAL_ERRNO = 22
    ESPIPE_ERRNO = 29
    EEXIST_ERRNO = 17

cdef uint64_t CURRENT_OFFSET = <uint64_t>-1
cdef bytes _no_path = b'\0'


cdef class FileHandle:
    """An open descriptor as the core's operations see it.

    Operations at the file's own position are for one caller at a time. Those with an offset may be as
    many as one likes.

    The position is the kernel's, as other descriptors of the file share it. But the kernel is told it with each
    operation, and it is moved here: a ring does not move it for a write that ends in an error behind some bytes
    (seen on 6.18), nor for direct I/O. Only where there is none, or a write goes to the end anyway, the
    kernel is left to use its own.
    """

    cdef LoopCore loop
    cdef readonly int fd            # -1 once it is closed
    cdef readonly object name       # for errors
    cdef bint polled                # poll(2) tells when it is ready
    cdef readonly bint seekable
    cdef bint appends               # O_APPEND
    cdef readonly uint64_t moved    # bytes written at the file's own position, also by calls that were cancelled
    cdef uint32_t under_way         # calls that the core has
    cdef readonly uint32_t moving   # of these, those at the file's own position
    cdef object idle                # the future of who waits until there are none
    cdef object still               # and until there are none at the position
    cdef int ending_fd              # what is to be closed when there are none, or -1
    cdef object ending_data         # and to be written before,
    cdef uint64_t ending_moved      # when `moved` was so many
    cdef bint ending_closes
    cdef bytes kept                 # what a cancelled read has taken from where it can't be put back

    def __cinit__(self, LoopCore loop not None, int fd, object name, bint appends=False):
        self.seekable = c_lseek(fd, 0, SEEK_CUR) >= 0
        self.appends = appends
        self.loop = loop
        self.fd = fd
        self.ending_fd = -1
        self.name = name
        self.polled = not self.seekable

    def set_polled(self):
        """Says that poll(2) tells when a read or write need not wait. Without a position that is so anyway."""
        self.polled = True

    def pread(self, size, offset):
        """Reads size bytes at offset; fewer at the end of the file alone."""
        cdef int64_t place = PyNumber_AsSsize_t(offset, OverflowError)
        cdef FileRead call = FileRead.__new__(FileRead)
        self._prepare(call, KLOOP_OP_FILE_READ, place)
        call.size = size
        call.full = True
        return call

    def pread_into(self, buffer, offset):
        """Fills a writable buffer with the bytes at offset; answers how many there were."""
        cdef int64_t place = PyNumber_AsSsize_t(offset, OverflowError)
        cdef FileReadInto call = FileReadInto.__new__(FileReadInto)
        self._prepare(call, KLOOP_OP_FILE_READ, place)
        call.buffer = buffer
        call.full = True
        return call

    def pwrite(self, data, offset):
        """Writes all of data at offset; answers its size."""
        cdef int64_t place = PyNumber_AsSsize_t(offset, OverflowError)
        cdef FileWrite call = FileWrite.__new__(FileWrite)
        self._prepare(call, KLOOP_OP_FILE_WRITE, place)
        call.data = data
        call.full = True
        return call

    def read(self, Py_ssize_t size):
        """read(2): up to size bytes at the position of the file."""
        cdef FileRead call = FileRead.__new__(FileRead)
        self._prepare(call, KLOOP_OP_FILE_READ, 0)
        call.here = True
        call.size = size
        return call

    def read_into(self, buffer):
        """read(2) into a writable buffer; answers how many bytes."""
        cdef FileReadInto call = FileReadInto.__new__(FileReadInto)
        self._prepare(call, KLOOP_OP_FILE_READ, 0)
        call.here = True
        call.buffer = buffer
        return call

    def write(self, data):
        """write(2): answers how many bytes of data were taken."""
        cdef FileWrite call = FileWrite.__new__(FileWrite)
        self._prepare(call, KLOOP_OP_FILE_WRITE, 0)
        call.here = True
        call.data = data
        return call

    cdef inline int _prepare(self, FileCall call, uint32_t code, int64_t place) except -1:
        call.loop = self.loop
        call.handle = self
        call.op.code = code
        call.op.events = FILE_POLLED if self.polled else 0
        call.place = place
        call.op.offset = <uint64_t>place
        return 0

    def sync(self, uint32_t flags):
        """fsync(2), or with flags 1 fdatasync(2)."""
        return _file_call(self.loop, self, KLOOP_OP_SYNC, self.fd, flags, 0)

    def truncate(self, int64_t size):
        """ftruncate(2)."""
        return _file_call(self.loop, self, KLOOP_OP_TRUNCATE, self.fd, 0, size)

    def stat(self, bytearray room not None):
        """statx(2) into room, of 256 bytes."""
        cdef FileCall call = _file_call(self.loop, self, KLOOP_OP_STAT, self.fd, AT_EMPTY_PATH, 0)
        call.memory = _no_path
        call.op.ptr = <uint64_t>PyBytes_AS_STRING(_no_path)
        call.op.len = PyBytes_GET_SIZE(_no_path)
        call.memory2 = room
        call.op.ptr2 = <uint64_t><char *>room
        call.op.len2 = len(room)
        return call

    def chmod(self, uint32_t mode):
        """fchmod(2)."""
        return _file_call(self.loop, self, KLOOP_OP_CHMOD, self.fd, 0, mode)

    def seek(self, int64_t offset, uint32_t whence):
        """lseek(2), which may have to ask a server: answers the new position."""
        return _file_call(self.loop, self, KLOOP_OP_SEEK, self.fd, whence, offset)

    def seek_now(self, int64_t offset, int whence):
        """lseek(2) at once, for SEEK_SET and SEEK_CUR, which look at nothing but the open file."""
        cdef int64_t at
        if self.fd < 0:
            raise ValueError('I/O operation on closed file')
        at = c_lseek(self.fd, offset, whence)
        if at < 0:
            raise _file_error(c_errno, self.name)
        return at

    def read_entries(self, bytearray room not None):
        """getdents64(2) into room; answers how many bytes."""
        cdef FileCall call = _file_call(self.loop, self, KLOOP_OP_READ_DIR, self.fd, 0, 0)
        call.memory = room
        call.op.ptr = <uint64_t><char *>room
        call.op.len = len(room)
        return call

    def allocate(self, uint64_t size):
        """fallocate(2) of the first size bytes, without a change of the file's size."""
        cdef FileCall call = _file_call(self.loop, self, KLOOP_OP_ALLOCATE, self.fd, FALLOC_FL_KEEP_SIZE, 0)
        call.op.len = size
        return call

    def clone_to(self, FileHandle other not None):
        """Has another file share all blocks of this one, if their file system can."""
        cdef FileCall call = _file_call(self.loop, self, KLOOP_OP_CLONE, self.fd, 0, 0)
        call.other = other
        return call

    def copy_to(self, FileHandle other not None, uint64_t size):
        """copy_file_range(2) of up to size bytes, at the positions of both; answers how many."""
        cdef FileCall call = _file_call(self.loop, self, KLOOP_OP_COPY_RANGE, self.fd, 0, 0)
        call.other = other
        call.op.len = size
        return call

    def put_back(self, bytes data not None):
        """Has the next read at the position find these bytes, which were the last that one has read there."""
        _put_back(self, data)

    # ---- its end

    @cython.critical_section
    def release(self):
        """Refuses further calls, and answers the descriptor, which is the caller's to close now."""
        fd = self.fd
        self.fd = -1
        return fd

    def when_idle(self):
        """A future that is done when the core has no call of this file, or None if it has none now."""
        if self.under_way == 0:
            return None
        if self.idle is None or self.idle.done():
            self.idle = self.loop.create_future()
        return self.idle

    def when_still(self):
        """The same for calls at the file's own position. One whose coroutine was destroyed may be under way still."""
        if self.moving == 0:
            return None
        if self.still is None or self.still.done():
            self.still = self.loop.create_future()
        return self.still

    def close_when_idle(self, int fd, data=None, bint closefd=True, bint here=False):
        """Closes a descriptor that release() has given, once the core has no call of this file; nobody waits for
        that. Also when the loop is closed before, and from any thread. here: in this one, if it has none now.

        data: what is written to it before, less what a call that is under way writes of it. closefd: False, if
        nothing but that is to be done.
        """
        cdef bint still
        with cython.critical_section(self):
            still = self.moving == 0
        try:
            if data and still:
                _write_all(fd, data, 0)
                data = None
        finally:
            with cython.critical_section(self):
                self.ending_fd = fd
                self.ending_data = data
                self.ending_moved = self.moved
                self.ending_closes = closefd
            self._end_if_idle(here)

    cdef int _end_if_idle(self, bint here) except -1:
        cdef int fd = -1
        data = None
        with cython.critical_section(self):
            if self.under_way == 0:
                fd = self.ending_fd
                self.ending_fd = -1
                data = self.ending_data
                self.ending_data = None
        if fd < 0:
            return 0
        try:
            if data:
                _write_all(fd, data, self.moved - self.ending_moved)
        finally:
            if not self.ending_closes:
                pass
            elif here or kloop_load_thread(&self.loop.runs_in) != PyThread_get_thread_ident():
                posix_close(fd)
            else:
                _close_file_later(self.loop, fd)
        return 0

    cdef bint _begin(self, bint here) noexcept:
        """Counts one more call; answers whether there may be one."""
        with cython.critical_section(self):
            if self.fd < 0:
                return False
            self.under_way += 1
            self.moving += here
        return True

    cdef int _ended(self, bint here) except -1:
        cdef bint idle, ends
        with cython.critical_section(self):
            self.under_way -= 1
            self.moving -= here
            idle = self.under_way == 0
            ends = idle and self.ending_fd >= 0
        if self.still is not None and self.moving == 0:
            still, self.still = self.still, None
            self._tell(still)
        if not idle:
            return 0
        if self.idle is not None:
            future, self.idle = self.idle, None
            self._tell(future)
        if ends:
            try:
                self._end_if_idle(False)
            except OSError as exc:
                self.loop.call_exception_handler({
                    'message': f'What was written to {self.name!r} is lost: its last write failed',
                    'exception': exc})
        return 0

    cdef int _tell(self, object future) except -1:
        if not future.done() and not self.loop._closed:
            future.set_result(None)
        return 0


cdef int _write_all(int fd, object data, size_t start) except -1:
    """For who can't wait: what is behind the first bytes."""
    with memoryview(data) as view:
        left = view[start:]
        while left:
            left = left[os.write(fd, left):]
    return 0


cdef object _file_error(int code, object name):
    """As open() raises it: the number chooses the class. A name may be a pair, as of rename()."""
    if type(name) is tuple:
        return OSError(code, os.strerror(code), name[0], None, name[1])
    if name is None:
        return OSError(code, os.strerror(code))
    return OSError(code, os.strerror(code), name)


cdef class FileCall(SocketCall):
    """A call on a file: a coroutine that is its own future, as those on sockets.

    It has no queue. It is over when the core has said so, also when it was cancelled: then
    neither the kernel nor a thread uses its memory or its file any more. While the core has it, it is
    in the loop's list.
    """

    cdef FileHandle handle          # None for calls on paths
    cdef FileHandle other           # the second file, if there are two
    cdef object name                # for errors
    cdef object memory              # what op.ptr names
    cdef object memory2             # and op.ptr2
    cdef object message             # of cancel()
    cdef int64_t place              # the offset
    cdef bint here                  # it is the file's position, which moves
    cdef bint certain               # it can't be cancelled: a close
    cdef bint temporary             # of an open: what it makes is not to stay if nobody waits for it
    cdef PyObject *before           # in the loop's list
    cdef PyObject *after

    cdef bint _start(self) except -1:
        self.stage = CALL_OVER
        self.loop._check_core()
        if self.handle is not None:
            if not self.handle._begin(self.here):
                raise ValueError('I/O operation on closed file')
            self.op.fd = self.handle.fd
        if self.other is not None:
            if not self.other._begin(False):
                self.handle._ended(self.here)
                raise ValueError('I/O operation on closed file')
            self.op.fd2 = self.other.fd
        try:
            if self._prepare():
                self._release()
                self._leave()
                return True
            self._submit()
        except BaseException:
            self._release()
            self._leave()
            raise
        self._enlist()
        self.stage = CALL_WAITING
        return False

    cdef int _leave(self) except -1:
        """Its files are used no more."""
        if self.handle is not None:
            self.handle._ended(self.here)
        if self.other is not None:
            self.other._ended(False)
        return 0

    cdef int _find_place(self) except -1:
        """Before a read or write: the offset of one at the position."""
        if self.here:
            self.op.offset = CURRENT_OFFSET
            if self.handle.seekable and not self.handle.polled and not (self.handle.appends and self.op.code == KLOOP_OP_FILE_WRITE):
                self.place = c_lseek(self.op.fd, 0, SEEK_CUR)
                if self.place < 0:
                    raise _file_error(c_errno, self.handle.name)
                self.op.offset = self.place
        elif self.place < 0:
            raise _file_error(EINVAL_ERRNO, self.handle.name)
        elif not self.handle.seekable:
            raise _file_error(ESPIPE_ERRNO, self.handle.name)   # a ring would not look at the offset
        return 0

    cdef int _move(self, uint64_t size) except -1:
        """After one at the position that has moved so many bytes."""
        if self.op.offset != CURRENT_OFFSET:
            c_lseek(self.op.fd, self.place + size, SEEK_SET)
        elif self.handle.seekable and not self.handle.polled:
            c_lseek(self.op.fd, 0, FILE_END)
        return 0

    cdef int _enlist(self) except -1:
        cdef LoopCore loop = self.loop
        Py_INCREF(self)
        self.after = loop.file_calls
        if loop.file_calls is not NULL:
            (<FileCall>loop.file_calls).before = <PyObject *>self
        loop.file_calls = <PyObject *>self
        return 0

    cdef int _strike(self) except -1:
        """Takes it off the list, which may have the last reference."""
        if self.before is NULL:
            self.loop.file_calls = self.after
        else:
            (<FileCall>self.before).after = self.after
        if self.after is not NULL:
            (<FileCall>self.after).before = self.before
        self.before = self.after = NULL
        self._leave()
        Py_DECREF(self)
        return 0

    cdef int _cancel_operation(self) except -1:
        if self.loop.k is NULL or self.loop.generation != _fork_generation or self.certain or not self.submitted:
            return 0
        if self.op.state == KLOOP_OP_NEW:
            self.op.state = KLOOP_OP_DROPPED
        elif self.op.state == KLOOP_OP_TAKEN:
            self.loop._command(KLOOP_CMD_OP_CANCEL, self.op.id)
        return 0

    cdef int _on_done(self, int res, char *data, uint64_t size) except -1:
        cdef FileCall held = self
        self.submitted = False
        if self.called_off or self.stage != CALL_WAITING:
            self._completed_late(res, data, size)
        elif not self._completed(res, data, size):
            self._submit()
            return 0
        self._release()
        self._strike()
        if self.called_off:
            self._fail(_CancelledError() if self.message is None else _CancelledError(self.message))
        if self.stage == CALL_WAITING:
            self.stage = CALL_DONE
            self._wake()
        return 0

    cdef int _completed(self, int res, char *data, uint64_t size) except -1:
        if res:
            return self._fail(_file_error(res, self.name))
        return self._set(size)

    cdef int _completed_late(self, int res, char *data, uint64_t size) except -1:
        if self.op.code == KLOOP_OP_OPEN:
            if res == 0:
                _close_file_later(self.loop, size)
            if self.temporary and res != EEXIST_ERRNO:      # a cancelled one may have made it too
                _remove_file_later(self.loop, self.memory)
        return 0

    cdef int _loop_closed(self) except -1:
        if self.temporary and self.memory is not None:
            c_unlink(PyBytes_AS_STRING(self.memory))
        return SocketCall._loop_closed(self)

    cdef int _untaken(self) except -1:
        if self.op.code == KLOOP_OP_OPEN:
            _close_file_later(self.loop, self.value)
        return 0

    cdef int _release(self) except -1:
        self.memory = None
        self.memory2 = None
        return 0

    def cancel(self, msg=None):
        """Cancels the operation. The task goes on when that is over."""
        if KLOOP_FREE_THREADED and _is_elsewhere(self.loop):    # where nothing is to be looked at
            self.loop._defer(self.cancel, () if msg is None else (msg,))
            return True
        if self.stage != CALL_WAITING:
            return False
        if _is_elsewhere(self.loop):
            self.loop._defer(self.cancel, () if msg is None else (msg,))
            return True
        self.called_off = True
        self.message = msg
        self._cancel_operation()
        return True

    def cancelled(self):
        return self.called_off and self.stage != CALL_WAITING

    @property
    def __name__(self):
        return _FILE_CALL_NAMES[self.op.code]

    @property
    def __qualname__(self):
        return f'kloop.files.{_FILE_CALL_NAMES[self.op.code]}'


cdef FileCall _file_call(LoopCore loop, FileHandle handle, uint32_t code, int fd, uint32_t flags, int64_t offset):
    cdef FileCall call = FileCall.__new__(FileCall)
    call.loop = loop
    call.handle = handle
    if handle is not None:
        call.name = handle.name
    call.op.code = code
    call.op.fd = fd
    call.op.events = flags
    call.op.offset = <uint64_t>offset
    return call


cdef int _close_file_later(LoopCore loop, int fd) except -1:
    """Closes a descriptor that nobody has: without a wait, and without an outcome."""
    cdef FileCall call
    if loop.k is NULL or loop.generation != _fork_generation:
        posix_close(fd)
        return 0
    call = _file_call(loop, None, KLOOP_OP_CLOSE, fd, 0, 0)
    call.certain = True
    call.stage = CALL_OVER
    call._submit()
    return call._enlist()


cdef int _remove_file_later(LoopCore loop, bytes path) except -1:
    cdef FileCall call = _file_call(loop, None, KLOOP_OP_UNLINK, AT_FDCWD, 0, 0)
    call.memory = path
    call.op.ptr = <uint64_t>PyBytes_AS_STRING(path)
    call.op.len = PyBytes_GET_SIZE(path)
    call.certain = True
    call.temporary = True
    call.stage = CALL_OVER
    call._submit()
    return call._enlist()


cdef int _end_file_calls(LoopCore loop) except -1:
    """After the core has ended."""
    cdef FileCall call
    while loop.file_calls is not NULL:
        call = <FileCall>loop.file_calls
        call._loop_closed()
        call._strike()
    return 0
