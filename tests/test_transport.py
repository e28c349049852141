"""What a stream transport is: its type, its names, its socket and its protocol."""

import asyncio
import re
import socket
from asyncio.trsock import TransportSocket

import pytest
from children import run_python
from driving import in_thread, run
from peers import connected, listening, pair
from recorders import BufferedRecorder, Echo, Recorder


async def accepted_one(loop, factory, listener):
    """A server on a socket that somebody else has bound, and one connection of it."""
    server = await loop.create_server(factory, sock=listener)
    return server, connected(listener.getsockname())


async def ended(protocol, peer, server=None):
    peer.close()
    await protocol.called("connection_lost")
    if server is not None:
        server.close()
        await server.wait_closed()


def test_a_transport_is_an_asyncio_transport(loop):
    async def main():
        ours, peer = pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, (asyncio.ReadTransport, asyncio.WriteTransport))
        assert type(transport.get_extra_info("socket")) is TransportSocket
        assert transport.can_write_eof() is True
        await ended(protocol, peer)

    run(loop, main())


def test_attributes_of_one_transport_can_be_added_and_replaced(loop):
    """Programs mark transports, and tests of servers replace their methods."""
    async def main():
        ours, peer = pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        transport.marked = True
        written = []
        transport.write = written.append
        transport.write(b"not sent")
        del transport.write
        transport.write(b"sent")
        assert (await in_thread(peer.recv, 100)) == b"sent"
        assert written == [b"not sent"]
        await ended(protocol, peer)

    run(loop, main())


def test_the_socket_is_the_same_object_each_time(loop):
    async def main():
        ours, peer = pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        assert transport.get_extra_info("socket") is transport.get_extra_info("socket")
        await ended(protocol, peer)

    run(loop, main())


def test_the_socket_is_closed_when_a_cancelled_connect_has_ended(loop):
    """The next to run after the cancelled task sees it, as on asyncio."""
    async def main():
        ours, peer = pair()
        task = asyncio.ensure_future(loop.create_connection(asyncio.Protocol, sock=ours))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ours.fileno() == -1
        peer.close()

    run(loop, main())


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_names_of_an_accepted_connection(loop, family):
    async def main():
        protocol = Recorder()
        listener = listening(family)
        server, peer = await accepted_one(loop, lambda: protocol, listener)
        await protocol.called("connection_made")
        info = protocol.transport.get_extra_info
        assert info("peername") == peer.getsockname()
        assert info("sockname") == peer.getpeername()
        assert info("socket").getpeername() == peer.getsockname()
        assert info("socket").family == family
        await ended(protocol, peer, server)

    run(loop, main())


def test_unknown_extra_info(loop):
    async def main():
        ours, peer = pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        assert transport.get_extra_info("nothing of the kind") is None
        assert transport.get_extra_info("nothing of the kind", 7) == 7
        assert transport.get_extra_info("sslcontext") is None
        await ended(protocol, peer)

    run(loop, main())


def test_extra_info_after_the_end(loop):
    """Programs log the peer's name in connection_lost and later."""
    async def main():
        ours, peer = pair()
        name = peer.getsockname()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        await ended(protocol, peer)
        assert transport.get_extra_info("peername") == name
        assert transport.get_extra_info("socket").fileno() == -1

    run(loop, main())


def test_the_socket_of_an_accepted_connection_is_closed_with_it(loop):
    async def main():
        protocol = Recorder()
        server, peer = await accepted_one(loop, lambda: protocol, listening())
        await protocol.called("connection_made")
        before = protocol.transport.get_extra_info("socket")
        assert before.fileno() > 0
        await ended(protocol, peer, server)
        assert before.fileno() == -1

    run(loop, main())


def test_nagle_is_off_on_both_sides(loop):
    """Also for listeners bound by others, as socket activation and gunicorn do it."""
    async def main():
        protocol = Recorder()
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = await loop.create_server(lambda: protocol, sock=listener)
        client, client_protocol = await loop.create_connection(Recorder, *listener.getsockname())
        await protocol.called("connection_made")
        for transport in (client, protocol.transport):
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        client.close()
        await client_protocol.called("connection_lost")
        await protocol.called("connection_lost")
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_accepted_descriptors_are_not_inherited_and_do_not_block(loop):
    async def main():
        import os

        protocol = Recorder()
        server, peer = await accepted_one(loop, lambda: protocol, listening())
        await protocol.called("connection_made")
        fd = protocol.transport.get_extra_info("socket").fileno()
        assert not os.get_inheritable(fd)
        assert not os.get_blocking(fd)
        await ended(protocol, peer, server)

    run(loop, main())


def test_repr(loop):
    async def main():
        ours, peer = pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        assert re.fullmatch(rf"<\w+ fd={ours.fileno()} read=polling write=<idle, bufsize=0>>", repr(transport))
        transport.close()
        assert re.match(r"<\w+ clos(ing|ed) fd=", repr(transport))
        await ended(protocol, peer)
        assert re.match(r"<\w+ closed fd=", repr(transport))

    run(loop, main())


def test_transports_are_weakly_referable_and_hashable(loop):
    async def main():
        import weakref

        ours, peer = pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        assert weakref.ref(transport)() is transport
        assert {transport: 1}[transport] == 1
        await ended(protocol, peer)

    run(loop, main())


def test_a_closed_connection_frees_transport_and_protocol(loop):
    """Without the garbage collector: the cycle between them is broken."""
    async def main():
        import gc
        import weakref

        ours, peer = pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        await ended(protocol, peer)
        references = [weakref.ref(transport), weakref.ref(protocol)]
        protocol.transport = None
        gc.disable()
        try:
            del transport, protocol
            await asyncio.sleep(0)
            assert [reference() for reference in references] == [None, None]
        finally:
            gc.enable()

    run(loop, main())


