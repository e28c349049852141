"""Resolver: names by the core's own resolver; see docs/dns.md."""

from __future__ import annotations

import os
import socket
from asyncio import events
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Literal, overload

from . import _core, names, records
from .errors import InvalidName, NameNotFound, NoRecords, ResolveError, ResolverBusy, ResolveTimeout, ServerFailure
from .resolver_state import CacheEntry, ResolvConf, ResolverStats, ServerStats

if TYPE_CHECKING:
    from .loop import Loop

RESOLV_CONF = '/etc/resolv.conf'
_FILES = {
    'hosts': '/etc/hosts',
    'services': '/etc/services',
    'nsswitch': '/etc/nsswitch.conf',
    'gai_conf': '/etc/gai.conf',
    'host_conf': '/etc/host.conf',
}
_PORT, _TLS_PORT = 53, 853
_NS_PER_S = 1_000_000_000
_MOST_AT_A_TIME = 1 << 20

RecordType = Literal['A', 'AAAA', 'CAA', 'CNAME', 'HTTPS', 'MX', 'NS', 'PTR', 'SOA', 'SRV', 'SVCB', 'TXT']


class _System:
    """The default of paths: what libc reads."""

    def __repr__(self) -> str:
        return "the system's"


SYSTEM: Any = _System()
Path = str | os.PathLike[str] | None


