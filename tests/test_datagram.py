"""Datagram endpoints: every way of making one, and what they send and receive."""

import asyncio
import contextvars
import errno
import socket
import sys

import pytest
from datagrams import DatagramEcho, Mailbox, closed, endpoint, plain
from driving import in_thread, run, run_once, turns
from peers import link_local, pattern

UNIX_LARGE = 150 * 1024     # bytes: above UDP's limit, below a Unix socket's default send buffer


def test_echo(loop):
    async def scenario():
        transport, protocol = await endpoint(DatagramEcho)
        address = transport.get_extra_info("sockname")
        with plain() as peer:
            for size in (1, 1000, 9000, 65507):
                sent = pattern(size, size)
                peer.sendto(sent, address)
                assert await in_thread(peer.recvfrom, 65536) == (sent, address)
            assert {addr for _, addr in protocol.got} == {peer.getsockname()}
        await closed(transport)
        assert protocol.calls == ["connection_made"] + 4 * ["datagram_received"] + ["connection_lost"]

    run(loop, scenario())


def test_echo_ipv6(loop):
    async def scenario():
        transport, protocol = await endpoint(DatagramEcho, local_addr=("::1", 0))
        with plain(socket.AF_INET6) as peer:
            peer.sendto(b"six", transport.get_extra_info("sockname"))
            assert await in_thread(peer.recv, 100) == b"six"
            assert protocol.got == [(b"six", peer.getsockname())]
            assert len(protocol.got[0][1]) == 4
        await closed(transport)

    run(loop, scenario())


@pytest.mark.parametrize("addr", [
    lambda port: ("::1", port), lambda port: ("::1", port, 0), lambda port: ("::1", port, 0, 1),
    lambda port: ("::1%1", port), lambda port: ("", port),
], ids=["pair", "flow", "scope", "zone", "empty"])
def test_ipv6_destinations(loop, addr):
    async def scenario():
        transport, protocol = await endpoint(local_addr=("::1", 0))
        with plain(socket.AF_INET6, ("::", 0)) as peer:
            transport.sendto(b"x", addr(peer.getsockname()[1]))
            assert not protocol.errors
            assert await in_thread(peer.recv, 100) == b"x"
        await closed(transport)

    run(loop, scenario())


@pytest.mark.skipif(link_local() is None, reason="no interface has a link-local address")
def test_scope_ids_are_kept(loop):
    host, name, index = link_local()

    async def scenario():
        transport, protocol = await endpoint(local_addr=(f"{host}%{name}", 0))
        address = transport.get_extra_info("sockname")
        assert address == (host, address[1], 0, index)
        with plain(socket.AF_INET6, (host, 0, 0, index)) as peer:
            peer.sendto(b"by number", address)
            assert await protocol.received(1) == [b"by number"]
            assert protocol.got[0][1] == peer.getsockname()
            transport.sendto(b"by number", protocol.got[0][1])
            transport.sendto(b"by name", (f"{host}%{name}", peer.getsockname()[1]))
            assert await in_thread(peer.recvfrom, 100) == (b"by number", address)
            assert await in_thread(peer.recvfrom, 100) == (b"by name", address)
        await closed(transport)

    run(loop, scenario())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", ""])
def test_ipv4_destinations(loop, host):
    async def scenario():
        transport, protocol = await endpoint()
        with plain() as peer:
            for _ in range(2):
                transport.sendto(b"x", (host, peer.getsockname()[1]))
                assert await in_thread(peer.recv, 100) == b"x"
            assert not protocol.errors
        await closed(transport)

    run(loop, scenario())


def test_many_peers_are_told_apart(loop):
    """More than the table of addresses has room for without collisions."""
    count = 300

    async def scenario():
        transport, protocol = await endpoint(DatagramEcho)
        address = transport.get_extra_info("sockname")
        peers = [plain() for _ in range(count)]
        for turn in range(3):
            for i, peer in enumerate(peers):
                peer.sendto(b"%d %d" % (turn, i), address)
                if i % 50 == 49:    # what the receive buffer surely holds
                    await protocol.received(turn * count + i + 1)
            for i, peer in enumerate(peers):
                assert peer.recv(100) == b"%d %d" % (turn, i)
        assert [addr for _, addr in protocol.got] == 3 * [peer.getsockname() for peer in peers]
        for peer in peers:
            peer.close()
        await closed(transport)

    run(loop, scenario())


