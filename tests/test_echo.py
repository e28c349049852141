"""Every byte comes back, in order, whatever the sizes, the speed of the reader and the protocol."""

import asyncio
import random
import socket
import threading

import pytest
from driving import LIMIT_S, in_thread, run
from peers import connected, pattern, read_exactly
from recorders import Echo, Recorder

MIB = 1024 * 1024
SIZES = [1, 2, 1023, 4096, 16384, 65535, 65536, 65537, 131072, 1_000_003, 8 * MIB]


class BufferedEcho(asyncio.BufferedProtocol):
    """Echo with a buffer of its own, which it uses again at once."""

    def __init__(self, size):
        self.buffer = bytearray(size)

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.transport.write(memoryview(self.buffer)[:nbytes])

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


async def stream_echo(reader, writer):
    while data := await reader.read(50_000):
        writer.write(data)
        await writer.drain()
    writer.close()


async def start(loop, style):
    if style == "streams":
        return await asyncio.start_server(stream_echo, "127.0.0.1", 0)
    factory = Echo if style == "protocol" else lambda: BufferedEcho(10_000)
    return await loop.create_server(factory, "127.0.0.1", 0)


def exchange(address, data, receive_buffer=None):
    """Sends data from another thread while this one reads; answers what came back."""
    with connected(address, receive_buffer) as peer:
        def send():
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        answer = read_exactly(peer, len(data))
        sender.join(LIMIT_S)
        return answer


@pytest.mark.parametrize("style", ["protocol", "buffered", "streams"])
@pytest.mark.parametrize("size", SIZES)
def test_one_message(loop, style, size):
    async def main():
        server = await start(loop, style)
        data = pattern(size, seed=size)
        assert await in_thread(exchange, server.sockets[0].getsockname(), data) == data
        server.close()
        await server.wait_closed()

    run(loop, main())


@pytest.mark.parametrize("style", ["protocol", "buffered", "streams"])
def test_a_slow_reader(loop, style):
    """A receive buffer of 4 KiB: most sends are refused in part."""
    async def main():
        server = await start(loop, style)
        data = pattern(3 * MIB)
        assert await in_thread(exchange, server.sockets[0].getsockname(), data, 4096) == data
        server.close()
        await server.wait_closed()

    run(loop, main())


@pytest.mark.parametrize("style", ["protocol", "buffered", "streams"])
def test_messages_in_turn(loop, style):
    """A request waits for the answer to the one before, with sizes from 1 byte to 100 KiB."""
    sizes = [1 << n for n in range(17)] + [random.Random(4).randrange(1, 100_000) for _ in range(100)]

    def talk(address):
        with connected(address) as peer:
            for number, size in enumerate(sizes):
                data = pattern(size, seed=number)
                peer.sendall(data)
                assert read_exactly(peer, size) == data

    async def main():
        server = await start(loop, style)
        await in_thread(talk, server.sockets[0].getsockname())
        server.close()
        await server.wait_closed()

    run(loop, main())


class Client(Recorder):
    """Sends one pattern in pieces, each when the answer to the former has come."""

    def __init__(self, data, piece):
        super().__init__()
        self.pieces = [data[at:at + piece] for at in range(0, len(data), piece)]
        self.expected = data

    def send_next(self):
        if self.pieces:
            self.sent_to = len(self.data) + len(self.pieces[0])
            self.transport.write(self.pieces.pop(0))

    def connection_made(self, transport):
        super().connection_made(transport)
        self.send_next()

    def data_received(self, data):
        super().data_received(data)
        if len(self.data) == self.sent_to:
            self.send_next()


@pytest.mark.parametrize("connections, piece, size", [(100, 1024, 64 * 1024), (10, 100 * 1024, 4 * MIB)])
def test_many_connections_of_one_loop_at_both_ends(loop, connections, piece, size):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        data = [pattern(size, seed=number) for number in range(connections)]
        clients = [
            (await loop.create_connection(lambda one=one: Client(one, piece), *server.sockets[0].getsockname()))[1]
            for one in data]
        for client in clients:
            await client.received(size)
            assert client.data == client.expected
            client.transport.close()
        for client in clients:
            await client.called("connection_lost")
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_random_writes_and_random_closes(loop):
    """Connections come, send a random stretch in random pieces, close, and others take their numbers."""
    choice = random.Random(5)

    async def one(address, seed):
        mine = random.Random(seed)
        data = pattern(mine.randrange(1, 300_000), seed)
        transport, protocol = await loop.create_connection(Recorder, *address)
        at = 0
        while at < len(data):
            size = mine.choice([1, 100, 5_000, 70_000])
            transport.write(data[at:at + size])
            at += size
            if mine.random() < 0.3:
                await asyncio.sleep(0)
        if mine.random() < 0.2:
            transport.abort()
        else:
            await protocol.received(len(data))
            assert protocol.data == data
            transport.close()
        await protocol.called("connection_lost")
        assert data.startswith(bytes(protocol.data))

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for _ in range(10):
            await asyncio.gather(*(one(address, choice.random()) for _ in range(20)))
        server.close()
        await server.wait_closed()

    run(loop, main())


def raise_descriptor_limit(wanted):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        assert hard >= wanted, f"the hard limit of open files, {hard}, is too low for this test"
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_connections(loop):
    count = 1000
    restore = raise_descriptor_limit(2 * count + 200)

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=count)
        clients = []
        for number in range(count):
            data = pattern(8 * 1024, seed=number)
            clients.append((await loop.create_connection(
                lambda data=data: Client(data, 1024), *server.sockets[0].getsockname()))[1])
        for client in clients:
            await client.received(len(client.expected))
            assert client.data == client.expected
        if hasattr(loop, "driver"):
            assert loop.stats()["conns"] == 2 * count
        for client in clients:
            client.transport.close()
        for client in clients:
            await client.called("connection_lost")
        server.close()
        await server.wait_closed()

    try:
        run(loop, main())
    finally:
        restore()
