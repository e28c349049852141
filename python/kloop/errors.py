"""The errors that are kloop's own; all others are asyncio's."""

from __future__ import annotations

import socket


class DriverUnavailable(OSError):
    """The driver that was asked for can't carry a loop here; the text names the cause and the remedy.

    ``errno`` is the kernel's answer, for example EPERM under a seccomp profile that
    blocks io_uring, or ENOSYS on a kernel without it.
    """


class ResolveError(socket.gaierror):
    """A ``Resolver`` has found nothing.

    ``errno`` is what getaddrinfo(3) says of it, the text names name, type and cause.
    """


class NameNotFound(ResolveError):
    """The name does not exist (NXDOMAIN, RFC 1035 section 4.1.1)."""


class NoRecords(ResolveError):
    """The name exists, but has no record of the type (RFC 2308 section 2.2)."""


class ServerFailure(ResolveError):
    """Every server answered with a failure (SERVFAIL, REFUSED and the like)."""


class ResolveTimeout(ResolveError, TimeoutError):
    """No server answered in time."""


class InvalidName(ResolveError, ValueError):
    """The name can't be a domain name (RFC 1035 section 2.3.4)."""


class ResolverBusy(ResolveError):
    """More lookups wait than ``Resolver(queue=...)`` allows."""
