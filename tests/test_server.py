"""create_server: where it listens, what it refuses, and the server object."""

import asyncio
import errno
import re
import socket
import sys
from asyncio.trsock import TransportSocket

import pytest
from driving import in_thread, run
from peers import connected, link_local, listening, pair
from recorders import Echo, Recorder


def address_of(server):
    return server.sockets[0].getsockname()[:2]


async def ended(server):
    server.close()
    await server.wait_closed()


async def echo_works(address):
    peer = connected(address)
    peer.sendall(b"hello")
    assert await in_thread(peer.recv, 10) == b"hello"
    peer.close()


def test_a_server_answers(loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        assert server.is_serving()
        assert server.get_loop() is loop
        await echo_works(address_of(server))
        await ended(server)

    run(loop, main())


def test_several_hosts(loop):
    async def main():
        server = await loop.create_server(Echo, ["127.0.0.1", "127.0.0.2", "::1"], 0)
        families = [sock.family for sock in server.sockets]
        assert sorted(families) == [socket.AF_INET, socket.AF_INET, socket.AF_INET6]
        for sock in server.sockets:
            await echo_works(sock.getsockname()[:2])
        await ended(server)

    run(loop, main())


@pytest.mark.parametrize("host", [None, ""])
def test_all_interfaces(loop, host):
    async def main():
        server = await loop.create_server(Echo, host, 0, family=socket.AF_INET)
        assert server.sockets[0].getsockname()[0] == "0.0.0.0"
        await echo_works(("127.0.0.1", address_of(server)[1]))
        await ended(server)

    run(loop, main())


def test_ipv6(loop):
    async def main():
        server = await loop.create_server(Echo, "::1", 0)
        assert server.sockets[0].family == socket.AF_INET6
        await echo_works(address_of(server))
        await ended(server)

    run(loop, main())


def test_port_in_use(loop):
    async def main():
        with listening() as taken:
            host, port = taken.getsockname()
            with pytest.raises(OSError, match="error while attempting to bind on address "
                               + re.escape(f"({host!r}, {port})")) as caught:
                await loop.create_server(Echo, host, port)
            assert caught.value.errno == errno.EADDRINUSE

    run(loop, main())


def test_a_host_of_nobody(loop):
    async def main():
        with pytest.raises(OSError):
            await loop.create_server(Echo, "203.0.113.1", 0)

    run(loop, main())


def test_sock(loop):
    async def main():
        sock = listening()
        server = await loop.create_server(Echo, sock=sock)
        assert [mine.fileno() for mine in server.sockets] == [sock.fileno()]
        await echo_works(sock.getsockname())
        await ended(server)
        assert sock.fileno() == -1

    run(loop, main())


def test_what_create_server_refuses(loop):
    async def main():
        with listening() as sock:
            with pytest.raises(ValueError, match="^host/port and sock can not be specified at the same time$"):
                await loop.create_server(Echo, "127.0.0.1", 0, sock=sock)
        with pytest.raises(ValueError, match="^Neither host/port nor sock were specified$"):
            await loop.create_server(Echo)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            with pytest.raises(ValueError, match="^A Stream Socket was expected, got "):
                await loop.create_server(Echo, sock=datagrams)
        with pytest.raises(TypeError, match="^ssl argument must be an SSLContext or None$"):
            await loop.create_server(Echo, "127.0.0.1", 0, ssl=True)
        with pytest.raises(ValueError, match="^ssl_handshake_timeout is only meaningful with ssl$"):
            await loop.create_server(Echo, "127.0.0.1", 0, ssl_handshake_timeout=1)

    run(loop, main())


def test_reuse_port(loop):
    async def main():
        first = await loop.create_server(Echo, "127.0.0.1", 0, reuse_port=True)
        second = await loop.create_server(Echo, *address_of(first), reuse_port=True)
        assert address_of(first) == address_of(second)
        for _ in range(8):
            await echo_works(address_of(first))
        await ended(first)
        await echo_works(address_of(second))
        await ended(second)

    run(loop, main())


def test_without_reuse_port_a_port_is_taken_once(loop):
    async def main():
        first = await loop.create_server(Echo, "127.0.0.1", 0)
        with pytest.raises(OSError):
            await loop.create_server(Echo, *address_of(first))
        await ended(first)

    run(loop, main())


def test_start_serving_false(loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
        address = address_of(server)
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            connected(address)
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving()
        await echo_works(address)
        await ended(server)

    run(loop, main())


def test_a_backlog_of_more_connections_than_are_accepted_at_once(loop):
    """They all connect before the loop looks for the first time."""
    count = 200

    async def main():
        protocols = []

        def factory():
            protocols.append(Recorder())
            return protocols[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0, backlog=count)
        peers = [connected(address_of(server)) for _ in range(count)]
        for number, peer in enumerate(peers):
            peer.sendall(b"%d" % number)
            peer.shutdown(socket.SHUT_WR)
        while len(protocols) < count:
            await asyncio.sleep(0)
        for protocol in protocols:
            await protocol.called("connection_lost")
        assert {bytes(protocol.data) for protocol in protocols} == {b"%d" % number for number in range(count)}
        for peer in peers:
            peer.close()
        await ended(server)

    run(loop, main())


def test_serve_forever(loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
        task = asyncio.ensure_future(server.serve_forever())
        while not server.is_serving():
            await asyncio.sleep(0)
        await echo_works(address_of(server))
        with pytest.raises(RuntimeError, match=r"is already being awaited on serve_forever\(\)$"):
            await server.serve_forever()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.sockets == ()

    run(loop, main())


def test_async_with(loop):
    async def main():
        async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
            await echo_works(address_of(server))
        assert not server.is_serving()
        assert server.sockets == ()

    run(loop, main())


def test_sockets_of_a_server(loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        assert isinstance(server.sockets, tuple)
        assert [type(sock) for sock in server.sockets] == [TransportSocket]
        assert isinstance(server, asyncio.Server)
        assert isinstance(server, asyncio.AbstractServer)
        await ended(server)
        assert server.sockets == ()

    run(loop, main())


def test_wait_closed_waits_for_the_connections(loop):
    """From Python 3.12 on; before it answers at once after close()."""
    async def main():
        protocol = Recorder()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        peer = connected(address_of(server))
        await protocol.called("connection_made")
        server.close()
        waiting = asyncio.ensure_future(server.wait_closed())
        for _ in range(20):
            await asyncio.sleep(0)
        if sys.version_info >= (3, 12):
            assert not waiting.done()
        peer.close()
        await protocol.called("connection_lost")
        await waiting

    run(loop, main())


def test_a_connection_outlives_its_server(loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        peer = connected(address_of(server))
        peer.sendall(b"first")
        assert await in_thread(peer.recv, 10) == b"first"
        server.close()
        peer.sendall(b"second")
        assert await in_thread(peer.recv, 10) == b"second"
        peer.close()
        await server.wait_closed()

    run(loop, main())


def test_a_factory_that_fails_costs_only_its_connection(loop):
    """asyncio reports it in debug mode only; the peer sees the end of the stream."""
    answers = [ZeroDivisionError, None]

    def factory():
        error = answers.pop(0)
        if error:
            raise error
        return Echo()

    async def main():
        server = await loop.create_server(factory, "127.0.0.1", 0)
        failed = connected(address_of(server))
        assert await in_thread(failed.recv, 10) == b""
        failed.close()
        await echo_works(address_of(server))
        await ended(server)

    run(loop, main())
    assert answers == []


def test_connect_accepted_socket(loop):
    async def main():
        with listening() as listener:
            peer = connected(listener.getsockname())
            conn, _ = listener.accept()
            transport, protocol = await loop.connect_accepted_socket(Recorder, conn)
            assert protocol.calls == ["connection_made"]
            assert transport.get_extra_info("peername") == peer.getsockname()
            peer.sendall(b"data")
            await protocol.received(4)
            peer.close()
            await protocol.called("connection_lost")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            with pytest.raises(ValueError, match="^A Stream Socket was expected, got "):
                await loop.connect_accepted_socket(Recorder, datagrams)

    run(loop, main())


def test_a_factory_that_makes_no_protocol_costs_only_its_connection(loop):
    """Its socket is closed at once, and the server doesn't count it; asyncio leaves that to the collector."""
    factories = [lambda: None, Echo]

    async def main():
        server = await loop.create_server(lambda: factories.pop(0)(), "127.0.0.1", 0)
        failed = connected(address_of(server))
        assert await in_thread(failed.recv, 10) == b""
        failed.close()
        await echo_works(address_of(server))
        await ended(server)

    run(loop, main())
    assert factories == []


def test_a_connection_without_a_protocol_is_closed(loop):
    async def main():
        ours, peer = pair()
        with pytest.raises(AttributeError, match="connection_made"):
            await loop.create_connection(lambda: None, sock=ours)
        assert await in_thread(peer.recv, 10) == b""
        peer.close()

    run(loop, main())


@pytest.mark.skipif(link_local() is None, reason="no interface has a link-local address")
def test_scope_ids_of_accepted_connections(loop):
    """They are numbers behind the address, as the socket module gives them, and not part of it."""
    host, name, index = link_local()

    async def main():
        protocol = Recorder()
        server = await loop.create_server(lambda: protocol, f"{host}%{name}", 0)
        peer = socket.socket(socket.AF_INET6)
        await in_thread(peer.connect, (*address_of(server), 0, index))
        await protocol.called("connection_made")
        assert protocol.transport.get_extra_info("peername") == peer.getsockname()
        assert protocol.transport.get_extra_info("sockname") == peer.getpeername()
        peer.close()
        await protocol.called("connection_lost")
        await ended(server)

    run(loop, main())
