"""The cyclic collector and handles: what the loop holds is hidden from it, what it let go of is not."""

import gc
import threading
import weakref

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
