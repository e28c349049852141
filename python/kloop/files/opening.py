"""``kloop.open``: what an open of a file is made of."""

from __future__ import annotations

import asyncio
import builtins
import errno
import functools
import io
import os
import select
import stat
import threading
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, cast, overload

from .. import _core
from ..loop import Loop
from .buffered import BUFFER_SIZE, BufferedFile
from .descriptor import BinaryFile
from .paths import Path, running_loop, stat_handle
from .raw import RawFile
from .text import TextFile

if TYPE_CHECKING:
    from typing import TypeAlias

Opener: TypeAlias = 'Callable[[str, int], int]'
BinaryMode: TypeAlias = Literal[
    'rb', 'br', 'wb', 'bw', 'ab', 'ba', 'xb', 'bx', 'rb+', 'r+b', '+rb', 'br+', 'b+r', '+br', 'wb+', 'w+b',
    '+wb', 'bw+', 'b+w', '+bw', 'ab+', 'a+b', '+ab', 'ba+', 'b+a', '+ba', 'xb+', 'x+b', '+xb', 'bx+', 'b+x', '+bx']
TextMode: TypeAlias = Literal[
    'r', 'rt', 'tr', 'w', 'wt', 'tw', 'a', 'at', 'ta', 'x', 'xt', 'tx', 'r+', '+r', 'rt+', 'r+t', '+rt', 'tr+',
    't+r', '+tr', 'w+', '+w', 'wt+', 'w+t', '+wt', 'tw+', 't+w', '+tw', 'a+', '+a', 'at+', 'a+t', '+at', 'ta+',
    't+a', '+ta', 'x+', '+x', 'xt+', 'x+t', '+xt', 'tx+', 't+x', '+tx']

F = TypeVar('F', bound='BinaryFile | TextFile')
# Permissions of what is made, less the umask, as open()'s.
NEW_FILE_MODE = 0o666


class Opening(Generic[F]):
    """What ``kloop.open`` answers: ``await`` it for the file, or open and close that by ``async with``."""

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, F]]) -> None:
        self._begin = begin
        self._file: F | None = None

    def __await__(self) -> Generator[Any, None, F]:
        return self._begin().__await__()

    async def __aenter__(self) -> F:
        self._file = file = await self._begin()
        return file

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None,
                        trace: TracebackType | None) -> None:
        assert self._file is not None
        await self._file.__aexit__(kind, exc, trace)


@overload
def open(file: Path | int, mode: TextMode = 'r', buffering: int = -1, encoding: str | None = None,
         errors: str | None = None, newline: str | None = None, closefd: bool = True,
         opener: Opener | None = None) -> Opening[TextFile]: ...
@overload
def open(  # type: ignore[overload-overlap]
        file: Path | int, mode: BinaryMode, buffering: Literal[0], encoding: None = None,
         errors: None = None, newline: None = None, closefd: bool = True,
         opener: Opener | None = None) -> Opening[RawFile]: ...
@overload
def open(file: Path | int, mode: BinaryMode, buffering: int = -1, encoding: None = None,
         errors: None = None, newline: None = None, closefd: bool = True,
         opener: Opener | None = None) -> Opening[BufferedFile]: ...
@overload
def open(file: Path | int, mode: str, buffering: int = -1, encoding: str | None = None,
         errors: str | None = None, newline: str | None = None, closefd: bool = True,
         opener: Opener | None = None) -> Opening[Any]: ...


def open(file: Path | int, mode: str = 'r', buffering: int = -1, encoding: str | None = None,
         errors: str | None = None, newline: str | None = None, closefd: bool = True,
         opener: Opener | None = None) -> Opening[Any]:
    """Opens a file on the running kloop loop: ``async with kloop.open(path) as file``, or ``await`` it.

    All arguments are the built-in ``open()``'s, and so are the errors. The file is a ``kloop.files.TextFile``,
    a ``BufferedFile`` ('b' in mode), or a ``RawFile`` (with buffering=0 as well).

    buffering: 0 for none, 1 for a flush at the end of each line (text only), the size of the buffer
    in bytes, or -1 for 32 KiB. An opener is called in the loop's executor. An open that waits, as that of
    a FIFO for its other end, can be cancelled.
    """
    how = _check(file, mode, buffering, encoding, errors, newline, closefd, opener)
    return Opening(functools.partial(_open, file, how))


class _How(NamedTuple):
    """The arguments of open(), parsed."""

    mode: str
    flags: int
    buffering: int
    wrapper: io.TextIOWrapper | None    # whose encoding and errors are those to use
    newline: str | None
    closefd: bool
    opener: Opener | None

    @property
    def readable(self) -> bool:
        return 'r' in self.mode or '+' in self.mode

    @property
    def writable(self) -> bool:
        return 'r' not in self.mode or '+' in self.mode


class _Flags(BaseException):
    """Ends an open() before it opens anything."""

    def __init__(self, flags: int) -> None:
        self.flags = flags


def _tell_flags(path: str, flags: int) -> int:
    raise _Flags(flags)


