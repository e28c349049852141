"""Files in one go: read, written, copied."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import stat as modes
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from .. import _core
from .opening import NEW_FILE_MODE, open
from .paths import Descriptor, Path, readlink, rename, running_loop, stat, stat_handle, unlink
from .raw import FIRST_PART

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ..loop import Loop

P = TypeVar('P', bound='Path')

# How much of a file one copy_file_range(2) copies, in bytes: a cancelled copy ends within a few
# milliseconds, and what a call costs does not count.
COPY_PART = 16 * 1024 * 1024
# And what is read and written at a time where the kernel can't copy between two files.
READ_PART = 1024 * 1024
# From this size on, in bytes, the blocks of a copy are allocated at once, which takes a quarter off what the copy of a
# large file costs (ext4).
ALLOCATE_FROM = 1024 * 1024
# Errors with which the kernel says that it can't do something here, not that it is wrong.
_CANNOT = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ETXTBSY, errno.EPERM, errno.EBADF,
           errno.ENOTTY}
_LINKS_MOST = 40


async def read_bytes(path: Path) -> bytes:
    """The contents of a file."""
    loop = running_loop()
    async with Descriptor(loop, path, os.O_RDONLY) as handle:
        first = await handle.read(FIRST_PART)
        if not first:
            return first
        parts = [first]
        size = FIRST_PART
        if len(first) == FIRST_PART:
            size = max((await stat_handle(handle)).st_size - FIRST_PART + 1, FIRST_PART)
        while part := await handle.read(size):
            parts.append(part)
        return first if len(parts) == 1 else b''.join(parts)


async def read_text(path: Path, encoding: str | None = None, errors: str | None = None,
                    newline: str | None = None) -> str:
    """The contents of a file as text."""
    encoding = io.text_encoding(encoding)  # type: ignore[attr-defined]
    data = await read_bytes(path)
    with io.TextIOWrapper(io.BytesIO(data), encoding, errors, newline) as text:
        return text.read()


async def write_text(path: Path, text: str, encoding: str | None = None, errors: str | None = None,
                     newline: str | None = None, *, fsync: bool = True) -> int:
    """Makes text the contents of a file, as ``write_bytes`` does; answers the number of characters."""
    if not isinstance(text, str):
        raise TypeError(f'data must be str, not {type(text).__name__}')
    raw = io.BytesIO()
    encoding = io.text_encoding(encoding)  # type: ignore[attr-defined]
    wrapper = io.TextIOWrapper(raw, encoding, errors, newline)
    wrapper.write(text)
    wrapper.flush()
    await write_bytes(path, raw.getvalue(), fsync=fsync)
    return len(text)


async def write_bytes(path: Path, data: Buffer, *, fsync: bool = True) -> int:
    """Makes data the contents of a file; answers its size. Whoever reads the file finds the old contents or all of
    the new, also when this fails, is cancelled, or the machine loses its power.

    The data is written to a new file in the same folder, which then takes the name, and the permissions of
    the file that was there. A symbolic link stays, and what it names is replaced. fsync: False leaves the time at
    which the contents reach the device to the kernel.
    """
    loop = running_loop()
    name: Any = os.fspath(path)
    target, mode = await _what_to_replace(name)
    with memoryview(data) as view, view.cast('B') as flat:
        temporary = _temporary_name(target)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            # What nobody else may read of the old file is not to be read of the new one before its chmod either.
            new_mode = NEW_FILE_MODE if mode is None else mode & 0o600
            async with Descriptor(loop, temporary, flags, new_mode, name=name, temporary=True) as handle:
                # Not `flat` itself: a write whose coroutine is destroyed still has what it was given.
                await _write_new(handle, flat[:], mode, fsync)
            await rename(temporary, target)
        except GeneratorExit:   # nothing may be awaited any more
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        except BaseException:
            await _remove(loop, temporary)
            raise
        size = len(flat)
    if fsync:
        await _sync_folder(loop, target)
    return size


async def _what_to_replace(name: Any) -> tuple[Any, int | None]:
    """Where the file is that a path names, and its permissions, or None if there is none yet."""
    for _ in range(_LINKS_MOST):
        try:
            mode = (await stat(name, follow_symlinks=False)).st_mode
        except FileNotFoundError:
            return name, None
        if not modes.S_ISLNK(mode):
            if not modes.S_ISREG(mode):
                code = errno.EISDIR if modes.S_ISDIR(mode) else errno.EINVAL
                raise OSError(code, os.strerror(code), name)
            return name, modes.S_IMODE(mode)
        name = os.path.join(os.path.dirname(name), await readlink(name))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)


def _temporary_name(target: Any) -> Any:
    folder, base = os.path.split(target)
    ending = f'.{os.urandom(8).hex()}.tmp'
    # NAME_MAX counts bytes; half a character is kept as any other byte that is none (PEP 383).
    temporary = b'.' + os.fsencode(base)[:200] + ending.encode()
    return os.path.join(folder, temporary if isinstance(base, bytes) else os.fsdecode(temporary))


async def _write_new(handle: _core.FileHandle, data: memoryview, mode: int | None, fsync: bool) -> None:
    if mode is not None:
        await handle.chmod(mode)
    while data:
        data = data[await handle.write(data):]
    if fsync:
        await handle.sync(0)


async def _sync_folder(loop: Loop, target: Any) -> None:
    """Has the new name survive a loss of power."""
    folder = os.path.dirname(target) or ('.' if isinstance(target, str) else b'.')
    async with Descriptor(loop, folder, os.O_RDONLY | os.O_DIRECTORY) as handle:
        await handle.sync(0)


async def _remove(loop: Loop, path: Any) -> None:
    """Removes what was made in vain, also in a task that is cancelled again meanwhile."""
    removing = loop.create_task(_try_to_unlink(path))
    while not removing.done():
        try:
            await asyncio.shield(removing)
        except asyncio.CancelledError:
            pass    # one is being raised already
        except GeneratorExit:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise


async def _try_to_unlink(path: Any) -> None:
    try:
        await unlink(path)
    except OSError:
        pass    # that it could not be made or written is the error to be told


async def copy(src: Path, dst: P) -> P:
    """Copies contents and permissions of a file; answers dst. As shutil.copy(), but dst is a file's path.

    Where the file system can, the files share their blocks (ioctl_ficlone(2)); else the kernel copies
    (copy_file_range(2)); where it can't, as from some file systems to others, the loop does, by reads and writes.
    A cancelled or failed copy leaves dst with what was copied.
    """
    async with open(src, 'rb', buffering=0) as source:
        state = await stat_handle(source._handle)
        try:
            same = os.path.samestat(state, await stat(dst))
        except FileNotFoundError:
            same = False
        if same:
            import shutil  # which is slow to import

            raise shutil.SameFileError(f'{src!r} and {dst!r} are the same file')
        async with open(dst, 'wb', buffering=0) as target:
            await _copy_contents(source._handle, target._handle, state)
            await target._handle.chmod(modes.S_IMODE(state.st_mode))
    return dst


async def _copy_contents(source: _core.FileHandle, target: _core.FileHandle, state: os.stat_result) -> None:
    if not modes.S_ISREG(state.st_mode):
        await _copy_by_reads(source, target)
        return
    allocated = False
    if state.st_size >= ALLOCATE_FROM:
        if await _tried(source.clone_to(target)):
            return
        sparse = state.st_blocks * 512 < state.st_size
        allocated = not sparse and await _tried(target.allocate(state.st_size))
    try:
        if not await _copy_in_kernel(source, target):
            await _copy_by_reads(source, target)
    except BaseException as exc:
        if allocated and not isinstance(exc, GeneratorExit):
            await target.truncate(target.seek_now(0, os.SEEK_CUR))  # gives back what is allocated and not used
        raise


async def _tried(call: Coroutine[Any, Any, int]) -> bool:
    """Whether it could be done: what only makes the rest quicker."""
    try:
        await call
    except OSError as exc:
        if exc.errno in _CANNOT:
            return False
        raise
    return True


async def _copy_in_kernel(source: _core.FileHandle, target: _core.FileHandle) -> bool:
    """Answers whether all is copied; if not, the positions say how much is."""
    copied = 0
    while True:
        try:
            part = await source.copy_to(target, COPY_PART)
        except OSError as exc:
            if exc.errno in _CANNOT:
                return False
            raise
        if part == 0:
            # Files of /proc and the like say that they are empty.
            return copied > 0
        copied += part


async def _copy_by_reads(source: _core.FileHandle, target: _core.FileHandle) -> None:
    """Reads the next part while the one before is written."""
    part = await source.read(READ_PART)
    while part:
        reading = asyncio.ensure_future(source.read(READ_PART))
        try:
            rest = memoryview(part)
            while rest:
                rest = rest[await target.write(rest):]
            part = await reading
        except GeneratorExit:
            reading.cancel()
            raise
        except BaseException:
            reading.cancel()
            await asyncio.wait([reading])
            raise
