"""Context variables: each callback and each connection has its own context."""

import asyncio
import contextvars
import gc
import sys
import weakref

import pytest
from driving import LIMIT_S, run
from peers import connected, pair
from recorders import Recorder

VARIABLE = contextvars.ContextVar("VARIABLE", default=0)


class Counting(Recorder):
    """Writes down the value that each call sees."""

    def __init__(self):
        super().__init__()
        self.values = {}

    def note(self, name):
        self.values[name] = VARIABLE.get()
        super().note(name)


def test_every_call_of_a_connection_sees_its_makers_context(loop):
    async def main():
        ours, peer = pair()
        token = VARIABLE.set(5)
        transport, protocol = await loop.create_connection(Counting, sock=ours)
        VARIABLE.reset(token)
        peer.sendall(b"data")
        await protocol.received(4)
        peer.close()
        await protocol.called("connection_lost")
        assert protocol.values == {
            "connection_made": 5, "data_received": 5, "eof_received": 5, "connection_lost": 5}

    run(loop, main())


def test_what_one_connection_sets_another_does_not_see(loop):
    """Also what the protocol factory sets, and what is set in one call is there in the next."""
    protocols = []

    def factory():
        VARIABLE.set(VARIABLE.get() + 1)
        protocols.append(Counting())
        return protocols[-1]

    async def main():
        server = await loop.create_server(factory, "127.0.0.1", 0)
        peers = []
        for number in range(3):
            peers.append(connected(server.sockets[0].getsockname()))
            peers[-1].sendall(b"x")
            while len(protocols) == number:
                await asyncio.sleep(0)
            await protocols[number].received(1)
        for peer, protocol in zip(peers, protocols, strict=True):
            peer.close()
            await protocol.called("connection_lost")
        server.close()
        await server.wait_closed()

    run(loop, main())
    assert [protocol.values["connection_made"] for protocol in protocols] == [1, 1, 1]
    assert [protocol.values["data_received"] for protocol in protocols] == [1, 1, 1]
    assert VARIABLE.get() == 0


@pytest.mark.skipif(sys.version_info < (3, 15), reason="servers have a context from Python 3.15 on")
@pytest.mark.parametrize("debug", [False, True])
def test_a_server_gives_each_connection_a_copy_of_its_makers_context(loop, debug):
    """Also where its accepting begins later, in another context; debug mode takes another way."""
    loop.set_debug(debug)
    protocols = []

    def factory():
        VARIABLE.set(VARIABLE.get() + 1)
        protocols.append(Counting())
        return protocols[-1]

    async def main():
        VARIABLE.set(10)
        server = await loop.create_server(factory, "127.0.0.1", 0, start_serving=False)
        VARIABLE.set(20)
        await server.start_serving()
        for number in range(2):
            peer = connected(server.sockets[0].getsockname())
            peer.sendall(b"x")
            while len(protocols) == number:
                await asyncio.sleep(0)
            await protocols[number].received(1)
            peer.close()
            await protocols[number].called("connection_lost")
        server.close()
        await server.wait_closed()

    run(loop, main())
    for protocol in protocols:
        assert set(protocol.values.values()) == {11}


def test_a_reader_has_the_context_of_add_reader(loop):
    import os

    async def main():
        reading, writing = os.pipe()
        seen = loop.create_future()
        token = VARIABLE.set(7)
        loop.add_reader(reading, lambda: seen.done() or seen.set_result(VARIABLE.get()))
        VARIABLE.reset(token)
        os.write(writing, b"x")
        assert await seen == 7
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)

    run(loop, main())


def test_tasks_have_copies(loop):
    async def change(value):
        VARIABLE.set(value)
        await asyncio.sleep(0)
        return VARIABLE.get()

    async def main():
        assert await asyncio.gather(*(change(number) for number in range(20))) == list(range(20))
        assert VARIABLE.get() == 0

    run(loop, main())


def test_a_future_callback_has_the_context_of_add_done_callback(loop):
    async def main():
        seen = loop.create_future()
        future = loop.create_future()
        token = VARIABLE.set(3)
        future.add_done_callback(lambda _: seen.set_result(VARIABLE.get()))
        VARIABLE.reset(token)
        future.set_result(None)
        assert await seen == 3

    run(loop, main())


def test_callbacks_scheduled_together_have_contexts_of_their_own(loop):
    """Also by timers and other threads, and although handles share what they have in common."""
    seen = []

    def change(number):
        seen.append(VARIABLE.get())
        VARIABLE.set(number)

    for number in range(1, 4):
        loop.call_soon(change, number)
        loop.call_later(0, change, number)
        loop.call_soon_threadsafe(change, number)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert seen == [0] * 9
    assert VARIABLE.get() == 0


def test_a_handle_has_the_variables_of_its_call_soon(loop):
    seen = []
    for number in range(3):
        token = VARIABLE.set(number)
        loop.call_soon(lambda: seen.append(VARIABLE.get()))
        VARIABLE.reset(token)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [0, 1, 2]


def test_what_is_set_in_a_handles_context_before_it_runs_is_seen(loop):
    seen = []
    loop.call_soon(lambda: seen.append(VARIABLE.get()))
    handle = loop.call_soon(lambda: seen.append(VARIABLE.get()))
    handle._context.run(VARIABLE.set, 9)
    assert handle._context is handle._context
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [0, 9]
    assert handle._context[VARIABLE] == 9


def test_a_context_that_a_callback_keeps_is_its_own(loop):
    """A context that was kept is never entered by another callback."""
    kept = []

    def keep():
        VARIABLE.set(1)
        kept.append(contextvars.copy_context())

    loop.call_soon(keep)
    loop.call_soon(keep)
    handle = loop.call_soon(VARIABLE.set, 2)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert [context[VARIABLE] for context in kept] == [1, 1]
    assert handle._context[VARIABLE] == 2


def test_a_failed_callbacks_context_has_what_it_set(loop):
    contexts = []
    loop.set_exception_handler(lambda _, context: contexts.append(context["handle"]._context))

    def fail():
        VARIABLE.set(4)
        raise ValueError

    loop.call_soon(fail)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert [context[VARIABLE] for context in contexts] == [4]


def test_a_loop_that_waits_keeps_no_values_alive(loop):
    class Value:
        pass

    async def main():
        value = Value()
        gone = weakref.ref(value)
        token = VARIABLE.set(value)
        loop.call_soon(lambda: None)
        VARIABLE.reset(token)
        del token, value
        await asyncio.sleep(0.001)
        gc.collect()
        assert gone() is None

    run(loop, main())


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_value_whose_end_schedules_something_before_the_loop_sleeps(loop, cancelled):
    """That value dies with the last context that held it, just before the sleep."""
    variable = contextvars.ContextVar("variable")
    ended = []

    class Value:
        def __del__(self):
            ended.append(True)
            loop.call_soon(loop.stop)

    def schedule():
        variable.set(Value())
        if cancelled:
            loop.call_soon(loop.call_later(0.01, ended.append, False, context=contextvars.copy_context()).cancel)
        else:
            loop.call_soon(int)

    late = loop.call_later(LIMIT_S, pytest.fail, "the loop slept")
    contextvars.copy_context().run(loop.call_soon, schedule)
    loop.run_forever()
    late.cancel()
    assert ended == [True]
