# sock_sendfile: sendfile(2), called at once, and again whenever a poll of the ring says that there is room.

cdef enum:
    SENDFILE_LIMIT = 0x7ffff000     # what one call sends at most (sendfile(2))

# From some 3.14 on asyncio sets the file's position also when nothing was sent.
cdef bint _POSITION_FOLLOWS_SENT = (
    'total_sent' in _inherited._sock_sendfile_update_filepos.__code__.co_varnames)


cdef class SendFile(SocketCall):
    """One part of a file. The file's position follows what was sent, also when it is cancelled."""

    cdef int file
    cdef object offset
    cdef object count               # None: up to the end
    cdef object block               # about the file's size, if there is no count
    cdef object sent

    cdef dict _queue(self):
        return self.loop.sending

    cdef int _prepare(self) except -1:
        self.op.code = KLOOP_OP_POLL
        self.op.events = POLLOUT
        return 0

    cdef int _try(self) except -1:
        """One call, so that a peer that reads as fast as we send does not keep the loop from others."""
        size = self.block if self.count is None else self.count - self.sent
        try:
            sent = os.sendfile(self.sock.fileno(), self.file, self.offset, min(size, SENDFILE_LIMIT))
        except _WOULD_BLOCK:
            return 0
        except OSError as exc:
            self._set_position()
            if not self.sent:       # a file that has no pages, for one
                raise asyncio.SendfileNotAvailableError('os.sendfile call failed')
            if exc.errno == errno.ENOTCONN and type(exc) is not ConnectionError:
                raise ConnectionError('socket is not connected', errno.ENOTCONN) from exc
            raise
        self.offset += sent
        self.sent += sent
        if sent and self.sent != self.count:
            return 0
        self._set_position()
        return self._set(self.sent)

    cdef int _completed(self, int res, char *data, uint64_t size) except -1:
        try:
            if self._try():
                return 1
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            return self._fail(exc)
        if res:
            self._set_position()
            return self._fail(_os_error(res))
        return 0

    cdef int _cancel_operation(self) except -1:
        # Now: when the kernel has answered, the file may be elsewhere already, by whoever uses it next.
        if self.sent:
            self._set_position()
        return SocketCall._cancel_operation(self)

    cdef int _set_position(self) except -1:
        if self.sent or not _POSITION_FOLLOWS_SENT:
            try:
                os.lseek(self.file, self.offset, os.SEEK_SET)
            except OSError:         # it was closed meanwhile
                pass
        return 0


_CALL_NAMES[SendFile] = 'sock_sendfile'
kloop_set_slots(SendFile, _call_send)


def send_file(LoopCore self, sock, file, offset, count, size):
    """The part of sock_sendfile that follows the look at the file.

    file: a descriptor. count: None for all from offset on; then size says about how much that is.
    """
    cdef SendFile call = SendFile.__new__(SendFile)
    call.loop = self
    call.sock = sock
    call.file = file
    call.offset = offset
    call.count = count
    call.block = size
    call.sent = 0
    return call
