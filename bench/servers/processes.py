"""Child processes, one after the other. Prints a line of JSON: processes per second.

spawn starts a program and waits for its end; pipes also sends it a message and reads it back.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable

from loops import arguments, new_loop, report

# Enough for the slowest loop to run for half a second.
COUNT = 150
WARMUP_COUNT = 10
MESSAGE = bytes(range(256)) * 4


def program(name: str) -> str:
    """Its whole path, so that no loop has to search for it."""
    path = shutil.which(name)
    if path is None:
        raise SystemExit(f"there is no program {name}")
    return path


async def spawn(path: str) -> None:
    """Start it and wait for its end."""
    child = await asyncio.create_subprocess_exec(path)
    if await child.wait() != 0:
        raise AssertionError(f"{path} ended with {child.returncode}")


async def pipes(path: str) -> None:
    """Start it, exchange a message through its pipes, and wait for its end."""
    child = await asyncio.create_subprocess_exec(path, stdin=PIPE, stdout=PIPE)
    output, _ = await child.communicate(MESSAGE)
    if output != MESSAGE or child.returncode != 0:
        raise AssertionError(f"{path} wrote {len(output)} bytes and ended with {child.returncode}")


BENCHMARKS: dict[str, tuple[Callable[[str], Awaitable[None]], str]] = {
    "spawn": (spawn, "true"),
    "pipes": (pipes, "cat"),
}


async def measure(name: str) -> dict[str, float]:
    """Run them one after the other."""
    run, command = BENCHMARKS[name]
    path = program(command)
    for _ in range(WARMUP_COUNT):
        await run(path)
    start, start_cpu = time.perf_counter(), time.process_time()
    took_us = []
    for _ in range(COUNT):
        begin = time.perf_counter()
        await run(path)
        took_us.append((time.perf_counter() - begin) * 1e6)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    took_us.sort()
    return {
        "per_second": COUNT / seconds,
        "cpu_us": cpu / COUNT * 1e6,
        "p50_us": took_us[COUNT // 2],
        "p99_us": took_us[COUNT * 99 // 100],
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("name", choices=BENCHMARKS)
    options = parser.parse_args()
    loop = new_loop(options.loop)
    result = loop.run_until_complete(measure(options.name))
    report(loop, **result)
    loop.close()


if __name__ == "__main__":
    main()
