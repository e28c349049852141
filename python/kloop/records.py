"""What ``Resolver.resolve()`` answers: records of the domain name system.

Each type has a class of its own, frozen and with typed fields, in the order of the RFC that defines it. Names
are text without a dot at their end (the root is '.'), bytes in them that do not print are written ``\\DDD``
(RFC 1035 section 5.1); addresses are text as the socket module's. ``ttl`` is what is left of it, in seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from . import _core
from .errors import ResolveError


@dataclass(frozen=True, slots=True)
class Record:
    """What all records have."""

    ttl: int


@dataclass(frozen=True, slots=True)
class A(Record):
    """An IPv4 address (RFC 1035)."""

    address: str


@dataclass(frozen=True, slots=True)
class AAAA(Record):
    """An IPv6 address (RFC 3596)."""

    address: str


@dataclass(frozen=True, slots=True)
class CNAME(Record):
    """What a name is an alias of (RFC 1035)."""

    target: str


@dataclass(frozen=True, slots=True)
class NS(Record):
    """A name server of a zone (RFC 1035)."""

    target: str


@dataclass(frozen=True, slots=True)
class PTR(Record):
    """Another name, as of an address (RFC 1035)."""

    target: str


@dataclass(frozen=True, slots=True)
class MX(Record):
    """A host that takes mail; the least ``preference`` comes first (RFC 1035)."""

    preference: int
    exchange: str


@dataclass(frozen=True, slots=True)
class SOA(Record):
    """The start of a zone; times are in seconds (RFC 1035)."""

    mname: str
    rname: str
    serial: int
    refresh: int
    retry: int
    expire: int
    minimum: int


@dataclass(frozen=True, slots=True)
class SRV(Record):
    """A host and port of a service; the least ``priority`` comes first (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class TXT(Record):
    """Character strings, of up to 255 bytes each (RFC 1035)."""

    strings: tuple[bytes, ...]

    @property
    def text(self) -> str:
        """All strings in one, decoded as UTF-8; what is none is kept as surrogates."""
        return b''.join(self.strings).decode(errors='surrogateescape')


@dataclass(frozen=True, slots=True)
class CAA(Record):
    """Who may issue certificates (RFC 8659)."""

    flags: int
    tag: str
    value: bytes


@dataclass(frozen=True, slots=True)
class SVCB(Record):
    """How to reach a service (RFC 9460). ``priority`` 0: it is an alias of ``target``.

    Parameters that the record does not have are None, empty or False. ``others`` are keys without a field
    here, with their values.
    """

    priority: int
    target: str
    mandatory: tuple[int, ...] = ()
    alpn: tuple[bytes, ...] = ()
    no_default_alpn: bool = False
    port: int | None = None
    ipv4hint: tuple[str, ...] = ()
    ech: bytes | None = None
    ipv6hint: tuple[str, ...] = ()
    dohpath: str | None = None
    ohttp: bool = False
    others: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class HTTPS(SVCB):
    """As SVCB, of a web site (RFC 9460)."""


@dataclass(frozen=True, slots=True)
class Other(Record):
    """A record of a type that has no class here: its type's number, and its data as a zone file has it."""

    type: int
    text: str


_R = TypeVar('_R', bound=Record, covariant=True)


@dataclass(frozen=True, slots=True)
class Answer(Generic[_R]):
    """What was found. Iterating, ``len()`` and indexing are those of ``records``.

    ``name``: the canonical name, to which CNAME records led; ``aliases``: the names that led there, the one
    that was asked for first. ``ttl``: seconds for which all of it holds. ``stale``: past its TTL, as no server
    answers (``Resolver(serve_stale=...)``). ``authenticated``: the server says that DNSSEC has proved it, and
    ``trust_ad`` is set.
    """

    name: str
    aliases: tuple[str, ...]
    ttl: int
    stale: bool
    authenticated: bool
    records: tuple[_R, ...]

    def __iter__(self) -> Iterator[_R]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> _R:
        return self.records[index]


class Answers(Protocol[_R]):
    """What ``Resolver.resolve_many()`` gives: an asynchronous iterator of names with their answers, or errors."""

    def __aiter__(self) -> Answers[_R]: ...

    def __anext__(self) -> Awaitable[tuple[str, Answer[_R] | ResolveError]]: ...

    async def aclose(self) -> None:
        """Ends it, and what is under way. A task that waits for an answer finds that there are no more."""


# The numbers of types: https://www.iana.org/assignments/dns-parameters
TYPES: dict[str, int] = {
    'A': 1,
    'NS': 2,
    'CNAME': 5,
    'SOA': 6,
    'PTR': 12,
    'MX': 15,
    'TXT': 16,
    'AAAA': 28,
    'SRV': 33,
    'SVCB': 64,
    'HTTPS': 65,
    'CAA': 257,
}

# Parameters of SVCB and HTTPS records, by the numbers of their keys (RFC 9460 section 14.3.2, RFC 9461, RFC 9540).
_PARAMETERS: dict[int, str] = {
    0: 'mandatory',
    1: 'alpn',
    2: 'no_default_alpn',
    3: 'port',
    4: 'ipv4hint',
    5: 'ech',
    6: 'ipv6hint',
    7: 'dohpath',
    8: 'ohttp',
}


def _text(ttl: int, strings: list[bytes]) -> TXT:
    return TXT(ttl, tuple(strings))


def _service(cls: type[SVCB], ttl: int, priority: int, target: str, parameters: list[Any]) -> SVCB:
    fields: dict[str, Any] = {}
    others = []
    for key, value in parameters:
        if isinstance(value, list):
            value = tuple(value)
        if key in _PARAMETERS:
            fields[_PARAMETERS[key]] = value
        else:
            others.append((key, value))
    return cls(ttl, priority, target, **fields, others=tuple(others))


def _svcb(*values: Any) -> SVCB:
    return _service(SVCB, *values)


def _https(*values: Any) -> SVCB:
    return _service(HTTPS, *values)


_MAKERS: dict[int, Callable[..., Record]] = {
    1: A,
    2: NS,
    5: CNAME,
    6: SOA,
    12: PTR,
    15: MX,
    16: _text,
    28: AAAA,
    33: SRV,
    64: _svcb,
    65: _https,
    257: CAA,
}


def make_record(value: list[Any]) -> Record:
    """The record of what the core tells of one: see pybridge/record.go."""
    maker = _MAKERS.get(value[0])
    if maker is None:
        return Other(value[1], value[0], value[2])
    return maker(*value[1:])


# The core makes answers by itself, and records whose data is one text.
_core.set_records(
    Answer,
    make_record,
    {1: (A, 'address'), 2: (NS, 'target'), 5: (CNAME, 'target'), 12: (PTR, 'target'), 28: (AAAA, 'address')},
)
