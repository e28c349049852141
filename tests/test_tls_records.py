"""TLS records on the wire, whoever seals and opens them: in pieces, corrupt, at the end, behind the handshake."""

import asyncio
import contextlib
import ssl
import subprocess

import certificates
import pytest
from driving import LIMIT_S, in_thread, run
from peers import connected, listening, pattern, reset
from recorders import BufferedRecorder, Echo, Recorder
from tls_wire import WirePeer, serving

MIB = 1024 * 1024
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def another(tmp_path_factory):
    return certificates.make(tmp_path_factory.mktemp("another"), "client")


@pytest.fixture(params=[TLS12, TLS13], ids=["1.2", "1.3"])
def version(request):
    return request.param


def only(context, version):
    context.minimum_version = context.maximum_version = version
    return context


def talking(loop, factory, certificate, version, talk):
    """Has a blocking client talk to a TLS server on the loop; answers what talk(peer) does, and the protocol."""
    made = []

    def make():
        made.append(factory())
        return made[-1]

    def client(address):
        peer = WirePeer(connected(address), only(certificate.client(), version))
        try:
            return talk(peer)
        finally:
            peer.close()

    async def main():
        async with serving(loop, make, only(certificate.server(), version)) as address:
            answer = await in_thread(client, address)
            if isinstance(made[0], Recorder):
                await made[0].called("connection_lost")
            return answer

    return run(loop, main()), made[0]


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_in_pieces(loop, certificate, version, step):
    data = pattern(3000)

    def talk(peer):
        peer.handshake(step=step)
        peer.send(peer.seal(data), step=step)
        return peer.read(len(data))

    answer, _ = talking(loop, Echo, certificate, version, talk)
    assert answer == data


@pytest.mark.parametrize("size", [1, 100, 16 * 1024, 50_000])
def test_data_that_comes_with_the_end_of_the_handshake(loop, certificate, version, size):
    data = pattern(size)

    def talk(peer):
        peer.handshake(behind=data)
        return peer.read(size)

    answer, _ = talking(loop, Echo, certificate, version, talk)
    assert answer == data


@pytest.mark.parametrize("size", [0, 1, 50_000])
def test_all_that_comes_with_the_end_of_the_handshake(loop, certificate, version, size):
    """Data, close_notify and the end of the stream."""
    data = pattern(size)

    def talk(peer):
        peer.handshake(behind=data, last=True)
        peer.drain()

    _, protocol = talking(loop, Recorder, certificate, version, talk)
    assert protocol.data == data
    assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
    assert protocol.lost_with is None


@pytest.mark.parametrize("make", [Recorder, lambda: BufferedRecorder(1000)], ids=["Protocol", "BufferedProtocol"])
@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 16_385, 100_000, MIB, 16 * MIB])
def test_sizes(loop, certificate, version, size, make):
    data = pattern(size)

    async def main():
        async with serving(loop, Echo, only(certificate.server(), version)) as address:
            transport, protocol = await loop.create_connection(
                make, *address, ssl=certificate.client(), server_hostname="localhost")
            transport.write(data)
            await protocol.received(size)
            assert protocol.data == data
            transport.close()
            await protocol.called("connection_lost")
            assert protocol.lost_with is None

    run(loop, main())


def test_many_small_writes_and_a_large_one(loop, certificate, version):
    parts = [pattern(n, seed=n) for n in range(1, 400)] + [pattern(3 * MIB)] + [b"", b"end"]

    async def main():
        async with serving(loop, Echo, only(certificate.server(), version)) as address:
            transport, protocol = await loop.create_connection(
                Recorder, *address, ssl=certificate.client(), server_hostname="localhost")
            for part in parts[:200]:
                transport.write(part)
            transport.writelines(parts[200:300])
            await asyncio.sleep(0)
            for part in parts[300:]:
                transport.write(part)
            data = b"".join(parts)
            await protocol.received(len(data))
            assert protocol.data == data
            transport.close()
            await protocol.called("connection_lost")

    run(loop, main())


def test_a_corrupt_record(loop, certificate, version):
    """The application gets OpenSSL's own error, and the peer the alert."""
    def talk(peer):
        peer.handshake()
        peer.send(peer.seal(b"good"))
        record = bytearray(peer.seal(b"bad"))
        record[-1] ^= 1
        peer.send(bytes(record))
        with pytest.raises(ssl.SSLError, match="(?i)alert.bad.record.mac"):
            peer.read(1)

    _, protocol = talking(loop, Recorder, certificate, version, talk)
    assert protocol.data == b"good"
    assert isinstance(protocol.lost_with, ssl.SSLError)
    assert "BAD_RECORD_MAC" in str(protocol.lost_with).upper()


