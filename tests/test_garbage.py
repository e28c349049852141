"""The cyclic collector and handles: what the loop holds is hidden from it, what it let go of is not."""

import gc
import os
import threading
import weakref

import kloop
import pytest


class Owner:
    """Holds a handle whose callback holds it: a cycle."""


def owner_of(schedule):
    owner = Owner()
    owner.handle = schedule(lambda: owner)
    return weakref.ref(owner)


def alive(references):
    return sum(reference() is not None for reference in references)


@pytest.fixture
def eager_collector():
    """Collects so often that a wrong list would be met."""
    threshold = gc.get_threshold()
    gc.set_threshold(20)
    yield
    gc.set_threshold(*threshold)


def schedule_everywhere(loop, count):
    """Cycles through timers, ready handles and those of another thread; every third shows its context."""
    references = [owner_of(lambda callback: loop.call_later(0, callback)) for _ in range(count)]
    references += [owner_of(loop.call_soon) for _ in range(count)]
    thread = threading.Thread(
        target=lambda: references.extend(owner_of(loop.call_soon_threadsafe) for _ in range(count)))
    thread.start()
    thread.join()
    for reference in references[::3]:
        assert reference().handle._context is not None
    return references


COUNT = 1000    # more than the loop leaves visible to the collector


def test_cycles_through_handles_that_ran_are_collected(loop, eager_collector):
    references = schedule_everywhere(loop, COUNT)
    loop.call_later(0, loop.call_soon, loop.stop)
    loop.run_forever()
    gc.collect()
    assert alive(references) == 0


def test_cycles_through_cancelled_timers_are_collected(loop, eager_collector):
    references = [owner_of(lambda callback: loop.call_later(1000, callback)) for _ in range(COUNT)]
    for reference in references:
        reference().handle.cancel()
    gc.collect()
    assert alive(references) == 0


def test_cycles_through_handles_that_never_ran_are_collected_with_the_loop(loop, eager_collector):
    references = schedule_everywhere(loop, COUNT)
    gc.collect()
    assert alive(references) == 3 * COUNT
    loop.close()
    gc.collect()
    assert alive(references) == 0


def abandoned_loop():
    """A loop that nobody closed and nobody has any more, with everything scheduled on it."""
    loop = kloop.new_event_loop()
    for _ in range(COUNT):
        loop.call_soon(loop.is_closed)
        loop.call_later(1000, loop.is_closed)
        loop.call_soon_threadsafe(loop.is_closed)
    return weakref.ref(loop)


@pytest.mark.filterwarnings("ignore")
def test_a_loop_that_was_abandoned_is_collected_with_its_handles():
    before = len(os.listdir("/proc/self/fd"))
    loop = abandoned_loop()
    gc.collect()
    assert loop() is None
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.filterwarnings("ignore")
def test_a_handle_that_somebody_keeps_keeps_its_loop(eager_collector):
    loop = kloop.new_event_loop()
    ran = []
    handle = loop.call_later(0, ran.append, loop)
    loop.call_later(0, loop.stop)
    loop = weakref.ref(loop)
    gc.collect()
    loop().run_forever()
    assert ran == [loop()]
    loop().close()
    ran.clear()
    del handle
    gc.collect()
    assert loop() is None
