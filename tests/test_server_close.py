"""Closing servers: the port is free at once, whoever else has copies of what."""

import asyncio
import socket
import sys

import pytest
from children import run_python
from driving import in_thread, run
from peers import connected, read_all
from recorders import Recorder


def address_of(server):
    return server.sockets[0].getsockname()


def test_connecting_is_refused_once_close_has_returned(loop):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        address = address_of(server)
        server.close()
        with pytest.raises(ConnectionRefusedError):
            connected(address)
        await server.wait_closed()

    run(loop, main())


@pytest.mark.parametrize("rounds", [50])
def test_a_port_can_be_bound_again_at_once(loop, rounds):
    """By a plain socket without SO_REUSEADDR, which fails while anything still listens."""
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        address = address_of(server)
        for _ in range(rounds):
            server.close()
            with socket.socket() as sock:
                sock.bind(address)
                sock.listen()
            server = await loop.create_server(Recorder, *address)
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_closing_a_server_and_binding_again_after_connections(loop):
    async def main():
        protocol = Recorder()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        address = address_of(server)
        peer = connected(address)
        await protocol.called("connection_made")
        server.close()
        again = await loop.create_server(Recorder, *address)
        peer.close()
        await protocol.called("connection_lost")
        await server.wait_closed()
        again.close()
        await again.wait_closed()

    run(loop, main())


def test_a_server_can_be_closed_after_its_loop(kloop):
    loop = kloop.new_event_loop()
    server = loop.run_until_complete(loop.create_server(Recorder, "127.0.0.1", 0))
    address = address_of(server)
    loop.close()
    server.close()
    with socket.socket() as sock:
        sock.bind(address)
        sock.listen()


def test_a_connection_that_waits_in_the_backlog_is_dropped(loop):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        peer = connected(address_of(server))
        server.close()
        try:
            assert await in_thread(peer.recv, 1) == b""
        except ConnectionResetError:
            pass  # it was never accepted
        peer.close()
        await server.wait_closed()

    run(loop, main())


def test_a_sibling_process_does_not_keep_the_port():
    """The fork copies the ring; a copy that lived on would go on accepting."""
    output = run_python("""
        import asyncio, os, socket, kloop

        async def main():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            listener = server.sockets[0].fileno()
            address = server.sockets[0].getsockname()
            ready_in, ready_out = os.pipe()
            end_in, end_out = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(end_out)
                os.close(listener)      # what is left of the server is what the ring has
                os.write(ready_out, b"x")
                os.read(end_in, 1)
                os._exit(0)
            os.read(ready_in, 1)
            server.close()
            with socket.socket() as sock:
                sock.bind(address)
                sock.listen()
            again = await loop.create_server(asyncio.Protocol, *address)
            again.close()
            os.close(end_out)
            assert os.waitpid(child, 0)[1] == 0
            print("bound again")

        kloop.run(main())
        """)
    assert output == "bound again\n"


def test_a_program_started_meanwhile_does_not_keep_the_port(loop):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        address = address_of(server)
        child = await asyncio.create_subprocess_exec(
            "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        server.close()
        with socket.socket() as sock:
            sock.bind(address)
            sock.listen()
        await child.communicate(b"")

    run(loop, main())


def test_closing_twice_and_inside_a_connection(loop):
    async def main():
        class Closes(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                server.close()
                server.close()

        protocol = Closes()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        peer = connected(address_of(server))
        await protocol.called("connection_made")
        assert server.sockets == ()
        peer.close()
        await protocol.called("connection_lost")
        await server.wait_closed()

    run(loop, main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="close_clients() came with Python 3.13")
def test_close_clients(loop):
    async def main():
        protocol = Recorder()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        peer = connected(address_of(server))
        await protocol.called("connection_made")
        data = bytes(8 * 1024 * 1024)
        protocol.transport.write(data)
        server.close()
        server.close_clients()
        assert len(await in_thread(read_all, peer)) == len(data)
        await protocol.called("connection_lost")
        assert protocol.lost_with is None
        await server.wait_closed()
        peer.close()

    run(loop, main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="abort_clients() came with Python 3.13")
def test_abort_clients(loop):
    async def main():
        protocol = Recorder()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        peer = connected(address_of(server))
        await protocol.called("connection_made")
        size = 8 * 1024 * 1024
        protocol.transport.write(bytes(size))
        server.close()
        server.abort_clients()
        await protocol.called("connection_lost")
        assert protocol.lost_with is None
        await server.wait_closed()
        try:
            assert len(await in_thread(read_all, peer)) < size
        except ConnectionResetError:
            pass
        peer.close()

    run(loop, main())


def leave():
    raise SystemExit("leaving with events that were not dispatched")


def test_connections_accepted_and_never_delivered_are_closed_with_the_loop(loop):
    server = run(loop, loop.create_server(Recorder, "127.0.0.1", 0))
    run(loop, asyncio.sleep(0))         # the accept is armed
    peers = [connected(address_of(server)) for _ in range(3)]
    loop.call_soon(leave)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert loop.stats()["accepts"] == 3, "the poll before leave() found them"
    server.close()
    loop.close()
    for peer in peers:
        assert read_all(peer) == b""
        peer.close()
