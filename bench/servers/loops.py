"""Event loops by name."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import Callable

# aiofastnet: its transports on uvloop. aiodns: on uvloop, for the rows of names, which know it. aiofiles: its files on
# asyncio's loop.
LOOPS = ("asyncio", "uvloop", "aiofastnet", "aiodns", "aiofiles", "kloop")


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """Make the loop called name. An import error is the caller's to see."""
    if name in ("uvloop", "aiodns"):
        import uvloop

        return uvloop.new_event_loop()
    if name == "aiofastnet":
        import aiofastnet
        import uvloop

        return aiofastnet.loop_factory(uvloop.new_event_loop)()
    if name == "kloop":
        import kloop

        return kloop.new_event_loop()
    return asyncio.SelectorEventLoop()


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every program here has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--loop", choices=LOOPS, required=True)
    return parser


def stop_on_signal(loop: asyncio.AbstractEventLoop, stop: Callable[[], object]) -> None:
    """Call stop in the loop on SIGTERM, which is how the harness ends a program."""
    loop.add_signal_handler(signal.SIGTERM, stop)


def report(loop: asyncio.AbstractEventLoop, **values: object) -> None:
    """Print the last line: what the program and, where it has them, the loop's counters say."""
    stats = getattr(loop, "stats", None)
    if stats is not None:
        counters = stats()
        asdict = getattr(counters, "_asdict", None)
        values["stats"] = dict(asdict() if asdict else counters)
        values["driver"] = str(getattr(loop, "driver", ""))
    print(json.dumps(values), flush=True)
