"""Who has the records of a TLS connection: the hand-over from the SSLObject, what refuses it, the key log."""

import asyncio
import contextlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading

import pytest
from children import run_python
from driving import LIMIT_S, in_thread, run
from peers import connected, environment, listening, pair, pattern
from recorders import Echo, Recorder

SUITES_12 = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305")
SUITES_13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
CBC = "ECDHE-ECDSA-AES128-SHA256"
MUCH = 300_000


@pytest.fixture
def loop(kloop, request):
    """A loop with these TLSOptions, whatever KLOOP_TLS says."""
    options = getattr(request, "param", {"offload": "go"})
    loop = kloop.new_event_loop(tls=kloop.TLSOptions(**options))
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def who(transport):
    return transport.get_extra_info("kloop_tls")


@contextlib.asynccontextmanager
async def both_ends(loop, server_context, client_context, path=None):
    """The transports of a TLS connection between two ends on the loop: server's, client's, and its protocol."""
    made = []

    def factory():
        made.append(Echo())
        return made[-1]

    if path is None:
        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=server_context)
        transport, protocol = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost")
    else:
        server = await loop.create_unix_server(factory, path, ssl=server_context)
        transport, protocol = await loop.create_unix_connection(
            Recorder, path, ssl=client_context, server_hostname="localhost")
    transport.write(b"x")
    await protocol.received(1)
    try:
        yield made[0].transport, transport, protocol
    finally:
        transport.close()
        await protocol.called("connection_lost")
        server.close()
        await server.wait_closed()


def check(loop, server_context, client_context, path=None):
    """Has MUCH echoed; answers who had the records at each end."""
    async def main():
        async with both_ends(loop, server_context, client_context, path) as (server, client, protocol):
            data = pattern(MUCH)
            client.write(data)
            await protocol.received(1 + MUCH)
            assert protocol.data == b"x" + data
            return who(server), who(client)

    return run(loop, main())


# ---- where the core has them

@pytest.mark.parametrize("suite", SUITES_12)
def test_suites_of_tls_12(loop, certificate, suite):
    context = certificate.server()
    context.set_ciphers(suite)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert check(loop, context, certificate.client()) == (("go", "go", ""),) * 2


def test_over_a_unix_socket(loop, certificate, tmp_path):
    assert check(loop, certificate.server(), certificate.client(), str(tmp_path / "s")) == (("go", "go", ""),) * 2


@pytest.mark.parametrize("suite", SUITES_13)
@pytest.mark.parametrize("role", ["server", "client"])
def test_suites_of_tls_13_with_openssl(loop, certificate, suite, role):
    data = pattern(MUCH, seed=2).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"

    async def serve_openssl():
        server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=certificate.server())
        port = server.sockets[0].getsockname()[1]
        made = loop.create_future()

        class Once(Echo):
            def connection_made(self, transport):
                super().connection_made(transport)
                made.set_result(transport)

        server.close()
        server = await loop.create_server(Once, "127.0.0.1", port, ssl=certificate.server())
        client = await asyncio.create_subprocess_exec(
            "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet", "-ciphersuites", suite,
            "-CAfile", certificate.certificate,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, limit=2 * MUCH)
        client.stdin.write(data)
        assert await client.stdout.readline() == data
        transport = await made
        found = who(transport), transport.get_extra_info("cipher")[0]
        client.stdin.close()
        client.kill()
        await client.wait()
        server.close()
        return found

    async def ask_openssl():
        with listening() as listener:
            port = listener.getsockname()[1]
        server = await asyncio.create_subprocess_exec(
            "openssl", "s_server", "-accept", str(port), "-key", certificate.key, "-cert", certificate.certificate,
            "-rev", "-ciphersuites", suite,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            while b"ACCEPT" not in await server.stdout.readline():
                pass
            transport, protocol = await loop.create_connection(
                Recorder, "127.0.0.1", port, ssl=certificate.client(), server_hostname="localhost")
            for text in (b"one", b"two", pattern(5000).hex().encode()):
                received = len(protocol.data)
                transport.write(text + b"\n")
                await protocol.received(received + len(text) + 1)
                assert protocol.data[received:] == text[::-1] + b"\n"
            found = who(transport), transport.get_extra_info("cipher")[0]
            transport.close()
            await protocol.called("connection_lost")
            return found
        finally:
            server.kill()
            await server.communicate()

    assert run(loop, serve_openssl() if role == "server" else ask_openssl()) == (("go", "go", ""), suite)


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_curl(loop, certificate):
    body = pattern(MUCH)

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        await writer.drain()
        found.append(who(writer))
        writer.close()

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=certificate.server())
        port = server.sockets[0].getsockname()[1]
        curl = await asyncio.create_subprocess_exec(
            "curl", "--silent", "--noproxy", "*", "--cacert", certificate.certificate, f"https://localhost:{port}/",
            stdout=subprocess.PIPE, env=environment())
        received, _ = await curl.communicate()
        assert received == body
        server.close()

    found = []
    run(loop, main())
    assert found == [("go", "go", "")]


