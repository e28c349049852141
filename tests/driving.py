"""Runs a loop just as far as a test wants, and never longer than a time limit."""

import asyncio
import contextlib
import os
import threading
from pathlib import Path

import pytest

# Far above what any test needs on a busy machine, far below pytest's own limit.
LIMIT_S = float(os.environ.get("KLOOP_TEST_LIMIT_S", 20))
# The calls in which a loop sleeps; the first two have one number on every architecture of Linux.
IO_URING_ENTER, EPOLL_PWAIT2 = "426", "441"
EPOLL_PWAIT = "281" if os.uname().machine == "x86_64" else "22"


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


async def waiting(coroutine):
    """A task whose operation the core has."""
    task = asyncio.ensure_future(coroutine)
    await turns(3)
    assert not task.done()
    return task


async def cancelled(task):
    """Cancels a task and awaits its end."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def operations(loop):
    """How many of them the core has."""
    return loop.stats()["operations"]


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


def await_sleep_in_the_kernel(thread):
    """Returns when a thread of this process, by its native id, is in a wait of a loop's driver."""
    while not _sleeps(Path(f"/proc/self/task/{thread}/syscall").read_text().split()):
        os.sched_yield()


def _sleeps(call):
    """Whether a call, a number and its arguments in hex, is such a wait, and no mere look."""
    timeout_ms = 4
    return (call[0] in (IO_URING_ENTER, EPOLL_PWAIT2)
            or call[0] == EPOLL_PWAIT and int(call[timeout_ms], 16) != 0)
