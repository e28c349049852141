"""Many signals of several kinds, while handlers come and go: each kind that was sent is heard."""

import asyncio
import os
import signal
import threading

import pytest
from driving import LIMIT_S, in_thread, run

KINDS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGIO, signal.SIGWINCH)
STORM = 10_000


@pytest.fixture
def counts(loop):
    """How often the loop has heard each kind of signal."""
    heard = dict.fromkeys(KINDS, 0)

    def hear(number):
        heard[number] += 1

    for number in KINDS:
        loop.add_signal_handler(number, hear, number)
    yield heard
    for number in KINDS:
        loop.remove_signal_handler(number)


def test_a_storm_while_the_loop_is_busy(loop, counts):
    """The last kind comes when thousands of another have not been looked at."""
    async def main():
        for _ in range(STORM):
            signal.raise_signal(signal.SIGUSR1)
        for number in KINDS[1:]:
            signal.raise_signal(number)
        while not all(counts.values()):
            await asyncio.sleep(0)

    run(loop, main())
    assert counts[signal.SIGUSR1] == STORM
    assert [counts[number] for number in KINDS[1:]] == [1, 1, 1]


def test_a_storm_from_a_thread_while_the_loop_sleeps(loop, counts):
    """What the kernel has not delivered yet when the next of its kind comes is one signal (signal(7))."""
    def send():
        for i in range(STORM):
            os.kill(os.getpid(), KINDS[i % len(KINDS)])

    async def main():
        await in_thread(send)
        while not all(counts.values()):
            await asyncio.sleep(0)

    run(loop, main())
    assert all(1 <= count <= STORM / len(KINDS) for count in counts.values())


def test_each_signal_is_heard_when_each_is_waited_for(loop):
    """None is lost between two sleeps."""
    async def main():
        heard = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, heard.set)
        for _ in range(1000):
            os.kill(os.getpid(), signal.SIGUSR1)
            await heard.wait()
            heard.clear()
        loop.remove_signal_handler(signal.SIGUSR1)

    run(loop, main())


def test_handlers_that_add_and_remove_handlers(loop):
    """Each handler hands its signal on to another one, in the middle of a storm.

    The signal is one that nothing happens by while nobody handles it.
    """
    kind = signal.SIGWINCH

    async def main():
        heard = []
        done = loop.create_future()

        def first():
            heard.append("first")
            assert loop.remove_signal_handler(kind)
            loop.add_signal_handler(kind, second)

        def second():
            heard.append("second")
            loop.add_signal_handler(kind, first)        # in place of this one
            if len(heard) >= 1000 and not done.done():
                done.set_result(None)

        stop = threading.Event()

        def send():
            while not stop.is_set():
                os.kill(os.getpid(), kind)
                stop.wait(0.0001)

        loop.add_signal_handler(kind, first)
        sender = threading.Thread(target=send)
        sender.start()
        try:
            await asyncio.wait_for(done, LIMIT_S)
        finally:
            stop.set()
            sender.join()
        before = len(heard)
        os.kill(os.getpid(), kind)
        while len(heard) == before:
            await asyncio.sleep(0)
        loop.remove_signal_handler(kind)
        assert set(heard) == {"first", "second"}

    run(loop, main())


def test_signals_sent_before_the_loop_runs_again(loop, counts):
    """They wait for it, thousands of them."""
    run(loop, asyncio.sleep(0))
    for _ in range(STORM):
        signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGIO)

    async def main():
        while not counts[signal.SIGIO]:
            await asyncio.sleep(0)

    run(loop, main())
    assert counts[signal.SIGUSR1] == STORM
