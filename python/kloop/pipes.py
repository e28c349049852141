"""Transports of pipes: one direction of a pipe, a FIFO, a socket or a character device."""

from __future__ import annotations

import asyncio
import os
import stat
import warnings
from asyncio import transports
from typing import Any

from . import _core

# KLOOP_PIPE_* of kloop.h.
_SOCKET_READER, _SOCKET_WRITER, _PIPE_READER, _PIPE_WRITER, _DEVICE_READER, _DEVICE_WRITER = range(1, 7)


class ReadPipeTransport(asyncio.ReadTransport):
    """The reading end, read in the ring."""

    _extra: dict[str, Any]

    def __init__(self, loop: Any, pipe: Any, protocol: Any, waiter: Any = None,
                 extra: Any = None) -> None:
        super().__init__(extra)
        self._extra['pipe'] = pipe
        kind = _kind_of(pipe, _SOCKET_READER, _PIPE_READER, _DEVICE_READER)
        if kind is None:
            raise ValueError('Pipe transport is for pipes/sockets only.')
        os.set_blocking(pipe.fileno(), False)
        self._core = _core.PipeCore(loop, self, pipe, protocol, kind, False)
        self._core.start(waiter)

    def __repr__(self) -> str:
        return self._core.describe(self) if hasattr(self, '_core') else object.__repr__(self)

    def __del__(self, _warn: Any = warnings.warn) -> None:
        _finalize(self, _warn)

    def close(self) -> None:
        """Stops reading and closes the pipe; connection_lost(None) follows."""
        self._core.close()

    def is_closing(self) -> bool:
        return self._core.is_closing()

    def is_reading(self) -> bool:
        return self._core.is_reading()

    def pause_reading(self) -> None:
        """Stops delivery; what had been read is delivered after resume_reading()."""
        self._core.pause_reading()

    def resume_reading(self) -> None:
        """Starts delivery again."""
        self._core.resume_reading()

    def set_protocol(self, protocol: Any) -> None:
        self._core.set_protocol(protocol)

    def get_protocol(self) -> Any:
        return self._core.get_protocol()


class WritePipeTransport(transports._FlowControlMixin, asyncio.WriteTransport):
    """The writing end. When the reader goes away, it is closed.

    Of a character device no such end is known, as on asyncio. Of asyncio's own base, whose reading methods
    raise NotImplementedError.
    """

    _extra: dict[str, Any]

    def __init__(self, loop: Any, pipe: Any, protocol: Any, waiter: Any = None,
                 extra: Any = None) -> None:
        super().__init__(extra, loop)
        self._extra['pipe'] = pipe
        kind = _kind_of(pipe, _SOCKET_WRITER, _PIPE_WRITER, _DEVICE_WRITER)
        if kind is None:
            raise ValueError('Pipe transport is only for pipes, sockets and character devices')
        os.set_blocking(pipe.fileno(), False)
        self._core = _core.PipeCore(loop, self, pipe, protocol, kind, kind == _DEVICE_WRITER)
        self._core.start(waiter)

    def __repr__(self) -> str:
        return self._core.describe(self) if hasattr(self, '_core') else object.__repr__(self)

    def __del__(self, _warn: Any = warnings.warn) -> None:
        _finalize(self, _warn)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Writes data behind what was written before; never blocks."""
        assert isinstance(data, (bytes, bytearray, memoryview)), repr(data)
        self._core.write(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Closes the pipe once everything written is with the kernel."""
        self._core.close()

    def close(self) -> None:
        """As write_eof(); connection_lost(None) follows."""
        self._core.close()

    def abort(self) -> None:
        """Closes at once and drops what is buffered; connection_lost(None) follows."""
        self._core.abort()

    def is_closing(self) -> bool:
        return self._core.is_closing()

    def set_protocol(self, protocol: Any) -> None:
        self._core.set_protocol(protocol)

    def get_protocol(self) -> Any:
        return self._core.get_protocol()

    def get_write_buffer_size(self) -> int:
        """Bytes that were written and that the kernel has not taken."""
        return self._core.buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high) water, in bytes."""
        return self._core.limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Sets high and low water, in bytes; raises ValueError unless high >= low >= 0."""
        self._core.set_limits(high, low)


def _kind_of(pipe: Any, socket: int, fifo: int, device: int) -> int | None:
    """That of the kinds that pipe is of, None for a file of another type."""
    mode = os.fstat(pipe.fileno()).st_mode
    if stat.S_ISFIFO(mode):
        return fifo
    if stat.S_ISSOCK(mode):
        return socket
    return device if stat.S_ISCHR(mode) else None


def _finalize(transport: Any, warn: Any) -> None:
    core = getattr(transport, '_core', None)
    if core is None:
        return  # it was refused
    name = repr(transport)
    if core.finalize():
        warn(f'unclosed transport {name}', ResourceWarning, source=transport)
