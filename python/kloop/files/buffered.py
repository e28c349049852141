"""Files with a buffer, which reads ahead or collects what is written."""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING

from .descriptor import BinaryFile
from .raw import read_rest

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Unless open() is told otherwise, in bytes: what a read ahead of a small read costs is then still less than the
# read's own way through the loop.
BUFFER_SIZE = 32 * 1024


class BufferedFile(BinaryFile):
    """A file of bytes with a buffer, as ``kloop.open(..., 'rb')`` and the like give it.

    As io.BufferedReader's, BufferedWriter's and BufferedRandom's: what was written is in the file after ``flush``,
    ``seek``, a read, or ``close``. A failed or cancelled flush keeps what it has not written.
    """

    def __init__(self, *args: object, buffer_size: int, size: int, **options: bool) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._buffer_size = buffer_size
        self._size_at_open = size
        self._ahead = b''       # read from the file
        self._at = 0            # of it, how much was given
        self._pending = bytearray()     # to be written; only one of both holds something
        self._flushed_from: int | None = None   # a write of it is under way that began when so much had moved

    # ---- reading

    async def read(self, size: int | None = -1) -> bytes:
        if size is None:
            size = -1
        if 0 <= size <= len(self._ahead) - self._at and not self._turn.locked():
            self._check_readable()
            return self._take(size)
        self._check_readable()
        async with self._turn:
            self._check_open()
            await self._write_pending()
            return await (self._read_all() if size < 0 else self._read(size))

    def _take(self, size: int) -> bytes:
        at = self._at
        if at == 0 and size == len(self._ahead):
            data, self._ahead = self._ahead, b''
            return data
        self._at = end = at + size
        return self._ahead[at:end]

    def _take_all(self) -> bytes:
        return self._take(len(self._ahead) - self._at)

    async def _read(self, size: int) -> bytes:
        """size bytes, or all there are."""
        if size <= len(self._ahead) - self._at:
            return self._take(size)
        parts = [self._take_all()]
        missing = size - len(parts[0])
        try:
            while missing > 0:
                part = await self._handle.read(max(missing, self._buffer_size))
                if not part:
                    break
                parts.append(part)
                missing -= len(part)
        except BaseException:
            self._put_back(b''.join(parts))
            raise
        if missing < 0:
            self._ahead, self._at = parts[-1], len(parts[-1]) + missing
            parts[-1] = self._ahead[:missing]
        return b''.join(parts)

    async def _read_all(self) -> bytes:
        have = self._take_all()
        expected = 0
        if self._seekable:
            expected = self._size_at_open - self._handle.seek_now(0, os.SEEK_CUR)
        try:
            return await read_rest(self, have, max(expected, 0))
        except BaseException:
            self._put_back(have)
            raise

    async def read1(self, size: int | None = -1) -> bytes:
        """What is buffered, up to size bytes, or what one read of the file gives."""
        self._check_readable()
        if size is None or size < 0:
            size = self._buffer_size
        if size == 0:
            return b''
        async with self._turn:
            self._check_open()
            await self._write_pending()
            if self._at == len(self._ahead) and size >= self._buffer_size:
                return await self._handle.read(size)
            await self._fill()
            return self._take(min(size, len(self._ahead) - self._at))

    async def peek(self, size: int = 0) -> bytes:
        """What is buffered, or would be by one read, without taking it; size is ignored."""
        self._check_readable()
        async with self._turn:
            self._check_open()
            await self._write_pending()
            await self._fill()
            return self._ahead[self._at:]

    async def _fill(self) -> None:
        if self._at == len(self._ahead):
            self._ahead, self._at = await self._handle.read(self._buffer_size), 0

    async def readinto(self, buffer: Buffer) -> int:
        """Fills a writable buffer, as far as there is something; answers the number of bytes."""
        return await self._read_into(buffer, once=False)

    async def readinto1(self, buffer: Buffer) -> int:
        """As readinto, with at most one read of the file."""
        return await self._read_into(buffer, once=True)

    async def _read_into(self, buffer: Buffer, once: bool) -> int:
        self._check_readable()
        async with self._turn:
            self._check_open()
            await self._write_pending()
            with memoryview(buffer) as given, given.cast('B') as view:
                got = 0
                try:
                    while got < len(view):
                        n = await self._read_part_into(view[got:])
                        got += n
                        if n == 0 or once:
                            break
                except BaseException:
                    self._put_back(bytes(view[:got]))
                    raise
                return got

    async def _read_part_into(self, view: memoryview) -> int:
        if self._at == len(self._ahead):
            if len(view) >= self._buffer_size:
                return await self._handle.read_into(view)
            await self._fill()
        data = self._take(min(len(view), len(self._ahead) - self._at))
        view[:len(data)] = data
        return len(data)

    async def readline(self, size: int | None = -1) -> bytes:
        if not self._turn.locked() and (size is None or size < 0):
            end = self._ahead.find(b'\n', self._at) + 1
            if end:
                self._check_readable()
                return self._take(end - self._at)
        self._check_readable()
        async with self._turn:
            self._check_open()
            await self._write_pending()
            return await self._read_line(-1 if size is None else size)

    async def _read_lines(self, hint: int | None) -> list[bytes]:
        await self._write_pending()
        return await super()._read_lines(hint)

    def _put_back(self, data: bytes) -> None:
        self._ahead, self._at = data + self._ahead[self._at:], 0

    async def _read_line(self, size: int) -> bytes:
        searched = self._at
        while True:
            end = self._ahead.find(b'\n', searched) + 1
            have = (end or len(self._ahead)) - self._at
            if 0 <= size <= have:
                return self._take(size)
            if end:
                return self._take(have)
            more = await self._handle.read(self._buffer_size)
            if not more:
                return self._take(have)
            self._ahead, self._at = self._ahead[self._at:] + more, 0
            searched = have

    # ---- writing

    async def write(self, data: Buffer) -> int:
        """Buffers all of data, or writes it; answers its size in bytes."""
        self._check_writable()
        if isinstance(data, str):
            raise TypeError("a bytes-like object is required, not 'str'")
        with memoryview(data) as view:
            size = view.nbytes
            if self._turn.locked() or self._ahead or len(self._pending) + size > self._buffer_size:
                async with self._turn:
                    self._check_open()
                    await self._write(view)
            else:
                self._pending += view
        return size

    async def _write(self, view: memoryview) -> None:
        self._rewind()
        if len(self._pending) + view.nbytes > self._buffer_size:
            await self._write_pending()
        if view.nbytes <= self._buffer_size:
            self._pending += view
            return
        rest = view.cast('B') if view.c_contiguous else memoryview(bytes(view))
        while rest:
            rest = rest[await self._write_some(rest):]

    async def _write_some(self, data: Buffer) -> int:
        taken = await self._handle.write(data)
        if taken == 0:
            raise OSError(errno.EIO, 'the kernel writes nothing, and says no error', self.name)
        return taken

    async def _write_pending(self) -> None:
        while self._pending:
            self._flushed_from = self._handle.moved
            try:
                await self._write_some(self._pending)
            except GeneratorExit:   # it goes on without us
                raise
            except BaseException:
                self._catch_up()
                raise
            self._catch_up()

    def _catch_up(self) -> None:
        if self._flushed_from is not None:
            del self._pending[:self._handle.moved - self._flushed_from]
            self._flushed_from = None

    def _rewind(self) -> None:
        """Puts the file's position where the reader is."""
        unread = len(self._ahead) - self._at
        if unread:
            self._handle.seek_now(-unread, os.SEEK_CUR)
        self._ahead, self._at = b'', 0

    def _unwritten(self) -> bool:
        return len(self._pending) > 0

    def _buffers(self) -> bool:
        return bool(self._pending or self._ahead)

    async def flush(self) -> None:
        if not self._pending and not self._ahead and not self._turn.locked():
            self._check_open()
            return
        async with self._turn:
            self._check_open()
            await self._flush_in_turn()

    async def _flush_in_turn(self) -> None:
        await self._write_pending()
        if self._seekable and self._writable:
            self._rewind()

    def _left_over(self) -> Buffer:
        if self._flushed_from is None:
            return self._pending
        return memoryview(self._pending)[self._handle.moved - self._flushed_from:]

    # ---- the position

    def _check_seekable(self) -> None:
        self._check_open()
        if not self._seekable:
            raise io.UnsupportedOperation('File or stream is not seekable.')

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position; answers the new one."""
        if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE):
            raise ValueError(f'whence value {whence} unsupported')
        self._check_seekable()
        async with self._turn:
            self._check_open()
            await self._write_pending()
            return await self._seek(offset, whence)

    async def _seek(self, offset: int, whence: int) -> int:
        here = self._handle.seek_now(0, os.SEEK_CUR)
        if whence == os.SEEK_CUR:
            offset += here - len(self._ahead) + self._at
            whence = os.SEEK_SET
        if whence == os.SEEK_SET:
            if here - len(self._ahead) <= offset <= here and self._ahead:
                self._at = offset - (here - len(self._ahead))
                return offset
            to = self._handle.seek_now(offset, os.SEEK_SET)
        else:
            to = await self._handle.seek(offset, whence)
        self._ahead, self._at = b'', 0
        return to

    async def tell(self) -> int:
        """The position, in bytes from the start."""
        self._check_seekable()
        async with self._turn:
            return self._handle.seek_now(0, os.SEEK_CUR) - len(self._ahead) + self._at + len(self._pending)

    async def truncate(self, size: int | None = None) -> int:
        """Sets the size of the file, to the position if None; the position does not change."""
        self._check_writable()
        async with self._turn:
            self._check_open()
            await self._flush_in_turn()
            if size is None:
                size = self._handle.seek_now(0, os.SEEK_CUR)
            await self._handle.truncate(size)
        return size
