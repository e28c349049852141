"""call_later and call_at: order, cancelling, and the heap behind them."""

import contextvars
import gc
import math
import random
import re
import weakref

import pytest
from driving import run_once

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")
FAR_S = 3600


def test_a_timer_is_never_early(loop):
    delay_s = 0.02
    called_at = []
    start = loop.time()
    handle = loop.call_later(delay_s, lambda: (called_at.append(loop.time()), loop.stop()))
    assert handle.when() == pytest.approx(start + delay_s, abs=0.5)
    loop.run_forever()
    # asyncio calls what is due within the clock's resolution, 1 ns.
    assert called_at[0] >= handle.when() - 1e-9


def test_timers_run_in_the_order_of_their_times(loop):
    seen = []
    base = loop.time()
    times = [random.Random(1).uniform(0, 0.05) for _ in range(500)]
    for when in times:
        loop.call_at(base + when, seen.append, when)
    loop.call_at(base + 0.06, loop.stop)
    loop.run_forever()
    assert seen == sorted(times)


def test_equal_times_run_in_the_order_of_their_calls(loop):
    seen = []
    when = loop.time() + 0.01
    for number in range(1000):
        loop.call_at(when, seen.append, number)
    loop.call_at(when, loop.stop)
    loop.run_forever()
    assert seen == list(range(1000))


def test_a_hundred_thousand_timers(loop):
    count = 100_000
    seen = []
    base = loop.time()
    numbers = list(range(count))
    random.Random(2).shuffle(numbers)
    for number in numbers:
        loop.call_at(base + number * 1e-6, seen.append, number)
    loop.call_at(base + count * 1e-6, loop.stop)
    loop.run_forever()
    assert seen == list(range(count))


@pytest.mark.parametrize("delay", [0, -1, -1e9, -math.inf, 0.0])
def test_a_delay_that_is_over_runs_in_the_next_iteration(loop, delay):
    seen = []
    loop.call_later(delay, seen.append, delay)
    run_once(loop)
    run_once(loop)
    assert seen == [delay]


@pytest.mark.parametrize("delay", [FAR_S * 24 * 1000, 1e12, math.inf])
def test_a_delay_beyond_all_limits_does_not_hinder_the_others(loop, delay):
    far = loop.call_later(delay, print, "never")
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    far.cancel()


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_none_is_no_time(loop, method):
    with pytest.raises(TypeError):
        getattr(loop, method)(None, print)


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_text_is_no_time(loop, method):
    """asyncio's call_at takes it, and fails in a later call."""
    with pytest.raises(TypeError):
        getattr(loop, method)("1", print)


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_closed_loop(loop, method):
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        getattr(loop, method)(0, print)


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_debug_mode_refuses_what_cannot_be_called(loop, method):
    loop.set_debug(True)
    with pytest.raises(TypeError, match=r"^a callable object was expected by call_(at|later)\(\), got 'text'"):
        getattr(loop, method)(0, "text")
    loop.set_debug(False)


def test_context_of_a_timer(loop):
    seen = []

    def note():
        seen.append(VARIABLE.get())

    given = contextvars.Context()
    given.run(VARIABLE.set, "given")
    token = VARIABLE.set("caller's")
    loop.call_later(0, note)
    loop.call_later(0.001, note, context=given)
    VARIABLE.reset(token)
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert seen == ["caller's", "given"]


def test_a_cancelled_timer_does_not_run(loop):
    seen = []
    loop.call_later(0.002, loop.stop)
    loop.call_later(0.001, seen.append, "dropped").cancel()
    loop.run_forever()
    assert seen == []


def test_a_timer_cancelled_when_it_is_already_due(loop):
    seen = []
    when = loop.time()
    loop.call_at(when, lambda: second.cancel())
    second = loop.call_at(when + 1e-6, seen.append, "dropped")
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert seen == []
    assert second.cancelled()


def test_cancelled_timers_are_swept_out(loop):
    """Programs that set and cancel a time-out per request must not grow without bound."""
    handles = [loop.call_later(FAR_S, print) for _ in range(1000)]
    references = [weakref.ref(handle) for handle in handles]
    for handle in handles:
        handle.cancel()
    del handle
    handles.clear()
    run_once(loop)
    gc.collect()
    assert sum(reference() is not None for reference in references) <= 100


def test_sweeping_keeps_the_others_in_order(loop):
    seen = []
    base = loop.time()
    numbers = list(range(2000))
    random.Random(3).shuffle(numbers)
    handles = {number: loop.call_at(base + 0.01 + number * 1e-6, seen.append, number) for number in numbers}
    for number in numbers:
        if number % 4:
            handles[number].cancel()
    loop.call_at(base + 0.02, loop.stop)
    loop.run_forever()
    assert seen == list(range(0, 2000, 4))


def test_a_timer_can_be_cancelled_after_the_loop_was_closed(loop):
    handle = loop.call_later(FAR_S, print)
    loop.close()
    handle.cancel()
    assert handle.cancelled()


def test_timers_with_a_time_in_common_compare_as_asyncios(loop):
    early, late = loop.call_at(1e9, print), loop.call_at(2e9, print)
    same = loop.call_at(1e9, print)
    assert early < late and late > early and early <= late and late >= early
    assert early == same and early <= same and not early != same
    assert early != late and early != 1e9
    assert sorted([late, early]) == [early, late]
    assert hash(early) == hash(1e9)
    with pytest.raises(TypeError):
        assert early < 1e9
    for handle in (early, late, same):
        handle.cancel()


def test_repr_of_a_timer(loop):
    handle = loop.call_at(7.5, run_once, "argument")
    # From Python 3.13 on the arguments are shown in debug mode only.
    assert re.fullmatch(r"<TimerHandle when=7\.5 run_once\(('argument')?\) at .*driving\.py:\d+>", repr(handle))
    handle.cancel()
    assert repr(handle) == "<TimerHandle cancelled when=7.5>"


def test_a_timer_that_sets_itself_again(loop):
    ticks = []

    def tick():
        ticks.append(loop.time())
        if len(ticks) < 20:
            loop.call_later(0.001, tick)
        else:
            loop.stop()

    tick()
    loop.run_forever()
    assert all(later - earlier >= 0.001 - 1e-9 for earlier, later in zip(ticks, ticks[1:], strict=False))


def test_time_is_monotonic_and_close_to_asyncios(loop):
    import time

    before = time.monotonic()
    now = loop.time()
    assert before <= now <= time.monotonic()


def test_when_is_an_int_if_it_was_given_as_one(loop):
    """As on asyncio, whose handle keeps the object: aiohttp rounds its timeouts up to whole seconds."""
    whole, broken = loop.call_at(10**6, print), loop.call_at(1e6 + 0.5, print)
    assert (type(whole.when()), type(whole._when), whole.when()) == (int, int, 10**6)
    assert (type(broken.when()), broken.when()) == (float, 1e6 + 0.5)
    assert "when=1000000 " in repr(whole)
    whole.cancel()
    broken.cancel()
