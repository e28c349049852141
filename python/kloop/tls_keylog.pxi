# The key log: what the handshakes of all threads have written to it is read and overwritten. See docs/tls.md.

cdef enum:
    NO_WINDOW = -1                  # instead of an offset in the log
    KEYLOG_MAX = 1024 * 1024        # of the log of all handshakes under way
    KEYLOG_STEP = 2048              # more than the last steps have written
    KEYLOG_KEPT = 64 * 1024         # of overwritten bytes: a file that shrinks gives its memory back, and costs 4 µs

cdef extern from "<unistd.h>" nogil:
    enum: SEEK_END
    ssize_t pread(int fd, void *to, size_t size, int64_t offset)
    int64_t lseek(int fd, int64_t offset, int whence)
    ssize_t pwrite(int fd, const void *data, size_t size, int64_t offset)
    int ftruncate(int fd, int64_t size)

cdef extern from "<string.h>" nogil:
    void explicit_bzero(void *at, size_t size)

# Handshakes, of all threads, that are in a step: what they write to the key log is still to be read. The GIL, or
# kloop_key_log_lock, is kept while it is looked at and the log is emptied, so that no handshake begins a step in the middle.
cdef int _windows = 0
# Up to here the log was overwritten, and up to there it was seen: at least as far.
cdef int64_t _erased = 0, _seen = 0
cdef char[KEYLOG_STEP] _zeros


def empty_key_log(int fd):
    """Removes all lines, unless a handshake is to read them; answers how many bytes are new since they were."""
    cdef int64_t size, new
    kloop_lock_take(&kloop_key_log_lock)
    size = lseek(fd, 0, SEEK_END)
    new = size - _erased
    if size > 0 and _windows == 0:
        _truncate_log(fd)
    kloop_lock_give(&kloop_key_log_lock)
    return new


def forget_key_log():
    """In a forked child, whose log is another one, and none of whose handshakes is in a step."""
    global _windows, _erased, _seen
    kloop_lock_reset(&kloop_key_log_lock)
    _windows = _erased = _seen = 0


cdef void _truncate_log(int fd) noexcept:
    global _erased, _seen
    if ftruncate(fd, 0) == 0:
        _erased = _seen = 0


cdef void _erase_log(int fd, int64_t end) noexcept:
    """Overwrites what was read but its last byte, which ends a line or belongs to one that somebody is writing."""
    global _erased
    cdef int64_t size = end - 1 - _erased
    if end > KEYLOG_KEPT or size > KEYLOG_STEP or (size > 0 and pwrite(fd, _zeros, size, _erased) != size):
        _truncate_log(fd)
    elif size > 0:
        _erased = end


cdef int64_t _open_window() noexcept:
    """Begins a step; answers from where on the key log may have its lines. Is that too far, NO_WINDOW, and there is no step."""
    global _windows
    cdef int64_t begin
    kloop_lock_take(&kloop_key_log_lock)
    begin = _seen
    if begin <= KEYLOG_MAX:
        _windows += 1
    else:
        begin = NO_WINDOW
    kloop_lock_give(&kloop_key_log_lock)
    return begin


cdef void _close_window(int fd, int64_t end) noexcept:
    """Ends a step, whose lines have been read up to end: the last one that ends has all lines overwritten."""
    global _windows, _seen
    kloop_lock_take(&kloop_key_log_lock)
    if _windows:                # not in the child of a callback that forks
        _windows -= 1
    _seen = max(_seen, end)
    if _windows == 0 and _seen > _erased:
        _erase_log(fd, _seen)
    kloop_lock_give(&kloop_key_log_lock)


cdef struct Lines:
    char *at                # whole lines, of those that a hand-over needs
    Py_ssize_t size

cdef str _LOG_FULL = 'the key log is full'
cdef str _NO_MEMORY = 'no memory for lines of the key log'


cdef void _wipe_lines(Lines *lines) noexcept:
    if lines.at is not NULL:
        explicit_bzero(lines.at, lines.size)
        PyMem_RawFree(lines.at)
        lines.at, lines.size = NULL, 0


cdef str _take_lines(Lines *lines, int fd, int64_t *at):
    """Adds the lines from there on that a hand-over needs, and moves there to the log's end; answers why it can't, or ''.
    Others' lines may be half written, at either end."""
    cdef char[KEYLOG_STEP] few
    cdef char *text = few
    cdef int64_t start = at[0] - 1 if at[0] else 0
    cdef bint skip = at[0] > 0
    cdef bint added = True
    cdef Py_ssize_t room = KEYLOG_STEP, size = pread(fd, few, KEYLOG_STEP, start)
    if size == KEYLOG_STEP:         # there may be more
        room = lseek(fd, 0, SEEK_END) - start
        at[0] = start + max(room, size)
        if room > KEYLOG_MAX:       # of others, who have it all to themselves for too long
            explicit_bzero(few, KEYLOG_STEP)
            return _LOG_FULL
        if room > KEYLOG_STEP:
            text = <char *>PyMem_RawMalloc(room)
            if text is not NULL:
                size = pread(fd, text, room, start)
            explicit_bzero(few, KEYLOG_STEP)
            if text is NULL:
                return _NO_MEMORY
    elif size > 0:
        at[0] = max(at[0], start + size)
    elif size < 0:
        at[0] = lseek(fd, 0, SEEK_END)
    if size > 0:
        added = _add_lines(lines, text, _needed_lines(text, size, skip))
        explicit_bzero(text, size)
    if text is not few:
        PyMem_RawFree(text)
    if not added:
        return _NO_MEMORY
    return '' if size >= 0 and (text is few or size == room) else 'the key log could not be read'


cdef bint _add_lines(Lines *lines, const char *text, Py_ssize_t size) noexcept:
    """False: for want of memory it has not."""
    cdef Lines more
    if size == 0:
        return True
    more.size = lines.size + size
    more.at = <char *>PyMem_RawMalloc(more.size)    # no realloc(): it would leave a copy behind
    if more.at is NULL:
        return False
    if lines.size:
        memcpy(more.at, lines.at, lines.size)
    memcpy(more.at + lines.size, text, size)
    _wipe_lines(lines)
    lines[0] = more
    return True


cdef Py_ssize_t _needed_lines(char *text, Py_ssize_t size, bint skip) noexcept:
    """Moves the whole lines that a hand-over needs to the beginning of text, but for the first one if `skip`; answers
    their bytes."""
    cdef Py_ssize_t begin = 0, kept = 0, line
    cdef char *end
    while begin < size:
        end = <char *>memchr(text + begin, b'\n', size - begin)
        if end is NULL:
            break
        line = end + 1 - (text + begin)
        if not skip and _is_traffic_line(text + begin, line):
            memmove(text + kept, text + begin, line)
            kept += line
        skip = False
        begin += line
    return kept


cdef bint _is_traffic_line(const char *line, Py_ssize_t size) noexcept:
    """RFC 9850. Other lines are secrets of the handshake itself, and of exporters."""
    return (_begins(line, size, b'CLIENT_TRAFFIC_SECRET_0 ') or _begins(line, size, b'SERVER_TRAFFIC_SECRET_0 ')
            or _begins(line, size, b'CLIENT_RANDOM '))


cdef inline bint _begins(const char *line, Py_ssize_t size, const char *label) noexcept:
    cdef Py_ssize_t n = strlen(label)
    return size > n and memcmp(line, label, n) == 0
