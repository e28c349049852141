"""Sockets with methods of their own: these are called, as on asyncio, and not passed by through the ring."""

import asyncio
import socket
from collections import Counter

import pytest
from driving import run
from peers import pattern
from recorders import Echo, Recorder


class Counting(socket.socket):
    """Counts the calls that move data."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = Counter()

    def recv(self, *args):
        self.calls["received"] += 1
        return super().recv(*args)

    def recv_into(self, *args):
        self.calls["received"] += 1
        return super().recv_into(*args)

    def send(self, *args):
        self.calls["sent"] += 1
        return super().send(*args)

    def sendmsg(self, *args):
        self.calls["sent"] += 1
        return super().sendmsg(*args)


class Listening(socket.socket):
    """A listener that accepts sockets of a class of its own."""

    def accept(self):
        fd, address = self._accept()
        sock = Counting(self.family, self.type, self.proto, fileno=fd)
        self.accepted = [*getattr(self, "accepted", []), sock]
        return sock, address


class Named(socket.socket):
    """Has nothing of its own where data moves."""

    name = "a socket"


def connected_to(kind, address):
    sock = kind(socket.AF_INET, socket.SOCK_STREAM)
    sock.connect(address)
    sock.setblocking(False)
    return sock


async def closed(server):
    server.close()
    await server.wait_closed()


@pytest.fixture(params=["plain", "tls"])
def contexts(request, certificate):
    """What a server and a client are given as ssl=."""
    if request.param == "plain":
        return {}, {}
    return {"ssl": certificate.server()}, {"ssl": certificate.client(), "server_hostname": "localhost"}


async def echoed(protocol, data):
    protocol.transport.write(data)
    await protocol.received(len(data))
    assert protocol.data == data
    protocol.transport.close()
    await protocol.called("connection_lost")
    assert protocol.lost_with is None


def test_a_connection_of_such_a_socket(loop, contexts):
    async def main():
        for_server, for_client = contexts
        server = await loop.create_server(Echo, "127.0.0.1", 0, **for_server)
        sock = connected_to(Counting, server.sockets[0].getsockname())
        _, protocol = await loop.create_connection(Recorder, sock=sock, **for_client)
        await echoed(protocol, pattern(300_000))
        assert sock.calls["received"] and sock.calls["sent"]
        assert sock.fileno() == -1
        await closed(server)

    run(loop, main())


def test_a_server_on_such_a_listener(loop, contexts):
    async def main():
        for_server, for_client = contexts
        with Listening(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.bind(("127.0.0.1", 0))
            address = listener.getsockname()
            server = await loop.create_server(Echo, sock=listener, **for_server)
            protocols = []
            for _ in range(3):
                _, protocol = await loop.create_connection(Recorder, *address, **for_client)
                await echoed(protocol, pattern(10_000))
                protocols.append(protocol)
            await closed(server)
            assert listener.fileno() == -1
            assert len(listener.accepted) == 3
            assert all(sock.calls["received"] and sock.calls["sent"] for sock in listener.accepted)
            with pytest.raises(ConnectionRefusedError):
                await loop.create_connection(Recorder, *address)

    run(loop, main())


def test_sendfile(loop, tmp_path):
    async def main():
        (tmp_path / "content").write_bytes(pattern(100_000))
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        sock = connected_to(Counting, server.sockets[0].getsockname())
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        with open(tmp_path / "content", "rb") as file:
            assert await loop.sendfile(transport, file, fallback=False) == 100_000
        await protocol.received(100_000)
        assert protocol.data == pattern(100_000)
        assert not sock.calls["sent"]
        transport.close()
        await protocol.called("connection_lost")
        await closed(server)

    run(loop, main())


def test_a_class_that_replaces_none_of_them_uses_the_ring(loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        before = loop.stats()["bytes_received"]
        sock = connected_to(Named, server.sockets[0].getsockname())
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        assert type(transport).__module__ == "kloop.transport"
        await echoed(protocol, pattern(10_000))
        assert loop.stats()["bytes_received"] - before == 2 * 10_000
        await closed(server)

    run(loop, main())


def test_a_patched_method_of_asyncios_base_class_is_seen(loop, monkeypatch):
    """get_extra_info() is asyncio's own: mocks replace it there."""
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(Recorder, *address)
        assert transport.get_extra_info("peername") == address
        with monkeypatch.context() as patched:
            patched.setattr(asyncio.BaseTransport, "get_extra_info", lambda self, name, default=None: "mocked")
            assert transport.get_extra_info("peername") == "mocked"
        transport.close()
        await protocol.called("connection_lost")
        await closed(server)

    run(loop, main())
