"""Datagram endpoints: flow control, errors, and how they end; each as on asyncio's own loop."""

import asyncio
import errno
import gc
import socket
import sys
import threading
import warnings

import pytest
from datagrams import Mailbox, closed, drained, endpoint, plain
from driving import await_sleep_in_the_kernel, in_thread, reports, run, run_once, turns

# From 3.13 on asyncio counts a header for each datagram that waits.
HEADER = 8 if sys.version_info >= (3, 13) else 0


@pytest.fixture(params=["kloop", "asyncio"])
def either(request):
    """A kloop loop, or asyncio's: what holds for both is what a program may rely on."""
    if request.param == "kloop":
        yield request.getfixturevalue("loop")
        return
    made = asyncio.SelectorEventLoop()
    # The bytes of headers never left its count, so that protocols stayed paused.
    made.miscounts = sys.version_info[:3] == (3, 13, 0)
    yield made
    made.close()


def gone():
    """An address where nobody listens."""
    with plain() as sock:
        return sock.getsockname()


async def blocked(tmp_path, **options):
    """(transport, protocol, peer, count): a Unix peer that is full after count datagrams; one more waits."""
    peer = plain(socket.AF_UNIX, str(tmp_path / "peer"))
    transport, protocol = await endpoint(
        remote_addr=peer.getsockname(), local_addr=str(tmp_path / "ours"), family=socket.AF_UNIX, **options)
    count = 0
    while not transport.get_write_buffer_size():
        transport.sendto(b"%04d" % count)
        count += 1
    return transport, protocol, peer, count - 1


async def all_of(peer, count):
    """So many datagrams of a peer that was full."""
    return [await in_thread(peer.recv, 1 << 18) for _ in range(count)]


def numbered(count):
    return [b"%04d" % i for i in range(count)]


def test_refused(either):
    async def scenario():
        transport, protocol = await endpoint(remote_addr=gone())
        for _ in range(3):
            transport.sendto(b"x")
            await protocol.until(lambda: protocol.errors)
            assert isinstance(protocol.errors.pop(), ConnectionRefusedError)
        with plain(address=transport.get_extra_info("peername")) as peer:
            transport.sendto(b"now")
            assert await in_thread(peer.recv, 10) == b"now"
            peer.sendto(b"back", transport.get_extra_info("sockname"))
            assert await protocol.received(1) == [b"back"]
        assert not protocol.errors
        await closed(transport)
        assert protocol.lost_with is None

    run(either, scenario())


def test_refused_is_told_once(either):
    """By sending or by receiving, whichever comes first."""

    async def scenario():
        transport, protocol = await endpoint(remote_addr=gone())
        transport.sendto(b"x")      # on loopback the answer comes within the call
        transport.sendto(b"y")      # meets it, and is not sent
        assert [type(exc) for exc in protocol.errors] == [ConnectionRefusedError]
        await turns()
        assert len(protocol.errors) == 1
        await closed(transport)

    run(either, scenario())


def test_too_big(either):
    async def scenario():
        transport, protocol = await endpoint()
        address = transport.get_extra_info("sockname")
        transport.sendto(bytes(65508), address)
        assert [exc.errno for exc in protocol.errors] == [errno.EMSGSIZE]
        transport.sendto(b"fits", address)
        assert await protocol.received(1) == [b"fits"]
        await closed(transport)

    run(either, scenario())


@pytest.mark.parametrize(("data", "addr"), [
    ("text", ("127.0.0.1", 1)), (5, ("127.0.0.1", 1)), ([b"x"], None),
])
def test_wrong_data(either, data, addr):
    async def scenario():
        transport, _ = await endpoint()
        with pytest.raises(TypeError, match="data argument must be a bytes-like object, not "
                                            f"'{type(data).__name__}'"):
            transport.sendto(data, addr)
        await closed(transport)

    run(either, scenario())


