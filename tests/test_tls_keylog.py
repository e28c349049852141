"""What a handshake finds in the key log beside its own lines, and contexts that are changed once they write to it."""

import asyncio
import os
import ssl
import sys

import pytest
from children import run_python
from driving import run
from test_tls_handover import check, log_size

GO = ("go", "go", "")
OTHER = "0" * 64
OTHERS_LINES = "".join(f"{label} {OTHER} {'1' * 96}\n" for label in (
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "CLIENT_RANDOM"))


@pytest.fixture
def loop(kloop):
    loop = kloop.new_event_loop(tls=kloop.TLSOptions(offload="go"))
    yield loop
    loop.close()


def refused(reason):
    return "ssl", "ssl", reason


@pytest.mark.parametrize("text, expected", [
    (OTHERS_LINES, GO),
    ("# nothing\n" * 1000, GO),     # more than is read at once
    (OTHERS_LINES * 1000, GO),
    (OTHERS_LINES[:-1], GO),        # which goes on with a secret of the handshake itself, of no use
    (OTHERS_LINES[:50], GO),
    ("x" * (1 << 20), refused("the key log is full")),
], ids=["others", "much", "of others, much", "a line that does not end", "half a line", "too much"])
def test_what_others_write_during_a_step(loop, certificate, text, expected):
    """Whoever uses the context beside the loop, or a handshake of another thread."""
    keylog = sys.modules["kloop.tls_offload"].keylog
    context = certificate.server()

    def write(sslobj, name, first):
        with open(keylog.path, "a") as log:
            log.write(text)

    context.sni_callback = write
    server, client = check(loop, context, certificate.client())
    assert client == GO
    assert server == expected
    if server != GO:
        keylog.clear()      # of what the rest of the handshake has written: the loop does it once a second
    assert log_size() == 0


def changes_its_log(context):
    context.keylog_filename = os.devnull


def changes_its_log_in_the_handshake(context):
    context.sni_callback = lambda sslobj, name, first: changes_its_log(first)


def wants_certificates_later(context):
    context.post_handshake_auth = True


@pytest.mark.parametrize("change, reason", [
    (changes_its_log, "keylog_filename was changed"),
    (changes_its_log_in_the_handshake, "keylog_filename was changed"),
    (wants_certificates_later, "post_handshake_auth of a server"),
], ids=lambda value: getattr(value, "__name__", None))
def test_a_context_that_is_changed_once_it_was_used(loop, certificate, change, reason):
    server, client = certificate.server(), certificate.client()
    assert check(loop, server, client) == (GO, GO)
    change(server)
    assert check(loop, server, client) == (refused(reason), GO)


def test_a_handshake_that_fails(loop, certificate):
    """Its lines are no longer in the log either, though nothing is handed over."""
    client = ssl.create_default_context()       # which does not trust the certificate

    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=certificate.server())
        for _ in range(3):
            with pytest.raises(ssl.SSLCertVerificationError):
                await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname(), ssl=client,
                                             server_hostname="localhost")
        server.close()
        await server.wait_closed()

    run(loop, main())
    assert log_size() == 0


def test_a_context_whose_secrets_are_of_no_use(loop, certificate):
    """It is seen too late that its object reads in its own way: the log is emptied all the same."""
    class Object(ssl.SSLObject):
        def read(self, *args):
            return super().read(*args)

    keylog = sys.modules["kloop.tls_offload"].keylog
    server, client = certificate.server(), certificate.client()
    server.sslobject_class = client.sslobject_class = Object
    for _ in range(2):
        assert {told.tx for told in check(loop, server, client)} == {"ssl"}
    assert loop.watches_key_log
    keylog._look(loop, 1.0)     # it has not been a second
    assert log_size() == 0


def test_a_callback_for_names_that_comes_later(loop, certificate):
    """Its context has its secrets logged all the same."""
    first, second, client = certificate.server(), certificate.server(), certificate.client()
    assert check(loop, first, client) == (GO, GO)
    first.sni_callback = lambda sslobj, name, context: setattr(sslobj, "context", second)
    assert check(loop, first, client) == (GO, GO)
    assert log_size() == 0


def test_the_log_is_looked_at_while_there_are_contexts(certificate):
    out = run_python("""
        import asyncio, gc, ssl, sys
        import kloop
        from kloop.tls_offload import keylog
        key, cert = sys.argv[1:]

        async def connect():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key)
            server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=ssl.create_default_context(cafile=cert),
                server_hostname="localhost")
            await reader.read()
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

        loop = kloop.new_event_loop(tls=kloop.TLSOptions(offload="auto"))
        print(loop.watches_key_log)
        for _ in range(2):
            loop.run_until_complete(connect())
            while keylog.count_armed():
                loop.run_until_complete(asyncio.sleep(0.01))
                gc.collect()
            print(loop.watches_key_log)
            keylog._look(loop, 1.0)     # it has not been a second
            print(loop.watches_key_log)
        loop.close()
        """, str(certificate.key), str(certificate.certificate))
    assert out.split() == ["False", "True", "False", "True", "False"]
