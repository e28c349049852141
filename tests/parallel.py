"""Loops in threads that run at the same time: without the GIL, at the very same time."""

import asyncio
import threading

from driving import LIMIT_S

LOOPS = 4


def in_threads(function, count=LOOPS):
    """The results of function(number), called in `count` threads that start together.

    Raises the first one's exception.
    """
    start = threading.Barrier(count)
    results, failures = [None] * count, []

    def work(number):
        try:
            start.wait(LIMIT_S)
            results[number] = function(number)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,), name=f"parallel-{number}", daemon=True)
               for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LIMIT_S)
    hung = [thread.name for thread in threads if thread.is_alive()]
    assert not hung, f"still running: {hung}; failures: {failures}"
    if failures:
        raise failures[0]
    return results


def on_loops(kloop, main, count=LOOPS):
    """The results of main(number), each on a loop of its own in a thread of its own."""
    def work(number):
        loop = kloop.new_event_loop()
        try:
            return loop.run_until_complete(asyncio.wait_for(main(number), LIMIT_S))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    return in_threads(work, count)


class RunningLoop:
    """A loop that runs in a thread of its own until the end of the with statement."""

    def __init__(self, kloop):
        self.loop = kloop.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(LIMIT_S)
        self.loop.close()

    def run(self, coroutine):
        """The result of a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, LIMIT_S), self.loop).result(2 * LIMIT_S)

    def settle(self):
        """Returns once the loop has run what was scheduled before."""
        turned = threading.Event()
        self.loop.call_soon_threadsafe(turned.set)
        assert turned.wait(LIMIT_S)
