"""What all open files have in common: a descriptor with an owner, turns, and an end."""

from __future__ import annotations

import asyncio
import io
import os
import warnings
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .. import _core
from .paths import close_descriptor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

    from typing_extensions import Buffer

    from ..loop import Loop

Self = TypeVar('Self', bound='BinaryFile')
T = TypeVar('T')
L = TypeVar('L', bytes, str)

# Ends of files whose close() was cancelled before it had its turn.
_endings: set[asyncio.Task[None]] = set()


async def read_lines(read_line: Callable[[int], Coroutine[Any, Any, L]], hint: int | None,
                     put_back: Callable[[L], None], empty: L) -> list[L]:
    """What readlines() answers, for who has the turn: all lines, or as many as it takes to have more than hint bytes
    or characters. put_back is given them in one if there will be no answer."""
    found: list[L] = []
    total = 0
    try:
        while line := await read_line(-1):
            found.append(line)
            total += len(line)
            if hint is not None and 0 < hint < total:
                break
    except BaseException:
        put_back(empty.join(found))
        raise
    return found


class Turn(asyncio.Lock):
    """Lets callers in one after the other, in the order in which they came. file: whose position they use."""

    def __init__(self, file: BinaryFile | None = None) -> None:
        super().__init__()
        self._file = None if file is None else weakref.proxy(file)

    def locked(self) -> bool:
        """Whether a call made now has to wait. Also while the next one has been let in and has not run yet, when the
        lock itself is free: who went ahead then would overtake it."""
        return super().locked() or bool(self._waiters) or self._file is not None and self._file._handle.moving > 0

    async def acquire(self) -> Literal[True]:
        await super().acquire()
        if self._file is not None:
            if self._file._handle.moving:
                await self._until_still(self._file._handle)
            self._file._catch_up()
        return True

    async def _until_still(self, handle: _core.FileHandle) -> None:
        """Waits for what is left of a caller whose coroutine was destroyed."""
        try:
            while (still := handle.when_still()) is not None:
                await asyncio.shield(still)
        except BaseException:
            self.release()
            raise


