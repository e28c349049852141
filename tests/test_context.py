"""Context variables: each callback and each connection has its own context."""

import asyncio
import contextvars

from driving import run
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
