"""A TLS 1.3 server's OpenSSL object is freed with the hand-over; the SSLObject answers as before. Idle connections."""

import asyncio
import contextlib
import contextvars
import ctypes
import gc
import inspect
import re
import ssl
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from driving import LIMIT_S, in_thread, run, turns
from peers import connected, pattern
from recorders import Echo, Recorder
from test_tls_earning import WAITING, counts, handed_over
from test_tls_handover import both_ends, who
from test_tls_key_update import tls13
from tls_wire import WirePeer, serving

sys.path.append(str(Path(__file__).parents[1] / "bench" / "servers"))
import memory

NEVER_S = 100_000
AFTER = 100_000


@pytest.fixture
def loop(kloop, request):
    """Connections are handed over once the test says that they were idle."""
    options = getattr(request, "param", {"offload": "auto", "after": AFTER, "idle": NEVER_S})
    loop = kloop.new_event_loop(tls=kloop.TLSOptions(**options))
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def look_for_idle(loop):
    """What happens NEVER_S later."""
    from kloop import _core

    _core._look_for_idle(loop, None)


async def look(loop):
    look_for_idle(loop)
    await turns()


async def idle(loop):
    for _ in range(2):
        await look(loop)


ANSWERS = {
    "version": (), "cipher": (), "shared_ciphers": (), "selected_alpn_protocol": (),
    "compression": (), "getpeercert": (True,), "get_channel_binding": (), "pending": (), "do_handshake": (),
    "get_verified_chain": (), "get_unverified_chain": (), "group": (), "client_sigalg": (), "server_sigalg": (),
}
VALUES = ("context", "server_side", "server_hostname", "session_reused")
SESSION = ("id", "time", "timeout", "ticket_lifetime_hint", "has_ticket")


def told(sslobj):
    """All that an SSLObject tells."""
    answers = {name: getattr(sslobj, name)(*args) for name, args in ANSWERS.items() if hasattr(sslobj, name)}
    session = sslobj.session
    return {**answers, **{name: getattr(sslobj, name) for name in VALUES},
            "session": session and [getattr(session, name) for name in SESSION]}


def has_openssl(transport):
    return type(transport.get_extra_info("ssl_object")._sslobj).__module__ == "_ssl"


def test_nothing_is_missing():
    """Every method and property of ssl.SSLObject, and all that these use, is known to the tests and to the snapshot."""
    from kloop.ssl_snapshot import SSLSnapshot

    public = {name for name in vars(ssl.SSLObject) if not name.startswith("_")}
    assert public <= {*ANSWERS, *VALUES, "session", "read", "write", "unwrap", "verify_client_post_handshake",
                       "selected_npn_protocol"}
    used = set(re.findall(r"self\._sslobj\.(\w+)", inspect.getsource(ssl.SSLObject)))
    assert used and all(hasattr(SSLSnapshot, name) for name in used - {"selected_npn_protocol"})


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("alpn", [[], ["h2", "http/1.1"]])
def test_the_object_answers_as_before(loop, certificate, alpn, resumed):
    from kloop.ssl_snapshot import SESSION_LEAKS

    server_context, client_context = tls13(certificate.server()), tls13(certificate.client())
    if alpn:
        server_context.set_alpn_protocols(alpn)
        client_context.set_alpn_protocols(alpn)
    # The one before is alive, but for a session to be resumed only its ticket counts.
    session = []

    def talk(address):
        with client_context.wrap_socket(connected(address), server_hostname="localhost",
                                        session=session[0] if session else None) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            session.append(sock.session)
            sock.sendall(b"y")
            assert sock.recv(1) == b"y"

    async def main():
        made = []

        class Watched(Echo):
            """Is idle between the two bytes."""

            def data_received(self, data):
                if data == b"x":
                    sslobj = self.transport.get_extra_info("ssl_object")
                    made.append([sslobj, sslobj._sslobj, told(sslobj)])
                    super().data_received(data)
                else:
                    loop.create_task(self.answer_idle(data))

            async def answer_idle(self, data):
                await idle(loop)
                assert handed_over(self.transport)
                assert not has_openssl(self.transport)
                made[-1].append(told(made[-1][0]))
                self.transport.write(data)

        async with serving(loop, Watched, server_context) as address:
            for _ in range(1 + resumed):
                await in_thread(talk, address)
        sslobj, stock, before, after = made.pop()
        session = before.pop("session")
        assert session and after.pop("session") == (None if SESSION_LEAKS else session)
        assert before == after
        assert before["session_reused"] is resumed
        assert before["selected_alpn_protocol"] == (alpn[0] if alpn else None)
        # But for this frame, of which only CPython without the GIL tells.
        assert all(inspect.iscoroutine(holder) for holder in gc.get_referrers(stock))
        if not SESSION_LEAKS:
            assert sslobj.session == stock.session and stock.session == sslobj.session
            assert not sslobj.session != stock.session
        return sslobj

    sslobj = run(loop, main())
    for call in (sslobj.read, lambda: sslobj.write(b"x"), sslobj.unwrap):
        with pytest.raises(ssl.SSLError, match="are read and written by the transport alone"):
            call()
    with pytest.raises(ssl.SSLError, match="verify_mode is CERT_NONE"):
        sslobj.verify_client_post_handshake()
    with pytest.raises(ValueError, match="Cannot set session for server-side SSLSocket"):
        sslobj.session = None
    with pytest.raises(TypeError, match="The value must be a SSLContext"):
        sslobj.context = "nonsense"
    sslobj.context = server_context
    with pytest.raises(ValueError, match="'tls-magic' channel binding type not implemented"):
        sslobj._sslobj.get_channel_binding("tls-magic")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc tells of its memory from 2.33 on")
