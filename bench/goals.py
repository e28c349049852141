"""The goals of the project."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rows import AIODNS, AIOFASTNET, AIOFILES, EPOLL, GO, IDLE, SPIN, SQPOLL, SSL

# In place of a loop to compare with: the figure itself is meant.
ABSOLUTE = ""
BASE = "uvloop"


@dataclass(frozen=True)
class Goal:
    """What kloop is to reach in rows whose id matches.

    base: the loop whose figure it is divided by, or, with difference, less which it is.
    """

    rows: str
    metric: str
    at_least: float | None = None
    at_most: float | None = None
    loop: str = "kloop"
    base: str = BASE
    difference: bool = False
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
        if self.base == ABSOLUTE:
            return f"{sign} {bound:g}"
        if self.difference:
            return f"{sign} {self.base} + {bound:g}"
        return f"{sign} {bound:.3g}x" + ("" if self.base == BASE else f" {self.base}")


def _times(rows: str, default: float, tuned: float, aiofastnet: float) -> list[Goal]:
    """So many times the throughput, at one part in so many of the CPU time per message: of uvloop's
    with each setting of malloc, and of aiofastnet's with both."""
    goals = []
    for factor, base, malloc in ((default, BASE, "default"), (tuned, BASE, "tuned"), (aiofastnet, AIOFASTNET, "")):
        goals.append(Goal(rows, "per_second", at_least=factor, base=base, malloc=malloc))
        goals.append(Goal(rows, "cpu_us", at_most=1 / factor, base=base, malloc=malloc))
    return goals


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
    Goal("echo/protocol/1K/10", "syscalls", at_most=0.4, base=ABSOLUTE),
    Goal("echo/protocol/1K/1000", "syscalls", at_most=0.2, base=ABSOLUTE),
    Goal("echo/.*", "enters_submit", at_most=0, loop=SQPOLL, base=ABSOLUTE),
    Goal("echo/streams/1K/(10|100)", "per_second", at_least=1.2),
    Goal("sock/1K/10", "per_second", at_least=2.5),
    Goal("unix/1K/10", "per_second", at_least=1.15),
    Goal("udp/1K/10", "per_second", at_least=1.3),
    Goal("udp/1K/100", "per_second", at_least=1.5),
    *_times("tls/1K/10", default=3.2, tuned=1.3, aiofastnet=1.2),
    *_times("tls/16K/10", default=2.8, tuned=1.4, aiofastnet=1.25),
    *_times("tls/100K/10", default=2.8, tuned=1.3, aiofastnet=1.25),
    *_times("tls-oneway/download/1", default=1.5, tuned=1.3, aiofastnet=1.2),
    *_times("tls-oneway/upload/1", default=1.3, tuned=1.2, aiofastnet=1.2),
    Goal("tls-handshake/.*", "per_second", at_least=1.0),
    Goal("tls-handshake/.*", "cpu_us", at_most=1.0),
    Goal("tls-handshake/.*", "cpu_us", at_most=60, base=SSL, difference=True),
    Goal("tls-memory/.*", "kib_conn", at_most=12, base=ABSOLUTE),
    Goal("tls-memory/.*", "kib_conn", at_most=12, loop=GO, base=ABSOLUTE),
    Goal("tls-idle/.*", "kib_conn", at_most=12, loop=IDLE, base=ABSOLUTE),
    Goal("file/.*", "per_second", at_least=3, base=AIOFILES),
    Goal("file/.*", "per_second", at_least=1, base="asyncio"),
    Goal("file/.*", "per_second", at_least=1, loop=EPOLL, base="asyncio"),
    Goal("process/spawn", "per_second", at_least=4),
    Goal("process/pipes", "per_second", at_least=3),
    Goal("web/(aiohttp|uvicorn)/100", "per_second", at_least=1.2),
    Goal("busy/.*", "per_second", at_least=10),
    Goal("micro/call_soon", "per_second", at_least=4),
    Goal("micro/timers", "per_second", at_least=3),
    Goal("micro/threadsafe", "per_second", at_least=2.5),
    Goal("micro/sleep0", "per_second", at_least=1.5),
    Goal("names/(localhost|known)", "per_second", at_least=20),
    Goal("names/(distinct|many)", "per_second", at_least=2, base=AIODNS),
    Goal("names/(distinct|many)", "cpu_us", at_most=1, base=AIODNS),
    Goal("names/(distinct|many)", "thread", at_most=0.05, base=ABSOLUTE),
    Goal("idle/100", "cpu_ms_s", at_most=1.3),
    Goal("idle/0", "wakeups_s", at_most=0, base=ABSOLUTE),
    Goal("startup", "ms", at_most=10, base=ABSOLUTE),
    Goal("memory/.*", "kib_conn", at_most=1.0),
)


def goals_for(row_id: str, loop: str, malloc: str, metric: str) -> list[Goal]:
    """The goals that a figure has to meet."""
    return [goal for goal in GOALS if goal.matches(row_id, loop, malloc, metric)]
