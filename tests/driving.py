"""Runs a loop just as far as a test wants, and never longer than a time limit."""

import asyncio
import contextlib
import os
import threading
from pathlib import Path

# Far above what any test needs on a busy machine, far below pytest's own limit.
LIMIT_S = 20
IO_URING_ENTER = 426     # the same number on every architecture of Linux


def run(loop, coroutine, limit_s=LIMIT_S):
    """The result of coroutine, on this loop."""
    return loop.run_until_complete(asyncio.wait_for(coroutine, limit_s))


def run_once(loop):
    """Runs what is scheduled now, and nothing that this schedules in turn."""
    loop.call_soon(loop.stop)
    loop.run_forever()


@contextlib.contextmanager
def reports(loop):
    """The contexts given to the loop's exception handler, in a list."""
    contexts = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    try:
        yield contexts
    finally:
        loop.set_exception_handler(None)    # the loop outlives the test, what the list holds should not


async def turns(count=20):
    """Lets the loop go round, for what must not happen meanwhile."""
    for _ in range(count):
        await asyncio.sleep(0)


async def in_thread(function, *args):
    """The result of a blocking call, made in a thread of its own beside the loop."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def settle(setter, value):
        if not done.done():
            setter(value)

    def work():
        try:
            result = function(*args)
        except BaseException as exc:
            loop.call_soon_threadsafe(settle, done.set_exception, exc)
        else:
            loop.call_soon_threadsafe(settle, done.set_result, result)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        return await asyncio.wait_for(done, LIMIT_S)
    finally:
        thread.join(LIMIT_S)


def joined(function, *args):
    """The result of a call in a thread of its own, for code that no loop runs around."""
    outcome = []

    def work():
        try:
            outcome.append((True, function(*args)))
        except BaseException as exc:
            outcome.append((False, exc))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert outcome, f"{function!r} has not ended after {LIMIT_S} s"
    succeeded, value = outcome[0]
    if not succeeded:
        raise value
    return value


def await_sleep_in_the_ring(thread):
    """Returns when a thread of this process, by its native id, is in io_uring_enter(2)."""
    while not Path(f"/proc/self/task/{thread}/syscall").read_text().startswith(f"{IO_URING_ENTER} "):
        os.sched_yield()