def test_a_released_connection_leaves_no_memory_behind(kloop, certificate):
    """What one takes for good with Go's records, beside what CPython's SSLObject itself does."""
    connections = 100

    def left_behind(offload):
        server_context, client_context = tls13(certificate.server()), tls13(certificate.client())
        loop = kloop.new_event_loop(tls=kloop.TLSOptions(offload=offload, after=0))

        async def some():
            for _ in range(connections):
                async with both_ends(loop, server_context, client_context) as (transport, _, _):
                    assert has_openssl(transport) is (offload == "off")
            del transport
            await turns()
            gc.collect()
            return memory.in_use()["malloc_bytes"]

        try:
            before = run(loop, some())
            return (run(loop, some()) - before) / connections
        finally:
            loop.close()

    assert left_behind("go") - left_behind("off") < 300


def asks_for_certificates(server, client):
    server.verify_mode = ssl.CERT_OPTIONAL


def has_a_certificate(server, client):
    server.verify_mode = ssl.CERT_REQUIRED


def is_of_tls_12(server, client):
    client.maximum_version = ssl.TLSVersion.TLSv1_2


def has_objects_of_its_own(server, client):
    class Own(ssl.SSLObject):
        pass

    server.sslobject_class = Own


@pytest.mark.parametrize("change", [asks_for_certificates, has_a_certificate, is_of_tls_12, has_objects_of_its_own])
def test_openssl_is_kept_where_it_may_be_needed(loop, certificate, change):
    server_context, client_context = certificate.server(), certificate.client()
    server_context.load_verify_locations(certificate.certificate)
    client_context.load_cert_chain(certificate.certificate, certificate.key)
    change(server_context, client_context)

    async def main():
        async with both_ends(loop, server_context, client_context) as (server, client, protocol):
            await idle(loop)
            assert who(server) == WAITING   # it would cost and free nothing
            client.write(pattern(AFTER))
            await protocol.received(1 + AFTER)
            await turns()
            assert handed_over(server, client)
            assert has_openssl(server) and has_openssl(client)
            client.write(b"more")
            await protocol.received(1 + AFTER + 4)

    run(loop, main())


