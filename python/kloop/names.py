"""getaddrinfo and getnameinfo of loops and resolvers: what is looked up here, and what is left to the socket module.

The socket module's functions are called in the loop's executor, as asyncio does, where

- somebody has put a function of their own in their place, as tests and libraries do: it is that which must be asked;
- there is no resolver (``loop.resolver = None``, KLOOP_DNS=off);
- nsswitch.conf(5) names a source that libc alone knows: the resolver's ``stats()`` counts that;
- the arguments are such that they must complain.
"""

from __future__ import annotations

import _socket
import os
import socket
import sys
from asyncio import base_events
from typing import TYPE_CHECKING, Any

from . import _core

if TYPE_CHECKING:
    from .loop import Loop

VARIABLE = 'KLOOP_DNS'
_UINT32 = 0xFFFFFFFF
_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


def are_off() -> bool:
    """Whether KLOOP_DNS=off has names looked up by libc."""
    said = os.environ.get(VARIABLE) or 'on'
    if said not in ('on', 'off'):
        raise ValueError(f'{VARIABLE}={said!r}: use on or off')
    return said == 'off'


def _is_stock(name: str) -> bool:
    """Whether the socket module's function of this name is the standard library's own."""
    function = getattr(socket, name)
    if getattr(function, '__globals__', None) is vars(socket):
        function = getattr(_socket, name)
    return type(function) is type(_socket.dup)


# Looked at once: what is in its place later is another object.
_GETNAMEINFO = socket.getnameinfo if _is_stock('getnameinfo') else None


def _getnameinfo_is_stock() -> bool:
    module: Any = base_events.socket  # type: ignore[attr-defined]
    return module is socket and socket.getnameinfo is _GETNAMEINFO


async def getaddrinfo(
    loop: Loop,
    resolver: _core.ResolverCore | None,
    host: Any,
    port: Any,
    family: int,
    type: int,
    proto: int,
    flags: int,
) -> Any:
    """What socket.getaddrinfo() answers. A loop's own does the usual by itself, and comes here for the rest."""
    if _core.getaddrinfo_is_stock():
        if resolver is not None:
            call = _core.lookup_addrinfo(loop, resolver, host, port, family, type, proto, flags, _explain)
            if call is not None:
                sys.audit('socket.getaddrinfo', host, port, family, type, proto)
                found = await (_timed(loop, call, host, port, family, type, proto, flags) if loop._debug else call)
                if found is not None:
                    return found
        elif _is_numeric(host, port):
            function: Any = socket.getaddrinfo
            if loop._debug:
                function = loop._getaddrinfo_debug  # type: ignore[attr-defined]
            return function(host, port, family, type, proto, flags)
    return await base_events.BaseEventLoop.getaddrinfo(
        loop, host, port, family=family, type=type, proto=proto, flags=flags
    )


async def _timed(loop: Loop, call: Any, host: Any, port: Any, family: int, type: int, proto: int, flags: int) -> Any:
    """Logs as asyncio's _getaddrinfo_debug() does."""
    options = [
        f'{name}={value!r}'
        for name, value in (('family', family), ('type', type), ('proto', proto), ('flags', flags))
        if value
    ]
    about = ', '.join([f'{host}:{port!r}', *options])
    base_events.logger.debug('Get address info %s', about)  # type: ignore[attr-defined]
    started = loop.time()
    found = await call
    if found is not None:
        took = loop.time() - started
        text = f'Getting address info {about} took {took * 1e3:.3f}ms: {found!r}'
        slow = took >= loop.slow_callback_duration
        (base_events.logger.info if slow else base_events.logger.debug)(text)  # type: ignore[attr-defined]
    return found


async def getnameinfo(loop: Loop, resolver: _core.ResolverCore | None, sockaddr: Any, flags: int) -> tuple[str, str]:
    """What socket.getnameinfo() answers."""
    if _getnameinfo_is_stock() and isinstance(flags, int) and -1 << 31 <= flags < 1 << 31:
        if flags & _NUMERIC == _NUMERIC:
            return socket.getnameinfo(sockaddr, flags)
        if resolver is not None:
            # Complains of what is no address, and asks nobody.
            address, service = socket.getnameinfo(sockaddr, _NUMERIC)
            scope = sockaddr[3] & _UINT32 if len(sockaddr) > 3 else 0  # as the socket module reads it
            call = _core.lookup_nameinfo(
                loop, resolver, address.partition('%')[0], int(service), scope, flags, _explain
            )
            found: tuple[str, str] | None = await call
            if found is not None:
                return found
    return await base_events.BaseEventLoop.getnameinfo(loop, sockaddr, flags)


def _explain(status: int, text: str) -> Exception:
    from .resolver import explain

    return explain(status, text)


def _is_numeric(host: Any, port: Any) -> bool:
    """Whether getaddrinfo() takes these as they are: no name of a host, nor of a service."""
    return _is_port(port) and (host is None or _is_address(host))


def _is_port(port: Any) -> bool:
    return port is None or isinstance(port, int) or isinstance(port, (str, bytes)) and port.isascii() and port.isdigit()


def _is_address(host: Any) -> bool:
    """Whether it is an address in the usual form; an IPv6 address may have a zone (RFC 4007)."""
    try:
        text = host.decode('ascii') if isinstance(host, bytes) else host
        address, _, zone = text.partition('%')
        socket.inet_pton(socket.AF_INET6 if zone or ':' in address else socket.AF_INET, address)
    except (OSError, ValueError, TypeError, AttributeError):
        return False  # a name, or what getaddrinfo() shall complain of
    return True


_core.set_names(
    getaddrinfo,
    base_events.BaseEventLoop.getaddrinfo,
    _explain,
    socket.getaddrinfo if _is_stock('getaddrinfo') else None,
    _socket.getaddrinfo,
)