class Cache:
    """A resolver's memory of answers: ``len(resolver.cache)``."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def __len__(self) -> int:
        return self._resolver._cache_len()

    def __bool__(self) -> bool:
        return True

    def clear(self) -> None:
        """Forgets all of them."""
        self._resolver._cache_clear()

    def entries(self) -> list[CacheEntry]:
        """What it holds, the answer used last first."""
        return [
            CacheEntry(
                name, number, canonical, tuple([records.make_record(record) for record in found]), status == 0, left
            )
            for name, number, canonical, found, status, left in self._resolver._tell('e')
        ]


class Resolver(_core.ResolverCore):
    """A stub resolver, for any loop and thread of the process; see docs/dns.md.

    ``Resolver()`` does what the files in /etc and the variables RES_OPTIONS and LOCALDOMAIN say, as libc does. What is
    given here counts more than these; None leaves it to them.

    ``servers``: addresses, with a port as in '192.0.2.1:5353' or '[::1]:5353'; any number of them.
    ``search``: domains that are appended to names with fewer dots than ``ndots`` (0 to 15).
    ``timeout``: seconds for one question to one server. ``attempts``: how often each server is asked.
    ``rotate``, ``use_tcp`` (use-vc), ``edns0``, ``trust_ad``, ``single_request``, ``no_aaaa``, ``no_tld_query``,
    ``no_reload``: as the options of resolv.conf(5).

    ``file``: a resolv.conf; None: none is read. ``environment``: whether the two variables count, as they are now.
    ``hosts``, ``services``, ``nsswitch``, ``gai_conf``, ``host_conf``: paths of the other files; None: an empty
    one. By default the system's; with ``servers`` of your own nsswitch.conf is not read, as libc knows nothing of them.

    ``cache_entries``: bound of the cache, in answers; 0: none. ``max_ttl``, ``max_negative_ttl``: seconds for which
    an answer is kept at most, and that there is none. ``serve_stale``: seconds past its TTL for which an answer is
    kept for the case that no server answers (RFC 8767). ``concurrency``: questions at a time. ``queue``: how many
    more may wait.
    ``keep_case``: ask with names as they are; else their letters' case is random and must come back (0x20).

    ``tls``: ask over TLS (RFC 7858), at port 853; a text is the name that certificates must have, True: the server's
    address. ``tls_ca_file``: a PEM file with the authorities to trust; None: the system's.

    Raises ValueError for what makes no sense, OSError for a file that can't be read.
    """

    def __init__(
        self,
        servers: Sequence[str] | None = None,
        *,
        search: Sequence[str] | None = None,
        ndots: int | None = None,
        timeout: float | None = None,
        attempts: int | None = None,
        rotate: bool | None = None,
        use_tcp: bool | None = None,
        edns0: bool | None = None,
        trust_ad: bool | None = None,
        single_request: bool | None = None,
        no_aaaa: bool | None = None,
        no_tld_query: bool | None = None,
        no_reload: bool | None = None,
        file: Path = RESOLV_CONF,
        environment: bool = True,
        hosts: Path = SYSTEM,
        services: Path = SYSTEM,
        nsswitch: Path = SYSTEM,
        gai_conf: Path = SYSTEM,
        host_conf: Path = SYSTEM,
        cache_entries: int = 10_000,
        max_ttl: float = 86_400,
        max_negative_ttl: float = 3_600,
        serve_stale: float = 0,
        concurrency: int = 256,
        queue: int = 100_000,
        keep_case: bool = False,
        tls: bool | str = False,
        tls_ca_file: Path = None,
    ) -> None:
        if servers is not None and nsswitch is SYSTEM:
            nsswitch = None
        lines = _Lines()
        lines.path('file', file)
        if environment:
            for variable in ('LOCALDOMAIN', 'RES_OPTIONS'):
                lines.add(variable, ' '.join(os.environ.get(variable, '').split()))
        for name, path in (
            ('hosts', hosts),
            ('services', services),
            ('nsswitch', nsswitch),
            ('gai_conf', gai_conf),
            ('host_conf', host_conf),
        ):
            lines.path(name, _FILES[name] if path is SYSTEM else path)
        if servers is not None:
            lines.add('servers', ' '.join(_servers(servers, _TLS_PORT if tls else _PORT)))
        if search is not None:
            lines.add('search', ' '.join(_domains(search)))
        lines.number('ndots', ndots, 0, 15)
        lines.number('attempts', attempts, 1, 100)
        lines.duration('timeout', timeout, least=0.001)
        for name, flag in (
            ('rotate', rotate),
            ('use_tcp', use_tcp),
            ('edns0', edns0),
            ('trust_ad', trust_ad),
            ('single_request', single_request),
            ('no_aaaa', no_aaaa),
            ('no_tld_query', no_tld_query),
            ('no_reload', no_reload),
            ('keep_case', keep_case),
        ):
            lines.flag(name, flag)
        lines.number('cache_entries', cache_entries, 0, 1 << 31)
        lines.number('concurrency', concurrency, 1, _MOST_AT_A_TIME)
        lines.number('queue', queue, 0, 1 << 31)
        lines.duration('max_ttl', max_ttl)
        lines.duration('max_negative_ttl', max_negative_ttl)
        lines.duration('serve_stale', serve_stale)
        if tls is not False and tls is not None:
            lines.add('tls', '' if tls is True else tls)
            lines.path('tls_ca_file', tls_ca_file)
        elif tls_ca_file is not None:
            raise ValueError('tls_ca_file is for tls=True, or tls= the name of the servers')
        self._open(lines.text())

    # ---- looking up

    @overload
    async def resolve(self, name: str, type: Literal['A'] = 'A') -> records.Answer[records.A]: ...
    @overload
    async def resolve(self, name: str, type: Literal['AAAA']) -> records.Answer[records.AAAA]: ...
    @overload
    async def resolve(self, name: str, type: Literal['CAA']) -> records.Answer[records.CAA]: ...
    @overload
    async def resolve(self, name: str, type: Literal['CNAME']) -> records.Answer[records.CNAME]: ...
    @overload
    async def resolve(self, name: str, type: Literal['HTTPS']) -> records.Answer[records.HTTPS]: ...
    @overload
    async def resolve(self, name: str, type: Literal['MX']) -> records.Answer[records.MX]: ...
    @overload
    async def resolve(self, name: str, type: Literal['NS']) -> records.Answer[records.NS]: ...
    @overload
    async def resolve(self, name: str, type: Literal['PTR']) -> records.Answer[records.PTR]: ...
    @overload
    async def resolve(self, name: str, type: Literal['SOA']) -> records.Answer[records.SOA]: ...
    @overload
    async def resolve(self, name: str, type: Literal['SRV']) -> records.Answer[records.SRV]: ...
    @overload
    async def resolve(self, name: str, type: Literal['SVCB']) -> records.Answer[records.SVCB]: ...
    @overload
    async def resolve(self, name: str, type: Literal['TXT']) -> records.Answer[records.TXT]: ...
    @overload
    async def resolve(self, name: str, type: str | int) -> records.Answer[records.Record]: ...

    async def resolve(self, name: str, type: str | int = 'A') -> records.Answer[Any]:
        """The records of a type that a name has.

        ``type`` is one of ``RecordType``, or a type's number: records without a class are ``records.Other``. The
        name is taken as absolute, with or without a dot at its end: neither search list nor hosts file count.

        Raises NameNotFound, NoRecords, ServerFailure, ResolveTimeout, InvalidName, ResolverBusy: all ResolveError,
        which is a socket.gaierror.
        """
        found: records.Answer[Any] = await _core.lookup_records(
            _loop(), self, _name_bytes(name), _type_number(type), explain
        )
        return found

    @overload
    def resolve_many(
        self, names: Iterable[str], type: Literal['A'] = 'A', *, concurrency: int = 256
    ) -> records.Answers[records.A]: ...
    @overload
    def resolve_many(
        self, names: Iterable[str], type: Literal['AAAA'], *, concurrency: int = 256
    ) -> records.Answers[records.AAAA]: ...
    @overload
    def resolve_many(
        self, names: Iterable[str], type: Literal['CAA'], *, concurrency: int = 256
    ) -> records.Answers[records.CAA]: ...
    @overload
    def resolve_many(
        self, names: Iterable[str], type: Literal['CNAME'], *, concurrency: int = 256
    ) -> records.Answers[records.CNAME]: ...
    @overload
    def resolve_many(
        self, names: Iterable[str], type: Literal['HTTPS'], *, concurrency: int = 256
    ) -> records.Answers[records.HTTPS]: ...
    @overload
    def resolve_many(
        self, names: Iterable[str], type: Literal['MX'], *, concurrency: int = 256
    ) -> records.Answers[records.MX]: ...
    @overload
    def resolve_many(
        self, names: Iterable[str], type: Literal['NS'], *, concurrency: int = 256
    ) -> records.Answers[records.NS]: ...
    @overload
    def resolve_many(
        self, names: Iterable[str], type: Literal['PTR'], *, concurrency: int = 256
    ) -> records.Answers[records.PTR]: ...
    @overload
    def resolve_many(
        self, names: Iterable[str], type: Literal['SOA'], *, concurrency: int = 256
    ) -> records.Answers[records.SOA]: ...
    @overload
    def resolve_many(
        self, names: Iterable[str], type: Literal['SRV'], *, concurrency: int = 256
    ) -> records.Answers[records.SRV]: ...
    @overload
    def resolve_many(
        self, names: Iterable[str], type: Literal['SVCB'], *, concurrency: int = 256
    ) -> records.Answers[records.SVCB]: ...
    @overload
    def resolve_many(
        self, names: Iterable[str], type: Literal['TXT'], *, concurrency: int = 256
    ) -> records.Answers[records.TXT]: ...
    @overload
    def resolve_many(
        self, names: Iterable[str], type: str | int, *, concurrency: int = 256
    ) -> records.Answers[records.Record]: ...

    def resolve_many(
        self, names: Iterable[str], type: str | int = 'A', *, concurrency: int = 256
    ) -> records.Answers[Any]:
        """What resolve() says of each of many names, of which so many are looked up at a time.

        ``async for name, answer in resolver.resolve_many(names):`` gives each name, as it was given, with its
        ``Answer``, or with the ResolveError that resolve() would raise, in the order in which they come. One that
        comes alone waits for others, for 5 ms at most.

        ``names`` may be any iterable, without an end too: at most twice ``concurrency`` (1 to 1,048,576) of them are
        taken before their answers are. An exception that it raises is raised behind the answers of those before.
        ``resolver.concurrency``, of all lookups, holds too.

        The iterator ends what is under way when it is dropped, by ``aclose()``, or when a task is cancelled that
        waits for it. It belongs to the loop on which it began, and to one task at a time. Raises ValueError, and
        RuntimeError if the resolver is closed.
        """
        number = _type_number(type)
        if not isinstance(concurrency, int) or not 1 <= concurrency <= _MOST_AT_A_TIME:
            raise ValueError(f'concurrency={concurrency!r}: give a whole number from 1 to {_MOST_AT_A_TIME}')
        if isinstance(names, str):
            raise ValueError(f'names={names!r}: give an iterable of names')
        return _core.ManyAnswers(self, names, number, concurrency, _name_bytes, explain, _loop)

    async def lookup_ip(self, host: str, family: int = socket.AF_UNSPEC) -> list[str]:
        """The addresses of a host: of the hosts file, or of A and AAAA records, by the search list; sorted by RFC 6724.

        ``family``: AF_INET, AF_INET6, or both. Raises as resolve().
        """
        if family not in (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6):
            raise ValueError(f'family={family!r}: use AF_INET, AF_INET6 or AF_UNSPEC')
        found: list[str] = await _core.lookup_ip(_loop(), self, _name_bytes(host), family, _same, explain)
        return found

    async def lookup_addr(self, address: str) -> list[str]:
        """The names of an address: of the hosts file, or of PTR records. Raises as resolve(), and ValueError."""
        text = str(ip_address(address)).partition('%')[0]
        found: list[str] = await _core.lookup_addr(_loop(), self, text.encode(), _same, explain)
        return found

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        """As socket.getaddrinfo(), by this resolver; by libc, in the loop's executor, where that knows more sources."""
        found: list[Any] = await names.getaddrinfo(_loop(), self, host, port, family, type, proto, flags)
        return found

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """As socket.getnameinfo(), likewise."""
        return await names.getnameinfo(_loop(), self, sockaddr, flags)

    # ---- about it

    @property
    def cache(self) -> Cache:
        """The cache: its size, its entries, and how to empty it."""
        return Cache(self)

    @property
    def resolv_conf(self) -> ResolvConf:
        """What applies now."""
        fields: list[Any] = [tuple(field) if isinstance(field, list) else field for field in self._tell('c')]
        return ResolvConf(*fields)

    def stats(self) -> ResolverStats:
        """Counters since it was made, and gauges."""
        counters, servers, foreign = self._tell('s')
        needs = [f'{line}: {source}' for line, source in zip(('hosts', 'services'), foreign, strict=True) if source]
        return ResolverStats(
            **dict(counters), servers=tuple(ServerStats(*server) for server in servers), needs_libc=', '.join(needs)
        )

    def __enter__(self) -> Resolver:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Lines:
    """The configuration as the core reads it: see pybridge/resolver_config.go."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, name: str, value: str) -> None:
        if '\n' in value or '\0' in value:
            raise ValueError(f'{name}={value!r}: it must not contain a line break or a zero byte')
        self._lines.append(f'{name} {value}')

    def path(self, name: str, path: Path) -> None:
        if path is not None:
            self.add(name, os.fsdecode(path))

    def flag(self, name: str, flag: bool | None) -> None:
        if flag is not None:
            self.add(name, 'true' if flag else 'false')

    def number(self, name: str, number: int | None, least: int, most: int) -> None:
        if number is None:
            return
        if not isinstance(number, int) or not least <= number <= most:
            raise ValueError(f'{name}={number!r}: give a whole number from {least} to {most}')
        self.add(name, str(int(number)))

    def duration(self, name: str, seconds: float | None, least: float = 0) -> None:
        if seconds is None:
            return
        if not least <= seconds < 1 << 31:
            raise ValueError(f'{name}={seconds!r}: give seconds, at least {least}')
        self.add(name, str(int(seconds * _NS_PER_S)))

    def text(self) -> bytes:
        return ''.join(f'{line}\n' for line in self._lines).encode(errors='surrogateescape')


def _servers(servers: Iterable[str], port: int) -> list[str]:
    """Each with its port; raises ValueError for what is no address."""
    if isinstance(servers, str):
        raise ValueError(f'servers={servers!r}: give a list of addresses')
    return [_server(text, port) for text in servers]


def _server(text: str, port: int) -> str:
    try:
        if text.startswith('['):
            inside, _, rest = text[1:].partition(']')
            address, number = ip_address(inside), int(rest[1:]) if rest.startswith(':') else port
            if rest and not rest.startswith(':'):
                raise ValueError(rest)
        elif text.count(':') == 1:
            inside, _, rest = text.partition(':')
            address, number = ip_address(inside), int(rest)
        else:
            address, number = ip_address(text), port
        if not 0 < number < 1 << 16:
            raise ValueError(number)
    except ValueError:
        raise ValueError(
            f'servers: {text!r} is no address of a server; give one as 192.0.2.1, 192.0.2.1:53 or [2001:db8::1]:53'
        ) from None
    return f'[{address}]:{number}' if address.version == 6 else f'{address}:{number}'


def _domains(search: Iterable[str]) -> list[str]:
    if isinstance(search, str):
        raise ValueError(f'search={search!r}: give a list of domains')
    domains = [_name_bytes(domain).decode().rstrip('.') for domain in search]
    for domain in domains:
        if not domain or any(letter.isspace() for letter in domain):
            raise ValueError(f'search: {domain!r} is no domain')
    return domains


def _name_bytes(name: str) -> bytes:
    """A name as it is asked for: in its IDNA form, by the standard library's codec."""
    if name.isascii():
        if '\0' in name:
            raise InvalidName(socket.EAI_NONAME, f'{name!r}: not a domain name')
        return name.encode()
    try:
        return name.encode('idna')
    except UnicodeError as exc:
        raise InvalidName(socket.EAI_NONAME, f'{name!r}: not a domain name: {exc}') from None