@pytest.mark.parametrize("record, alert", [
    (b"\x17\x03\x03\x00\x40" + bytes(64), "ALERT_BAD_RECORD_MAC"),
    (b"\x17\x03\x03\xff\xff" + bytes(64), "ALERT_RECORD_OVERFLOW"),
    (b"\x18\x03\x03\x00\x40" + bytes(64), "ALERT_UNEXPECTED_MESSAGE"),
], ids=["corrupt", "too long", "of no known type"])
def test_an_alert_is_told_in_openssl_s_words(kloop, certificate, record, alert):
    """As where OpenSSL itself has the records, but for the line of _ssl.c."""
    def talk(address):
        peer = WirePeer(connected(address), tls13(certificate.client())).handshake()
        peer.incoming.write(record)
        with pytest.raises(ssl.SSLError):
            while True:     # behind session tickets
                try:
                    peer.tls.read(1)
                except ssl.SSLWantReadError:
                    peer.receive()
        peer.send(peer.outgoing.read())
        peer.end()
        peer.close()

    def ends_with(offload):
        loop = kloop.new_event_loop(tls=kloop.TLSOptions(offload=offload))
        made = []

        def factory():
            made.append(Recorder())
            return made[0]

        async def main():
            async with serving(loop, factory, tls13(certificate.server())) as address:
                await in_thread(talk, address)
                await made[0].called("connection_lost")
                return made[0].lost_with

        failure = run(loop, main())
        loop.close()
        return failure

    by_go, by_openssl = ends_with("go"), ends_with("off")
    assert type(by_go) is type(by_openssl) is ssl.SSLError
    assert by_go.library == by_openssl.library == "SSL"
    assert by_go.reason == by_openssl.reason and alert in by_go.reason
    assert by_go.args[1].rpartition(" (")[0] == by_openssl.args[1].rpartition(" (")[0] != ""


# ---- idle connections

CLIENTS = """
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
open_ones = []
for _ in range(int(sys.argv[3])):
    sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    open_ones.append(context.wrap_socket(sock, server_hostname="localhost"))
    open_ones[-1].sendall(b"x")
    assert open_ones[-1].recv(1) == b"x"
print("ready", flush=True)
sys.stdin.read()
"""


def resident_kib():
    """Of malloc's heap alone: Go gives memory back in its own time, half a megabyte of it between two looks."""
    with open("/proc/self/smaps") as lines:
        next(line for line in lines if line.endswith("[heap]\n"))
        return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another libc than glibc")
def test_the_kernel_has_the_memory_of_idle_connections(loop, certificate):
    """Many at once, of which OpenSSL's objects lie between what goes on to be used."""
    connections = 200
    server_context = tls13(certificate.server())

    async def main():
        async with serving(loop, Echo, server_context) as address:
            command = [sys.executable, "-c", CLIENTS, str(address[1]), str(certificate.certificate), str(connections)]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as clients:
                assert await in_thread(clients.stdout.readline) == b"ready\n"
                await idle(loop)
                while counts(loop) != (connections, 0):
                    await turns()
                await turns()
                has = resident_kib()
                ctypes.CDLL(None).malloc_trim(0)
                assert has - resident_kib() < 500   # of 3400
                clients.stdin.close()
                await in_thread(clients.wait)

    run(loop, main())


def test_an_idle_connection_is_handed_over(loop, certificate):
    async def main():
        async with both_ends(loop, certificate.server(), tls13(certificate.client())) as (server, client, protocol):
            await look(loop)
            assert who(server) == WAITING
            client.write(b"once more")
            await protocol.received(10)
            await look(loop)        # it was not idle since
            assert who(server) == WAITING
            await look(loop)
            assert handed_over(server)
            assert counts(loop) == (1, 1)
            assert who(client) == WAITING   # which has tickets to keep
            assert server.get_read_buffer_size() == 0
            server.set_read_buffer_limits(high=1000)
            data = pattern(30_000)
            client.write(data)
            await protocol.received(10 + len(data))
            assert protocol.data[10:] == data

    run(loop, main())


def test_a_connection_that_has_ended_is_not_kept(loop, certificate):
    protocols = weakref.WeakSet()

    async def main():
        async with both_ends(loop, certificate.server(), tls13(certificate.client())) as (server, _, _):
            protocols.add(server._ssl_protocol)

    run(loop, main())
    gc.collect()
    assert not protocols


def test_no_variable_of_a_connection_s_context_is_kept(loop, certificate):
    """By what goes on as long as there are connections: who looks for idle ones, and at the key log."""
    variable = contextvars.ContextVar("request")
    contexts = []
    call_later = loop.call_later

    def watched(delay, callback, *args, context=None):
        contexts.append((callback.__name__, contextvars.copy_context() if context is None else context))
        return call_later(delay, callback, *args, context=context)

    async def main():
        loop.call_later = watched
        variable.set("of one connection")
        async with both_ends(loop, certificate.server(), tls13(certificate.client())) as (server, _, _):
            await look(loop)
            assert who(server) == WAITING

    run(loop, main())
    seen = {name: variable in context for name, context in contexts}
    assert seen["_check_handshake_timeout"] is True
    assert seen["_look_for_idle"] is seen["_look"] is False


