"""The rows of the table, and the goals of the project."""

from __future__ import annotations

import re
from dataclasses import dataclass

from webapps import APPS

SIZES_BYTES = {"64B": 64, "1K": 1024, "16K": 16 * 1024, "100K": 100 * 1024}
CONNS = (1, 10, 100, 1000, 5000)
STYLES = ("protocol", "buffered", "streams")
MICROS = ("call_soon", "timers", "threadsafe", "sleep0")
# As in servers/processes.py.
PROCESSES = {"spawn": "true", "pipes": "cat"}
WEB_CONNS = 100
SPIN, SQPOLL, EPOLL = "kloop+spin", "kloop+sqpoll", "kloop+epoll"
# bench/floor.c, bench/floor_process.c: what is left when the loop, Python and Go are taken away.
FLOOR = "C floor"


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
            "web": (self.name, self.conns),
        }.get(self.kind, (self.name,))
        return "/".join(str(part) for part in (self.kind, *parts) if part != "")


@dataclass(frozen=True)
class Goal:
    """What kloop is to reach in rows whose id matches. relative: to uvloop."""

    rows: str
    metric: str
    at_least: float | None = None
    at_most: float | None = None
    loop: str = "kloop"
    relative: bool = True
    malloc: str = ""  # any

    def matches(self, row_id: str, loop: str, malloc: str, metric: str) -> bool:
        here = (loop, metric) == (self.loop, self.metric) and self.malloc in ("", malloc)
        return here and re.fullmatch(self.rows, row_id) is not None

    def reached(self, value: float) -> bool:
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most

    def __str__(self) -> str:
        sign, bound = (">=", self.at_least) if self.at_least is not None else ("<=", self.at_most)
        return f"{sign} {bound:g}{'x' if self.relative else ''}"


GOALS = (
    Goal("echo/protocol/1K/(10|100)", "per_second", at_least=1.25),
    Goal("echo/protocol/1K/1000", "per_second", at_least=1.35),
    Goal("echo/protocol/1K/(10|100)", "cpu_us", at_most=0.78),
    Goal("echo/protocol/1K/1000", "cpu_us", at_most=0.70),
    Goal("echo/protocol/1K/(10|100)", "per_second", at_least=1.05, loop=EPOLL),
    Goal("echo/protocol/1K/1000", "per_second", at_least=1.1, loop=EPOLL),
    Goal("sock/1K/10", "per_second", at_least=2.0, loop=EPOLL),
    Goal("echo/protocol/16K/(10|100)", "per_second", at_least=1.25),
    Goal("echo/protocol/100K/10", "per_second", at_least=1.05),
    Goal("echo/protocol/1K/1", "per_second", at_least=1.0),
    Goal("echo/protocol/1K/1", "per_second", at_least=2.0, loop=SPIN),
    Goal("echo/protocol/1K/10", "syscalls", at_most=0.4, relative=False),
    Goal("echo/protocol/1K/1000", "syscalls", at_most=0.2, relative=False),
    Goal("echo/.*", "enters_submit", at_most=0, loop=SQPOLL, relative=False),
    Goal("echo/streams/1K/(10|100)", "per_second", at_least=1.2),
    Goal("sock/1K/10", "per_second", at_least=2.5),
    Goal("unix/1K/10", "per_second", at_least=1.15),
    Goal("udp/1K/10", "per_second", at_least=1.3),
    Goal("udp/1K/100", "per_second", at_least=1.5),
    Goal("tls/(1K|16K)/10", "per_second", at_least=2.2, malloc="default"),
    Goal("tls/(1K|16K)/10", "per_second", at_least=1.0, malloc="tuned"),
    Goal("process/spawn", "per_second", at_least=4),
    Goal("process/pipes", "per_second", at_least=3),
    Goal("web/(aiohttp|uvicorn)/100", "per_second", at_least=1.2),
    Goal("busy/.*", "per_second", at_least=10),
    Goal("micro/call_soon", "per_second", at_least=4),
    Goal("micro/timers", "per_second", at_least=3),
    Goal("micro/threadsafe", "per_second", at_least=2.5),
    Goal("micro/sleep0", "per_second", at_least=1.5),
    Goal("idle/100", "cpu_ms_s", at_most=1.3),
    Goal("idle/0", "wakeups_s", at_most=0, relative=False),
    Goal("startup", "ms", at_most=10, relative=False),
    Goal("memory/.*", "kib_conn", at_most=1.0),
)


def goal_for(row_id: str, loop: str, malloc: str, metric: str) -> Goal | None:
    """The goal that a figure has to meet, if there is one."""
    return next((goal for goal in GOALS if goal.matches(row_id, loop, malloc, metric)), None)


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
    small, medium = SIZES_BYTES["1K"], SIZES_BYTES["16K"]
    return [
        Row("sock", size_bytes=small, conns=10, extra=(EPOLL, FLOOR)),
        Row("unix", size_bytes=small, conns=10, extra=(EPOLL, FLOOR)),
        Row("udp", size_bytes=small, conns=10, extra=(EPOLL,)),
        Row("udp", size_bytes=small, conns=100),
        # asyncio's large receive buffers cost a system call each with glibc's default thresholds.
        Row("tls", size_bytes=small, conns=10, mallocs=("default", "tuned")),
        Row("tls", size_bytes=medium, conns=10, mallocs=("default", "tuned")),
        *(Row("web", name=app, conns=WEB_CONNS) for app in APPS),
        *(Row("process", name=name, extra=(FLOOR,)) for name in PROCESSES),
        Row("client", size_bytes=small, conns=10),
        Row("client", size_bytes=small, conns=100),
        Row("busy", size_bytes=small, conns=10, extra=(EPOLL,)),
        *(Row("micro", name=name, extra=(EPOLL,)) for name in MICROS),
        Row("idle", name="100", extra=(EPOLL,)),
        Row("idle", name="0"),
        Row("startup"),
        Row("memory", conns=5000),
    ]
