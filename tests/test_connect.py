"""create_connection: addresses, failures, racing addresses, and cancelling."""

import asyncio
import errno
import gc
import os
import re
import socket
import sys

import pytest
from driving import in_thread, run
from peers import Stalled, listening, pair, refused_address
from recorders import Recorder


async def accepted_by(listener):
    peer, address = await in_thread(listener.accept)
    return peer, address


async def ended(protocol, *sockets):
    protocol.transport.close()
    await protocol.called("connection_lost")
    for sock in sockets:
        sock.close()


def resolving_to(loop, *addresses):
    """Makes every name mean these addresses, in this order."""
    async def getaddrinfo(host, port, *, family=0, type=0, proto=0, flags=0):
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in addresses]

    loop.getaddrinfo = getaddrinfo


@pytest.mark.parametrize("family, host", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_connection_and_its_addresses(loop, family, host):
    async def main():
        with listening(family) as listener:
            port = listener.getsockname()[1]
            transport, protocol = await loop.create_connection(Recorder, host, port)
            peer, address = await accepted_by(listener)
            assert protocol.calls == ["connection_made"]
            assert transport.get_extra_info("peername") == listener.getsockname()
            assert transport.get_extra_info("sockname") == address
            assert transport.get_protocol() is protocol
            await ended(protocol, peer)

    run(loop, main())


def test_a_name_is_resolved(loop):
    async def main():
        with listening() as listener:
            transport, protocol = await loop.create_connection(
                Recorder, "localhost", listener.getsockname()[1], family=socket.AF_INET)
            assert transport.get_extra_info("peername") == listener.getsockname()
            await ended(protocol)

    run(loop, main())


def test_refused(loop):
    async def main():
        host, port = refused_address()
        with pytest.raises(ConnectionRefusedError,
                           match=re.escape(f"Connect call failed ({host!r}, {port})")) as caught:
            await loop.create_connection(Recorder, host, port)
        assert caught.value.errno == errno.ECONNREFUSED

    run(loop, main())


def test_several_addresses_that_all_refuse(loop):
    first, second = refused_address(), refused_address()

    async def main():
        resolving_to(loop, first, second)
        with pytest.raises(OSError, match="^Multiple exceptions: .*Connect call failed.*Connect call failed"):
            await loop.create_connection(Recorder, "name", 1)

    run(loop, main())
    del loop.getaddrinfo


@pytest.mark.skipif(sys.version_info < (3, 12), reason="all_errors came with Python 3.12")
def test_all_errors(loop):
    first, second = refused_address(), refused_address()

    async def main():
        resolving_to(loop, first, second)
        with pytest.raises(ExceptionGroup) as caught:  # noqa: F821, built in from Python 3.11 on
            await loop.create_connection(Recorder, "name", 1, all_errors=True)
        assert [type(exc) for exc in caught.value.exceptions] == [ConnectionRefusedError] * 2

    run(loop, main())
    del loop.getaddrinfo


def test_the_next_address_is_tried(loop):
    async def main():
        with listening() as listener:
            resolving_to(loop, refused_address(), listener.getsockname())
            transport, protocol = await loop.create_connection(Recorder, "name", 1)
            assert transport.get_extra_info("peername") == listener.getsockname()
            await ended(protocol)

    run(loop, main())
    del loop.getaddrinfo


def test_no_address_at_all(loop):
    async def main():
        resolving_to(loop)
        with pytest.raises(OSError, match=r"^getaddrinfo\(\) returned empty list$"):
            await loop.create_connection(Recorder, "name", 1)

    run(loop, main())
    del loop.getaddrinfo


def test_happy_eyeballs_passes_an_address_that_does_not_answer(loop):
    async def main():
        with Stalled() as stalled, listening() as listener:
            resolving_to(loop, stalled.address, listener.getsockname())
            transport, protocol = await loop.create_connection(
                Recorder, "name", 1, happy_eyeballs_delay=0.01)
            assert transport.get_extra_info("peername") == listener.getsockname()
            await ended(protocol)

    run(loop, main())
    del loop.getaddrinfo


def test_cancelled_while_connecting(loop):
    """Leaves no descriptor and no operation; the fixtures look for both as well."""
    async def main():
        with Stalled() as stalled:
            before = len(os.listdir("/proc/self/fd"))
            tasks = [asyncio.ensure_future(loop.create_connection(Recorder, *stalled.address))
                     for _ in range(20)]
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(os.listdir("/proc/self/fd")) == before + 20
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(result) for result in results] == [asyncio.CancelledError] * 20
            del results, tasks
            gc.collect()
            assert len(os.listdir("/proc/self/fd")) == before

    run(loop, main())