@pytest.mark.parametrize("addr", [
    None, "127.0.0.1", ("127.0.0.1",), ("127.0.0.1", "5"), ("127.0.0.1", 70000), ("127.0.0.1", -1),
    (5, 5), ("127.0.0.1", 5, 0, 0), ("127.0.0.1", 1 << 80),
], ids=repr)
def test_wrong_address_ends_the_transport(either, addr):
    async def scenario():
        transport, protocol = await endpoint()
        with reports(either) as contexts:
            transport.sendto(b"x", addr)
            await protocol.called("connection_lost")
        assert [context["message"] for context in contexts] == ["Fatal write error on datagram transport"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(Exception) as same:
            sock.sendto(b"x", addr)
        assert type(contexts[0]["exception"]) is same.type and str(contexts[0]["exception"]) == str(same.value)
        assert protocol.lost_with is contexts[0]["exception"]
        assert contexts[0]["transport"] is transport and contexts[0]["protocol"] is protocol

    run(either, scenario())


def test_unknown_host(either):
    async def scenario():
        transport, protocol = await endpoint()
        transport.sendto(b"x", ("nowhere.invalid", 5))
        assert [type(exc) for exc in protocol.errors] == [socket.gaierror]
        await closed(transport)

    run(either, scenario())


def test_memoryview_with_gaps_ends_the_transport(either):
    async def scenario():
        transport, protocol = await endpoint()
        with reports(either) as contexts:
            transport.sendto(memoryview(b"abcdef")[::2], transport.get_extra_info("sockname"))
            await protocol.called("connection_lost")
        assert isinstance(protocol.lost_with, BufferError)
        assert [context["exception"] for context in contexts] == [protocol.lost_with]

    run(either, scenario())


def test_protocol_that_raises(either):
    class Raising(Mailbox):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            raise ZeroDivisionError("received")

        def error_received(self, exc):
            super().error_received(exc)
            raise ZeroDivisionError("error")

    async def scenario():
        with plain() as peer:
            transport, protocol = await endpoint(Raising, remote_addr=peer.getsockname())
            with reports(either) as contexts:
                for i in range(2):
                    peer.sendto(b"x", transport.get_extra_info("sockname"))
                    await protocol.received(i + 1)
                peer.close()
                transport.sendto(b"x")
                await protocol.failed()
                await turns()
                assert [str(context["exception"]) for context in contexts] == ["received", "received", "error"]
                assert all(context["message"].startswith("Exception in callback ") for context in contexts)
            with pytest.raises(ZeroDivisionError, match="error"):
                transport.sendto(bytes(70000))
            assert not transport.is_closing()
            await closed(transport)

    run(either, scenario())


def test_base_exception_reaches_the_caller(loop):
    class Interrupting(Mailbox):
        def datagram_received(self, data, addr):
            raise KeyboardInterrupt

    transport, protocol = run(loop, endpoint(Interrupting, local_addr=("127.0.0.1", 0)))
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    run(loop, closed(transport))
    assert protocol.calls == ["connection_made", "connection_lost"]


def test_flow_control(either, tmp_path):
    if getattr(either, "miscounts", False):
        pytest.skip("asyncio of Python 3.13.0 does not resume")

    async def scenario():
        transport, protocol, peer, count = await blocked(tmp_path)
        assert transport.get_write_buffer_size() == 4 + HEADER
        transport.set_write_buffer_limits(high=10 * (4 + HEADER), low=2 * (4 + HEADER))
        assert transport.get_write_buffer_limits() == (2 * (4 + HEADER), 10 * (4 + HEADER))
        for i in range(count + 1, count + 10):
            transport.sendto(b"%04d" % i)
        assert protocol.calls == ["connection_made"]
        transport.sendto(b"%04d" % (count + 10))
        assert protocol.calls == ["connection_made", "pause_writing"]
        assert transport.get_write_buffer_size() == 11 * (4 + HEADER)
        assert "write=<polling, bufsize=" in repr(transport)
        got = await all_of(peer, 8)
        assert protocol.calls[1:] in (["pause_writing"], ["pause_writing", "resume_writing"])
        got += await all_of(peer, count + 3)
        assert got == numbered(count + 11)
        await protocol.called("resume_writing")
        assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]
        assert transport.get_write_buffer_size() <= 2 * (4 + HEADER)
        await closed(transport)
        peer.close()

    run(either, scenario())


def test_limits(either):
    async def scenario():
        transport, _ = await endpoint()
        assert transport.get_write_buffer_limits() == (16 << 10, 64 << 10)
        transport.set_write_buffer_limits(low=1)
        assert transport.get_write_buffer_limits() == (1, 4)
        with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
            transport.set_write_buffer_limits(high=1, low=2)
        await closed(transport)

    run(either, scenario())