def test_connected(loop):
    async def scenario():
        with plain() as peer:
            transport, protocol = await endpoint(remote_addr=peer.getsockname())
            assert transport.get_extra_info("peername") == peer.getsockname()
            transport.sendto(b"one")
            transport.sendto(b"two", peer.getsockname())
            with pytest.raises(ValueError, match="Invalid address: must be None or"):
                transport.sendto(b"no", ("127.0.0.1", 1))
            data, address = await in_thread(peer.recvfrom, 100)
            assert (data, address) == (b"one", transport.get_extra_info("sockname"))
            assert await in_thread(peer.recv, 100) == b"two"
            peer.sendto(b"back", address)
            assert await protocol.received(1) == [b"back"]
            assert protocol.got[0][1] == peer.getsockname()
            await closed(transport)

    run(loop, scenario())


def test_local_and_remote_address(loop):
    async def scenario():
        with plain() as peer, plain() as free:
            local = free.getsockname()
            free.close()
            transport, _ = await endpoint(local_addr=local, remote_addr=peer.getsockname())
            transport.sendto(b"x")
            assert await in_thread(peer.recvfrom, 10) == (b"x", local)
            await closed(transport)

    run(loop, scenario())


def test_no_address(loop):
    async def scenario():
        transport, protocol = await endpoint(family=socket.AF_INET, proto=socket.IPPROTO_UDP)
        with plain() as peer:
            transport.sendto(b"hello", peer.getsockname())
            data, address = await in_thread(peer.recvfrom, 100)
            peer.sendto(data, ("127.0.0.1", address[1]))
            assert await protocol.received(1) == [b"hello"]
        await closed(transport)

    run(loop, scenario())


def test_sock(loop):
    async def scenario():
        sock = plain()
        transport, protocol = await endpoint(sock=sock)
        assert transport._sock is sock and sock.gettimeout() == 0
        assert transport.get_extra_info("socket").fileno() == sock.fileno()
        transport.sendto(b"self", sock.getsockname())
        assert await protocol.received(1) == [b"self"]
        await closed(transport)
        assert transport._sock is None and sock.fileno() == -1

    run(loop, scenario())


def test_reuse_port(loop):
    async def scenario():
        first, _ = await endpoint(local_addr=("127.0.0.1", 0), reuse_port=True)
        address = first.get_extra_info("sockname")
        second, _ = await endpoint(local_addr=address, reuse_port=True)
        assert second.get_extra_info("sockname") == address
        with pytest.raises(OSError) as failure:
            await endpoint(local_addr=address)
        assert failure.value.errno == errno.EADDRINUSE
        await closed(first, second)

    run(loop, scenario())


def test_port_is_free_after_connection_lost(loop):
    async def scenario():
        transport, _ = await endpoint()
        address = transport.get_extra_info("sockname")
        await closed(transport)
        again, _ = await endpoint(local_addr=address)
        await closed(again)

    run(loop, scenario())


def test_broadcast(loop):
    async def scenario():
        receiver, protocol = await endpoint(local_addr=("0.0.0.0", 0))
        port = receiver.get_extra_info("sockname")[1]
        deaf, refused = await endpoint(family=socket.AF_INET)
        deaf.sendto(b"no", ("127.255.255.255", port))
        assert [exc.errno for exc in refused.errors] == [errno.EACCES]
        sender, allowed = await endpoint(family=socket.AF_INET, allow_broadcast=True)
        sender.sendto(b"all", ("127.255.255.255", port))
        assert await protocol.received(1) == [b"all"]
        # With a remote address too it is not connected, so that anybody may answer.
        aimed, answers = await endpoint(remote_addr=("127.255.255.255", port), allow_broadcast=True)
        aimed.sendto(b"again")
        assert await protocol.received(2) == [b"all", b"again"]
        receiver.sendto(b"answer", ("127.0.0.1", aimed.get_extra_info("socket").getsockname()[1]))
        assert await answers.received(1) == [b"answer"]
        assert not allowed.errors and not answers.errors
        await closed(receiver, deaf, sender, aimed)

    run(loop, scenario())


def test_multicast(loop):
    async def scenario():
        receiver, protocol = await endpoint(local_addr=("0.0.0.0", 0))
        group, here = socket.inet_aton("239.77.0.1"), socket.inet_aton("127.0.0.1")
        receiver.get_extra_info("socket").setsockopt(
            socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + here)
        sender, _ = await endpoint()
        sender.get_extra_info("socket").setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
        sender.sendto(b"group", ("239.77.0.1", receiver.get_extra_info("sockname")[1]))
        assert await protocol.received(1) == [b"group"]
        assert protocol.got[0][1] == sender.get_extra_info("sockname")
        await closed(receiver, sender)

    run(loop, scenario())


