"""The main job of `make run`: an aiohttp and a uvicorn application served on kloop, and the same on
uvloop and asyncio, under a real HTTP load.

Server and load run on different cores; each response's status and body are checked.
Takes about a minute.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import machine
import native
from prepare import check_loops, compile_all, progress
from report import as_text
from subject import Subject, SubjectFailed, python
from webapps import APPS, BODY, STREAM_BODY, program_of

LOOPS = ("kloop", "uvloop", "asyncio")
CONNS = 50
ROUNDS = 3
SECONDS = 1.6
WARMUP_S = 0.4
COUNT_S = 0.4
STREAM_REQUESTS = 500
STALL = "5s"


@dataclass
class Cell:
    """What one application on one loop did, a value per round."""

    driver: str = ""
    per_second: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    syscalls: float | None = None


def one_round(app: str, loop: str, cell: Cell, seconds: float, tracepoint: int) -> None:
    """Start the application, load it, count its system calls once, end it."""
    server_core, load_core = machine.cores()
    with Subject(**python(server_core, loop, "default", program_of(app))) as server:
        _, _, cell.driver = server.first.partition(" driver=")
        addr, common = (
            native.address(server.first),
            {"core": load_core, "conns": CONNS, "stall": STALL, "pid": server.pid},
        )
        if not cell.per_second:
            native.load(
                "http", addr, seconds=SECONDS, warmup_s=0, count=STREAM_REQUESTS, path="/stream", expect=STREAM_BODY,
                **common,
            )  # fmt: skip
        got = native.load("http", addr, seconds=seconds, warmup_s=WARMUP_S, expect=BODY, **common)
        cell.per_second.append(got["per_second"])
        cell.cpu_us.append(got["server_cpu_ns"] / got["messages"] / 1e3)
        cell.p50_us.append(got["p50_us"])
        cell.p99_us.append(got["p99_us"])
        if tracepoint and cell.syscalls is None:
            counted = native.load(
                "http", addr, seconds=COUNT_S, warmup_s=WARMUP_S, expect=BODY, tracepoint=tracepoint, **common
            )
            cell.syscalls = counted["syscalls"] / counted["messages"]


def run_all(loops: list[str], rounds: int, seconds: float, tracepoint: int) -> tuple[dict[tuple[str, str], Cell], bool]:
    """All rounds, interleaved. Answers whether all went well, too."""
    cells = {(app, loop): Cell() for app in APPS for loop in loops}
    good = True
    for number in range(rounds):
        for (app, loop), cell in cells.items():
            progress(f"round {number + 1} of {rounds}: {app} on {loop}")
            try:
                one_round(app, loop, cell, seconds, tracepoint)
            except (native.LoadFailed, SubjectFailed) as error:
                progress("")
                print(f"FAILED {app} on {loop}: {error}", file=sys.stderr)
                good = False
    progress("")
    return cells, good


HEAD = (
    "app", "loop", "driver", "requests/s", "/asyncio", "/uvloop",
    "CPU µs/request", "syscalls/request", "p50 µs", "p99 µs",
)  # fmt: skip


def table(cells: dict[tuple[str, str], Cell]) -> list[tuple[str, ...]]:
    def text(values: list[float], form: Callable[[float], str]) -> str:
        return form(statistics.median(values)) if values else "failed"

    def ratio(cell: Cell, base: Cell | None) -> str:
        if base is None or not cell.per_second or len(base.per_second) != len(cell.per_second):
            return "-"
        pairs = zip(cell.per_second, base.per_second, strict=True)
        return f"{statistics.median(mine / other for mine, other in pairs):.2f}x"

    return [
        (
            app,
            loop,
            cell.driver or "-",
            text(cell.per_second, "{:,.0f}".format),
            ratio(cell, cells.get((app, "asyncio"))),
            ratio(cell, cells.get((app, "uvloop"))),
            text(cell.cpu_us, "{:.1f}".format),
            "-" if cell.syscalls is None else f"{cell.syscalls:.2f}",
            text(cell.p50_us, "{:,.0f}".format),
            text(cell.p99_us, "{:,.0f}".format),
        )
        for (app, loop), cell in cells.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loops", default=",".join(LOOPS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="measured per round (default: %(default)s)")
    chosen = parser.parse_args()
    loops = check_loops(chosen.loops.split(","))
    begin = time.monotonic()
    machine.raise_file_limit()
    tracepoint, how = machine.syscall_tracepoint()
    if tracepoint and (reason := machine.may_count_syscalls(tracepoint)):
        tracepoint, how = 0, f"not counted: {reason}"
    progress("building the load generator")
    native.binary()
    compile_all({module for modules in APPS.values() for module in modules} | {"uvloop", "kloop"})
    cells, good = run_all(loops, chosen.rounds, chosen.seconds, tracepoint)
    server_core, load_core = machine.cores()
    print(f"GET / over {CONNS} keep-alive connections, every response checked; server on core {server_core}, ", end="")
    print(f"load on core {load_core}; medians of {chosen.rounds} interleaved rounds of {chosen.seconds:g} s.")
    print(f"System calls: {how}.\n")
    print(as_text(HEAD, table(cells)))
    print(f"\n{time.monotonic() - begin:.0f} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
