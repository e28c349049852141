"""The transport of a datagram socket."""

from __future__ import annotations

import asyncio
from asyncio import trsock
from typing import Any

from . import _core


class DatagramTransport(asyncio.Transport, asyncio.DatagramTransport):
    """A datagram socket on the ring; an ``asyncio.DatagramTransport`` in every respect.

    asyncio's own is an ``asyncio.Transport`` too, of which only the methods below work.

    Its state is a ``DatagramCore`` of the extension, in the slot ``_core``; its methods are
    the extension's functions.
    """

    # As on asyncio, anybody may add attributes and replace methods of one transport.
    __slots__ = ('_core', '__dict__', '__weakref__')

    def __init__(self, loop: _core.LoopCore, sock: Any, protocol: Any, address: Any = None,
                 waiter: Any = None, extra: dict[str, Any] | None = None) -> None:
        """Takes over a non-blocking datagram socket; address is the only one to send to, or None."""
        names = {} if extra is None else extra
        names['socket'] = trsock.TransportSocket(sock)
        try:
            names['sockname'] = sock.getsockname()
        except OSError:
            names['sockname'] = None
        if 'peername' not in names:
            try:
                names['peername'] = sock.getpeername()
            except OSError:
                names['peername'] = None
        super().__init__(names)
        self._core = _core.DatagramCore(loop, self, sock, protocol, address, bool(names['peername']))
        self._core.schedule_start(waiter)

    __repr__ = _core.datagram_describe
    __del__ = _core.datagram_finalize

    sendto = _core.datagram_sendto
    get_write_buffer_size = _core.datagram_get_write_buffer_size
    get_write_buffer_limits = _core.datagram_get_write_buffer_limits
    set_write_buffer_limits = _core.datagram_set_write_buffer_limits

    is_reading = _core.datagram_is_reading
    pause_reading = _core.datagram_pause_reading
    resume_reading = _core.datagram_resume_reading

    close = _core.datagram_close
    abort = _core.datagram_abort
    is_closing = _core.datagram_is_closing

    get_protocol = _core.datagram_get_protocol
    set_protocol = _core.datagram_set_protocol

    _sock = property(_core.datagram_socket)
    _address = property(_core.datagram_address)


_core.register_datagram_type(DatagramTransport)