def _check(file: Path | int, mode: str, buffering: int, encoding: str | None, errors: str | None, newline: str | None,
           closefd: bool, opener: Opener | None) -> _How:
    """Has the built-in open() look at the arguments: it calls its opener when all of them are right."""
    if not isinstance(mode, str):
        raise TypeError(f"open() argument 'mode' must be str, not {type(mode).__name__}")
    descriptor = isinstance(file, int)
    if descriptor and cast(int, file) < 0:
        raise ValueError('negative file descriptor')
    if buffering == 0 and 'b' not in mode:
        raise ValueError("can't have unbuffered text I/O")
    if 'b' not in mode:
        encoding = io.text_encoding(encoding, 3)  # type: ignore[attr-defined]
    try:
        builtins.open(  # noqa: SIM115 (it opens nothing)
            '.' if descriptor else file, mode, buffering, encoding, errors, newline, closefd or descriptor, _tell_flags)
    except _Flags as found:
        flags = found.flags
    else:
        raise RuntimeError('the built-in open() did not call its opener')
    wrapper = None
    if 'b' not in mode:
        wrapper = io.TextIOWrapper(io.BytesIO(), encoding, errors, newline)
    return _How(mode, flags, buffering, wrapper, newline, closefd, opener)


async def _open(file: Path | int, how: _How) -> BinaryFile | TextFile:
    loop = running_loop()
    if isinstance(file, int):
        return await _wrap(loop, file, file, how)
    name = os.fspath(file)
    if how.opener is not None:
        fd = await _call_opener(loop, how.opener, name, how.flags)
    else:
        fd = await _core.file_path_call(loop, 'open', name, flags=how.flags, mode=NEW_FILE_MODE, name=name)
    return await _wrap(loop, fd, name, how)


async def _call_opener(loop: Loop, opener: Opener, name: Any, flags: int) -> int:
    """The opener's descriptor. If its caller goes on without it, it is closed when it is there."""
    opened = _Opened(opener)
    try:
        fd = await asyncio.shield(loop.run_in_executor(None, opened.open, name, flags))
    except BaseException:   # by a cancellation, or GeneratorExit: the loop may be no more
        opened.give_up()
        raise
    if not isinstance(fd, int):
        raise TypeError('expected integer from opener')
    if fd < 0:
        raise ValueError(f'opener returned {fd}')
    os.set_inheritable(fd, False)
    return fd


class _Opened:
    """What an opener answers in its thread, for a caller who may not wait for it."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._lock = threading.Lock()
        self._fd: Any = None
        self._given_up = False

    def open(self, name: Any, flags: int) -> Any:
        fd = self._opener(name, flags)
        with self._lock:
            self._fd = fd
            if self._given_up:
                self._close()
        return fd

    def give_up(self) -> None:
        with self._lock:
            self._given_up = True
            self._close()

    def _close(self) -> None:
        if isinstance(self._fd, int) and self._fd >= 0:
            os.close(self._fd)
        self._fd = None


async def _wrap(loop: Loop, fd: int, file: Any, how: _How) -> BinaryFile | TextFile:
    """Makes a file of a descriptor, or closes it, unless that is another's."""
    handle = _core.FileHandle(loop, fd, file, 'a' in how.mode)
    try:
        return await _make(loop, handle, file, how)
    except BaseException:
        handle.release()
        if how.closefd:
            handle.close_when_idle(fd)
        raise


async def _make(loop: Loop, handle: _core.FileHandle, file: Any, how: _How) -> BinaryFile | TextFile:
    state = await stat_handle(handle)
    if stat.S_ISDIR(state.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), file)
    if _is_polled(handle.fd, state.st_mode):
        handle.set_polled()
    if 'a' in how.mode:
        await _go_to_end(handle, state)
    mode = how.mode.replace('t', '')
    kept = {'readable': how.readable, 'writable': how.writable, 'closefd': how.closefd}
    if how.buffering == 0:
        return RawFile(loop, handle, file, mode, **kept)
    if '+' in how.mode and not handle.seekable:
        raise io.UnsupportedOperation('File or stream is not seekable.')
    size = how.buffering if how.buffering > 1 else BUFFER_SIZE
    made = BufferedFile(loop, handle, file, mode, buffer_size=size, size=state.st_size, **kept)
    if how.wrapper is None:
        return made
    line_buffering = how.buffering == 1 or how.buffering < 0 and stat.S_ISCHR(state.st_mode) and os.isatty(handle.fd)
    return TextFile(made, how.mode, how.wrapper, how.newline, line_buffering)


async def _go_to_end(handle: _core.FileHandle, state: os.stat_result) -> None:
    try:
        if stat.S_ISREG(state.st_mode):
            handle.seek_now(state.st_size, os.SEEK_SET)
        else:
            await handle.seek(0, os.SEEK_END)
    except OSError as exc:
        if exc.errno != errno.ESPIPE:
            raise


def _is_polled(fd: int, mode: int) -> bool:
    """Whether poll(2) tells when a read or write of it need not wait."""
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        return False
    with select.epoll() as probe:
        try:
            probe.register(fd, 0)
        except OSError:     # EPERM, as of /dev/null: it never waits, or always does
            return False
    return True


