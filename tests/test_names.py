"""loop.getaddrinfo and loop.getnameinfo: numbers and known names at once, and what goes to libc, in a thread."""

import _socket
import asyncio
import concurrent.futures
import inspect
import logging
import socket

import pytest
from children import run_python
from driving import run
from recorders import Echo, Recorder

NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


class Refusing(concurrent.futures.ThreadPoolExecutor):
    """Says what was asked of it, and does not do it."""

    def submit(self, function, *args, **kwargs):
        raise LookupError(function, args)


@pytest.fixture
def threadless(loop):
    """A loop whose executor refuses all work, and whose resolver has read its files."""
    loop.set_default_executor(Refusing())
    run(loop, loop.getaddrinfo("localhost", "http"))
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


@pytest.fixture(params=["resolver", "libc"])
def either(request, threadless):
    """A loop with a resolver, and one without."""
    if request.param == "libc":
        threadless.resolver = None
    return threadless


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"type": socket.SOCK_STREAM},
        {"family": socket.AF_INET},
        {"family": socket.AF_INET6},
        {"flags": socket.AI_PASSIVE},
        {"flags": socket.AI_CANONNAME},
        {"type": socket.SOCK_DGRAM, "proto": socket.IPPROTO_UDP},
        {"family": socket.AF_INET6, "flags": socket.AI_V4MAPPED},
        {"type": 77},
    ],
    ids=lambda options: ",".join(options) or "none",
)
def test_numbers_are_answered_at_once_as_by_the_socket_module(either, options):
    async def main():
        for host in ("127.0.0.1", b"127.0.0.1", "::1", "fe80::1", "::ffff:10.0.0.1", None):
            for port in (80, "80", b"80", None, 0):
                got = await at_once(either.getaddrinfo(host, port, **options))
                assert got == outcome(socket.getaddrinfo, host, port, **options), (host, port)

    run(either, main())


@pytest.mark.parametrize(
    "host, port",
    [
        ("localhost", 80),
        ("LocalHost", "http"),
        (b"localhost", None),
        ("127.0.0.1", "http"),
        ("127.1", 80),
        ("1", b"domain"),
        ("::1\0", 80),
        ("localhost\0x", "80\0x"),
        (None, "nosuchservice"),
        (None, None),
        ("localhost", -1),
        ("::1", 65536),
    ],
)
def test_what_files_say_is_answered_at_once_as_by_the_socket_module(threadless, host, port):
    async def main():
        got = await at_once(threadless.getaddrinfo(host, port))
        assert got == outcome(socket.getaddrinfo, host, port)

    run(threadless, main())


@pytest.mark.parametrize("zone", ["lo", "index", "nonesuch"])
def test_zones_of_ipv6_addresses_are_kept(either, zone):
    index = socket.if_nametoindex("lo")
    host = f"fe80::1%{index if zone == 'index' else zone}"

    async def main():
        answers, error, _ = await at_once(either.getaddrinfo(host, 80, type=socket.SOCK_STREAM))
        if zone == "nonesuch":
            assert error is socket.gaierror
        else:
            assert [address for *_, address in answers] == [("fe80::1", 80, 0, index)]

    run(either, main())


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


def goes_to_libc(loop, host="localhost", port=80):
    with pytest.raises(LookupError) as caught:
        run(loop, loop.getaddrinfo(host, port))
    assert caught.value.args == (socket.getaddrinfo, (host, port, 0, 0, 0, 0))
    with pytest.raises(LookupError) as caught:
        run(loop, loop.getnameinfo(("127.0.0.1", 80)))
    assert caught.value.args == (socket.getnameinfo, (("127.0.0.1", 80), 0))


@pytest.mark.parametrize(
    "host, port",
    [
        ("localhost", 80),
        ("127.0.0.1", "http"),
        ("127.1", 80),
        ("1", 80),
        ("127.0.0.1 ", 80),
        ("", 80),
        ("::1::", 80),
        ("127.0.0.1%lo", 80),
        ("::1", "\xb2"),
        ("m\xfcnchen", 80),
        (b"localhost", 80),
        ("::1\0", 80),
    ],
)
def test_without_a_resolver_names_go_to_a_thread(threadless, host, port):
    threadless.resolver = None
    goes_to_libc(threadless, host, port)


