"""A resolver for aiohttp: ``aiohttp.TCPConnector(resolver=kloop.aiohttp.Resolver(...))``.

aiohttp's default resolver calls ``loop.getaddrinfo``, so it has names looked up by kloop without this. It is for a
connector with servers or options of its own.
"""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from .resolver import Resolver as _Resolver
from .resolver import shared

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Resolver(AbstractResolver):
    """Looks hosts up by a kloop.Resolver; None: the process's own.

    It keeps answers as long as their TTL says, so that ``TCPConnector(use_dns_cache=False)`` leaves nothing undone:
    aiohttp's own cache keeps them for ten seconds, whatever their TTL. ``close()`` leaves the kloop.Resolver open,
    which may have other users.
    """

    def __init__(self, resolver: _Resolver | None = None) -> None:
        self._resolver = shared() if resolver is None else resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host; raises socket.gaierror, an OSError, as aiohttp's ThreadedResolver does."""
        infos = await self._resolver.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
        )
        results: list[ResolveResult] = []
        for found, _, protocol, _, address in infos:
            text = address[0]
            if found == socket.AF_INET6 and address[3]:  # link-local: the text must name the interface
                text, _ = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
            results.append(
                ResolveResult(
                    hostname=host, host=text, port=address[1], family=found, proto=protocol, flags=_NUMERIC
                )
            )
        return results

    async def close(self) -> None:
        """Nothing: the kloop.Resolver is closed by who made it."""