def test_a_record_that_the_peer_finds_corrupt(loop, certificate, version):
    class Answering(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.write(b"hello")

    def talk(peer):
        peer.handshake()
        peer.send(peer.seal(b"hello?"))
        while True:     # behind session tickets, perhaps
            data = bytearray(peer.sock.recv(10_000))
            data[-1] ^= 1
            peer.incoming.write(bytes(data))
            try:
                peer.tls.read(100)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                break
        peer.send(peer.outgoing.read())
        while peer.sock.recv(1000):
            pass

    _, protocol = talking(loop, Answering, certificate, version, talk)
    assert isinstance(protocol.lost_with, ssl.SSLError)
    assert "ALERT_BAD_RECORD_MAC" in str(protocol.lost_with)


def test_a_header_that_no_record_has(loop, certificate, version):
    def talk(peer):
        peer.handshake()
        peer.send(b"\x17\x03\x03\xff\xff" + bytes(100))
        peer.drain()

    _, protocol = talking(loop, Recorder, certificate, version, talk)
    assert isinstance(protocol.lost_with, ssl.SSLError)


def test_an_end_without_close_notify(loop, certificate, version):
    def talk(peer):
        peer.handshake()
        peer.send(peer.seal(b"last"))
        peer.end()

    _, protocol = talking(loop, Recorder, certificate, version, talk)
    assert protocol.data == b"last"
    assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
    assert protocol.lost_with is None


def test_an_end_within_a_record(loop, certificate, version):
    def talk(peer):
        peer.handshake()
        peer.send(peer.seal(pattern(1000))[:500])
        peer.end()

    _, protocol = talking(loop, Recorder, certificate, version, talk)
    assert protocol.data == b""
    assert protocol.lost_with is None


def test_a_reset(loop, certificate, version):
    async def main():
        made = []

        def make():
            made.append(Recorder())
            return made[0]

        def client(address):
            peer = WirePeer(connected(address), only(certificate.client(), version)).handshake()
            peer.send(peer.seal(b"x"))
            return peer

        async with serving(loop, make, only(certificate.server(), version)) as address:
            peer = await in_thread(client, address)
            await made[0].received(1)
            reset(peer.sock)
            await made[0].called("connection_lost")
            assert isinstance(made[0].lost_with, ConnectionResetError)

    run(loop, main())


def test_close_notify_of_the_peer(loop, certificate, version):
    """It is the end of what comes, and is answered."""
    def talk(peer):
        peer.handshake()
        peer.send(peer.seal(b"last"))
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.tls.unwrap()
        peer.send(peer.outgoing.read())
        while peer.receive():
            pass
        peer.tls.unwrap()       # raises unless close_notify has come

    _, protocol = talking(loop, Recorder, certificate, version, talk)
    assert protocol.data == b"last"
    assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]


def test_reading_paused_and_resumed(loop, certificate, version):
    data = pattern(600_000)

    class Slow(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()
            assert not self.transport.is_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    def talk(peer):
        peer.handshake()
        peer.send(peer.seal(data[:300_000]) + peer.seal(data[300_000:]))
        peer.end()

    _, protocol = talking(loop, Slow, certificate, version, talk)
    assert protocol.data == data
    assert protocol.lost_with is None


def test_a_loop_that_stops_between(kloop, certificate, version):
    """Records come while the loop is not running, and between two threads that run it in turn."""
    data = pattern(200_000)
    loop = kloop.new_event_loop()
    try:
        server = run(loop, loop.create_server(Echo, "127.0.0.1", 0, ssl=only(certificate.server(), version)))
        transport, protocol = run(loop, loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=certificate.client(), server_hostname="localhost"))
        for end in range(len(data), 5 * len(data), len(data)):
            transport.write(data)
            loop.call_soon(loop.stop)
            loop.run_forever()
            asyncio.run(in_thread(lambda end=end: run(loop, protocol.received(end))))
        assert protocol.data == 4 * data
        transport.close()
        run(loop, protocol.called("connection_lost"))
        server.close()
        run(loop, server.wait_closed())
    finally:
        loop.close()