def test_sources_that_are_libcs_alone(kloop, threadless, tmp_path):
    """Of nsswitch.conf: the resolver says so."""
    path = tmp_path / "nsswitch.conf"
    path.write_text("hosts: files mdns4_minimal [NOTFOUND=return] dns\nservices: sss files\n")
    with kloop.Resolver(nsswitch=path) as resolver:
        threadless.resolver = resolver
        goes_to_libc(threadless)
        stats = resolver.stats()
        assert stats.asked_libc == 2
        assert stats.needs_libc == "hosts: mdns4_minimal, services: sss"
        # What needs no source is answered all the same.
        assert run(threadless, threadless.getaddrinfo("127.0.0.1", 80)) == socket.getaddrinfo("127.0.0.1", 80)
        threadless.resolver = None


def replacement(*args, **kwargs):
    return [("replaced", *args)]


@pytest.mark.parametrize("where", [socket, _socket], ids=["socket", "_socket"])
def test_a_function_in_place_of_the_socket_modules_is_called_in_a_thread(threadless, monkeypatch, where):
    """As asyncio does: tests, and libraries that forbid the network or bring a resolver, put one there."""
    monkeypatch.setattr(where, "getaddrinfo", replacement)
    with pytest.raises(LookupError) as caught:
        run(threadless, threadless.getaddrinfo("localhost", 80, flags=socket.AI_PASSIVE))
    assert caught.value.args == (socket.getaddrinfo, ("localhost", 80, 0, 0, 0, socket.AI_PASSIVE))
    with pytest.raises(LookupError):  # a numeric host, too
        run(threadless, threadless.getaddrinfo("127.0.0.1", 80))


def test_a_replaced_getaddrinfo_and_getnameinfo(loop, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", replacement)
    monkeypatch.setattr(socket, "getnameinfo", replacement)
    assert run(loop, loop.getaddrinfo("localhost", 80)) == [("replaced", "localhost", 80, 0, 0, 0, 0)]
    assert run(loop, loop.getnameinfo(("127.0.0.1", 80), NUMERIC)) == [("replaced", ("127.0.0.1", 80), NUMERIC)]
    monkeypatch.undo()
    assert run(loop, loop.getaddrinfo("127.0.0.1", 80)) == socket.getaddrinfo("127.0.0.1", 80)


def test_one_that_was_replaced_before_kloop_was_imported():
    assert (
        run_python("""
        import socket, sys
        def getaddrinfo(*args, **kwargs):
            return ["replaced"]
        socket.getaddrinfo = getaddrinfo
        import kloop
        async def main():
            import asyncio
            print(await asyncio.get_running_loop().getaddrinfo("localhost", 80))
        kloop.run(main())
    """)
        == "['replaced']\n"
    )


def test_kloop_dns_off():
    source = """
        import kloop
        loop = kloop.new_event_loop()
        print(loop.resolver)
        loop.close()
    """
    assert run_python(source, KLOOP_DNS="off") == "None\n"
    assert run_python(source, KLOOP_DNS="on").startswith("<kloop.resolver.Resolver")
    assert "KLOOP_DNS='maybe': use on or off" in run_python(
        """
        import kloop
        try:
            kloop.new_event_loop()
        except ValueError as exc:
            print(exc)
    """,
        KLOOP_DNS="maybe",
    )


def test_arguments_of_other_types_are_complained_of_as_by_the_socket_module(loop):
    async def main():
        for host, port, options in (
            (17, 80, {}),
            ("127.0.0.1", 1.5, {}),
            ("127.0.0.1", True, {}),
            (bytearray(b"a"), 80, {}),
            ("127.0.0.1", 1 << 70, {}),
            ("127.0.0.1", 80, {"family": "x"}),
            ("127.0.0.1", 80, {"type": 1.5}),
            ("127.0.0.1", 80, {"flags": 1 << 40}),
            ("127.0.0.1", 80, {"proto": None}),
            ("a..b", 80, {}),
            ("\xfc" * 64, 80, {}),
            ("x" * 64, 80, {}),
            ("127.0.0.1", "\udc80", {}),
            ("\udc80", 80, {}),
        ):
            expected = outcome(socket.getaddrinfo, host, port, **options)
            try:
                got = await loop.getaddrinfo(host, port, **options), None, None
            except Exception as exc:
                got = None, type(exc), str(exc)
            assert got == expected, (host, port, options)
        for address, flags in (
            (("127.0.0.1",), 0),
            ("127.0.0.1", 0),
            (("a name", 80), 0),
            (("127.0.0.1", 80, 0, 0), 0),
            (("::1", 80, 1 << 20), 0),
            (("127.0.0.1", "80"), 0),
            (("127.0.0.1", 80), "x"),
            (("127.0.0.1", 80), 1 << 40),
            (("127.0.0.1", 80), -1),
            (("127.0.0.1", 80), 0x1000),
        ):
            expected = outcome(socket.getnameinfo, address, flags)
            try:
                got = await loop.getnameinfo(address, flags), None, None
            except Exception as exc:
                got = None, type(exc), str(exc)
            assert got == expected, (address, flags)

    run(loop, main())


def test_names_are_answered_as_by_the_socket_module(loop):
    async def main():
        for host, port in (("localhost", 80), ("127.1", 80), ("nonesuch.invalid", 80), ("\0", 80)):
            try:
                got = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), None, None
            except Exception as exc:
                got = None, type(exc), str(exc)
            assert got == outcome(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM), (host, port)

    run(loop, main())


