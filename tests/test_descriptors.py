"""add_reader, add_writer and the sock_* methods: any descriptor, polled by the ring."""

import asyncio
import os
import socket

import pytest
from driving import in_thread, run, turns
from peers import connected, listening, pair, pattern, read_exactly, refused_address


@pytest.fixture
def sockets():
    """Two connected Unix sockets that do not block."""
    left, right = socket.socketpair()
    for sock in (left, right):
        sock.setblocking(False)
    yield left, right
    left.close()
    right.close()


def once(future, value=None):
    """A callback that may be called again before it is removed."""
    return lambda *arguments: future.done() or future.set_result(arguments or value)


def test_a_reader_is_called_when_there_is_something_to_read(loop, sockets):
    left, right = sockets

    async def main():
        called = loop.create_future()
        loop.add_reader(left, once(called), "argument")
        await turns()
        assert not called.done()
        right.send(b"data")
        assert await called == ("argument",)
        assert loop.remove_reader(left) is True
        assert loop.remove_reader(left) is False

    run(loop, main())


def test_a_reader_is_called_again_while_it_does_not_read(loop, sockets):
    """Level-triggered, as select is."""
    left, right = sockets

    async def main():
        calls = []
        enough = loop.create_future()

        def reader():
            calls.append(True)
            if len(calls) == 5:
                enough.set_result(None)

        loop.add_reader(left, reader)
        right.send(b"data")
        await enough
        assert left.recv(10) == b"data"
        await turns()
        seen = len(calls)
        await turns()
        assert len(calls) == seen
        loop.remove_reader(left)

    run(loop, main())


def test_a_reader_is_not_called_without_anything_to_read(loop, sockets):
    """Programs read from terminals with calls that block: one call too many would stop them."""
    left, right = sockets

    async def main():
        received = []
        waiting = []

        def reader():
            received.append(left.recv(100))     # raises BlockingIOError if there is nothing
            waiting.pop().set_result(None)

        loop.add_reader(left, reader)
        for number in range(200):
            waiting.append(loop.create_future())
            right.send(b"%d" % number)
            await waiting[0]
            await turns(3)
        assert received == [b"%d" % number for number in range(200)]
        loop.remove_reader(left)

    run(loop, main())


def test_a_writer_is_called_while_there_is_room(loop, sockets):
    left, right = sockets

    async def main():
        called = loop.create_future()
        loop.add_writer(left, once(called, "room"))
        assert await called == "room"
        assert loop.remove_writer(left) is True
        assert loop.remove_writer(left) is False
        try:
            while True:
                left.send(bytes(10_000))
        except BlockingIOError:
            pass
        again = loop.create_future()
        loop.add_writer(left, once(again, "room again"))
        await turns()
        assert not again.done()
        right.setblocking(True)
        right.settimeout(20)
        while not again.done():
            right.recv(65536)
            await turns(2)
        loop.remove_writer(left)

    run(loop, main())


def test_reader_and_writer_of_one_descriptor(loop, sockets):
    left, right = sockets

    async def main():
        readable, writable = loop.create_future(), loop.create_future()
        loop.add_reader(left, once(readable))
        loop.add_writer(left, once(writable))
        await writable
        assert loop.remove_writer(left)
        assert not readable.done()
        right.send(b"data")
        await readable
        assert loop.remove_reader(left)

    run(loop, main())


def test_a_later_reader_replaces_the_former(loop, sockets):
    left, right = sockets

    async def main():
        seen = []
        done = loop.create_future()
        loop.add_reader(left, seen.append, "former")
        loop.add_reader(left, once(done))
        right.send(b"data")
        await done
        loop.remove_reader(left)
        assert seen == []

    run(loop, main())


def test_the_end_of_a_stream_is_readable(loop, sockets):
    left, right = sockets

    async def main():
        called = loop.create_future()
        loop.add_reader(left, once(called))
        right.close()
        await called
        loop.remove_reader(left)
        assert left.recv(10) == b""

    run(loop, main())


def test_a_descriptor_number_that_is_used_again(loop):
    """A poll of the ring keeps the old file: removing must end it before the number is another's."""
    async def main():
        for number in range(50):
            left, right = socket.socketpair()
            called = loop.create_future()
            loop.add_reader(left.fileno(), once(called))
            right.send(b"%d" % number)
            await called
            loop.remove_reader(left.fileno())
            left.close()
            right.close()

    run(loop, main())


def test_removing_inside_the_callback(loop, sockets):
    left, right = sockets

    async def main():
        calls = []
        done = loop.create_future()

        def reader():
            calls.append(True)
            loop.remove_reader(left)
            loop.call_later(0.005, done.set_result, None)

        loop.add_reader(left, reader)
        right.send(b"data")
        await done
        assert calls == [True]

    run(loop, main())


