"""TLS between two ends on the same loop."""

import asyncio
import socket
import ssl
import sys

import pytest
from driving import in_thread, run, turns
from peers import connected, pattern, read_exactly
from recorders import Echo, Recorder

MIB = 1024 * 1024


@pytest.fixture(scope="session")
def server_context(certificate):
    return certificate.server()


@pytest.fixture(scope="session")
def client_context(certificate):
    return certificate.client()


def address_of(server):
    return server.sockets[0].getsockname()


async def ended(protocol, server):
    protocol.transport.close()
    await protocol.called("connection_lost")
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("size", [1, 16 * 1024, 100_000, 4 * MIB])
def test_echo(loop, server_context, client_context, size):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
        transport, protocol = await loop.create_connection(
            Recorder, *address_of(server), ssl=client_context, server_hostname="localhost")
        data = pattern(size)
        transport.write(data)
        await protocol.received(size)
        assert protocol.data == data
        await ended(protocol, server)

    run(loop, main())


def test_a_server_with_a_blocking_client(loop, server_context, client_context):
    def talk(address):
        with client_context.wrap_socket(connected(address), server_hostname="localhost") as sock:
            data = pattern(300_000)
            sock.sendall(data)
            assert read_exactly(sock, len(data)) == data

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
        await in_thread(talk, address_of(server))
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_extra_info(loop, server_context, client_context):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
        transport, protocol = await loop.create_connection(
            Recorder, *address_of(server), ssl=client_context, server_hostname="localhost")
        assert isinstance(transport, asyncio.Transport)
        assert transport.get_extra_info("sslcontext") is client_context
        assert transport.get_extra_info("cipher")[0]
        assert ("commonName", "localhost") in transport.get_extra_info("peercert")["subject"][0]
        assert transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert transport.get_extra_info("peername") == address_of(server)
        sock = transport.get_extra_info("socket")
        assert sock.family == socket.AF_INET
        own, peer = sock.getsockname(), address_of(server)
        await ended(protocol, server)
        # Of a log that is written now.
        assert transport.get_extra_info("peername") == peer
        assert transport.get_extra_info("sockname") == own
        assert transport.get_extra_info("socket", "gone") == "gone"

    run(loop, main())


def test_a_certificate_that_is_not_trusted(loop, server_context):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_context)
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(
                Recorder, *address_of(server), ssl=ssl.create_default_context(), server_hostname="localhost")
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_a_name_that_does_not_match(loop, server_context, client_context):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_context)
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(
                Recorder, *address_of(server), ssl=client_context, server_hostname="another.example")
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_a_peer_that_does_not_speak_tls(loop, client_context):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        with pytest.raises(ssl.SSLError):
            await loop.create_connection(
                Recorder, *address_of(server), ssl=client_context, server_hostname="localhost")
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_a_handshake_that_takes_too_long(loop, client_context):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than"):
            await loop.create_connection(
                Recorder, *address_of(server), ssl=client_context, server_hostname="localhost",
                ssl_handshake_timeout=0.05)
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_start_tls_on_both_sides(loop, server_context, client_context):
    """A word in the clear first, as SMTP and PostgreSQL do it."""
    tasks = []

    class Upgrades(Echo):
        def data_received(self, data):
            if data != b"STARTTLS":
                super().data_received(data)
                return
            self.transport.write(b"READY")
            tasks.append(loop.create_task(self.upgrade()))

        async def upgrade(self):
            self.transport = await loop.start_tls(self.transport, self, server_context, server_side=True)
            self.transport.write(b"SAFE")   # data may come before start_tls has answered

    async def main():
        server = await loop.create_server(Upgrades, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Recorder, *address_of(server))
        transport.write(b"STARTTLS")
        await protocol.received(5)
        protocol.data.clear()
        upgraded = await loop.start_tls(transport, protocol, client_context, server_hostname="localhost")
        await protocol.received(4)
        assert protocol.data == b"SAFE"
        protocol.data.clear()
        data = pattern(MIB)
        upgraded.write(data)
        await protocol.received(len(data))
        assert protocol.data == data
        assert upgraded.get_extra_info("cipher")
        protocol.transport = upgraded
        await ended(protocol, server)
        await asyncio.gather(*tasks)

    run(loop, main())


@pytest.mark.parametrize("end", ["close", "abort"])
def test_start_tls_on_a_transport_that_was_closed(loop, client_context, end):
    """asyncio answers None, which aiohttp, for one, looks for."""
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Recorder, *address_of(server))
        getattr(transport, end)()
        assert await loop.start_tls(transport, protocol, client_context, server_hostname="localhost") is None
        assert protocol.calls == ["connection_made", "connection_lost"]
        server.close()
        await server.wait_closed()
        await turns()

    run(loop, main())


def test_start_tls_refuses_what_is_no_context(loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Recorder, *address_of(server))
        with pytest.raises(TypeError, match="^sslcontext is expected to be an instance of ssl.SSLContext, got None$"):
            await loop.start_tls(transport, protocol, None)
        await ended(protocol, server)

    run(loop, main())


def test_flow_control(loop, server_context, client_context):
    """An echo of much, whose client reads only after a while."""
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
        transport, protocol = await loop.create_connection(
            Recorder, *address_of(server), ssl=client_context, server_hostname="localhost")
        transport.pause_reading()
        written = bytearray()
        while "pause_writing" not in protocol.calls:
            data = pattern(64 * 1024, seed=len(written))
            transport.write(data)
            written += data
            assert len(written) < 256 * MIB
            await asyncio.sleep(0)
        transport.resume_reading()
        await protocol.received(len(written))
        assert protocol.data == written
        assert "resume_writing" in protocol.calls
        await ended(protocol, server)

    run(loop, main())


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="None is immortal from Python 3.12 on, and counts nothing")
def test_references_to_none_are_given_back(loop, server_context, client_context):
    """Each record took one more, through the buffer that lends OpenSSL its memory."""
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
        transport, protocol = await loop.create_connection(
            Recorder, *address_of(server), ssl=client_context, server_hostname="localhost")
        before = sys.getrefcount(None)
        transport.write(bytes(4 * MIB))
        await protocol.received(4 * MIB)
        records = 4 * MIB // 16384
        assert sys.getrefcount(None) - before < records
        await ended(protocol, server)

    run(loop, main())


def test_streams(loop, server_context, client_context):
    async def serve(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
        reader, writer = await asyncio.open_connection(
            *address_of(server), ssl=client_context, server_hostname="localhost")
        writer.write(b"hello\n")
        assert await reader.read() == b"HELLO\n"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(loop, main())