def test_getnameinfo(threadless):
    async def main():
        linked = ("fe80::1", 80, 0, socket.if_nametoindex("lo"))
        for address in (("127.0.0.1", 80), ("::1", 80), linked, ("a name", 80)):
            got = await at_once(threadless.getnameinfo(address, NUMERIC))
            assert got == outcome(socket.getnameinfo, address, NUMERIC), address
        for flags in (0, socket.NI_NUMERICHOST, socket.NI_NUMERICSERV, socket.NI_DGRAM, socket.NI_NAMEREQD):
            got = await at_once(threadless.getnameinfo(("127.0.0.1", 53), flags))
            assert got == outcome(socket.getnameinfo, ("127.0.0.1", 53), flags)

    run(threadless, main())


@pytest.mark.parametrize("resolver", [True, False], ids=["resolver", "libc"])
def test_debug_mode_logs_a_slow_answer_of_either_kind(loop, caplog, resolver):
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    if not resolver:
        loop.resolver = None

    async def main():
        await loop.getaddrinfo("127.0.0.1", 80)
        await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)

    with caplog.at_level(logging.DEBUG, "asyncio"):
        run(loop, main())
    said = [record.getMessage() for record in caplog.records if "address info" in record.getMessage()]
    assert len(said) == 4
    assert said[0] == "Get address info 127.0.0.1:80"
    assert said[1].startswith("Getting address info 127.0.0.1:80 took ")
    assert said[2] == f"Get address info localhost:80, type={socket.SOCK_STREAM!r}"
    assert said[3].startswith(f"Getting address info localhost:80, type={socket.SOCK_STREAM!r} took ")
    assert said[3].endswith(f"ms: {socket.getaddrinfo('localhost', 80, type=socket.SOCK_STREAM)!r}")


def test_audit_hooks_hear_of_it():
    assert (
        run_python("""
        import asyncio, socket, sys, kloop

        async def main():
            loop = asyncio.get_running_loop()
            await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
            await loop.getnameinfo(("127.0.0.1", 80))

        heard = []
        sys.addaudithook(lambda event, args: heard.append((event, args)) if event.startswith("socket.get") else None)
        kloop.run(main())
        print([(event, args[0]) for event, args in heard])
    """)
        == "[('socket.getaddrinfo', 'localhost'), ('socket.getnameinfo', ('127.0.0.1', 80))]\n"
    )


def test_a_closed_loop(kloop):
    loop = kloop.new_event_loop()
    loop.close()
    for coroutine in (
        loop.getaddrinfo("127.0.0.1", 80),
        loop.getaddrinfo("localhost", 80),
        loop.getnameinfo(("127.0.0.1", 80), NUMERIC),
    ):
        with pytest.raises(RuntimeError, match="^Event loop is closed$"):
            coroutine.send(None)


def test_signatures_are_asyncios(kloop):
    for name in ("getaddrinfo", "getnameinfo"):
        ours = inspect.signature(getattr(kloop.Loop, name)).parameters
        stock = inspect.signature(getattr(asyncio.SelectorEventLoop, name)).parameters
        assert [(p.name, p.kind, p.default) for p in ours.values()] == [
            (p.name, p.kind, p.default) for p in stock.values()
        ]
