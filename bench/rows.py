"""The rows of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from webapps import APPS

SIZES_BYTES = {"64B": 64, "1K": 1024, "16K": 16 * 1024, "100K": 100 * 1024}
CONNS = (1, 10, 100, 1000, 5000)
STYLES = ("protocol", "buffered", "streams")
MICROS = ("call_soon", "timers", "threadsafe", "sleep0")
# As in servers/processes.py.
PROCESSES = {"spawn": "true", "pipes": "cat"}
WEB_CONNS = 100
# Of the server's bytes, as in servers/oneway.py; which end of a handshake is measured.
DIRECTIONS = ("download", "upload")
TLS_ENDS = ("server", "client")
SPIN, SQPOLL, EPOLL = "kloop+spin", "kloop+sqpoll", "kloop+epoll"
# What the rows of TLS are compared with: kloop that leaves TLS to OpenSSL, and a peer; kloop that hands over all
# connections at once, or those that were idle for a second.
SSL, AIOFASTNET, GO, IDLE = "kloop+ssl", "uvloop+aiofastnet", "kloop+go", "kloop+idle"
# What the rows of names are compared with besides libc in a thread, which is what asyncio and uvloop have.
AIODNS = "uvloop+aiodns"
# And those of files.
AIOFILES = "asyncio+aiofiles"
FILE_DEPTH = 64
# bench/floor.c, bench/floor_process.c: what is left when the loop, Python and Go are taken away.
FLOOR = "C floor"
ONLY_IN_SOME_ROWS = (SPIN, SQPOLL, SSL, GO, IDLE, AIOFASTNET, AIODNS, AIOFILES, FLOOR)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    extra: loops that are of interest in this row only. mallocs: settings of subject.MALLOC_SETTINGS
    that it is measured with unless others are asked for.
    """

    kind: str
    name: str = ""
    style: str = "protocol"
    size_bytes: int = 0
    conns: int = 0
    extra: tuple[str, ...] = ()
    mallocs: tuple[str, ...] = ("default",)

    @property
    def id(self) -> str:
        """What --rows is matched against."""
        size = next((name for name, size in SIZES_BYTES.items() if size == self.size_bytes), "")
        parts = {
            "echo": (self.style, size, self.conns),
            "busy": (self.style, size, self.conns),
            "client": (size, self.conns),
            "memory": (self.conns,),
            "sock": (size, self.conns),
            "unix": (size, self.conns),
            "udp": (size, self.conns),
            "tls": (size, self.conns),
            "tls-oneway": (self.name, self.conns),
            "tls-handshake": (self.name, self.conns),
            "tls-memory": (self.conns,),
            "tls-idle": (self.conns,),
            "web": (self.name, self.conns),
            "file": (self.name, self.conns or ""),
        }.get(self.kind, (self.name,))
        return "/".join(str(part) for part in (self.kind, *parts) if part != "")

    def loops(self, names: Sequence[str]) -> list[str]:
        """Those of the loops that it is measured with."""
        return [name for name in names if name not in ONLY_IN_SOME_ROWS or name in self.extra]


def _echo(style: str, size: str, conns: int, extra: tuple[str, ...] = ()) -> Row:
    return Row("echo", style=style, size_bytes=SIZES_BYTES[size], conns=conns, extra=extra)


def default_rows() -> list[Row]:
    """Every goal, and enough beside it to see where a gain ends."""
    both = (SPIN, SQPOLL, EPOLL)
    return [
        _echo("protocol", "64B", 10),
        _echo("protocol", "64B", 1000),
        _echo("protocol", "1K", 1, both),
        _echo("protocol", "1K", 10, (*both, FLOOR)),
        _echo("protocol", "1K", 100, (EPOLL, FLOOR)),
        _echo("protocol", "1K", 1000, (SQPOLL, EPOLL, FLOOR)),
        _echo("protocol", "1K", 5000),
        _echo("protocol", "16K", 10, (FLOOR,)),
        _echo("protocol", "16K", 100, (EPOLL, FLOOR)),
        _echo("protocol", "100K", 10, (EPOLL, FLOOR)),
        _echo("buffered", "1K", 10),
        _echo("buffered", "16K", 10),
        _echo("streams", "1K", 10),
        _echo("streams", "1K", 100),
        *_others(),
    ]


def full_rows() -> list[Row]:
    """All sizes, connections and styles."""
    echoes = [_echo(style, size, n, (SPIN, SQPOLL, EPOLL)) for style in STYLES for size in SIZES_BYTES for n in CONNS]
    return [*echoes, *_others()]


def _others() -> list[Row]:
    small = SIZES_BYTES["1K"]
    return [
        Row("sock", size_bytes=small, conns=10, extra=(EPOLL, FLOOR)),
        Row("unix", size_bytes=small, conns=10, extra=(EPOLL, FLOOR)),
        Row("udp", size_bytes=small, conns=10, extra=(EPOLL,)),
        Row("udp", size_bytes=small, conns=100),
        *_tls(),
        *(Row("web", name=app, conns=WEB_CONNS) for app in APPS),
        *(Row("process", name=name, extra=(FLOOR,)) for name in PROCESSES),
        Row("file", name="pread", conns=FILE_DEPTH, extra=(EPOLL, AIOFILES)),
        Row("file", name="copy", extra=(EPOLL, AIOFILES)),
        Row("client", size_bytes=small, conns=10),
        Row("client", size_bytes=small, conns=100),
        Row("busy", size_bytes=small, conns=10, extra=(EPOLL,)),
        *(Row("micro", name=name, extra=(EPOLL,)) for name in MICROS),
        Row("names", name="localhost"),
        *(Row("names", name=name, extra=(AIODNS, EPOLL)) for name in ("known", "single", "distinct", "many")),
        Row("idle", name="100", extra=(EPOLL,)),
        Row("idle", name="0"),
        Row("startup"),
        Row("memory", conns=5000),
    ]


def _tls() -> list[Row]:
    # asyncio's large receive buffers cost a system call each with glibc's default thresholds.
    common: dict = {"extra": (SSL, AIOFASTNET), "mallocs": ("default", "tuned")}
    return [
        *(Row("tls", size_bytes=SIZES_BYTES[size], conns=10, **common) for size in ("1K", "16K", "100K")),
        *(Row("tls-oneway", name=direction, conns=1, **common) for direction in DIRECTIONS),
        *(Row("tls-handshake", name=end, conns=10, extra=(*common["extra"], GO), mallocs=common["mallocs"])
          for end in TLS_ENDS),
        Row("tls-memory", conns=1000, extra=(*common["extra"], GO)),
        Row("tls-idle", conns=1000, extra=(*common["extra"], GO, IDLE)),
    ]
