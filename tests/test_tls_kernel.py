"""TLS whose records the kernel makes: that it is really so, sendfile(2), and what happens where it can't be.

`make test-ktls` runs this, and the other files about TLS with KLOOP_TLS=kernel, in a guest kernel that has TLS.
"""

import asyncio
import os
import socket
import ssl
from pathlib import Path

import pytest
from driving import in_thread, run, turns
from peers import FILE_SIZE, connected, pair, pattern, read_all, read_exactly
from recorders import Echo, Recorder
from test_tls_handover import both_ends, who

TCP_ULP = 31
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def missing():
    """Why the kernel has no TLS, or ''."""
    ours, peer = pair()
    with ours, peer:
        try:
            ours.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        except OSError as exc:
            return str(exc)
    return ""


IN_GUEST = bool(os.environ.get("GUEST_RUN"))
MISSING = missing()
needs_kernel = pytest.mark.skipif(
    bool(MISSING) and not IN_GUEST,
    reason=f"the kernel has no TLS ({MISSING}): `make test-ktls` runs this where it has")


@pytest.fixture
def made_loop(kloop, loop):
    """Gives the loop another policy."""
    def make(offload, after=0, **options):
        loop._set_tls_options(kloop.TLSOptions(offload=offload, after=after, **options))
        return loop
    return make


def counters():
    """Of /proc/net/tls_stat."""
    lines = Path("/proc/net/tls_stat").read_text().splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


async def sides(transport, wanted):
    """Waits until kloop_tls says who has the records."""
    while transport.get_extra_info("kloop_tls")[:2] != wanted:
        await turns(1)
    return transport.get_extra_info("kloop_tls")


class Served(Recorder):
    """Tells its transport to those who wait for it."""

    made = None

    def connection_made(self, transport):
        super().connection_made(transport)
        self.made.set_result(transport)


async def accepted(loop, certificate, version, talk):
    """A server of the loop, its only connection's transport and protocol, and a thread's talk(socket)."""
    made = loop.create_future()
    context = certificate.server()
    context.maximum_version = version

    def factory():
        protocol = Served()
        protocol.made = made
        return protocol

    def client(address):
        with certificate.client().wrap_socket(connected(address), server_hostname="localhost") as sock:
            return talk(sock)

    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=context)
    talking = asyncio.ensure_future(in_thread(client, server.sockets[0].getsockname()))
    transport = await made
    return server, transport, transport.get_protocol(), talking


async def close(server, transport, protocol):
    transport.close()
    await protocol.called("connection_lost")
    server.close()
    await server.wait_closed()


ALLOW_CLIENT_RENEGOTIATION = 1 << 8     # SSL_OP_ALLOW_CLIENT_RENEGOTIATION, which module ssl has no name for


@pytest.mark.parametrize("offload, instead", [("kernel", "ssl"), ("auto", "go")])
@pytest.mark.parametrize("side", ["client", "server"])
def test_not_where_there_may_be_another_handshake(made_loop, certificate, offload, instead, side):
    """Of TLS 1.2, behind which the kernel can't go on."""
    loop = made_loop(offload)
    contexts = {"server": certificate.server(), "client": certificate.client()}
    contexts["server"].maximum_version = ssl.TLSVersion.TLSv1_2
    contexts["server"].options |= ssl.OP_NO_RENEGOTIATION
    contexts[side].options &= ~ssl.OP_NO_RENEGOTIATION
    if side == "server":
        contexts["server"].options |= ALLOW_CLIENT_RENEGOTIATION

    async def main():
        async with both_ends(loop, contexts["server"], contexts["client"]) as (server, client, _):
            told = {"server": who(server), "client": who(client)}
            assert told.pop(side) == (instead, instead, "the peer may ask for another handshake, behind which "
                                      "the kernel can't go on: ssl.OP_NO_RENEGOTIATION rules it out")
            [other] = told.values()
            assert "another handshake" not in other.reason

    run(loop, main())


