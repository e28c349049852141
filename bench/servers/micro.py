"""Loop micro benchmarks. Prints a line of JSON: operations per second."""

from __future__ import annotations

import asyncio
import random
import threading
import time

from loops import arguments, new_loop, report

CALL_SOON_COUNT = 300_000
TIMER_COUNT = 100_000
FLOOD_COUNT = 150_000
SLEEP_COUNT = 100_000
# All timers are due once they are all set: what is measured is work, not waiting.
TIMER_SPREAD_S = 0.001
TIMER_SEED = 1
# The warm-up is this part of the measured run.
WARMUP_DIVISOR = 10


def call_soon_chain(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Each callback schedules the next one."""
    left = count

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()


def timers(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Sets timers, cancels every other one, runs the rest."""
    delays = random.Random(TIMER_SEED)
    left = count - count // 2

    def fire() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    handles = [loop.call_later(delays.random() * TIMER_SPREAD_S, fire) for _ in range(count)]
    for handle in handles[1::2]:
        handle.cancel()
    loop.run_forever()
    if left:
        raise AssertionError(f"{left} timers did not run")


def threadsafe_flood(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Another thread calls call_soon_threadsafe as fast as it can."""
    left = count

    def arrive() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    def flood() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(arrive)

    thread = threading.Thread(target=flood)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()


def sleep_zero(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A task that yields to the loop again and again."""

    async def yields() -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    loop.run_until_complete(yields())


BENCHMARKS = {
    "call_soon": (call_soon_chain, CALL_SOON_COUNT),
    "timers": (timers, TIMER_COUNT),
    "threadsafe": (threadsafe_flood, FLOOD_COUNT),
    "sleep0": (sleep_zero, SLEEP_COUNT),
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("name", choices=BENCHMARKS)
    options = parser.parse_args()
    run, count = BENCHMARKS[options.name]
    loop = new_loop(options.loop)
    run(loop, count // WARMUP_DIVISOR)
    start = time.perf_counter()
    start_cpu = time.process_time()
    run(loop, count)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    report(loop, per_second=count / seconds, cpu_us=cpu / count * 1e6)
    loop.close()


if __name__ == "__main__":
    main()