def test_closing_the_loop_while_connecting(kloop):
    loop = kloop.new_event_loop()
    with Stalled() as stalled:
        task = loop.create_task(loop.create_connection(Recorder, *stalled.address))
        for _ in range(5):
            loop.call_soon(loop.stop)
            loop.run_forever()
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()


def test_a_connect_that_times_out(loop):
    async def main():
        with Stalled() as stalled:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(loop.create_connection(Recorder, *stalled.address), 0.01)

    run(loop, main())


def test_local_addr(loop):
    async def main():
        with listening() as listener:
            local = ("127.0.0.2", refused_address()[1])
            transport, protocol = await loop.create_connection(
                Recorder, *listener.getsockname(), local_addr=local)
            assert transport.get_extra_info("sockname") == local
            await ended(protocol)
            with pytest.raises(OSError, match="error while attempting to bind on address"):
                await loop.create_connection(Recorder, *listener.getsockname(), local_addr=("203.0.113.1", 0))

    run(loop, main())


def test_sock(loop):
    async def main():
        ours, peer = pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        peer.sendall(b"data")
        await protocol.received(4)
        assert transport.get_extra_info("socket").fileno() == ours.fileno()
        await ended(protocol, peer)
        assert ours.fileno() == -1

    run(loop, main())


def test_what_create_connection_refuses(loop):
    async def main():
        ours, peer = pair()
        with pytest.raises(ValueError, match="^host/port and sock can not be specified at the same time$"):
            await loop.create_connection(Recorder, "127.0.0.1", 1, sock=ours)
        with pytest.raises(ValueError, match="^host and port was not specified and no sock specified$"):
            await loop.create_connection(Recorder)
        with pytest.raises(ValueError, match="^server_hostname is only meaningful with ssl$"):
            await loop.create_connection(Recorder, "127.0.0.1", 1, server_hostname="name")
        with pytest.raises(ValueError, match="^ssl_handshake_timeout is only meaningful with ssl$"):
            await loop.create_connection(Recorder, "127.0.0.1", 1, ssl_handshake_timeout=1)
        with pytest.raises(ValueError, match="^You must set server_hostname when using ssl without a host$"):
            await loop.create_connection(Recorder, sock=ours, ssl=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            with pytest.raises(ValueError, match="^A Stream Socket was expected, got "):
                await loop.create_connection(Recorder, sock=datagrams)
        ours.close()
        peer.close()

    run(loop, main())


def test_data_sent_before_connection_made_returns(loop):
    class Greets(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"hello")

    async def main():
        with listening() as listener:
            _, protocol = await loop.create_connection(Greets, *listener.getsockname())
            peer, _ = await accepted_by(listener)
            assert await in_thread(peer.recv, 10) == b"hello"
            await ended(protocol, peer)

    run(loop, main())


def test_connection_made_comes_before_all_else(loop):
    """The peer has sent and closed before the loop hears of the connection."""
    async def main():
        ours, peer = pair()
        peer.sendall(b"data")
        peer.close()
        _, protocol = await loop.create_connection(Recorder, sock=ours)
        await protocol.called("connection_lost")
        assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]
        assert protocol.lost_with is None

    run(loop, main())


def test_connections_from_the_same_loop(loop):
    async def main():
        accepted = []

        def factory():
            accepted.append(Recorder())
            return accepted[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        made = await asyncio.gather(*(
            loop.create_connection(Recorder, *server.sockets[0].getsockname()) for _ in range(100)))
        for number, (transport, _) in enumerate(made):
            transport.write(b"%d" % number)
            transport.close()
        while len(accepted) < 100:
            await asyncio.sleep(0)
        for protocol in [*accepted, *(protocol for _, protocol in made)]:
            await protocol.called("connection_lost")
        assert {bytes(protocol.data) for protocol in accepted} == {b"%d" % number for number in range(100)}
        server.close()
        await server.wait_closed()

    run(loop, main())