@pytest.mark.parametrize("loop", [{"offload": "go", "workers": 3, "threshold": 100_000}], indirect=True)
def test_large_writes_by_several_threads(loop, certificate):
    data = pattern(5_000_000)

    async def main():
        async with both_ends(loop, certificate.server(), certificate.client()) as (_, client, protocol):
            for part in (data[:100_000], data[100_000:100_001], data[100_001:]):
                client.write(part)
            await protocol.received(1 + len(data))
            assert protocol.data == b"x" + data

    run(loop, main())


class RecordingEcho(Recorder):
    def data_received(self, data):
        super().data_received(data)
        self.transport.write(data)


def test_an_upgraded_connection(loop, certificate):
    """start_tls(), with the first data behind the handshake's last flight."""
    data = pattern(MUCH)

    def talk(sock):
        context = certificate.client()
        with context.wrap_socket(sock, server_hostname="localhost") as tls:
            tls.sendall(data)
            received = b""
            while len(received) < len(data):
                received += tls.recv(65536)
            return received

    async def main():
        ours, peer = pair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        protocol = RecordingEcho()
        answer = asyncio.ensure_future(in_thread(talk, peer))
        upgraded = await loop.start_tls(transport, protocol, certificate.server(), server_side=True)
        protocol.transport = upgraded
        assert who(upgraded) == ("go", "go", "")
        assert await answer == data
        await protocol.called("connection_lost")
        assert protocol.lost_with is None

    run(loop, main())


def test_counts(loop, certificate):
    check(loop, certificate.server(), certificate.client())
    context = certificate.server()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CBC)
    check(loop, context, certificate.client())
    stats = loop.stats()
    assert (stats["tls_kernel"], stats["tls_go"], stats["tls_ssl"]) == (0, 2, 2)


# ---- where it has not


def cbc(server, _):
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    server.set_ciphers(CBC)


def own_key_log(server, client):
    server.keylog_filename = client.keylog_filename = os.devnull


def later_authentication(server, _):
    server.post_handshake_auth = True


def own_wrap_bio(server, client):
    class Context(ssl.SSLContext):
        def wrap_bio(self, *args, **options):
            return super().wrap_bio(*args, **options)
    server.__class__ = client.__class__ = Context


def own_object(server, client):
    class Object(ssl.SSLObject):
        def read(self, *args):
            return super().read(*args)
    server.sslobject_class = client.sslobject_class = Object


@pytest.mark.parametrize("change, reason, at_client", [
    (cbc, "cipher suite 0xC023 of TLS 1.2 is not AES-GCM or ChaCha20-Poly1305", True),
    (own_key_log, "the context has a keylog_filename: its secrets are for that file", True),
    (later_authentication, "post_handshake_auth of a server", False),
    (own_wrap_bio, "the context has a wrap_bio() of its own", True),
    (own_object, "reading and writing are not those of ssl.SSLObject", True),
], ids=lambda value: getattr(value, "__name__", None))
def test_refusals(loop, certificate, change, reason, at_client):
    server, client = certificate.server(), certificate.client()
    change(server, client)
    refused = ("ssl", "ssl", reason)
    assert check(loop, server, client) == (refused, refused if at_client else ("go", "go", ""))


@pytest.mark.parametrize("loop", [{"offload": "off"}], indirect=True)
def test_switched_off(loop, certificate):
    server, client = certificate.server(), certificate.client()
    off = ("ssl", "ssl", "it is switched off (offload='off')")
    assert check(loop, server, client) == (off, off)
    assert server.keylog_filename is client.keylog_filename is None


def test_tls_in_tls(loop, certificate):
    """The outer connection is handed over, the inner one has no socket."""
    async def main():
        async with both_ends(loop, certificate.server(), certificate.client()) as (server, client, outer):
            inner, protocol = Echo(), Recorder()
            upgrades = [loop.start_tls(server, inner, certificate.server(), server_side=True),
                        loop.start_tls(client, protocol, certificate.client(), server_hostname="localhost")]
            inner.transport, transport = await asyncio.gather(*upgrades)
            transport.write(b"hello")
            await protocol.received(5)
            assert protocol.data == b"hello"
            assert who(client) == who(server) == ("go", "go", "")
            assert who(transport) == ("ssl", "ssl", "the transport below is not a socket of the loop")
            transport.close()
            await protocol.called("connection_lost")
            outer.note("connection_lost")   # which another protocol has been told in its place

    run(loop, main())


# ---- the callback for server names

def test_a_context_chosen_by_name(loop, certificate):
    """The second context logs its secrets too, though nobody armed it before the handshake."""
    first, second = certificate.server(), certificate.server()

    def choose(sslobj, name, context):
        assert name == "localhost"
        sslobj.context = second

    first.sni_callback = choose
    assert check(loop, first, certificate.client()) == (("go", "go", ""),) * 2


def test_a_context_chosen_by_name_that_logs_elsewhere(loop, certificate):
    first, second = certificate.server(), certificate.server()
    second.keylog_filename = os.devnull
    first.sni_callback = lambda sslobj, name, context: setattr(sslobj, "context", second)
    server, client = check(loop, first, certificate.client())
    assert server == ("ssl", "ssl", "the context has a keylog_filename: its secrets are for that file")
    assert client == ("go", "go", "")


