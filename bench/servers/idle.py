"""A loop with nothing to do, or with only a timer. Prints "ready", ends on SIGTERM."""

from __future__ import annotations

import asyncio

from loops import arguments, new_loop, report, stop_on_signal


class Ticker:
    """Calls itself hz times per second, relative to the last call, as applications do."""

    def __init__(self, loop: asyncio.AbstractEventLoop, hz: float) -> None:
        self.loop = loop
        self.period_s = 1 / hz
        self.ticks = 0

    def tick(self) -> None:
        self.ticks += 1
        self.loop.call_later(self.period_s, self.tick)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--timer-hz", type=float, default=0)
    options = parser.parse_args()
    loop = new_loop(options.loop)
    stop_on_signal(loop, loop.stop)
    ticker = Ticker(loop, options.timer_hz) if options.timer_hz else None
    if ticker:
        loop.call_soon(ticker.tick)
    loop.call_soon(lambda: print("ready", flush=True))
    loop.run_forever()
    report(loop, ticks=ticker.ticks if ticker else 0)
    loop.close()


if __name__ == "__main__":
    main()