def _type_number(type: str | int) -> int:
    number = type if isinstance(type, int) else records.TYPES.get(type.upper(), 0)
    if not 0 < number < 1 << 16:
        raise ValueError(f'type={type!r}: use one of {", ".join(sorted(records.TYPES))}, or a number')
    return number


def _loop() -> Loop:
    loop = events.get_running_loop()
    if not isinstance(loop, _core.LoopCore):
        raise RuntimeError(f'a kloop.Resolver needs a kloop event loop; the one that runs is {loop!r}')
    return loop


def _same(value: Any) -> Any:
    return value


_ERRORS: dict[int, tuple[type[ResolveError], int]] = {
    _core.ANSWER_NOT_FOUND: (NameNotFound, socket.EAI_NONAME),
    _core.ANSWER_NO_DATA: (NoRecords, socket.EAI_NODATA),
    _core.ANSWER_SERVER: (ServerFailure, socket.EAI_AGAIN),
    _core.ANSWER_TIMEOUT: (ResolveTimeout, socket.EAI_AGAIN),
    _core.ANSWER_NAME: (InvalidName, socket.EAI_NONAME),
    _core.ANSWER_BUSY: (ResolverBusy, socket.EAI_AGAIN),
}


def explain(status: int, text: str) -> Exception:
    """The exception for what the core says."""
    text = text.removeprefix('dns: ')
    if status in _ERRORS:
        kind, code = _ERRORS[status]
        return kind(code, text)
    if status == _core.ANSWER_CLOSED:
        return RuntimeError('the resolver is closed')
    return ResolveError(socket.EAI_FAIL, text)


_shared: dict[str, Resolver] = {}


def shared() -> Resolver:
    """The resolver of this process, made with the first call: that of every loop that was given no other."""
    found = _shared.get('it')
    # Of those that several threads make at once all get one. Not by a lock, which a forked child might find taken.
    return _shared.setdefault('it', Resolver()) if found is None else found
