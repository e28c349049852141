"""loop.getaddrinfo and loop.getnameinfo: numbers at once, names in a thread."""

import asyncio
import concurrent.futures
import inspect
import logging
import socket

import pytest
from driving import run
from recorders import Echo, Recorder

NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


class Refusing(concurrent.futures.ThreadPoolExecutor):
    """Says what was asked of it, and does not do it."""

    def submit(self, function, *args, **kwargs):
        raise LookupError(function, args)


@pytest.fixture
def threadless(loop):
    """A loop whose executor refuses all work."""
    loop.set_default_executor(Refusing())
    return loop


async def at_once(coroutine):
    """The outcome of a coroutine that must not wait for anything: (answer, error's type, error's text)."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value, None, None
    except Exception as exc:
        return None, type(exc), str(exc)
    raise AssertionError("it waits")


def outcome(function, *args, **kwargs):
    try:
        return function(*args, **kwargs), None, None
    except Exception as exc:
        return None, type(exc), str(exc)


@pytest.mark.parametrize("options", [
    {}, {"type": socket.SOCK_STREAM}, {"family": socket.AF_INET}, {"family": socket.AF_INET6},
    {"flags": socket.AI_PASSIVE}, {"flags": socket.AI_CANONNAME},
    {"type": socket.SOCK_DGRAM, "proto": socket.IPPROTO_UDP}, {"family": socket.AF_INET6, "flags": socket.AI_V4MAPPED},
    {"type": 77}],
    ids=lambda options: ",".join(options) or "none")
def test_numbers_are_answered_at_once_as_by_the_socket_module(threadless, options):
    async def main():
        for host in ("127.0.0.1", b"127.0.0.1", "::1", "fe80::1", "::ffff:10.0.0.1", None):
            for port in (80, "80", b"80", None, 0):
                got = await at_once(threadless.getaddrinfo(host, port, **options))
                assert got == outcome(socket.getaddrinfo, host, port, **options), (host, port)

    run(threadless, main())


@pytest.mark.parametrize("zone", ["lo", "index", "nonesuch"])
def test_zones_of_ipv6_addresses_are_kept(threadless, zone):
    index = socket.if_nametoindex("lo")
    host = f"fe80::1%{index if zone == 'index' else zone}"

    async def main():
        answers, error, _ = await at_once(threadless.getaddrinfo(host, 80, type=socket.SOCK_STREAM))
        if zone == "nonesuch":
            assert error is socket.gaierror
        else:
            assert [address for *_, address in answers] == [("fe80::1", 80, 0, index)]

    run(threadless, main())


def test_a_connection_to_an_address_with_a_zone(threadless):
    """create_server and create_connection find the address without a thread, as for one without a zone."""
    # A zone by its name is for link-local addresses alone.
    host = f"::1%{socket.if_nametoindex('lo')}"

    async def main():
        server = await threadless.create_server(Echo, host, 0)
        port = server.sockets[0].getsockname()[1]
        transport, protocol = await threadless.create_connection(Recorder, host, port)
        transport.write(b"data")
        await protocol.received(4)
        transport.close()
        await protocol.called("connection_lost")
        server.close()
        await server.wait_closed()

    run(threadless, main())


@pytest.mark.parametrize("host, port", [
    ("localhost", 80), ("127.0.0.1", "http"), ("127.1", 80), ("1", 80), ("127.0.0.1 ", 80), ("", 80), ("::1::", 80),
    ("127.0.0.1%lo", 80), ("::1", "²"), ("m\xfcnchen", 80), (b"localhost", 80), ("::1\0", 80)])
def test_names_go_to_a_thread(threadless, host, port):
    async def main():
        with pytest.raises(LookupError) as caught:
            await threadless.getaddrinfo(host, port)
        assert caught.value.args == (socket.getaddrinfo, (host, port, 0, 0, 0, 0))

    run(threadless, main())


def test_names_are_answered_as_by_the_socket_module(loop):
    async def main():
        for host, port in (("localhost", 80), ("127.1", 80), ("nonesuch.invalid", 80), ("\0", 80), (17, 80),
                           ("127.0.0.1", 1.5)):
            try:
                got = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), None, None
            except Exception as exc:
                got = None, type(exc), str(exc)
            assert got == outcome(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM), (host, port)

    run(loop, main())


def test_getnameinfo(loop):
    async def main():
        loop.set_default_executor(Refusing())
        linked = ("fe80::1", 80, 0, socket.if_nametoindex("lo"))
        for address in (("127.0.0.1", 80), ("::1", 80), linked, ("a name", 80)):
            got = await at_once(loop.getnameinfo(address, NUMERIC))
            assert got == outcome(socket.getnameinfo, address, NUMERIC), address
        for flags in (0, socket.NI_NUMERICHOST, socket.NI_NUMERICSERV):
            with pytest.raises(LookupError):
                await loop.getnameinfo(("127.0.0.1", 80), flags)
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        assert await loop.getnameinfo(("127.0.0.1", 80)) == socket.getnameinfo(("127.0.0.1", 80), 0)

    run(loop, main())


def test_debug_mode_logs_a_slow_answer_of_either_kind(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0

    async def main():
        await loop.getaddrinfo("127.0.0.1", 80)
        await loop.getaddrinfo("localhost", 80)

    with caplog.at_level(logging.INFO, "asyncio"):
        run(loop, main())
    said = [record.getMessage() for record in caplog.records if "Getting address info" in record.getMessage()]
    assert len(said) == 2
    assert "127.0.0.1:80" in said[0] and "localhost:80" in said[1]


def test_a_closed_loop(kloop):
    loop = kloop.new_event_loop()
    loop.close()
    for coroutine in (loop.getaddrinfo("127.0.0.1", 80), loop.getnameinfo(("127.0.0.1", 80), NUMERIC)):
        with pytest.raises(RuntimeError, match="^Event loop is closed$"):
            coroutine.send(None)


def test_signatures_are_asyncios(kloop):
    for name in ("getaddrinfo", "getnameinfo"):
        ours = inspect.signature(getattr(kloop.Loop, name)).parameters
        stock = inspect.signature(getattr(asyncio.SelectorEventLoop, name)).parameters
        assert [(p.name, p.kind, p.default) for p in ours.values()] == [
            (p.name, p.kind, p.default) for p in stock.values()]
