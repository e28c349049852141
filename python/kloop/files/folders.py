"""Reading folders."""

from __future__ import annotations

import os
import stat as modes
import struct
import sys
from typing import Any, AnyStr, Generic

from .paths import Descriptor, running_loop, stat

# struct linux_dirent64 of getdents64(2), before the name: inode, offset, size of the record, type.
_ENTRY = struct.Struct('=QqHB')
_ROOM = 32 * 1024
# d_type of readdir(3) is the type of st_mode, shifted; 0: the file system does not say.
_TYPE_SHIFT = 12


class DirEntry(Generic[AnyStr]):
    """One name of a folder, as ``readdir`` gives it: os.DirEntry without its blocking calls.

    What it says of the type is that of the entry itself: a symbolic link is nothing else. ``await entry.stat()``
    asks again.
    """

    __slots__ = ('name', 'path', '_inode', '_type')
    name: AnyStr
    path: AnyStr

    def __init__(self, name: AnyStr, path: AnyStr, inode: int, kind: int) -> None:
        self.name = name
        self.path = path
        self._inode = inode
        self._type = kind

    def inode(self) -> int:
        """The number of its inode."""
        return self._inode

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return modes.S_ISDIR(self._type)

    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return modes.S_ISREG(self._type)

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return modes.S_ISLNK(self._type)

    async def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """As os.stat() of its path."""
        return await stat(self.path, follow_symlinks=follow_symlinks)

    def __fspath__(self) -> AnyStr:
        return self.path

    def __repr__(self) -> str:
        return f'<DirEntry {self.name!r}>'


async def _entries(path: Any) -> list[tuple[int, int, bytes]]:
    """Inode, type and name of each entry, in the folder's order, without '.' and '..'."""
    loop = running_loop()
    found = []
    async with Descriptor(loop, path, os.O_RDONLY | os.O_DIRECTORY) as handle:
        room = bytearray(_ROOM)
        while size := await handle.read_entries(room):
            at = 0
            while at < size:
                inode, _, length, kind = _ENTRY.unpack_from(room, at)
                start = at + _ENTRY.size
                name = bytes(room[start:room.index(0, start)])
                if name not in (b'.', b'..'):
                    found.append((inode, kind << _TYPE_SHIFT, name))
                at += length
    return found


async def listdir(path: AnyStr | os.PathLike[AnyStr] | None = None) -> list[AnyStr]:
    """As os.listdir(): the names in a folder, in no order."""
    where: Any = '.' if path is None else os.fspath(path)
    sys.audit('os.listdir', path)
    names: list[Any] = [name for _, _, name in await _entries(where)]
    if isinstance(where, bytes):
        return names
    decoded: list[Any] = [os.fsdecode(name) for name in names]
    return decoded


async def readdir(path: AnyStr | os.PathLike[AnyStr] | None = None) -> list[DirEntry[AnyStr]]:
    """What is in a folder: a ``DirEntry`` for each name, in no order, without '.' and '..'."""
    where: Any = '.' if path is None else os.fspath(path)
    sys.audit('os.scandir', path)
    found = []
    for inode, kind, raw in await _entries(where):
        name: Any = raw if isinstance(where, bytes) else os.fsdecode(raw)
        full = name if path is None else os.path.join(where, name)
        if kind == 0:
            kind = (await stat(full, follow_symlinks=False)).st_mode
        found.append(DirEntry(name, full, inode, kind))
    return found


scandir = readdir