# ---- the key log

def log_size():
    """The bytes of lines in the key log; one that was overwritten has but its end left."""
    keylog = sys.modules["kloop.tls_offload"].keylog
    return len(os.pread(keylog.fd, 1 << 20, 0).replace(b"\0", b"").replace(b"\n", b""))


def test_no_secret_is_left_in_the_key_log(loop, certificate):
    server, client = certificate.server(), certificate.client()
    check(loop, server, client)
    assert log_size() == 0


def test_the_key_log_of_a_context_that_others_use(loop, certificate):
    """Their secrets are removed as well, when the loop looks at the log."""
    server, client = certificate.server(), certificate.client()

    def talk(address):
        with client.wrap_socket(connected(address), server_hostname="localhost") as sock:
            sock.sendall(b"x")
            return sock.recv(1)

    async def main():
        async with both_ends(loop, server, client) as (transport, _, _):
            with listening() as listener:
                def accept():
                    with server.wrap_socket(listener.accept()[0], server_side=True) as sock:
                        sock.sendall(sock.recv(1))
                served = asyncio.ensure_future(in_thread(accept))
                assert await in_thread(talk, listener.getsockname()) == b"x"
                await served
            assert log_size() > 0
            async with asyncio_timeout():
                while log_size():
                    await asyncio.sleep(0.05)

    run(loop, main())


@contextlib.asynccontextmanager
async def asyncio_timeout():
    """asyncio.timeout() is Python 3.11's."""
    task = asyncio.current_task()
    handle = asyncio.get_running_loop().call_later(LIMIT_S, task.cancel)
    try:
        yield
    finally:
        handle.cancel()


def test_contexts_shared_by_threads(kloop, certificate):
    """Several loops and blocking sockets make handshakes with the same contexts at the same time."""
    server, client = certificate.server(), certificate.client()
    found, failures = [], []

    def work():
        loop = kloop.new_event_loop(tls=kloop.TLSOptions(offload="go"))
        try:
            for _ in range(30):
                found.extend(check_short(loop, server, client))
        except BaseException as exc:
            failures.append(exc)
        finally:
            loop.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(found) == 240 and set(found) == {("go", "go", "")}
    assert log_size() == 0


def check_short(loop, server_context, client_context):
    async def main():
        async with both_ends(loop, server_context, client_context) as (server, client, _):
            return who(server), who(client)

    return run(loop, main())


def test_a_forked_child(certificate, tmp_path):
    """What the parent has armed writes to the parent's log; a context of the child's own is taken over."""
    out = run_python("""
        import asyncio, json, os, ssl, sys
        import kloop
        key, cert = sys.argv[1:]

        def contexts():
            server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.load_cert_chain(cert, key)
            return server, ssl.create_default_context(cafile=cert)

        async def main(server_context, client_context):
            async def echo(reader, writer):
                writer.write(await reader.readexactly(1))
                await reader.read()
                writer.close()
            server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost")
            writer.write(b"x")
            await reader.readexactly(1)
            found = writer.get_extra_info("kloop_tls")
            writer.close()
            await writer.wait_closed()
            server.close()
            return found

        tls = kloop.TLSOptions(offload="go")
        pair = contexts()
        print(json.dumps(kloop.run(main(*pair), tls=tls)), flush=True)
        pid = os.fork()
        if pid == 0:
            print(json.dumps(kloop.run(main(*pair), tls=tls)), flush=True)
            print(json.dumps(kloop.run(main(*contexts()), tls=tls)), flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        print(json.dumps(kloop.run(main(*pair), tls=tls)), flush=True)
        """, str(certificate.key), str(certificate.certificate))
    parent, inherited, own, again = map(json.loads, out.splitlines())
    assert parent == own == again == ["go", "go", ""]
    assert inherited[:2] == ["ssl", "ssl"] and "keylog_filename" in inherited[2]


# ---- options

@pytest.mark.parametrize("options, text", [
    ({"offload": "gpu"}, "offload='gpu': use one of auto, kernel, go, off"),
    ({"workers": -1}, "workers=-1: give a number from 0 to 1024"),
    ({"threshold": 0}, "threshold=0: give a number of bytes from 1 to 4294967295"),
    ({"background": 1 << 32}, "background=4294967296: give a number of bytes from 0 to 4294967295"),
])
def test_options_that_are_none(kloop, options, text):
    with pytest.raises(ValueError, match=text):
        kloop.TLSOptions(**options)


def test_the_environment_chooses(kloop, monkeypatch):
    monkeypatch.setenv("KLOOP_TLS", "off")
    assert kloop.TLSOptions().offload == "off"
    assert kloop.TLSOptions(offload="go").offload == "go"
    monkeypatch.setenv("KLOOP_TLS", "nonsense")
    with pytest.raises(ValueError, match="KLOOP_TLS='nonsense': use one of"):
        kloop.new_event_loop()
    monkeypatch.setenv("KLOOP_TLS", "")
    assert kloop.TLSOptions().offload == "auto"