@pytest.mark.parametrize("swapped", [False, True], ids=["first", "second"])
def test_the_context_that_counts_is_the_first(made_loop, certificate, swapped):
    """A callback for server names may put another in its place, but OpenSSL's object keeps its options."""
    loop = made_loop("auto")
    asks, asks_not = certificate.server(), certificate.server()
    for context in (asks, asks_not):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
    asks.options = asks.options & ~ssl.OP_NO_RENEGOTIATION | ALLOW_CLIENT_RENEGOTIATION
    first, second = (asks_not, asks) if swapped else (asks, asks_not)
    first.sni_callback = lambda sslobj, name, context: setattr(sslobj, "context", second)

    async def main():
        async with both_ends(loop, first, certificate.client()) as (server, _, _):
            assert ("another handshake" in who(server).reason) == (first is asks)

    run(loop, main())


@needs_kernel
@pytest.mark.parametrize("offload", ["kernel", "auto"])
@pytest.mark.parametrize("version", VERSIONS)
def test_both_sides_are_the_kernels(made_loop, certificate, version, offload):
    loop = made_loop(offload)

    async def main():
        server_context = certificate.server()
        server_context.maximum_version = version
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
        transport, protocol = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=certificate.client(), server_hostname="localhost")
        assert await sides(transport, ("kernel", "kernel")) == ("kernel", "kernel", "")
        data = pattern(FILE_SIZE)
        transport.write(data)
        await protocol.received(len(data))
        assert protocol.data == data
        assert loop.stats()["tls_kernel"] == 2 and loop.stats()["tls_go"] == 0
        await close(server, transport, protocol)

    before = counters() if Path("/proc/net/tls_stat").exists() else {}
    run(loop, main())
    after = counters()
    for name in ("TlsTxSw", "TlsRxSw"):
        assert after[name] >= before.get(name, 0) + 2
    assert after["TlsDecryptError"] == before.get("TlsDecryptError", 0)


@needs_kernel
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("offset, count", [(0, None), (10, 100_000), (FILE_SIZE - 5, 100)])
def test_sendfile(made_loop, certificate, content, monkeypatch, version, offset, count):
    """By sendfile(2), in pieces, between what is written before and after."""
    from kloop import tls

    monkeypatch.setattr(tls, "_SENDFILE_PIECE", 1 << 20)
    loop = made_loop("kernel")
    file, data = content
    want = data[offset:] if count is None else data[offset:offset + count]

    async def main():
        server, transport, protocol, talking = await accepted(
            loop, certificate, version, lambda sock: read_exactly(sock, len(want) + 8))
        await sides(transport, ("kernel", "kernel"))
        transport.write(b"head")
        assert await loop.sendfile(transport, file, offset, count, fallback=False) == len(want)
        assert file.tell() == offset + len(want)
        transport.write(b"tail")
        assert await talking == b"head" + want + b"tail"
        await close(server, transport, protocol)

    run(loop, main())


@needs_kernel
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("after", [1000, 1 << 30])
def test_a_connection_that_earns_it(made_loop, certificate, content, version, after):
    """By what it carries, or by a file that is to be sent."""
    loop = made_loop("auto", after)
    file, data = content

    async def main():
        server, transport, protocol, talking = await accepted(
            loop, certificate, version, lambda sock: read_exactly(sock, 2000 + len(data)))
        assert transport.get_extra_info("kloop_tls")[:2] == ("ssl", "ssl")
        transport.write(bytes(2000))
        if after == 1000:
            await sides(transport, ("kernel", "kernel"))
        assert await loop.sendfile(transport, file, fallback=False) == len(data)
        assert await talking == bytes(2000) + data
        assert transport.get_extra_info("kloop_tls") == ("kernel", "kernel", "")
        await close(server, transport, protocol)

    run(loop, main())


@pytest.mark.parametrize("version", VERSIONS)
def test_sendfile_where_the_core_seals(made_loop, certificate, content, version):
    loop = made_loop("go")
    file, data = content

    async def main():
        server, transport, protocol, talking = await accepted(loop, certificate, version, read_all)
        assert transport.get_extra_info("kloop_tls")[:2] == ("go", "go")
        with pytest.raises(RuntimeError, match="fallback is disabled"):
            await loop.sendfile(transport, file, fallback=False)
        assert await loop.sendfile(transport, file) == len(data)
        await close(server, transport, protocol)
        assert await talking == data

    run(loop, main())


