"""Addresses that need no look-up: getaddrinfo(3) and getnameinfo(3) read no file and ask nobody for them."""

from __future__ import annotations

import socket
from typing import Any

NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


def is_numeric(host: Any, port: Any) -> bool:
    """Whether getaddrinfo() takes these as they are: no name of a host, nor of a service."""
    return _is_port(port) and (host is None or _is_address(host))


def wants_numbers(flags: int) -> bool:
    """Whether these flags of getnameinfo() ask for no name."""
    return flags & NUMERIC == NUMERIC


def _is_port(port: Any) -> bool:
    return port is None or isinstance(port, int) or isinstance(port, (str, bytes)) and port.isascii() and port.isdigit()


def _is_address(host: Any) -> bool:
    """Whether it is an address in the usual form; an IPv6 address may have a zone (RFC 4007)."""
    try:
        text = host.decode('ascii') if isinstance(host, bytes) else host
        address, _, zone = text.partition('%')
        socket.inet_pton(socket.AF_INET6 if zone or ':' in address else socket.AF_INET, address)
    except (OSError, ValueError, TypeError, AttributeError):
        return False        # a name, or what getaddrinfo() shall complain of
    return True