def test_bad_descriptors(loop):
    async def main():
        with pytest.raises(ValueError):
            loop.add_reader(-1, print)
        with pytest.raises(ValueError):
            loop.add_reader(object(), print)
        reading, writing = os.pipe()
        os.close(reading)
        os.close(writing)
        with pytest.raises(OSError):
            loop.add_reader(reading, print)
        assert not loop.remove_reader(reading)
        with open(__file__) as file, pytest.raises(PermissionError):
            loop.add_reader(file, print)    # as epoll: a file is always ready

    run(loop, main())


def test_a_pipe(loop):
    async def main():
        reading, writing = os.pipe()
        called = loop.create_future()
        loop.add_reader(reading, once(called))
        os.write(writing, b"x")
        await called
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)

    run(loop, main())


def test_readers_of_a_closed_loop(kloop, sockets):
    loop = kloop.new_event_loop()
    loop.add_reader(sockets[0], print)
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.add_reader(sockets[0], print)


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_sock_sendall_and_sock_recv(loop, size):
    async def main():
        ours, peer = pair()
        data = pattern(size)
        sending = asyncio.ensure_future(loop.sock_sendall(ours, data))
        assert await in_thread(read_exactly, peer, size) == data
        await sending
        sender = asyncio.ensure_future(in_thread(peer.sendall, data))
        received = bytearray()
        while len(received) < size:
            received += await loop.sock_recv(ours, 100_000)
        assert received == data
        await sender
        buffer = bytearray(4)
        peer.sendall(b"into")
        assert await loop.sock_recv_into(ours, buffer) == 4
        assert buffer == b"into"
        peer.close()
        assert await loop.sock_recv(ours, 10) == b""
        ours.close()

    run(loop, main())


def test_sock_accept_and_sock_connect(loop):
    async def main():
        with listening() as listener, socket.socket() as client:
            listener.setblocking(False)
            client.setblocking(False)
            accepting = asyncio.ensure_future(loop.sock_accept(listener))
            await loop.sock_connect(client, listener.getsockname())
            conn, address = await accepting
            assert address == client.getsockname()
            assert conn.gettimeout() == 0
            await loop.sock_sendall(conn, b"hello")
            assert await loop.sock_recv(client, 10) == b"hello"
            conn.close()

    run(loop, main())


def test_sock_connect_refused(loop):
    async def main():
        with socket.socket() as client:
            client.setblocking(False)
            address = refused_address()
            with pytest.raises(ConnectionRefusedError, match="Connect call failed"):
                await loop.sock_connect(client, address)

    run(loop, main())


def test_sock_methods_cancelled(loop):
    async def main():
        ours, peer = pair()
        receiving = asyncio.ensure_future(loop.sock_recv(ours, 10))
        await turns()
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        peer.sendall(b"data")
        assert await loop.sock_recv(ours, 10) == b"data"
        ours.close()
        peer.close()

    run(loop, main())


def test_sendfile_of_a_transport(loop, tmp_path):
    """asyncio's fallback, which reads the file in a thread and writes."""
    from recorders import Recorder

    async def main():
        path = tmp_path / "file"
        data = pattern(500_000)
        path.write_bytes(data)
        ours, peer = pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        with path.open("rb") as file:
            receiving = asyncio.ensure_future(in_thread(read_exactly, peer, len(data)))
            assert await loop.sendfile(transport, file) == len(data)
        assert await receiving == data
        transport.write(b"after it")
        assert await in_thread(read_exactly, peer, 8) == b"after it"
        transport.close()
        await protocol.called("connection_lost")
        peer.close()

    run(loop, main())


def test_sock_sendfile(loop, tmp_path):
    async def main():
        path = tmp_path / "file"
        data = pattern(500_000)
        path.write_bytes(data)
        ours, peer = pair()
        with path.open("rb") as file:
            receiving = asyncio.ensure_future(in_thread(read_exactly, peer, len(data)))
            assert await loop.sock_sendfile(ours, file) == len(data)
        assert await receiving == data
        ours.close()
        peer.close()

    run(loop, main())


def test_a_listener_as_a_reader(loop):
    async def main():
        with listening() as listener:
            listener.setblocking(False)
            ready = loop.create_future()
            loop.add_reader(listener, once(ready))
            peer = connected(listener.getsockname())
            await ready
            loop.remove_reader(listener)
            listener.accept()[0].close()
            peer.close()

    run(loop, main())