@needs_kernel
def test_sendfile_to_a_slow_peer(made_loop, certificate, content):
    """Writing fails meanwhile, as on TCP."""
    loop = made_loop("kernel")
    file, data = content

    async def main():
        server, transport, protocol, talking = await accepted(loop, certificate, VERSIONS[1], read_all)
        await sides(transport, ("kernel", "kernel"))
        task = asyncio.ensure_future(loop.sendfile(transport, file, fallback=False))
        await turns(1)
        if not task.done():
            with pytest.raises(RuntimeError, match="unable to write; sendfile is in progress"):
                transport.write(b"not now")
        assert await task == len(data)
        await close(server, transport, protocol)
        assert await talking == data

    run(loop, main())


@needs_kernel
@pytest.mark.parametrize("version", VERSIONS)
def test_large_writes_in_the_background(made_loop, certificate, version):
    """By threads of io_uring's: the loop goes on, flow control and close() are as ever."""
    loop = made_loop("kernel", background=100_000, zerocopy=True, no_padding=True)
    parts = [pattern(size, seed=size) for size in (10, 3_000_000, 99_999, 100_000, 5, 8_000_000)]

    async def main():
        server, transport, protocol, talking = await accepted(loop, certificate, version, read_all)
        await sides(transport, ("kernel", "kernel"))
        for part in parts:
            transport.write(part)
            await turns(2)
        assert transport.get_write_buffer_size() > 0
        await protocol.called("pause_writing")
        await close(server, transport, protocol)
        assert await talking == b"".join(parts)
        assert protocol.calls.count("pause_writing") == protocol.calls.count("resume_writing") >= 1

    run(loop, main())


@needs_kernel
def test_sendfile_does_not_block(made_loop, certificate, content):
    """To a peer on the same loop, which could then read nothing, while the socket holds little."""
    loop = made_loop("kernel")
    file, data = content
    parts = [20_000 + 7_919 * n for n in range(20)]     # up to the file's end
    want = b"".join(data[-size:] for size in parts)

    async def main():
        received = Recorder()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        server = await loop.create_server(lambda: received, sock=listener, ssl=certificate.server())
        sock = connected(listener.getsockname())
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        transport, protocol = await loop.create_connection(
            Recorder, sock=sock, ssl=certificate.client(), server_hostname="localhost")
        await sides(transport, ("kernel", "kernel"))
        for size in parts:
            assert await loop.sendfile(transport, file, FILE_SIZE - size, fallback=False) == size
        await received.received(len(want))
        assert received.data == want
        await close(server, transport, protocol)

    run(loop, main())


@pytest.mark.skipif(not MISSING, reason="the kernel has TLS")
@pytest.mark.parametrize("offload, side", [("kernel", "ssl"), ("auto", "go")])
def test_a_kernel_without_tls(made_loop, certificate, offload, side):
    """Something else goes on, and says why."""
    loop = made_loop(offload)

    async def main():
        server, transport, protocol, talking = await accepted(
            loop, certificate, VERSIONS[1], lambda sock: read_exactly(sock, 5))
        told = transport.get_extra_info("kloop_tls")
        assert told[:2] == (side, side) and 'TCP_ULP "tls" is not supported (requires Linux 4.13)' in told.reason
        transport.write(b"hello")
        assert await talking == b"hello"
        await close(server, transport, protocol)

    run(loop, main())


def test_a_socket_that_is_not_tcp(made_loop, certificate, tmp_path):
    loop = made_loop("kernel")
    path = str(tmp_path / "socket")

    async def main():
        server = await loop.create_unix_server(Echo, path, ssl=certificate.server())
        transport, protocol = await loop.create_unix_connection(
            Recorder, path, ssl=certificate.client(), server_hostname="localhost")
        assert transport.get_extra_info("kloop_tls") == ("ssl", "ssl", "the kernel's TLS works over TCP sockets only")
        transport.write(b"hello")
        await protocol.received(5)
        await close(server, transport, protocol)

    run(loop, main())
