"""The pipe by which signals reach the loop: one byte each."""

from __future__ import annotations

import os


class PipeEnd:
    """An end of a non-blocking pipe, with as much of a socket's methods as asyncio's loop calls.

    asyncio uses a socketpair, which holds fewer than 300 single bytes; what comes then is lost, of
    whatever kind it is. A pipe holds 64 Ki of them (pipe(7)).
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def recv(self, size: int) -> bytes:
        return os.read(self._fd, size)

    def send(self, data: bytes) -> int:
        return os.write(self._fd, data)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def open_pipe() -> tuple[PipeEnd, PipeEnd]:
    """The reading end and the writing end; raises OSError when there is no descriptor."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    return PipeEnd(reader), PipeEnd(writer)
