"""call_soon and call_soon_threadsafe, and the handles that they answer."""

import contextvars
import re
import threading
import weakref

import pytest
from driving import LIMIT_S, reports, run_once

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")
METHODS = ("call_soon", "call_soon_threadsafe")


@pytest.mark.parametrize("method", METHODS)
def test_callbacks_run_in_the_order_of_their_calls(loop, method):
    seen = []
    for number in range(1000):
        getattr(loop, method)(seen.append, number)
    run_once(loop)
    assert seen == list(range(1000))


def test_both_methods_share_one_order(loop):
    seen = []
    for number in range(0, 100, 2):
        loop.call_soon(seen.append, number)
        loop.call_soon_threadsafe(seen.append, number + 1)
    run_once(loop)
    assert seen == list(range(100))


def test_what_a_callback_schedules_runs_in_the_next_iteration(loop):
    seen = []

    def first():
        seen.append("first")
        loop.call_soon(seen.append, "scheduled by first")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    run_once(loop)
    assert seen == ["first", "second"]
    run_once(loop)
    assert seen == ["first", "second", "scheduled by first"]


@pytest.mark.parametrize("method", METHODS)
def test_a_cancelled_callback_does_not_run(loop, method):
    seen = []
    kept = getattr(loop, method)(seen.append, "kept")
    dropped = getattr(loop, method)(seen.append, "dropped")
    assert not dropped.cancelled()
    dropped.cancel()
    dropped.cancel()
    assert dropped.cancelled()
    run_once(loop)
    assert seen == ["kept"]
    assert not kept.cancelled()


def test_a_callback_cancelled_by_the_one_before_it_does_not_run(loop):
    seen = []
    loop.call_soon(lambda: later.cancel())
    later = loop.call_soon(seen.append, "later")
    run_once(loop)
    assert seen == []


def test_cancel_lets_go_of_callback_and_arguments(loop):
    class Thing:
        def method(self):
            """Never called."""

    thing, argument = Thing(), Thing()
    references = [weakref.ref(thing), weakref.ref(argument)]
    handle = loop.call_soon(thing.method, argument)
    del thing, argument
    assert all(reference() for reference in references)
    handle.cancel()
    assert [reference() for reference in references] == [None, None]


def test_a_cancelled_handle_has_nothing_to_run(loop):
    called = []
    handle = loop.call_soon(called.append, True)
    handle.cancel()
    handle._run()
    assert called == []


def test_a_run_callback_is_let_go(loop):
    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing)
    loop.call_soon(id, thing)
    del thing
    run_once(loop)
    assert reference() is None


@pytest.mark.parametrize("method", METHODS)
def test_context_is_the_callers_unless_one_is_given(loop, method):
    seen = []

    def note():
        seen.append(VARIABLE.get())

    token = VARIABLE.set("caller's")
    given = contextvars.Context()
    given.run(VARIABLE.set, "given")
    first = getattr(loop, method)(note)
    getattr(loop, method)(note, context=given)
    VARIABLE.reset(token)
    run_once(loop)
    assert seen == ["caller's", "given"]
    assert first is not None


def test_what_a_callback_sets_stays_in_its_context(loop):
    seen = []
    loop.call_soon(VARIABLE.set, "set by the first")
    loop.call_soon(lambda: seen.append(VARIABLE.get()))
    run_once(loop)
    assert seen == ["unset"]
    assert VARIABLE.get() == "unset"


@pytest.mark.parametrize("method", METHODS)
def test_closed_loop(loop, method):
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        getattr(loop, method)(print)


@pytest.mark.parametrize("method", METHODS)
def test_debug_mode_refuses_what_cannot_be_called(loop, method):
    async def coroutine_function():
        """Never run."""

    loop.set_debug(True)
    with pytest.raises(TypeError, match=rf"^a callable object was expected by {method}\(\), got 7"):
        getattr(loop, method)(7)
    with pytest.raises(TypeError, match=rf"^coroutines cannot be used with {method}\(\)"):
        getattr(loop, method)(coroutine_function)
    loop.set_debug(False)


