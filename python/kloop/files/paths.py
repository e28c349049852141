"""What is done to paths: names as in ``os``, each a call of the kernel that the loop does not wait for."""

from __future__ import annotations

import asyncio
import os
import stat as modes
import struct
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, AnyStr

from .. import _core
from ..loop import Loop

if TYPE_CHECKING:
    from typing import TypeAlias

Path: TypeAlias = 'str | bytes | os.PathLike[str] | os.PathLike[bytes]'

AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100
AT_SYMLINK_FOLLOW = 0x400
AT_REMOVEDIR = 0x200

# struct statx of statx(2): what comes before the four times, these, and the numbers of devices.
_STATX = struct.Struct('=IIQIIIHxxQQQQ' + 'qIxxxx' * 4 + 'IIII')
_STATX_SIZE = 256
_NS = 1_000_000_000
# Whether os.link() calls link(2), which does not follow, where nothing else is asked for; those of later releases
# call linkat(2) always, and say so by their default.
_LINK_IS_PLAIN = 'follow_symlinks=True' in str(getattr(os.link, '__text_signature__', None))
# A path of this many bytes is longer than the kernel takes (PATH_MAX).
_PATH_SIZE = 4096


def running_loop() -> Loop:
    """The running loop, which must be kloop's."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, Loop):
        raise RuntimeError(f'kloop.open() and kloop.files need a running kloop loop, and this one is {loop!r}: '
                           f'run the program by kloop.run()')
    return loop


def _stat_result(room: bytearray) -> os.stat_result:
    (_, blksize, _, nlink, uid, gid, mode, ino, size, blocks, _, atime, atime_ns, _, _, ctime, ctime_ns,
     mtime, mtime_ns, rdev_major, rdev_minor, dev_major, dev_minor) = _STATX.unpack_from(room)
    named: dict[str, Any] = {'st_blksize': blksize, 'st_blocks': blocks,
                             'st_rdev': os.makedev(rdev_major, rdev_minor)}
    for name, seconds, rest in (('atime', atime, atime_ns), ('mtime', mtime, mtime_ns), ('ctime', ctime, ctime_ns)):
        named[f'st_{name}'] = seconds + rest * 1e-9
        named[f'st_{name}_ns'] = seconds * _NS + rest
    device = os.makedev(dev_major, dev_minor)
    return os.stat_result((mode, ino, device, nlink, uid, gid, size, atime, mtime, ctime), named)


class Descriptor:
    """A descriptor that is open inside an ``async with``: opened by openat(2), named ``name`` in errors.

    temporary: its open makes a file which is removed again if the coroutine is destroyed meanwhile.
    """

    def __init__(self, loop: Loop, path: Any, flags: int, mode: int = 0, *, name: Any = None,
                 temporary: bool = False) -> None:
        self._loop = loop
        self._path = path = os.fspath(path)
        self._flags = flags | os.O_CLOEXEC
        self._mode = mode
        self._name = path if name is None else name
        self._temporary = temporary

    async def __aenter__(self) -> _core.FileHandle:
        fd = await _core.file_path_call(
            self._loop, 'open', self._path, flags=self._flags, mode=self._mode, name=self._name,
            temporary=self._temporary)
        self._handle = _core.FileHandle(self._loop, fd, self._name)
        return self._handle

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None,
                        trace: TracebackType | None) -> None:
        fd = self._handle.release()
        if kind is GeneratorExit:   # the task is no more, and what is awaited here is not waited for
            self._handle.close_when_idle(fd)
        else:
            await close_descriptor(self._loop, self._handle, fd)


async def close_descriptor(loop: Loop, handle: _core.FileHandle, fd: int) -> None:
    """Closes what handle.release() has given, whose calls are over."""
    try:
        await _core.file_close(loop, fd, handle.name)
    except RuntimeError:    # the loop is closed, or another thread's
        handle.close_when_idle(fd)
        raise


async def stat_handle(handle: _core.FileHandle) -> os.stat_result:
    """fstat(2)."""
    room = bytearray(_STATX_SIZE)
    await handle.stat(room)
    return _stat_result(room)


async def stat_descriptor(loop: Loop, fd: int, name: Any) -> os.stat_result:
    """fstat(2)."""
    room = bytearray(_STATX_SIZE)
    await _core.file_path_call(loop, 'stat', '', room, fd=fd, flags=AT_EMPTY_PATH, name=name)
    return _stat_result(room)


async def stat(path: Path | int, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
    """As os.stat(). path: also an open descriptor."""
    loop = running_loop()
    if isinstance(path, int):
        return await stat_descriptor(loop, path, path)
    name = os.fspath(path)
    room = bytearray(_STATX_SIZE)
    await _core.file_path_call(loop, 'stat', name, room, dir_fd=dir_fd, name=name,
                               flags=0 if follow_symlinks else AT_SYMLINK_NOFOLLOW)
    return _stat_result(room)


async def lstat(path: Path, *, dir_fd: int | None = None) -> os.stat_result:
    """As os.lstat()."""
    return await stat(path, dir_fd=dir_fd, follow_symlinks=False)


async def exists(path: Path) -> bool:
    """As os.path.exists()."""
    try:
        await stat(path)
    except (OSError, ValueError):
        return False
    return True


async def rename(src: Path, dst: Path, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
    """As os.rename()."""
    loop = running_loop()
    sys.audit('os.rename', src, dst, -1 if src_dir_fd is None else src_dir_fd, -1 if dst_dir_fd is None else dst_dir_fd)
    await _core.file_path_call(loop, 'rename', src, dst, dir_fd=src_dir_fd, dir_fd2=dst_dir_fd,
                               name=(os.fspath(src), os.fspath(dst)))


replace = rename


async def unlink(path: Path, *, dir_fd: int | None = None) -> None:
    """As os.unlink()."""
    loop = running_loop()
    sys.audit('os.remove', path, -1 if dir_fd is None else dir_fd)
    await _core.file_path_call(loop, 'unlink', path, dir_fd=dir_fd, name=os.fspath(path))


remove = unlink


async def rmdir(path: Path, *, dir_fd: int | None = None) -> None:
    """As os.rmdir()."""
    loop = running_loop()
    sys.audit('os.rmdir', path, -1 if dir_fd is None else dir_fd)
    await _core.file_path_call(loop, 'unlink', path, dir_fd=dir_fd, flags=AT_REMOVEDIR, name=os.fspath(path))


async def mkdir(path: Path, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    """As os.mkdir()."""
    loop = running_loop()
    sys.audit('os.mkdir', path, mode, -1 if dir_fd is None else dir_fd)
    await _core.file_path_call(loop, 'mkdir', path, dir_fd=dir_fd, mode=mode, name=os.fspath(path))


async def makedirs(name: Path, mode: int = 0o777, exist_ok: bool = False) -> None:
    """As os.makedirs()."""
    path = os.fspath(name)
    head, tail = os.path.split(path)
    if not tail:
        head, tail = os.path.split(head)
    if head and tail and not await exists(head):
        try:
            await makedirs(head, exist_ok=exist_ok)
        except FileExistsError:
            pass    # somebody else was faster
        if tail in ('.', b'.'):
            return
    try:
        await mkdir(name, mode)
    except OSError:
        if not exist_ok or not await _is_folder(path):
            raise


async def _is_folder(path: Path) -> bool:
    try:
        return modes.S_ISDIR((await stat(path)).st_mode)
    except OSError:
        return False


async def link(src: Path, dst: Path, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None,
               follow_symlinks: bool = True) -> None:
    """As os.link()."""
    loop = running_loop()
    sys.audit('os.link', src, dst, -1 if src_dir_fd is None else src_dir_fd, -1 if dst_dir_fd is None else dst_dir_fd)
    plain = _LINK_IS_PLAIN and follow_symlinks and src_dir_fd is None and dst_dir_fd is None
    await _core.file_path_call(loop, 'link', src, dst, dir_fd=src_dir_fd, dir_fd2=dst_dir_fd,
                               name=(os.fspath(src), os.fspath(dst)),
                               flags=AT_SYMLINK_FOLLOW if follow_symlinks and not plain else 0)


async def symlink(src: Path, dst: Path, target_is_directory: bool = False, *, dir_fd: int | None = None) -> None:
    """As os.symlink(): makes dst, which points to src."""
    loop = running_loop()
    sys.audit('os.symlink', src, dst, -1 if dir_fd is None else dir_fd)
    await _core.file_path_call(loop, 'symlink', src, dst, dir_fd2=dir_fd, name=(os.fspath(src), os.fspath(dst)))


async def readlink(path: AnyStr | os.PathLike[AnyStr], *, dir_fd: int | None = None) -> AnyStr:
    """As os.readlink()."""
    loop = running_loop()
    sys.audit('os.readlink', path, -1 if dir_fd is None else dir_fd)
    name = os.fspath(path)
    room = bytearray(_PATH_SIZE)
    size = await _core.file_path_call(loop, 'readlink', name, room, dir_fd=dir_fd, name=os.fspath(path))
    target = bytes(room[:size])
    return os.fsdecode(target) if isinstance(name, str) else target


