"""Files without a buffer: each call is one of the kernel's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .descriptor import BinaryFile

if TYPE_CHECKING:
    from typing_extensions import Buffer

# What is read at a time of a file whose size is not known, in bytes; doubled while there is more.
FIRST_PART = 64 * 1024
LARGEST_PART = 16 * 1024 * 1024


class RawFile(BinaryFile):
    """A file of bytes without a buffer, as ``kloop.open(..., buffering=0)`` gives it.

    As io.FileIO's: ``read``, ``readinto`` and ``write`` are one system call each, which may move fewer
    bytes than were asked for.
    """

    async def read(self, size: int | None = -1) -> bytes:
        self._check_readable()
        if size is None or size < 0:
            return await self.readall()
        async with self._turn:
            self._check_open()
            return await self._handle.read(size)

    async def readall(self) -> bytes:
        """Reads until the end."""
        self._check_readable()
        async with self._turn:
            self._check_open()
            return await read_rest(self)

    async def readinto(self, buffer: Buffer) -> int:
        """Reads into a writable buffer; answers the number of bytes, 0 at the end."""
        self._check_readable()
        async with self._turn:
            self._check_open()
            return await self._handle.read_into(buffer)

    async def readline(self, size: int | None = -1) -> bytes:
        self._check_readable()
        async with self._turn:
            return await self._read_line(-1 if size is None else size)

    async def _read_line(self, size: int) -> bytes:
        line = bytearray()
        try:
            while (size < 0 or len(line) < size) and not line.endswith(b'\n'):
                self._check_open()
                byte = await self._handle.read(1)
                if not byte:
                    break
                line += byte
        except BaseException:
            self._put_back(bytes(line))
            raise
        return bytes(line)

    def _put_back(self, data: bytes) -> None:
        self._handle.put_back(data)

    async def write(self, data: Buffer) -> int:
        self._check_writable()
        async with self._turn:
            self._check_open()
            return await self._handle.write(data)

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position; answers the new one."""
        self._check_open()
        async with self._turn:
            self._check_open()
            if whence in (os.SEEK_SET, os.SEEK_CUR):
                return self._handle.seek_now(offset, whence)
            return await self._handle.seek(offset, whence)

    async def tell(self) -> int:
        """The position, in bytes from the start."""
        return await self.seek(0, os.SEEK_CUR)

    async def truncate(self, size: int | None = None) -> int:
        """Sets the size of the file, to the position if None; the position does not change."""
        self._check_writable()
        async with self._turn:
            self._check_open()
            if size is None:
                size = self._handle.seek_now(0, os.SEEK_CUR)
            await self._handle.truncate(size)
        return size


async def read_rest(file: BinaryFile, have: bytes = b'', expected: int = 0) -> bytes:
    """The rest of a file behind what one has of it, for who has the turn. expected: bytes that are thought to be left.

    When it is cancelled, the next read finds what it has read.
    """
    parts = [have]
    size = max(FIRST_PART, expected + 1)
    try:
        while part := await file._handle.read(size):
            parts.append(part)
            if len(part) == size:
                size = min(2 * size, LARGEST_PART)
    except BaseException:
        file._handle.put_back(b''.join(parts[1:]))
        raise
    if len(parts) == 2 and not have:
        return parts[1]
    return b''.join(parts)