@pytest.mark.parametrize("offload", ["off", "go"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_session_in_the_server_s_cache(kloop, certificate, offload, version):
    """Sessions without tickets: OpenSSL forgets those of connections that it thinks have ended badly."""
    loop = kloop.new_event_loop(tls=kloop.TLSOptions(offload=offload))
    server_context, client_context = certificate.server(), certificate.client()
    server_context.options |= ssl.OP_NO_TICKET
    client_context.maximum_version = version

    def talk(address, session):
        with client_context.wrap_socket(connected(address), server_hostname="localhost", session=session) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            session, reused = sock.session, sock.session_reused
            sock.unwrap().close()
            return session, reused

    async def main():
        made = []

        def factory():
            made.append(Echo())
            return made[-1]

        async with serving(loop, factory, server_context) as address:
            session, _ = await in_thread(talk, address, None)
            await made[0].lost
            _, reused = await in_thread(talk, address, session)
            await made[1].lost
            return reused

    assert run(loop, main()) is True
    run(loop, loop.shutdown_default_executor())
    loop.close()


def test_a_failure_that_openssl_has_no_words_for(kloop, certificate, monkeypatch):
    """No peer may end the loop, whatever can't be had just now."""
    from kloop import ssl_snapshot

    def fail(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(ssl_snapshot, "corrupt_failure", fail)
    monkeypatch.setattr(ssl_snapshot, "release_openssl", fail)
    loop = kloop.new_event_loop(tls=kloop.TLSOptions(offload="go"))
    made = []

    def factory():
        made.append(Recorder())
        return made[0]

    def talk(address):
        peer = WirePeer(connected(address), tls13(certificate.client())).handshake()
        peer.send(b"\x17\x03\x03\x00\x40" + bytes(64))
        peer.drain()
        peer.close()

    async def main():
        async with serving(loop, factory, tls13(certificate.server())) as address:
            await in_thread(talk, address)
            await made[0].called("connection_lost")
            assert counts(loop) == (1, 0)

    run(loop, main())
    loop.close()
    assert isinstance(made[0].lost_with, ssl.SSLError)


def test_one_that_has_paused_reading_is_handed_over_later(loop, certificate):
    async def main():
        async with both_ends(loop, certificate.server(), certificate.client()) as (server, client, protocol):
            server.pause_reading()
            await idle(loop)
            assert who(server) == WAITING
            server.resume_reading()
            await look(loop)
            assert handed_over(server)
            client.write(b"more")
            await protocol.received(5)

    run(loop, main())


@pytest.mark.parametrize("loop", [{"offload": "auto", "after": AFTER, "idle": 0}], indirect=True)
def test_switched_off(loop, certificate):
    async def main():
        async with both_ends(loop, certificate.server(), certificate.client()) as (server, client, protocol):
            await idle(loop)
            assert who(server) == who(client) == WAITING

    run(loop, main())


@contextlib.asynccontextmanager
async def many(loop, certificate, conns):
    """So many connections to a server of TLS 1.3; in the end they are closed."""
    made = []

    def factory():
        made.append(Echo())
        return made[-1]

    def connect(address):
        return [WirePeer(connected(address), certificate.client()).handshake() for _ in range(conns)]

    async with serving(loop, factory, tls13(certificate.server())) as address:
        peers = await in_thread(connect, address)
        yield
        for peer in peers:
            peer.close()
        for echo in made:
            await echo.lost


async def turns_until(condition):
    async def wait():
        while not condition():
            await asyncio.sleep(0)

    await asyncio.wait_for(wait(), LIMIT_S)


@pytest.mark.parametrize("loop", [{"offload": "auto", "after": AFTER, "idle": 0.01}], indirect=True)
def test_by_the_clock(loop, certificate):
    async def main():
        async with many(loop, certificate, 50):
            await turns_until(lambda: counts(loop) == (50, 0))

    run(loop, main())


def test_a_few_with_each_iteration(loop, certificate):
    async def main():
        async with many(loop, certificate, 40):
            await turns_until(lambda: counts(loop)[1] == 40)
            await look(loop)
            seen = [0]

            def all_are():
                seen.append(counts(loop)[0])
                return seen[-1] == 40

            look_for_idle(loop)
            await turns_until(all_are)
            assert max(after - before for before, after in zip(seen, seen[1:], strict=False)) <= 16

    run(loop, main())