def callback(*arguments):
    """Something to schedule that has a name."""


def test_repr_of_a_handle(loop):
    handle = loop.call_soon(callback, "argument")
    # From Python 3.13 on the arguments are shown in debug mode only.
    assert re.fullmatch(r"<Handle callback\(('argument')?\) at .*test_call_soon\.py:\d+>", repr(handle))
    handle.cancel()
    assert repr(handle) == "<Handle cancelled>"


def test_repr_of_a_handle_in_debug_mode_says_who_made_it(loop):
    loop.set_debug(True)
    handle = loop.call_soon(callback)
    place = r".*test_call_soon\.py:\d+"
    assert re.fullmatch(rf"<Handle callback\(\) at {place} created at {place}>", repr(handle))
    handle.cancel()
    assert re.fullmatch(rf"<Handle cancelled callback\(\) at {place} created at {place}>", repr(handle))


def test_a_handle_gives_its_context_away(loop):
    context = contextvars.copy_context()
    handle = loop.call_soon(callback, context=context)
    if hasattr(handle, "get_context"):
        assert handle.get_context() is context
    handle.cancel()


def test_an_exception_of_a_callback_is_reported_and_the_others_run(loop):
    seen = []
    error = ZeroDivisionError("of a callback")

    def fail():
        raise error

    handle = loop.call_soon(fail)
    loop.call_soon(seen.append, "next")
    with reports(loop) as contexts:
        run_once(loop)
    assert seen == ["next"]
    (context,) = contexts
    assert re.match(r"Exception in callback .*fail\(\) at .*test_call_soon\.py:\d+", context["message"])
    assert context["exception"] is error
    assert context["handle"] is handle
    assert "source_traceback" not in context


def test_an_exception_in_debug_mode_says_where_the_callback_was_scheduled(loop):
    loop.set_debug(True)
    loop.call_soon(lambda: 1 / 0)
    with reports(loop) as contexts:
        run_once(loop)
    (context,) = contexts
    assert context["source_traceback"][-1].filename == __file__


def test_threadsafe_wakes_a_sleeping_loop(loop):
    """Nothing else would ever end this run: the loop has no timer and nothing is ready."""
    running = threading.Event()
    loop.call_soon(running.set)

    def wake():
        assert running.wait(LIMIT_S)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=wake)
    thread.start()
    loop.run_forever()
    thread.join()


@pytest.mark.parametrize("threads, calls", [(4, 20_000)])
def test_threadsafe_flood(loop, threads, calls):
    """Nothing is lost, and each thread's calls stay in order."""
    seen = [[] for _ in range(threads)]
    left = threads

    def ended():
        nonlocal left
        left -= 1
        if left == 0:
            loop.stop()

    def flood(mine):
        for number in range(calls):
            loop.call_soon_threadsafe(mine.append, number)
        loop.call_soon_threadsafe(ended)

    workers = [threading.Thread(target=flood, args=(mine,)) for mine in seen]
    for worker in workers:
        worker.start()
    loop.run_forever()
    for worker in workers:
        worker.join()
    assert seen == [list(range(calls))] * threads


def test_threadsafe_while_another_thread_closes_the_loop(kloop):
    """Either the call is taken or RuntimeError says that the loop is closed; never a crash."""
    for _ in range(20):
        loop = kloop.new_event_loop()
        begun = threading.Event()
        errors = []

        def flood(loop=loop, begun=begun, errors=errors):
            try:
                while True:
                    loop.call_soon_threadsafe(callback)
                    begun.set()
            except RuntimeError as exc:
                errors.append(str(exc))

        thread = threading.Thread(target=flood)
        thread.start()
        assert begun.wait(LIMIT_S)
        loop.close()
        thread.join(LIMIT_S)
        assert errors == ["Event loop is closed"]