def test_close_sends_what_is_queued(either, tmp_path):
    async def scenario():
        transport, protocol, peer, count = await blocked(tmp_path)
        for i in range(count + 1, count + 50):
            transport.sendto(b"%04d" % i)
        transport.close()
        assert transport.is_closing() and transport.get_write_buffer_size() == 50 * (4 + HEADER)
        transport.sendto(b"%04d" % (count + 50))     # behind what is queued
        await turns()
        assert "connection_lost" not in protocol.calls
        assert await all_of(peer, count + 51) == numbered(count + 51)
        await protocol.called("connection_lost")
        assert protocol.calls.count("connection_lost") == 1 and protocol.lost_with is None
        peer.close()

    run(either, scenario())


def test_abort_drops_what_is_queued(either, tmp_path):
    async def scenario():
        transport, protocol, peer, count = await blocked(tmp_path)
        await turns()
        transport.abort()
        transport.abort()
        await protocol.called("connection_lost")
        await turns()
        assert protocol.calls.count("connection_lost") == 1 and protocol.lost_with is None
        assert drained(peer) == numbered(count)
        peer.close()

    run(either, scenario())


def test_abort_while_closing(either, tmp_path):
    async def scenario():
        transport, protocol, peer, count = await blocked(tmp_path)
        transport.close()
        await turns()
        transport.abort()
        await protocol.called("connection_lost")
        assert protocol.calls.count("connection_lost") == 1
        assert drained(peer) == numbered(count)
        peer.close()

    run(either, scenario())


def test_peer_that_goes_with_datagrams_queued(either, tmp_path):
    async def scenario():
        transport, protocol, peer, _ = await blocked(tmp_path)
        transport.sendto(b"second")
        await turns()
        peer.close()
        await protocol.until(lambda: len(protocol.errors) >= 2)
        assert all(isinstance(exc, OSError) for exc in protocol.errors)
        if not getattr(either, "miscounts", False):
            assert transport.get_write_buffer_size() == 0
        assert not transport.is_closing()
        await closed(transport)

    run(either, scenario())


def test_unconnected_sends_that_are_refused(loop, tmp_path):
    """Addresses go with the datagrams into the queue, also those that only Python understands."""

    async def scenario():
        peer = plain(socket.AF_UNIX, str(tmp_path / "peer"))
        transport, protocol = await endpoint(local_addr=str(tmp_path / "ours"), family=socket.AF_UNIX)
        count = 0
        while not transport.get_write_buffer_size():
            transport.sendto(b"%04d" % count, peer.getsockname())
            count += 1
        for i in range(count, count + 20):
            transport.sendto(bytearray(b"%04d" % i), peer.getsockname())
        await turns()
        busy = loop.stats()["polls"]
        await asyncio.sleep(0.05)       # asyncio's own loop spins until there is room
        assert loop.stats()["polls"] - busy < 20
        assert await all_of(peer, count + 20) == numbered(count + 20)
        assert not protocol.errors
        await closed(transport)
        peer.close()

    run(loop, scenario())


def test_sends_after_the_end(either, caplog):
    async def scenario():
        with plain() as peer:
            transport, protocol = await endpoint(remote_addr=peer.getsockname())
            transport.sendto(b"last")
            transport.close()
            for _ in range(3):
                transport.sendto(b"too late")
            await protocol.called("connection_lost")
            assert not caplog.records
            for _ in range(3):
                transport.sendto(b"too late")
            assert drained(peer) == [b"last"]
            assert [record.getMessage() for record in caplog.records] == 2 * ["socket.send() raised exception."]

    run(either, scenario())


def test_unconnected_sends_after_the_end(either):
    async def scenario():
        with plain() as peer:
            transport, protocol = await endpoint()
            transport.close()
            transport.sendto(b"just in time", peer.getsockname())
            assert drained(peer) == [b"just in time"]
            await protocol.called("connection_lost")

    run(either, scenario())


def test_datagrams_behind_a_close_are_not_delivered(either):
    class Closing(Mailbox):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.close()

    async def scenario():
        transport, protocol = await endpoint(Closing, local_addr=("127.0.0.1", 0))
        with plain() as peer:
            for _ in range(5):
                peer.sendto(b"x", transport.get_extra_info("sockname"))
        await protocol.called("connection_lost")
        assert protocol.calls == ["connection_made", "datagram_received", "connection_lost"]

    run(either, scenario())


def test_connection_made_that_raises(either):
    class Raising(Mailbox):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise ZeroDivisionError

    async def scenario():
        with reports(either) as contexts:
            transport, protocol = await endpoint(Raising, local_addr=("127.0.0.1", 0))
        assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]
        transport.sendto(b"x", transport.get_extra_info("sockname"))
        assert await protocol.received(1) == [b"x"]
        await closed(transport)

    run(either, scenario())