# ---- behind the handshake

def test_a_session_is_resumed(loop, certificate, version):
    """The client's SSLObject has the tickets of its server, and the server's take back the session."""
    context = only(certificate.client(), version)

    def again(address, session):
        with context.wrap_socket(connected(address), server_hostname="localhost", session=session) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            return sock.session_reused

    async def main():
        async with serving(loop, Echo, only(certificate.server(), version)) as address:
            transport, protocol = await loop.create_connection(
                Recorder, *address, ssl=context, server_hostname="localhost")
            transport.write(b"hello")
            await protocol.received(5)
            session = transport.get_extra_info("ssl_object").session
            assert session.has_ticket
            assert await in_thread(again, address, session)
            transport.close()
            await protocol.called("connection_lost")

    run(loop, main())


def test_a_certificate_that_is_asked_for_later(loop, certificate, another):
    """Post-handshake authentication of a client, RFC 8446, 4.6.2."""
    server_context = certificate.server()
    server_context.load_verify_locations(another.certificate)
    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.post_handshake_auth = True
    client_context = certificate.client()
    client_context.post_handshake_auth = True
    client_context.load_cert_chain(another.certificate, another.key)

    def serve(listener):
        with server_context.wrap_socket(listener.accept()[0], server_side=True) as sock:
            sock.settimeout(LIMIT_S)
            assert sock.recv(5) == b"hello" and not sock.getpeercert()
            sock.verify_client_post_handshake()
            sock.sendall(b"who are you?")
            assert sock.recv(5) == b"again"
            return sock.getpeercert()

    async def main():
        with listening() as listener:
            served = asyncio.ensure_future(in_thread(serve, listener))
            transport, protocol = await loop.create_connection(
                Recorder, *listener.getsockname(), ssl=client_context, server_hostname="localhost")
            transport.write(b"hello")
            await protocol.received(12)
            transport.write(b"again")
            certificate_shown = await served
            assert ("commonName", "client") in certificate_shown["subject"][0]
            await protocol.called("connection_lost")
            assert protocol.lost_with is None

    run(loop, main())


@pytest.mark.parametrize("paused", [False, True], ids=["reading", "paused"])
def test_another_handshake(loop, certificate, paused):
    """A TLS 1.2 server asks for it (RFC 5246, 7.4.1.1); data passes before, during and after."""
    data = pattern(100_000, seed=5).replace(b"\n", b" ").replace(b"\r", b" ")
    context = certificate.client()
    context.options &= ~ssl.OP_NO_RENEGOTIATION

    async def main():
        with listening() as listener:
            port = listener.getsockname()[1]
        server = await asyncio.create_subprocess_exec(
            "openssl", "s_server", "-accept", str(port), "-key", certificate.key, "-cert", certificate.certificate,
            "-tls1_2", "-msg", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            limit=10 * len(data))

        async def says(*wanted):
            """In whatever order."""
            async def read():
                missing = set(wanted)
                while missing:
                    line = await server.stdout.readline()
                    assert line, f"the server ended without {missing}"
                    missing = {text for text in missing if text not in line}
            await asyncio.wait_for(read(), LIMIT_S)

        try:
            await says(b"ACCEPT")
            transport, protocol = await loop.create_connection(
                Recorder, "127.0.0.1", port, ssl=context, server_hostname="localhost")
            for number in range(2):
                transport.write(data + b"\nbefore %d\n" % number)
                await says(b"before %d" % number)
                received = len(protocol.data)
                server.stdin.write(b"text %d\n" % number)
                await protocol.received(received + 7)
                if paused:
                    transport.pause_reading()
                server.stdin.write(b"r\n")     # it takes commands only at the beginning of what it reads
                await says(b"HelloRequest")
                if paused:
                    transport.resume_reading()
                transport.write(data + b"\nbehind %d\n" % number)
                await says(b"<<< TLS 1.2, Handshake [length 0010], Finished", b"behind %d" % number)
                received = len(protocol.data)
                server.stdin.write(b"hello %d\n" % number)
                await protocol.received(received + 8)
                assert protocol.data.endswith(b"hello %d\n" % number)
            assert protocol.data == b"text 0\nhello 0\ntext 1\nhello 1\n"
            transport.close()
            await protocol.called("connection_lost")
            assert protocol.lost_with is None
        finally:
            if server.returncode is None:
                server.kill()
            await server.communicate()

    run(loop, main())
