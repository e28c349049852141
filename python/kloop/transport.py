"""The transport of a connected stream socket."""

from __future__ import annotations

import asyncio
from asyncio import constants, transports

from . import _core


class StreamTransport(transports._FlowControlMixin, asyncio.Transport):  # type: ignore[misc,name-defined]
    """A connected stream socket on the ring; an ``asyncio.Transport`` in every respect.

    asyncio's sendfile wants the mixin, of which nothing else is used.

    Its state is a ``StreamCore`` of the extension, in the slot ``_core``; its methods are
    the extension's functions.
    """

    # As on asyncio, anybody may add attributes and replace methods of one transport.
    __slots__ = ('_core', '__dict__', '__weakref__')

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    __init__ = _core.init
    __repr__ = _core.describe
    __del__ = _core.finalize

    write = _core.write
    writelines = _core.writelines
    write_eof = _core.write_eof
    can_write_eof = _core.can_write_eof
    get_write_buffer_size = _core.get_write_buffer_size
    get_write_buffer_limits = _core.get_write_buffer_limits
    set_write_buffer_limits = _core.set_write_buffer_limits

    is_reading = _core.is_reading
    pause_reading = _core.pause_reading
    resume_reading = _core.resume_reading

    close = _core.close
    abort = _core.abort
    is_closing = _core.is_closing

    get_protocol = _core.get_protocol
    set_protocol = _core.set_protocol

    # asyncio's sslproto and sendfile call these.
    _force_close = _core.force_close
    _fatal_error = _core.fatal_error
    _protocol_paused = property(_core.protocol_paused)
    # Tests of CPython and of uvloop read these.
    _paused = property(_core.reading_paused)
    _closing = property(_core.is_closing)
    _make_empty_waiter = _core.make_empty_waiter
    _reset_empty_waiter = _core.reset_empty_waiter


_core.register_transport_type(StreamTransport)
