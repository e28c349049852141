"""Handles of call_soon_threadsafe from Python 3.14 on: other threads may cancel them at any time."""

import asyncio
import sys
import threading

import pytest
from driving import LIMIT_S, reports

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14),
                                reason="thread-safe handles came with Python 3.14")


def run_beside(loop, other_thread):
    """Runs the loop until other_thread() has ended; answers what that returned."""
    results = []

    def body():
        try:
            results.append(other_thread())
        finally:
            loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=body)
    thread.start()
    loop.run_forever()
    thread.join(LIMIT_S)
    (result,) = results
    return result


def test_isinstance_of_asyncios_class(loop):
    handle = loop.call_soon_threadsafe(print)
    assert isinstance(handle, asyncio.events._ThreadSafeHandle)
    assert isinstance(handle, asyncio.Handle)
    assert repr(handle) == "<_ThreadSafeHandle print()>"
    handle.cancel()


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("method", ["cancel", "cancelled"])
def test_waits_for_a_callback_that_runs(loop, method, debug):
    loop.set_debug(debug)
    begun, go_on, waiting = threading.Event(), threading.Event(), threading.Event()
    ended = []

    def callback():
        begun.set()
        assert go_on.wait(LIMIT_S)
        ended.append(True)

    def others():
        """Two threads wait for one callback, which goes on when both have asked."""
        handle = loop.call_soon_threadsafe(callback)
        assert begun.wait(LIMIT_S)
        seen = []

        def ask():
            waiting.set()
            getattr(handle, method)()
            seen.append(list(ended))

        askers = [threading.Thread(target=ask) for _ in range(2)]
        for asker in askers:
            asker.start()
        assert waiting.wait(LIMIT_S)
        assert seen == []
        go_on.set()
        for asker in askers:
            asker.join(LIMIT_S)
        assert handle.cancelled() is (method == "cancel")
        return seen

    assert run_beside(loop, others) == [[True], [True]]


def test_a_callback_that_raises_lets_those_go_on_who_wait(loop):
    begun, go_on = threading.Event(), threading.Event()

    def callback():
        begun.set()
        assert go_on.wait(LIMIT_S)
        raise ValueError("on purpose")

    def other():
        handle = loop.call_soon_threadsafe(callback)
        assert begun.wait(LIMIT_S)
        asker = threading.Thread(target=handle.cancel)
        asker.start()
        go_on.set()
        asker.join(LIMIT_S)
        return asker.is_alive()

    with reports(loop) as contexts:
        assert run_beside(loop, other) is False
    assert str(contexts[0]["exception"]) == "on purpose"


def test_the_callback_itself_does_not_wait(loop):
    handles = []

    def callback():
        handles[0].cancel()
        assert handles[0].cancelled()
        loop.stop()

    handles.append(loop.call_soon_threadsafe(callback))
    loop.run_forever()
    assert handles[0].cancelled()


@pytest.mark.parametrize("debug", [False, True])
def test_cancelled_before_it_ran(loop, debug):
    loop.set_debug(debug)
    called = []
    loop.call_soon_threadsafe(called.append, 1).cancel()
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    assert called == []


def test_cancel_from_many_threads_at_once(loop):
    """Each callback either ran or was cancelled before; nobody is left waiting."""
    called = []

    def others():
        def cancel_own():
            for number in range(500):
                loop.call_soon_threadsafe(called.append, number).cancel()

        threads = [threading.Thread(target=cancel_own) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
        return any(thread.is_alive() for thread in threads)

    assert run_beside(loop, others) is False
    assert len(called) <= 4 * 500
