"""What a resolver tells of itself: see kloop.Resolver."""

from __future__ import annotations

from dataclasses import dataclass

from . import records


@dataclass(frozen=True)
class ServerStats:
    """What is known of a server. ``rtt_s``: of its responses, smoothed; 0: none yet. ``failures``: since its
    last response. ``down``: for now it is asked after the others. ``records``: what protects those of its last TLS
    connection: 'go' (the core), or 'tls' (crypto/tls, which makes the handshake); '': there was none."""

    address: str
    rtt_s: float
    failures: int
    down: bool
    records: str


@dataclass(frozen=True)
class ResolverStats:
    """What a resolver did since it was made; ``running``, ``waiting`` and ``entries`` are gauges."""

    lookups: int  # questions that were put to it
    hits: int  # of these, answered by the cache
    stale: int  # answered past their TTL, as no server did
    joined: int  # that joined another's of the same name and type
    hosts: int  # answered by the hosts file
    asked_libc: int  # calls of getaddrinfo and getnameinfo that went to libc: see needs_libc
    udp: int  # messages sent
    tcp: int
    tls: int
    answers: int  # responses that answered a message
    foreign: int  # packets with a wrong id or question, which did not count
    case: int  # responses with the letters of the name in another case, asked again over TCP
    malformed: int  # responses that could not be read
    truncated: int  # responses over UDP that were asked for again over TCP
    failures: int  # responses that told of a failure
    timeouts: int  # messages that nobody answered in time
    canceled: int  # lookups whose last caller gave up
    reloads: int  # changes of resolv.conf
    running: int  # questions being asked
    waiting: int  # questions that wait until others are answered
    entries: int  # answers in the cache
    servers: tuple[ServerStats, ...]
    needs_libc: str  # what nsswitch.conf names that is libc's alone, as in 'hosts: mdns4_minimal'; '': nothing


@dataclass(frozen=True)
class ResolvConf:
    """What applies of resolv.conf(5), the environment and the resolver's own options."""

    servers: tuple[str, ...]
    search: tuple[str, ...]
    ndots: int
    timeout: float
    attempts: int
    rotate: bool
    use_tcp: bool
    edns0: bool
    trust_ad: bool
    single_request: bool
    no_aaaa: bool
    no_tld_query: bool
    no_reload: bool
    unknown: tuple[str, ...]  # options and keywords about which nothing is done


@dataclass(frozen=True)
class CacheEntry:
    """An answer in the cache.

    ``type`` 0: of any, as the name does not exist. ``left_s``: seconds of its TTL; negative: it is stale.
    """

    name: str
    type: int
    canonical: str
    records: tuple[records.Record, ...]
    exists: bool  # False: what is kept is that there is nothing
    left_s: float
