"""run_forever, run_until_complete, stop and close."""

import asyncio
import threading

import pytest
from driving import LIMIT_S, joined, run, run_once
from peers import pair
from recorders import Recorder


async def answer(value):
    return value


def test_run_until_complete_gives_the_result(loop):
    assert loop.run_until_complete(answer(5)) == 5


def test_run_until_complete_raises_what_the_coroutine_raises(loop):
    async def fail():
        raise LookupError("of the coroutine")

    with pytest.raises(LookupError, match="^of the coroutine$"):
        loop.run_until_complete(fail())


def test_run_until_complete_takes_a_future(loop):
    future = loop.create_future()
    loop.call_soon(future.set_result, "result")
    assert loop.run_until_complete(future) == "result"


def test_run_until_complete_of_a_future_of_another_loop(loop, kloop):
    other = kloop.new_event_loop()
    with pytest.raises(ValueError, match="loop"):
        loop.run_until_complete(other.create_future())
    other.close()


@pytest.mark.parametrize("thing", [None, 5, answer])
def test_run_until_complete_of_nothing_to_await(loop, thing):
    with pytest.raises(TypeError):
        loop.run_until_complete(thing)


def test_stop_inside_run_until_complete(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match=r"^Event loop stopped before Future completed\.$"):
        loop.run_until_complete(future)
    future.cancel()


def test_stop_ends_the_run_after_this_iteration(loop):
    seen = []
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, "same iteration")
    loop.call_soon(loop.call_soon, seen.append, "next iteration")
    loop.run_forever()
    assert seen == ["same iteration"]
    run_once(loop)
    assert seen == ["same iteration", "next iteration"]


def test_stop_before_the_run(loop):
    """Runs what is ready, polls once, and does not wait."""
    seen = []
    loop.call_soon(seen.append, "ready")
    loop.call_later(3600, seen.append, "later").cancel()
    loop.stop()
    loop.run_forever()
    assert seen == ["ready"]
    assert not loop.is_running()


def test_stop_holds_for_one_run_only(loop):
    loop.stop()
    loop.run_forever()
    assert loop.run_until_complete(answer(1)) == 1


def test_is_running_and_the_running_loop(loop):
    seen = []

    def look():
        seen.append((loop.is_running(), asyncio.get_running_loop() is loop))

    loop.call_soon(look)
    run_once(loop)
    assert seen == [(True, True)]
    assert not loop.is_running()
    with pytest.raises(RuntimeError, match="^no running event loop$"):
        asyncio.get_running_loop()


def test_a_run_inside_a_run(loop):
    async def nested():
        with pytest.raises(RuntimeError, match="^This event loop is already running$"):
            loop.run_forever()
        inner = answer(1)
        with pytest.raises(RuntimeError, match="^This event loop is already running$"):
            loop.run_until_complete(inner)
        inner.close()
        return "still runs"

    assert run(loop, nested()) == "still runs"


def test_a_run_while_another_loop_runs(loop, kloop):
    other = kloop.new_event_loop()

    async def nested():
        with pytest.raises(RuntimeError, match="^Cannot run the event loop while another loop is running$"):
            other.run_forever()

    run(loop, nested())
    other.close()


def test_a_run_in_a_thread_while_this_one_runs(loop):
    async def main():
        def attempt():
            with pytest.raises(RuntimeError, match="^This event loop is already running$"):
                loop.run_forever()

        joined(attempt)

    run(loop, main())


def test_close(loop):
    assert not loop.is_closed()
    loop.close()
    assert loop.is_closed()
    loop.close()
    for attempt in (loop.run_forever, lambda: loop.run_until_complete(loop.create_future())):
        with pytest.raises(RuntimeError, match="^Event loop is closed$"):
            attempt()


def test_run_until_complete_on_a_closed_loop(loop):
    loop.close()
    coroutine = answer(1)
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.run_until_complete(coroutine)
    coroutine.close()


def test_close_while_running(loop):
    async def main():
        with pytest.raises(RuntimeError, match="^Cannot close a running event loop$"):
            loop.close()

    run(loop, main())
    assert not loop.is_closed()


def test_close_drops_what_was_scheduled(loop):
    seen = []
    handles = [loop.call_soon(seen.append, 1), loop.call_later(0, seen.append, 2),
               loop.call_soon_threadsafe(seen.append, 3)]
    loop.close()
    assert seen == []
    del handles


@pytest.mark.parametrize("name", ["driver", "driver_reason"])
def test_a_closed_loop_has_no_driver(loop, kloop, name):
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        getattr(loop, name)


def test_stats_of_a_closed_loop(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.stats()


def test_repr(loop):
    assert repr(loop) == f"<{type(loop).__name__} running=False closed=False debug=False>"
    loop.close()
    assert repr(loop) == f"<{type(loop).__name__} running=False closed=True debug=False>"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_ends_a_program_passes_through_a_callback(loop, error):
    seen = []

    def fail():
        raise error

    loop.call_soon(seen.append, "before")
    loop.call_soon(fail)
    loop.call_soon(seen.append, "after")
    with pytest.raises(type(error)) as caught:
        loop.run_forever()
    assert caught.value is error
    assert seen == ["before"]
    assert not loop.is_running()
    run_once(loop)
    assert seen == ["before", "after"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_ends_a_program_passes_through_a_task(loop, error):
    async def fail():
        raise error

    with pytest.raises(type(error)) as caught:
        loop.run_until_complete(fail())
    assert caught.value is error
    assert loop.run_until_complete(answer("usable")) == "usable"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_program_in_data_received_loses_no_other_event(loop, error):
    """All connections have data when the loop looks; one of them ends the run."""
    count = 10

    class Ends(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if len(raised) == 0:
                raised.append(error())
                raise raised[0]

    raised, protocols, peers = [], [], []
    for _ in range(count):
        ours, peer = pair()
        _, protocol = run(loop, loop.create_connection(Ends, sock=ours))
        protocols.append(protocol)
        peers.append(peer)
    for number, peer in enumerate(peers):
        peer.sendall(b"%d" % number)
    with pytest.raises(error):
        loop.run_forever()

    async def rest():
        for number, (protocol, peer) in enumerate(zip(protocols, peers, strict=True)):
            await protocol.received(1)
            assert protocol.data == b"%d" % number
            protocol.transport.close()
            await protocol.called("connection_lost")
            peer.close()

    run(loop, rest())


def test_many_runs(loop):
    for number in range(300):
        assert loop.run_until_complete(answer(number)) == number


def test_many_loops(kloop):
    for number in range(30):
        loop = kloop.new_event_loop()
        assert loop.run_until_complete(answer(number)) == number
        loop.close()


def test_two_loops_in_two_threads(loop, kloop):
    other = kloop.new_event_loop()
    met = threading.Barrier(2, timeout=LIMIT_S)

    async def meet():
        met.wait()
        await asyncio.sleep(0.001)
        return asyncio.get_running_loop()

    thread_result = []
    thread = threading.Thread(target=lambda: thread_result.append(run(other, meet())))
    thread.start()
    assert run(loop, meet()) is loop
    thread.join()
    assert thread_result == [other]
    other.close()


def test_asyncgen_hooks_are_put_back(loop):
    import sys

    before = sys.get_asyncgen_hooks()
    run_once(loop)
    assert sys.get_asyncgen_hooks() == before