def test_unix_paths(loop, tmp_path):
    async def scenario():
        one, two = str(tmp_path / "one"), str(tmp_path / "zwei ü")
        first, first_protocol = await endpoint(DatagramEcho, local_addr=one, family=socket.AF_UNIX)
        second, protocol = await endpoint(local_addr=two, family=socket.AF_UNIX)
        second.sendto(b"hello", one)
        assert await protocol.received(1) == [b"hello"]
        assert protocol.got == [(b"hello", one)] and first_protocol.got == [(b"hello", two)]
        third, protocol = await endpoint(local_addr=two + "3", remote_addr=one, family=socket.AF_UNIX)
        third.sendto(pattern(UNIX_LARGE))
        assert await protocol.received(1) == [pattern(UNIX_LARGE)]
        await closed(first, second, third)

    run(loop, scenario())


def test_unix_abstract_and_nameless(loop):
    name = b"\0kloop-test-%d" % id(loop)

    async def scenario():
        with plain(socket.AF_UNIX, name) as peer, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
            named = b"\0kloop-test-ours-%d" % id(loop)
            transport, protocol = await endpoint(sock=plain(socket.AF_UNIX, named))
            transport.sendto(b"out", name)
            assert await in_thread(peer.recvfrom, 10) == (b"out", named)
            peer.sendto(b"in", named)
            nameless.sendto(b"who", named)
            await protocol.received(2)
            assert protocol.got == [(b"in", name), (b"who", None)]
            await closed(transport)

    run(loop, scenario())


def test_other_families_are_asyncios_transports(loop):
    async def scenario():
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM)
        sock.bind((0, 0))
        transport, protocol = await endpoint(sock=sock)
        assert type(transport).__module__.startswith("asyncio.")
        transport.close()
        await protocol.called("connection_lost")

    run(loop, scenario())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda p: memoryview(p).cast("H")])
def test_kinds_of_data(loop, kind):
    async def scenario():
        transport, protocol = await endpoint()
        transport.sendto(kind(b"some data!"), transport.get_extra_info("sockname"))
        assert await protocol.received(1) == [b"some data!"]
        await closed(transport)

    run(loop, scenario())


def test_empty_datagrams(loop):
    """They are received on every Python, and sent from 3.13 on."""

    async def scenario():
        transport, protocol = await endpoint()
        address = transport.get_extra_info("sockname")
        with plain() as peer:
            for data in (b"", b"", b"x", b""):
                peer.sendto(data, address)
            assert await protocol.received(4) == [b"", b"", b"x", b""]
            transport.sendto(b"", peer.getsockname())
            transport.sendto(b"end", peer.getsockname())
            first = await in_thread(peer.recv, 10)
            assert first == (b"" if sys.version_info >= (3, 13) else b"end")
        await closed(transport)

    run(loop, scenario())


def test_burst_while_the_loop_is_busy(loop):
    async def scenario():
        transport, protocol = await endpoint()
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        fits = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 1024 // 2
        with plain() as peer:
            for i in range(fits):
                peer.sendto(i.to_bytes(4, "big"), transport.get_extra_info("sockname"))
        got = await protocol.received(fits)
        assert got == [i.to_bytes(4, "big") for i in range(fits)]
        await closed(transport)

    run(loop, scenario())


def test_what_arrives_between_runs(loop):
    transport, protocol = run(loop, endpoint())
    with plain() as peer:
        for i in range(3):
            peer.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            run(loop, protocol.received(i + 1))
    assert [data for data, _ in protocol.got] == [b"0", b"1", b"2"]
    run(loop, closed(transport))


def test_stop_between_datagrams(loop):
    """What was received when the loop stopped is delivered when it runs again."""

    class Stopping(Mailbox):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            loop.stop()

    transport, protocol = run(loop, endpoint(Stopping, local_addr=("127.0.0.1", 0)))
    with plain() as peer:
        for i in range(20):
            peer.sendto(b"%d" % i, transport.get_extra_info("sockname"))
    while len(protocol.got) < 20:
        loop.run_forever()
    assert [data for data, _ in protocol.got] == [b"%d" % i for i in range(20)]
    transport.close()
    run_once(loop)
    run(loop, protocol.called("connection_lost"))