class BinaryFile:
    """An open file of bytes. Made by ``kloop.open``; its methods are for the loop's thread.

    Operations at the file's position take turns, in the order of the calls. ``pread``, ``pread_into`` and
    ``pwrite`` wait for nobody: any number of them may be under way. When an awaited call has ended, by a
    result, an error or a cancellation, nothing of it goes on in the background.

    Errors are those of the built-in ``open()``'s files: OSError by its number, with the file's name;
    io.UnsupportedOperation; ValueError once the file is closed.
    """

    def __init__(self, loop: Loop, handle: _core.FileHandle, name: Any, mode: str, *, readable: bool,
                 writable: bool, closefd: bool) -> None:
        self.name = name
        self.mode = mode
        self._loop = loop
        self._handle = handle
        self._readable = readable
        self._writable = writable
        self._closefd = closefd
        self._turn = Turn(self)
        self._seekable = handle.seekable

    # ---- what it is

    @property
    def closed(self) -> bool:
        """Whether it is closed, or is being closed."""
        return self._handle.fd < 0

    @property
    def closefd(self) -> bool:
        """Whether close() closes the descriptor."""
        return self._closefd

    def fileno(self) -> int:
        """The descriptor."""
        self._check_open()
        return self._handle.fd

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        self._check_open()
        return self._readable

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        self._check_open()
        return self._writable

    def seekable(self) -> bool:
        """Whether it has a position."""
        self._check_open()
        return self._seekable

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self.fileno())

    def __repr__(self) -> str:
        state = 'closed ' if self.closed else ''
        return f'<{state}kloop.files.{type(self).__name__} name={self.name!r} mode={self.mode!r}>'

    def _check_open(self) -> None:
        if self._handle.fd < 0:
            raise ValueError('I/O operation on closed file')

    def _check_readable(self) -> None:
        self._check_open()
        if not self._readable:
            raise io.UnsupportedOperation('not readable')

    def _check_writable(self) -> None:
        self._check_open()
        if not self._writable:
            raise io.UnsupportedOperation('not writable')

    # ---- at an offset

    def pread(self, size: int, offset: int) -> Coroutine[Any, Any, bytes]:
        """Reads size bytes at offset; fewer only at the end of the file. The position does not change."""
        self._check_readable()
        call = self._handle.pread(size, offset)
        return self._flushed(call) if self._unwritten() else call

    def pread_into(self, buffer: Buffer, offset: int) -> Coroutine[Any, Any, int]:
        """Fills a writable buffer with the bytes at offset; answers their number, as ``pread``."""
        self._check_readable()
        call = self._handle.pread_into(buffer, offset)
        return self._flushed(call) if self._unwritten() else call

    def pwrite(self, data: Buffer, offset: int) -> Coroutine[Any, Any, int]:
        """Writes all of data at offset, and answers its size. The position does not change.

        As with pwrite(2), a file opened for appending gets it at its end.
        """
        self._check_writable()
        call = self._handle.pwrite(data, offset)
        return self._flushed(call) if self._buffers() else call

    async def _flushed(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            await self.flush()
        except BaseException:
            call.close()
            raise
        return await call

    def _buffers(self) -> bool:
        """Whether a buffer holds anything, read or written."""
        return False

    def _unwritten(self) -> bool:
        """Whether a buffer holds what the file has not."""
        return False

    # ---- the rest of a file's methods, by those that a subclass has

    async def read(self, size: int | None = -1) -> bytes:
        """Reads up to size bytes; all that are left, if it is negative or None."""
        raise NotImplementedError

    async def readline(self, size: int | None = -1) -> bytes:
        """Reads up to the end of the line, which is part of it, and at most size bytes."""
        raise NotImplementedError

    async def write(self, data: Buffer) -> int:
        """Writes data; answers the number of bytes taken."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Gives the kernel what is buffered."""
        self._check_open()

    async def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Reads lines until the end, or until they have more than hint bytes together."""
        self._check_readable()
        async with self._turn:
            self._check_open()
            return await self._read_lines(hint)

    async def _read_lines(self, hint: int | None) -> list[bytes]:
        return await read_lines(self._read_line, hint, self._put_back, b'')

    async def _read_line(self, size: int) -> bytes:
        """readline() for who has the turn."""
        raise NotImplementedError

    def _put_back(self, data: bytes) -> None:
        """Has the next read find what one has read that comes to nothing."""
        raise NotImplementedError

    async def writelines(self, lines: Iterable[Buffer]) -> None:
        """Writes each of lines; no separators are added."""
        self._check_open()
        for line in lines:
            await self.write(line)

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._check_open()
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def fsync(self) -> None:
        """Flushes, and waits until the device has all of it (fsync(2))."""
        await self._sync(0)

    async def fdatasync(self) -> None:
        """As fsync, without the times of the file (fdatasync(2))."""
        await self._sync(1)

    async def _sync(self, flags: int) -> None:
        await self.flush()
        async with self._turn:
            self._check_open()
            await self._handle.sync(flags)

    # ---- its end

    async def close(self) -> None:
        """Flushes and closes the file, after all calls before it. The descriptor is closed whatever happens."""
        await self._close_behind(self._turn)

    aclose = close

    async def _close_behind(self, turn: Turn) -> None:
        """turn: that of the calls before, which is this file's or that of the text above it."""
        if self._handle.fd < 0:
            return
        try:
            await turn.acquire()
        except asyncio.CancelledError:
            # Who was to close it is gone, and it is closed all the same.
            task = self._loop.create_task(self._close_behind(turn))
            _endings.add(task)
            task.add_done_callback(_endings.discard)
            raise
        try:
            if turn is self._turn:
                await self._close_in_turn()
            else:
                await self.close()
        finally:
            turn.release()

    async def _close_in_turn(self) -> None:
        if self._handle.fd < 0:
            return
        try:
            await self._flush_in_turn()
        except GeneratorExit:   # nothing may be awaited any more
            self._end_now()
            raise
        finally:
            if self._handle.fd >= 0:
                await self._close_when_idle(self._handle.release())

    async def _close_when_idle(self, fd: int) -> None:
        idle = self._handle.when_idle()
        if idle is not None:
            try:
                await asyncio.shield(idle)
            except BaseException:
                if self._closefd:
                    self._handle.close_when_idle(fd)
                raise
        if self._closefd:
            await close_descriptor(self._loop, self._handle, fd)

    async def _flush_in_turn(self) -> None:
        """What flush() does for who has the turn."""

    async def __aenter__(self: Self) -> Self:
        self._check_open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None,
                        trace: TracebackType | None) -> None:
        if kind is GeneratorExit:   # the task is no more, and what is awaited here is not waited for
            self._end_now()
        else:
            await self.close()

    def _end_now(self) -> None:
        """Writes what is buffered, and closes the file, as for who can't wait: in the caller's thread."""
        if self._handle.fd < 0:
            return
        self._handle.close_when_idle(self._handle.release(), self._left_over(), self._closefd, here=True)

    def _catch_up(self) -> None:
        """Minds what a call has done after its coroutine was destroyed."""

    def _left_over(self) -> Buffer:
        """What is buffered and not written."""
        return b''

    def __del__(self) -> None:
        handle: _core.FileHandle | None = getattr(self, '_handle', None)
        if handle is None or handle.fd < 0:
            return
        try:
            if self._closefd:
                warnings.warn(f'unclosed file {self!r}', ResourceWarning, source=self, stacklevel=2)
        finally:
            self._end_now()     # as the built-in's