def test_set_protocol_in_the_middle_of_a_stream(loop):
    """To another Protocol, to a BufferedProtocol, and back, each from inside a call."""
    async def main():
        ours, peer = pair()
        protocols = [Recorder(), BufferedRecorder(2), Recorder()]
        transport, _ = await loop.create_connection(lambda: protocols[0], sock=ours)
        for number, protocol in enumerate(protocols):
            transport.set_protocol(protocol)
            assert transport.get_protocol() is protocol
            peer.sendall(b"part %d" % number)
            await protocol.received(6)
            assert protocol.data == b"part %d" % number
        protocols[2].transport = transport
        await ended(protocols[2], peer)
        assert "connection_lost" not in protocols[0].calls + protocols[1].calls

    run(loop, main())


def test_set_protocol_inside_data_received_holds_for_the_next_data(loop):
    async def main():
        ours, peer = pair()
        later = Recorder()

        class Hands(Recorder):
            def data_received(self, data):
                super().data_received(data)
                self.transport.set_protocol(later)

        transport, first = await loop.create_connection(Hands, sock=ours)
        peer.sendall(b"one")
        await first.received(3)
        peer.sendall(b"two")
        await later.received(3)
        assert (first.data, later.data) == (b"one", b"two")
        later.transport = transport
        await ended(later, peer)

    run(loop, main())


def test_add_reader_of_a_transports_descriptor(loop):
    async def main():
        ours, peer = pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        fd = ours.fileno()
        for method in (loop.add_reader, loop.add_writer):
            for file in (fd, ours):
                with pytest.raises(RuntimeError, match=r"^File descriptor .* is used by transport <"):
                    method(file, print)
        for method in (loop.remove_reader, loop.remove_writer):
            with pytest.raises(RuntimeError, match=r"^File descriptor .* is used by transport <"):
                method(fd)
        with pytest.raises(RuntimeError, match=r"^File descriptor .* is used by transport <"):
            await loop.create_connection(Recorder, sock=ours)
        peer.sendall(b"still works")
        await protocol.received(11)
        await ended(protocol, peer)

    run(loop, main())


def test_add_reader_after_the_transport_has_gone(loop):
    """Its number may be another file's by then."""
    async def main():
        ours, peer = pair()
        number = ours.fileno()
        _, protocol = await loop.create_connection(Recorder, sock=ours)
        await ended(protocol, peer)
        left, right = socket.socketpair()
        import os

        os.dup2(left.fileno(), number)
        seen = loop.create_future()
        loop.add_reader(number, lambda: seen.done() or seen.set_result(None))
        right.send(b"x")
        await seen
        loop.remove_reader(number)
        os.close(number)
        left.close()
        right.close()

    run(loop, main())


def test_many_transports_in_turn_on_the_same_numbers(loop):
    """Descriptors are used again at once; no event of a former connection reaches a later one."""
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for number in range(200):
            peer = connected(address)
            peer.sendall(b"%d" % number)
            assert await in_thread(peer.recv, 100) == b"%d" % number
            peer.close()
        server.close()
        await server.wait_closed()

    run(loop, main())


@pytest.mark.io_uring
def test_a_socket_closed_behind_the_transports_back_whose_number_an_accept_takes():
    """The kernel still receives for the old transport, which must live as long as that lasts.

    A receive in a ring holds its file. With epoll close(2) closes it.
    """
    run_python("""
        import asyncio, gc, os, socket, kloop

        class Told(asyncio.Protocol):
            def connection_made(self, transport):
                made.set_result(transport)

        class Received(asyncio.Protocol):
            def data_received(self, data):
                received.set_result(data)

        async def main():
            global made, received
            loop = asyncio.get_running_loop()
            made, received = loop.create_future(), loop.create_future()
            server = await loop.create_server(Told, "127.0.0.1", 0)
            peer = socket.socket()
            ours, other = socket.socketpair()
            await loop.create_connection(Received, sock=ours)
            number = ours.fileno()
            ours.close()
            lower = []
            while (free := os.dup(0)) != number:
                lower.append(free)
            os.close(number)
            peer.connect(server.sockets[0].getsockname())
            transport = await made
            assert transport.get_extra_info("socket").fileno() == number
            gc.collect()
            filling = [bytearray(400) for _ in range(10000)]
            other.send(b"late")
            assert await received == b"late"
            transport.abort()
            server.close()

        kloop.run(main())
        """)


def test_a_socket_closed_behind_the_transports_back_gives_the_number_to_another():
    """What comes for the new file is not the old transport's."""
    run_python("""
        import asyncio, gc, os, socket, kloop

        class Told(asyncio.Protocol):
            def connection_made(self, transport):
                made.set_result(transport)

            def data_received(self, data):
                received.set_result(data)

        class Untold(asyncio.Protocol):
            def data_received(self, data):
                received.set_exception(AssertionError(data))

        async def main():
            global made, received
            loop = asyncio.get_running_loop()
            made, received = loop.create_future(), loop.create_future()
            server = await loop.create_server(Told, "127.0.0.1", 0)
            peer = socket.socket()
            ours, other = socket.socketpair()
            await loop.create_connection(Untold, sock=ours)
            number = ours.fileno()
            ours.close()
            lower = []
            while (free := os.dup(0)) != number:
                lower.append(free)
            os.close(number)
            peer.connect(server.sockets[0].getsockname())
            transport = await made
            assert transport.get_extra_info("socket").fileno() == number
            gc.collect()
            for _ in range(3):
                peer.send(b"new")
                assert await received == b"new"
                received = loop.create_future()
            transport.abort()
            server.close()

        kloop.run(main())
        """)
