"""The transport of a TLS connection, and the upgrade of a transport to TLS."""

from __future__ import annotations

import asyncio
import os
from asyncio import constants, sslproto
from typing import Any

try:
    import ssl
except ImportError:  # a Python built without OpenSSL
    ssl = None  # type: ignore[assignment]

from . import _core


class SSLTransport(sslproto._SSLProtocolTransport):
    """What an application holds of a TLS connection; an ``asyncio.Transport`` in every respect.

    Of asyncio's own class, so that those who look for it find it. Its state is a ``TLSProtocol`` of
    the extension, in the slot ``_ssl_protocol``; its methods are the extension's functions.
    """

    __slots__ = ('_ssl_protocol',)

    _start_tls_compatible = True

    @property
    def _sendfile_compatible(self) -> Any:  # type: ignore[override]
        """sendfile(2) is for sockets whose records the kernel makes."""
        native = _core.tls_sealed_by_kernel(self) is not None
        return constants._SendfileMode.TRY_NATIVE if native else constants._SendfileMode.FALLBACK

    def __init__(self, *args: Any) -> None:
        raise TypeError('a SSLTransport is made by the loop')

    __del__ = _core.tls_finalize

    write = _core.tls_write
    writelines = _core.tls_writelines
    write_eof = _core.tls_write_eof
    can_write_eof = _core.tls_can_write_eof  # type: ignore[assignment]
    get_write_buffer_size = _core.tls_get_write_buffer_size
    get_write_buffer_limits = _core.tls_get_write_buffer_limits
    set_write_buffer_limits = _core.tls_set_write_buffer_limits

    is_reading = _core.tls_is_reading
    pause_reading = _core.tls_pause_reading
    resume_reading = _core.tls_resume_reading
    get_read_buffer_size = _core.tls_get_read_buffer_size
    get_read_buffer_limits = _core.tls_get_read_buffer_limits
    set_read_buffer_limits = _core.tls_set_read_buffer_limits

    close = _core.tls_close
    abort = _core.tls_abort
    is_closing = _core.tls_is_closing

    get_protocol = _core.tls_get_protocol
    set_protocol = _core.tls_set_protocol
    get_extra_info = _core.tls_get_extra_info

    # asyncio's sendfile and a TLSProtocol above this transport call these.
    _force_close = _core.tls_force_close
    _protocol_paused = property(_core.tls_protocol_paused)


_core.register_tls_transport_type(SSLTransport)


async def start_tls(loop: Any, transport: Any, protocol: Any, sslcontext: Any, *,
                    server_side: bool = False, server_hostname: str | None = None,
                    ssl_handshake_timeout: float | None = None,
                    ssl_shutdown_timeout: float | None = None) -> Any:
    """Upgrades transport to TLS; answers the transport that protocol is to use from now on.

    What a server's StreamReader has read ahead belongs to the handshake, and is taken from it.
    Timeouts are in seconds. Raises TypeError for what is no context or can't be upgraded, and
    what the handshake fails with.
    """
    if ssl is None:
        raise RuntimeError('Python ssl module is not available')
    if not isinstance(sslcontext, ssl.SSLContext):
        raise TypeError(f'sslcontext is expected to be an instance of ssl.SSLContext, '
                        f'got {sslcontext!r}')
    if not getattr(transport, '_start_tls_compatible', False):
        raise TypeError(f'transport {transport!r} is not supported by start_tls()')
    waiter = loop.create_future()
    tls = _core.TLSProtocol(
        loop, protocol, sslcontext, waiter, server_side, server_hostname,
        call_connection_made=False, ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout)
    transport.pause_reading()       # nothing may come before connection_made()
    early = _read_ahead(protocol) if server_side else b''
    transport.set_protocol(tls)
    made = loop.call_soon(tls.connection_made, transport)
    fed = loop.call_soon(tls.data_received, early)
    resumed = loop.call_soon(transport.resume_reading)
    try:
        await waiter
    except BaseException:
        transport.close()
        for handle in (made, fed, resumed):
            handle.cancel()
        waiter = None       # its exception's traceback holds this frame: a cycle
        raise
    return tls._app_transport       # None, as on asyncio, if the transport was closed before the handshake began


async def sendfile(loop: Any, transport: SSLTransport, sock: Any, file: Any, offset: int, count: int | None) -> int:
    """Sends a part of a file by sendfile(2), on a socket whose records the kernel makes; answers the bytes sent.

    No more is asked for than the file has: where one ends early, the kernel waits for room in the socket, and
    does not care that this must not block (tls_sw_splice_eof, Linux 7.2).
    """
    try:
        end = os.fstat(file.fileno()).st_size
    except (AttributeError, OSError):
        end = offset    # sock_sendfile() says what is wrong with it
    if count is not None:
        end = min(end, offset + count)
    if end <= offset:
        return int(await loop.sock_sendfile(sock, file, offset, count, fallback=False))
    at = offset
    while at < end:
        size = min(end - at, _SENDFILE_PIECE)
        sent = await loop.sock_sendfile(sock, file, at, size, fallback=False)
        _core.tls_count_sent(transport, sent)
        at += sent
        if sent < size:     # the file has become shorter
            break
    return at - offset


# Bytes between two looks at whether the records' key has to be changed: a small part of what it may protect.
_SENDFILE_PIECE = 1 << 32


def _read_ahead(protocol: Any) -> bytes:
    """Takes what a stream protocol has received and nobody has read."""
    if not isinstance(protocol, asyncio.StreamReaderProtocol):
        return b''
    reader = getattr(protocol, '_stream_reader', None)
    if reader is None:
        return b''
    early = bytes(reader._buffer)
    reader._buffer.clear()
    return early