def test_run_in_other_threads(loop):
    transport, protocol = run(loop, endpoint(DatagramEcho, local_addr=("127.0.0.1", 0)))
    address = transport.get_extra_info("sockname")

    async def turn(i, peer):
        await protocol.received(i + 1)
        assert peer.recvfrom(10) == (b"%d" % i, address)

    async def outside():
        with plain() as peer:
            for i in range(5):
                peer.sendto(b"%d" % i, address)     # before that thread runs the loop
                await in_thread(run, loop, turn(i, peer))

    asyncio.run(outside())
    run(loop, closed(transport))


def test_pause_reading(loop):
    async def scenario():
        transport, protocol = await endpoint()
        address = transport.get_extra_info("sockname")
        with plain() as peer:
            peer.sendto(b"0", address)
            await protocol.received(1)
            assert transport.is_reading()
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            for i in range(1, 4):
                peer.sendto(b"%d" % i, address)
            await turns()
            assert len(protocol.got) == 1
            transport.resume_reading()
            transport.resume_reading()
            assert await protocol.received(4) == [b"0", b"1", b"2", b"3"]
        await closed(transport)

    run(loop, scenario())


def test_context(loop):
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    class Protocol(Mailbox):
        def datagram_received(self, data, addr):
            seen.append(variable.get())
            super().datagram_received(data, addr)

        def connection_lost(self, exc):
            seen.append(variable.get())
            super().connection_lost(exc)

    async def scenario():
        variable.set("made here")
        transport, protocol = await endpoint(Protocol, local_addr=("127.0.0.1", 0))
        variable.set("later")
        transport.sendto(b"x", transport.get_extra_info("sockname"))
        await protocol.received(1)
        await closed(transport)
        assert seen == ["made here", "made here"]

    run(loop, scenario())


def test_transport(loop):
    async def scenario():
        transport, protocol = await endpoint()
        fd = transport.get_extra_info("socket").fileno()
        assert isinstance(transport, asyncio.DatagramTransport) and isinstance(transport, asyncio.Transport)
        assert repr(transport) == f"<DatagramTransport fd={fd} read=polling write=<idle, bufsize=0>>"
        assert transport.get_protocol() is protocol and not transport.is_closing()
        assert transport.get_extra_info("nothing", 5) == 5 and transport.get_extra_info("peername") is None
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(fd, print)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.create_datagram_endpoint(Mailbox, sock=transport._sock)
        other = Mailbox()
        transport.set_protocol(other)
        transport.sendto(b"x", transport.get_extra_info("sockname"))
        assert await other.received(1) == [b"x"] and not protocol.got
        transport.close()
        transport.close()
        assert transport.is_closing() and repr(transport).startswith(f"<DatagramTransport closing fd={fd} read=idle")
        await other.called("connection_lost")
        assert repr(transport).startswith(f"<DatagramTransport closed fd={fd}")

    run(loop, scenario())


def test_stats(loop):
    idle = loop.stats()

    async def scenario():
        transport, protocol = await endpoint()
        for _ in range(10):
            transport.sendto(b"12345", transport.get_extra_info("sockname"))
        await protocol.received(10)
        stats = loop.stats()
        assert stats["conns"] == idle["conns"] + 1
        assert stats["bytes_received"] - idle["bytes_received"] == 50
        assert stats["bytes_sent"] - idle["bytes_sent"] == 50
        assert stats["direct_sends"] - idle["direct_sends"] == 10
        await closed(transport)

    run(loop, scenario())


def test_debug_mode(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0

    async def scenario():
        transport, protocol = await endpoint(DatagramEcho)
        with plain() as peer:
            peer.sendto(b"x", transport.get_extra_info("sockname"))
            assert await in_thread(peer.recv, 10) == b"x"
        await closed(transport)

    with caplog.at_level("WARNING", "asyncio"):
        run(loop, scenario())
    assert any("Executing <endpoint of <DatagramTransport" in record.getMessage() for record in caplog.records)


def test_the_socket_is_closed_one_turn_after_abort(loop):
    """As on asyncio: libraries close endpoints with abort() and sleep(0), and then count descriptors."""
    async def main():
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        sock = transport.get_extra_info("socket")
        transport.abort()
        await asyncio.sleep(0)
        assert sock.fileno() == -1

    run(loop, main())