@pytest.mark.parametrize("options", [
    {}, {"local_addr": "127.0.0.1"}, {"local_addr": ("127.0.0.1", 0, 0)}, {"local_addr": ("nowhere.invalid", 0)},
    {"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 0)}, {"local_addr": ("192.0.2.1", 5)},
    {"local_addr": (5, 5), "family": socket.AF_UNIX}, {"local_addr": ("127.0.0.1", 0), "reuse_address": True},
], ids=repr)
def test_bad_options(loop, options):
    """What create_datagram_endpoint refuses, and in which words."""

    def failure(on):
        with pytest.raises(Exception) as raised:
            run(on, on.create_datagram_endpoint(Mailbox, **options))
        return raised.type, str(raised.value)

    stock = asyncio.SelectorEventLoop()
    try:
        assert failure(loop) == failure(stock)
        stock.run_until_complete(stock.shutdown_default_executor())
    finally:
        stock.close()


def test_bad_sock(loop):
    async def scenario():
        with socket.socket() as stream, pytest.raises(ValueError, match="ocket was expected, got"):
            await loop.create_datagram_endpoint(Mailbox, sock=stream)
        with plain() as sock, pytest.raises(ValueError, match="socket modifier keyword arguments can not be used"):
            await loop.create_datagram_endpoint(Mailbox, sock=sock, allow_broadcast=True)

    run(loop, scenario())


def test_cancelled_while_it_is_made(loop):
    async def scenario():
        protocol = Mailbox()
        task = asyncio.ensure_future(endpoint(lambda: protocol, local_addr=("127.0.0.1", 0)))
        while not protocol.calls and not task.done():
            await asyncio.sleep(0)
            if task.get_coro().cr_await is not None:
                task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns()
        assert protocol.calls in ([], ["connection_made", "connection_lost"])

    run(loop, scenario())


def test_loop_closed_with_endpoints_open(loop, tmp_path):
    """The transports warn, and close their sockets."""

    async def scenario():
        transport, _, peer, _ = await blocked(tmp_path)
        other, _ = await endpoint()
        return transport, other, peer

    transport, other, peer = run(loop, scenario())
    loop.close()
    fds = [each.get_extra_info("socket").fileno() for each in (transport, other)]
    assert repr(other) == f"<DatagramTransport fd={fds[1]}>"
    peer.close()
    other.sendto(b"x", other.get_extra_info("sockname"))    # needs no loop, as on asyncio
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport, other
        gc.collect()
    # The sockets may warn too: the collector finalizes them in any order.
    messages = [str(warning.message) for warning in caught]
    assert sorted(message for message in messages if message.startswith("unclosed transport")) == sorted(
        f"unclosed transport <DatagramTransport fd={fd}>" for fd in fds)


def test_stop_right_after_close(loop):
    transport, protocol = run(loop, endpoint())
    address = transport.get_extra_info("sockname")
    transport.close()
    run_once(loop)
    assert protocol.calls == ["connection_made", "connection_lost"]
    with plain(address=address):    # the socket is closed when connection_lost has been called
        pass


def test_used_by_another_thread_while_the_loop_sleeps(loop, tmp_path):
    """Sends go out at once, or into the queue in order; the end waits for the loop's thread."""

    async def scenario():
        transport, protocol, peer, count = await blocked(tmp_path)
        thread_id = threading.get_native_id()

        def use():
            for i in range(count + 1, count + 20):
                await_sleep_in_the_kernel(thread_id)
                transport.sendto(b"%04d" % i)
            await_sleep_in_the_kernel(thread_id)
            transport.pause_reading()
            transport.resume_reading()
            transport.close()

        thread = threading.Thread(target=use)
        thread.start()
        assert await all_of(peer, count + 20) == numbered(count + 20)
        await protocol.called("connection_lost")
        thread.join()
        peer.close()

    run(loop, scenario())


def test_socket_closed_behind_its_transport(loop):
    """Its descriptor is another endpoint's next, while the core still names the first."""

    async def scenario():
        first, lost = await endpoint()
        fd = first._sock.fileno()
        first._sock.close()
        first.close()
        second, protocol = await endpoint()
        assert second._sock.fileno() == fd
        second.sendto(b"x", second.get_extra_info("sockname"))
        assert await protocol.received(1) == [b"x"]
        assert lost.calls == ["connection_made", "connection_lost"]
        await closed(second)

    run(loop, scenario())
