"""Looks names up: one that is known again and again, or many that are not. Prints a line of JSON.

The name server is at 127.0.0.1:53, which libc asks: see measure.py, which runs this in namespaces of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import Awaitable, Callable, Iterable

from loops import arguments, new_loop, report

KNOWN_S = 0.5
CONCURRENCY = 256
UNTIMED = 15
DISTINCT = 10_000
WARMUP_DIVISOR = 10
HOST = "localhost"
KNOWN = "www.bench.example"

Lookup = Callable[[str], Awaitable[object]]


def of_getaddrinfo(loop: asyncio.AbstractEventLoop) -> Lookup:
    """IPv4 addresses by loop.getaddrinfo()."""
    return lambda name: loop.getaddrinfo(name, 80, family=socket.AF_INET, type=socket.SOCK_STREAM)


def of_aiodns(loop: asyncio.AbstractEventLoop) -> Lookup:
    """The same by aiodns, on a loop of whatever kind."""
    import aiodns

    resolver = aiodns.DNSResolver(nameservers=["127.0.0.1"], loop=loop)
    return lambda name: resolver.getaddrinfo(name, family=socket.AF_INET, port=80, type=socket.SOCK_STREAM)


async def one_after_the_other(lookup: Lookup, name: str, seconds: float) -> tuple[int, list[float]]:
    """How often it was looked up, and how long every sixteenth took: two looks at a clock are a tenth of a lookup."""
    took = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        await lookup(name)
        took.append(time.perf_counter() - begin)
        for _ in range(UNTIMED):
            await lookup(name)
    return len(took) * (1 + UNTIMED), took


async def in_bulk(prefix: str, count: int, timed: bool) -> tuple[int, list[float]]:
    """The same by kloop's API for many names; timed: how long each took, from when it was taken."""
    import kloop

    begun: dict[str, float] = {}
    took, answers = [], 0
    names: Iterable[str] = (f"{prefix}{number}.bench.example" for number in range(count))
    if timed:
        names = (begun.setdefault(name, time.perf_counter()) and name for name in names)
    resolver = asyncio.get_running_loop().resolver
    async for name, answer in resolver.resolve_many(names, concurrency=CONCURRENCY):
        if isinstance(answer, kloop.ResolveError):
            raise answer
        answers += 1
        if timed:
            took.append(time.perf_counter() - begun[name])
    return answers, took


async def all_at_once(lookup: Lookup, prefix: str, count: int) -> tuple[int, list[float]]:
    """Distinct names, so many at a time."""
    names = iter([f"{prefix}{number}.bench.example" for number in range(count)])
    took = []

    async def worker() -> None:
        for name in names:
            begin = time.perf_counter()
            await lookup(name)
            took.append(time.perf_counter() - begin)

    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return len(took), took


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("what", choices=("localhost", "known", "distinct", "many", "single"))
    parser.add_argument("--samples", action="store_true", help="print how long each took, in us")
    options = parser.parse_args()
    loop = new_loop(options.loop)
    lookup = of_aiodns(loop) if options.loop == "aiodns" else of_getaddrinfo(loop)
    runs = itertools.count()

    def run(divisor: int, timed: bool = False) -> tuple[int, list[float]]:
        if options.what == "many" and hasattr(loop, "resolver"):
            return loop.run_until_complete(in_bulk(f"m{next(runs)}x", DISTINCT // divisor, timed))
        if options.what in ("distinct", "many"):  # the others have no other way
            return loop.run_until_complete(all_at_once(lookup, f"n{next(runs)}x", DISTINCT // divisor))
        if options.what == "single":  # each of them new, one after the other
            each = (f"s{number}.bench.example" for number in itertools.count(next(runs) << 32))
            return loop.run_until_complete(one_after_the_other(lambda _: lookup(next(each)), "", KNOWN_S / divisor))
        name = HOST if options.what == "localhost" else KNOWN
        return loop.run_until_complete(one_after_the_other(lookup, name, KNOWN_S / divisor))

    run(WARMUP_DIVISOR)
    start, cpu, thread = time.perf_counter(), time.process_time(), time.thread_time()
    count, took = run(1)
    seconds, cpu, thread = time.perf_counter() - start, time.process_time() - cpu, time.thread_time() - thread
    if not took:
        _, took = run(1, timed=True)  # apart: looks at a clock would be a good part of what a name costs
    took.sort()
    values: dict[str, object] = {
        "per_second": count / seconds,
        "cpu_us": cpu / count * 1e6,
        "thread": thread / seconds,
        "p50_us": took[len(took) // 2] * 1e6,
        "p99_us": took[len(took) * 99 // 100] * 1e6,
    }
    if options.samples:
        values["samples_us"] = [round(each * 1e6, 2) for each in took[:: max(1, len(took) // 1000)]]
    report(loop, **values)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


if __name__ == "__main__":
    main()
