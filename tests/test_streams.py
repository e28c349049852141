"""asyncio's streams on our transports."""

import asyncio
import sys

import pytest
from driving import in_thread, run
from peers import connected, listening, pattern, read_all, read_exactly, reset

MIB = 1024 * 1024


async def client_of(listener, **options):
    reader, writer = await asyncio.open_connection(*listener.getsockname(), **options)
    peer, _ = await in_thread(listener.accept)
    return reader, writer, peer


async def ended(writer, peer):
    writer.close()
    await writer.wait_closed()
    peer.close()


def with_connection(loop, test, **options):
    async def main():
        with listening() as listener:
            reader, writer, peer = await client_of(listener, **options)
            peer.settimeout(20)
            await test(reader, writer, peer)
            await ended(writer, peer)

    run(loop, main())


def test_start_server_and_open_connection(loop):
    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.writelines([b"one\n", b"two\n"])
        assert await reader.readline() == b"ONE\n"
        assert await reader.readline() == b"TWO\n"
        assert writer.can_write_eof()
        writer.write_eof()
        assert await reader.read() == b""
        assert reader.at_eof()
        writer.close()
        assert writer.is_closing()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_readuntil_readexactly_and_read(loop):
    async def test(reader, writer, peer):
        peer.sendall(b"head\r\n\r\n0123456789rest")
        assert await reader.readuntil(b"\r\n\r\n") == b"head\r\n\r\n"
        assert await reader.readexactly(10) == b"0123456789"
        assert await reader.read(2) == b"re"
        peer.close()
        assert await reader.read() == b"st"

    with_connection(loop, test)


def test_a_stream_that_ends_too_early(loop):
    async def test(reader, writer, peer):
        peer.sendall(b"partial")
        peer.close()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(100)
        assert caught.value.partial == b"partial"
        assert caught.value.expected == 100
        with pytest.raises(asyncio.IncompleteReadError):
            await reader.readuntil(b"\n")
        assert await reader.readline() == b""

    with_connection(loop, test)


def test_a_line_beyond_the_limit(loop):
    async def test(reader, writer, peer):
        peer.sendall(b"x" * 1000 + b"\nnext\n")
        with pytest.raises(ValueError, match="chunk"):
            await reader.readline()

    with_connection(loop, test, limit=100)


def test_readuntil_beyond_the_limit(loop):
    async def test(reader, writer, peer):
        peer.sendall(b"x" * 1000)
        with pytest.raises(asyncio.LimitOverrunError):
            await reader.readuntil(b"\n")

    with_connection(loop, test, limit=100)


def test_much_through_a_small_limit(loop):
    """The reader pauses and resumes the transport all the time."""
    async def test(reader, writer, peer):
        data = pattern(2 * MIB)
        sending = asyncio.ensure_future(in_thread(peer.sendall, data))
        assert await reader.readexactly(1000) == data[:1000]
        received = bytearray(data[:1000])
        while len(received) < len(data):
            received += await reader.read(777)
        assert received == data
        await sending

    with_connection(loop, test, limit=1000)


def test_drain_waits_for_a_slow_reader(loop):
    async def test(reader, writer, peer):
        data = pattern(16 * MIB)
        writer.write(data)
        draining = asyncio.ensure_future(writer.drain())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not draining.done()
        assert await in_thread(read_exactly, peer, len(data)) == data
        await draining

    with_connection(loop, test)


def test_drain_after_the_peer_has_reset(loop):
    async def test(reader, writer, peer):
        writer.write(bytes(16 * MIB))
        reset(peer)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                await writer.drain()
                await asyncio.sleep(0)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await reader.read()

    async def main():
        with listening() as listener:
            reader, writer, peer = await client_of(listener)
            await test(reader, writer, peer)
            writer.close()
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                await writer.wait_closed()

    run(loop, main())


def test_extra_info_of_a_writer(loop):
    async def test(reader, writer, peer):
        assert writer.get_extra_info("peername") == peer.getsockname()
        assert writer.transport.get_extra_info("socket") is not None

    with_connection(loop, test)


def test_a_handler_that_fails_is_reported(loop):
    from driving import reports

    async def serve(reader, writer):
        try:
            raise ZeroDivisionError
        finally:
            writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        peer = connected(server.sockets[0].getsockname())
        assert await in_thread(read_all, peer) == b""
        peer.close()
        server.close()
        await server.wait_closed()

    import gc

    with reports(loop) as contexts:
        run(loop, main())
        gc.collect()
    assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="StreamWriter.start_tls came with Python 3.11")
def test_a_writer_knows_start_tls(loop):
    async def test(reader, writer, peer):
        with pytest.raises(TypeError):
            await writer.start_tls(None)

    with_connection(loop, test)


@pytest.mark.parametrize("clients", [100])
def test_many_clients(loop, clients):
    async def serve(reader, writer):
        size = int(await reader.readline())
        writer.write(await reader.readexactly(size))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def one(address, number):
        data = pattern(1 + number * 1000, seed=number)
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"%d\n" % len(data))
        writer.write(data)
        assert await reader.read() == data
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        await asyncio.gather(*(one(server.sockets[0].getsockname(), number) for number in range(clients)))
        server.close()
        await server.wait_closed()

    run(loop, main())
