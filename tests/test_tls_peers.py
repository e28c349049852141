"""TLS against the standard library's blocking sockets, and against openssl(1)."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
import threading

import certificates
import pytest
from driving import LIMIT_S, in_thread, reports, run, turns
from peers import connected, listening, pattern, read_all, read_exactly, reset
from recorders import BufferedRecorder, Echo, Recorder
from tls_wire import serving

MIB = 1024 * 1024
# Bytes that a server may hold back before it stops reading.
TURN_SIZE = 256 * 1024
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="session")
def another(tmp_path_factory):
    return certificates.make(tmp_path_factory.mktemp("tls"), "another.example")


@contextlib.asynccontextmanager
async def connected_to(loop, context, serve, factory=Recorder, **options):
    """A client of the loop whose server is serve(socket), a function in a thread, over TLS or not."""
    with listening() as listener:
        def accept():
            sock, _ = listener.accept()
            sock.settimeout(LIMIT_S)
            with sock:
                return serve(sock)

        served = asyncio.ensure_future(in_thread(accept))
        try:
            transport, protocol = await loop.create_connection(
                factory, *listener.getsockname(), ssl=context, server_hostname="localhost", **options)
            yield transport, protocol
        finally:
            await served


def one_version(context, version):
    context.minimum_version = context.maximum_version = version
    return context


def talk(address, context, work):
    with connected(address) as raw, context.wrap_socket(raw, server_hostname="localhost") as sock:
        return work(sock)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [1, 2, 16_383, 16_384, 16_385, 65_536, 65_537, 1_000_003, 16 * MIB])
def test_an_echo_of_every_size(loop, certificate, version, size):
    data = pattern(size)

    def work(sock):
        # By turns: an SSLSocket is not for two threads at once.
        received = b""
        for start in range(0, size, TURN_SIZE):
            sock.sendall(data[start:start + TURN_SIZE])
            received += read_exactly(sock, min(TURN_SIZE, size - start))
        return received

    async def main():
        async with serving(loop, Echo, one_version(certificate.server(), version)) as address:
            assert await in_thread(talk, address, certificate.client(), work) == data

    run(loop, main(), 3 * LIMIT_S)


@pytest.mark.parametrize("version", VERSIONS)
def test_ciphertext_that_comes_byte_by_byte(loop, certificate, version):
    """The boundaries of records are found wherever the stream is cut."""
    data = pattern(700)

    def work(address):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = certificate.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with connected(address) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def done(step, *args):
                while True:
                    try:
                        result = step(*args)
                    except ssl.SSLWantReadError:
                        drip()
                        incoming.write(sock.recv(65536))
                    else:
                        drip()
                        return result

            def drip():
                for byte in outgoing.read():
                    sock.send(bytes([byte]))

            done(tls.do_handshake)
            received = b""
            for start in range(0, len(data), 100):
                done(tls.write, data[start:start + 100])
            while len(received) < len(data):
                received += done(tls.read, 65536)
            return received

    async def main():
        async with serving(loop, Echo, one_version(certificate.server(), version)) as address:
            assert await in_thread(work, address) == data

    run(loop, main())


def test_small_writes_of_one_turn_are_one_record(loop, certificate):
    """Ciphertext is counted at the peer: 100 records would be 2,200 bytes longer."""
    def serve(sock):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = certificate.server().wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        sock.sendall(outgoing.read())
        ciphertext, plaintext = incoming.pending, b""
        while len(plaintext) < 1000:
            try:
                plaintext += tls.read(65536)
            except ssl.SSLWantReadError:
                chunk = sock.recv(65536)
                ciphertext += len(chunk)
                incoming.write(chunk)
        return plaintext, ciphertext

    async def main():
        with listening() as listener:
            served = asyncio.ensure_future(in_thread(lambda: accept_and(listener, serve)))
            transport, protocol = await loop.create_connection(
                Recorder, *listener.getsockname(), ssl=certificate.client(), server_hostname="localhost")
            for i in range(100):
                transport.write(b"%010d" % i)
            plaintext, ciphertext = await served
            transport.abort()
            await protocol.called("connection_lost")
        assert plaintext == b"".join(b"%010d" % i for i in range(100))
        assert ciphertext < 1000 + 100

    run(loop, main())


def accept_and(listener, serve):
    sock, _ = listener.accept()
    sock.settimeout(LIMIT_S)
    with sock:
        return serve(sock)


@pytest.mark.parametrize("room", [1, 1000, 16_384, 200_000])
def test_a_protocol_that_owns_its_buffer(loop, certificate, room):
    data = pattern(50_000)

    def serve(sock):
        with certificate.server().wrap_socket(sock, server_side=True) as tls:
            tls.sendall(data)
            return read_all(tls)

    async def main():
        async with connected_to(
                loop, certificate.client(), serve, lambda: BufferedRecorder(room)) as (transport, protocol):
            await protocol.received(len(data))
            assert protocol.data == data
            transport.close()
            await protocol.called("connection_lost")

    run(loop, main())


def test_an_empty_buffer_of_a_protocol_is_an_error(loop, certificate):
    def serve(sock):
        with contextlib.suppress(OSError), certificate.server().wrap_socket(sock, server_side=True) as tls:
            tls.sendall(b"data")
            read_all(tls)

    async def main():
        async with connected_to(
                loop, certificate.client(), serve, lambda: BufferedRecorder(0)) as (_, protocol):
            await protocol.called("connection_lost")
            assert isinstance(protocol.lost_with, RuntimeError)

    with reports(loop) as contexts:
        run(loop, main())
    assert [context["message"] for context in contexts] == ["Fatal error on SSL protocol"]


def test_a_clean_end_by_the_peer(loop, certificate):
    def serve(sock):
        tls = certificate.server().wrap_socket(sock, server_side=True)
        tls.sendall(b"last words")
        tls.unwrap().close()

    async def main():
        async with connected_to(loop, certificate.client(), serve) as (_, protocol):
            await protocol.called("connection_lost")
            assert protocol.data == b"last words"
            assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
            assert protocol.lost_with is None

    run(loop, main())


def test_an_end_without_close_notify(loop, certificate):
    def serve(sock):
        tls = certificate.server().wrap_socket(sock, server_side=True)
        tls.sendall(b"last words")
        tls.close()

    async def main():
        async with connected_to(loop, certificate.client(), serve) as (_, protocol):
            await protocol.called("connection_lost")
            assert protocol.data == b"last words"
            assert protocol.calls[-2:] == ["eof_received", "connection_lost"]

    run(loop, main())


def test_a_reset_by_the_peer(loop, certificate):
    def serve(sock):
        tls = certificate.server().wrap_socket(sock, server_side=True)
        tls.sendall(b"x")
        read_exactly(tls, 1)
        reset(tls)

    async def main():
        async with connected_to(loop, certificate.client(), serve) as (transport, protocol):
            await protocol.received(1)
            transport.write(b"y")
            await protocol.called("connection_lost")
            assert isinstance(protocol.lost_with, ConnectionResetError)

    run(loop, main())


def test_garbage_instead_of_a_record(loop, certificate):
    def serve(sock):
        tls = certificate.server().wrap_socket(sock, server_side=True)
        tls.sendall(b"x")
        read_exactly(tls, 1)
        raw = tls.detach()
        with socket.socket(fileno=raw) as plain:
            plain.settimeout(LIMIT_S)
            plain.sendall(b"this is no record of TLS" * 10)
            with contextlib.suppress(ConnectionResetError):
                read_all(plain)

    async def main():
        async with connected_to(loop, certificate.client(), serve) as (transport, protocol):
            await protocol.received(1)
            transport.write(b"y")
            await protocol.called("connection_lost")
            assert isinstance(protocol.lost_with, ssl.SSLError)

    run(loop, main())


def test_everything_written_before_close_arrives(loop, certificate):
    """More than the sockets hold, for a peer that begins to read only after close()."""
    data = pattern(8 * MIB)
    closed = threading.Event()

    def serve(sock):
        tls = certificate.server().wrap_socket(sock, server_side=True)
        assert closed.wait(LIMIT_S)
        received = read_all(tls)
        tls.unwrap().close()
        return received

    async def main():
        with listening() as listener:
            served = asyncio.ensure_future(in_thread(lambda: accept_and(listener, serve)))
            transport, protocol = await loop.create_connection(
                Recorder, *listener.getsockname(), ssl=certificate.client(), server_hostname="localhost")
            transport.write(data)
            assert transport.get_write_buffer_size() > 0
            assert "pause_writing" in protocol.calls
            transport.close()
            assert transport.is_closing()
            closed.set()
            await protocol.called("connection_lost")
            assert protocol.lost_with is None
            assert await served == data

    run(loop, main())


def test_close_while_the_peer_still_sends(loop, certificate):
    """What it sends is dropped, and what was written arrives: on asyncio the connection is reset."""
    answer = pattern(300_000)

    def serve(sock):
        tls = certificate.server().wrap_socket(sock, server_side=True)
        tls.sendall(pattern(60_000))
        first = tls.recv(1)
        tls.sendall(pattern(60_000))
        received = first + read_all(tls)
        tls.unwrap().close()
        return received

    async def main():
        with listening() as listener:
            served = asyncio.ensure_future(in_thread(lambda: accept_and(listener, serve)))
            transport, protocol = await loop.create_connection(
                Recorder, *listener.getsockname(), ssl=certificate.client(), server_hostname="localhost")
            transport.pause_reading()
            transport.write(answer)
            transport.close()
            await protocol.called("connection_lost")
            assert protocol.lost_with is None
            assert await served == answer

    run(loop, main())


def test_close_with_reading_paused_after_the_end(loop, certificate):
    """The stream ended while the application took nothing: close() need not wait for it."""
    def serve(sock):
        certificate.server().wrap_socket(sock, server_side=True).close()

    async def main():
        async with connected_to(loop, certificate.client(), serve) as (transport, protocol):
            transport.pause_reading()
            await turns()
        await asyncio.sleep(0)
        transport.close()
        await protocol.called("connection_lost")

    run(loop, main())


def test_a_peer_that_never_answers_close(loop, certificate):
    async def main():
        with listening() as listener:
            held = []

            def accept():
                sock, _ = listener.accept()
                sock.settimeout(LIMIT_S)
                held.append(certificate.server().wrap_socket(sock, server_side=True))

            served = asyncio.ensure_future(in_thread(accept))
            waiter = loop.create_future()
            sock = connected(listener.getsockname())
            sock.setblocking(False)
            protocol = Recorder()
            loop._make_ssl_transport(
                sock, protocol, certificate.client(), waiter, server_hostname="localhost",
                ssl_shutdown_timeout=0.1)
            await waiter
            await served
            protocol.transport.close()
            await protocol.called("connection_lost")
            assert isinstance(protocol.lost_with, asyncio.TimeoutError)
            assert str(protocol.lost_with) == "SSL shutdown timed out"
            held[0].close()

    run(loop, main())


def test_abort_drops_everything(loop, certificate):
    def serve(sock):
        tls = certificate.server().wrap_socket(sock, server_side=True)
        with contextlib.suppress(OSError):
            read_all(tls)
        tls.close()

    async def main():
        async with connected_to(loop, certificate.client(), serve) as (transport, protocol):
            transport.write(b"x" * MIB)
            transport.abort()
            await protocol.called("connection_lost")
            assert protocol.lost_with is None
            transport.write(b"ignored")
            assert transport.get_write_buffer_size() == 0

    run(loop, main())


def test_the_peer_learns_why_its_certificate_is_refused(loop, certificate, another):
    """The alert of a failed handshake is sent before the connection is closed."""
    def serve(sock):
        with pytest.raises(ssl.SSLError, match="(?i)unknown.ca"):
            certificate.server().wrap_socket(sock, server_side=True)

    async def main():
        with pytest.raises(ssl.SSLCertVerificationError):
            async with connected_to(loop, another.client(), serve):
                pass

    run(loop, main())


def test_a_client_certificate(loop, certificate, another):
    server, client = certificate.server(), certificate.client()
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(another.certificate)
    client.load_cert_chain(another.certificate, another.key)
    peers = []

    class Notes(Echo):
        def connection_made(self, transport):
            super().connection_made(transport)
            peers.append(transport.get_extra_info("peercert")["subject"])

    async def main():
        async with serving(loop, Notes, server) as address:
            assert await in_thread(talk, address, client, lambda sock: (sock.sendall(b"x"), sock.recv(1))[1]) == b"x"
        assert peers == [((("commonName", "another.example"),),)]

    run(loop, main())


def test_alpn_and_a_context_chosen_by_name(loop, certificate, another):
    """The SNI callback swaps the context in the middle of the handshake."""
    server, chosen = certificate.server(), another.server()
    chosen.set_alpn_protocols(["h2", "http/1.1"])
    names = []

    def choose(tls, name, context):
        names.append(name)
        tls.context = chosen

    server.sni_callback = choose
    client = another.client()
    client.set_alpn_protocols(["http/1.1"])

    async def main():
        async with serving(loop, Echo, server) as address:
            transport, protocol = await loop.create_connection(
                Recorder, *address, ssl=client, server_hostname="another.example")
            tls = transport.get_extra_info("ssl_object")
            assert tls.selected_alpn_protocol() == "http/1.1"
            assert tls.context is client
            transport.write(b"hello")
            await protocol.received(5)
            transport.close()
            await protocol.called("connection_lost")
        assert names == ["another.example"]

    run(loop, main())


class StrangeObject(ssl.SSLObject):
    """An SSLObject with a way of its own to read: it must be asked."""

    def read(self, len=1024, buffer=None):
        if buffer is not None:
            return super().read(min(len, 7), buffer)
        return super().read(min(len, 7))


@pytest.mark.parametrize("factory", [Recorder, lambda: BufferedRecorder(1000)])
def test_an_ssl_object_of_somebody_else(loop, certificate, factory):
    client = certificate.client()
    client.sslobject_class = StrangeObject
    data = pattern(5000)

    async def main():
        async with serving(loop, Echo, certificate.server()) as address:
            transport, protocol = await loop.create_connection(
                factory, *address, ssl=client, server_hostname="localhost")
            transport.write(data)
            await protocol.received(len(data))
            assert protocol.data == data
            transport.close()
            await protocol.called("connection_lost")

    run(loop, main())


def test_tls_in_tls(loop, certificate):
    """A TLS connection through one that is encrypted itself, as to an HTTPS proxy."""
    data = pattern(200_000)

    class Upgrades(Echo):
        """Echoes under a second layer of TLS."""

        def data_received(self, received):
            assert received == b"U"
            self.transport.write(b"R")
            self.task = asyncio.ensure_future(self.upgrade())

        async def upgrade(self):
            inner = Echo()
            inner.connection_made(await loop.start_tls(
                self.transport, inner, certificate.server(), server_side=True))

    async def main():
        async with serving(loop, Upgrades, certificate.server()) as address:
            outer, protocol = await loop.create_connection(
                Recorder, *address, ssl=certificate.client(), server_hostname="localhost")
            outer.write(b"U")
            await protocol.received(1)
            inner = Recorder()
            transport = await loop.start_tls(outer, inner, certificate.client(), server_hostname="localhost")
            transport.write(data)
            await inner.received(len(data))
            assert inner.data == data
            transport.close()
            await inner.called("connection_lost")

    run(loop, main())


def test_writes_of_another_thread(loop, certificate):
    async def main():
        async with serving(loop, Echo, certificate.server()) as address:
            transport, protocol = await loop.create_connection(
                Recorder, *address, ssl=certificate.client(), server_hostname="localhost")

            def work():
                for i in range(1000):
                    transport.write(b"%04d" % i)

            await in_thread(work)
            await protocol.received(4000)
            assert protocol.data == b"".join(b"%04d" % i for i in range(1000))
            transport.close()
            await protocol.called("connection_lost")

    run(loop, main())


def test_a_server_of_openssl(loop, certificate):
    with listening() as listener:
        port = listener.getsockname()[1]

    async def main():
        server = await asyncio.create_subprocess_exec(
            "openssl", "s_server", "-accept", str(port), "-key", str(certificate.key), "-cert",
            str(certificate.certificate), "-rev", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL)
        try:
            while b"ACCEPT" not in (line := await server.stdout.readline()):
                assert line, "the server ended"
            transport, protocol = await loop.create_connection(
                Recorder, "127.0.0.1", port, ssl=certificate.client(), server_hostname="localhost")
            transport.write(b"abcdef\n")
            await protocol.received(7)
            assert protocol.data == b"fedcba\n"
            transport.close()
            await protocol.called("connection_lost")
        finally:
            server.kill()
            await server.communicate()

    run(loop, main())


def test_flow_control_limits(loop, certificate):
    async def main():
        async with serving(loop, Echo, certificate.server()) as address:
            transport, protocol = await loop.create_connection(
                Recorder, *address, ssl=certificate.client(), server_hostname="localhost")
            assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
            transport.set_write_buffer_limits(high=0)
            assert transport.get_write_buffer_limits() == (0, 0)
            with pytest.raises(ValueError, match="must be >= low"):
                transport.set_write_buffer_limits(high=1, low=2)
            transport.set_read_buffer_limits(high=1000)
            assert transport.get_read_buffer_limits() == (250, 1000)
            with pytest.raises(TypeError, match="^data: expecting a bytes-like instance, got str$"):
                transport.write("text")
            with pytest.raises(NotImplementedError):
                transport.write_eof()
            assert not transport.can_write_eof()
            transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
            await protocol.received(3)
            assert protocol.data == b"abc"
            assert transport.get_write_buffer_size() == transport.get_read_buffer_size() == 0
            transport.close()
            await protocol.called("connection_lost")

    run(loop, main())


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_timeouts_must_be_positive(loop, certificate, name):
    class Wire(asyncio.Transport):
        _start_tls_compatible = True

    async def main():
        with pytest.raises(ValueError, match=f"^{name} should be a positive number, got 0$"):
            await loop.start_tls(Wire(), Recorder(), certificate.client(), **{name: 0})

    run(loop, main())
