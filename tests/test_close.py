"""The end of a connection: write_eof, close, abort, and what the peer does."""

import asyncio
import gc
import socket
import weakref

import pytest
from driving import in_thread, reports, run, turns
from peers import pair, pattern, read_all, read_exactly, reset, wait_readable
from recorders import Recorder

MIB = 1024 * 1024
SMALL_BUFFER = 4096


async def connection(loop, receive_buffer=None, factory=Recorder):
    ours, peer = pair(receive_buffer=receive_buffer)
    transport, protocol = await loop.create_connection(factory, sock=ours)
    return transport, protocol, peer


def keeps_open():
    return Recorder(keep_open=True)


@pytest.mark.parametrize("size", [0, 1, 30_000, 33_000, 8 * MIB])
def test_write_eof_comes_behind_what_was_written(loop, size):
    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER)
        data = pattern(size)
        transport.write(data)
        transport.write_eof()
        transport.write_eof()
        assert await in_thread(read_all, peer) == data
        peer.sendall(b"the other half is open")
        await protocol.received(22)
        assert not transport.is_closing()
        peer.close()
        await protocol.called("connection_lost")
        assert protocol.data == b"the other half is open"
        assert protocol.lost_with is None

    run(loop, main())


def test_write_after_write_eof(loop):
    async def main():
        transport, protocol, peer = await connection(loop)
        transport.write_eof()
        with pytest.raises(RuntimeError, match=r"^Cannot call write\(\) after write_eof\(\)$"):
            transport.write(b"data")
        with pytest.raises(RuntimeError, match=r"^Cannot call write(lines)?\(\) after write_eof\(\)$"):
            transport.writelines([b"data"])
        peer.close()
        await protocol.called("connection_lost")

    run(loop, main())


def test_close_after_write_eof(loop):
    async def main():
        transport, protocol, peer = await connection(loop)
        transport.write(b"data")
        transport.write_eof()
        transport.close()
        transport.write_eof()
        assert await in_thread(read_all, peer) == b"data"
        await protocol.called("connection_lost")
        assert protocol.lost_with is None
        peer.close()

    run(loop, main())


@pytest.mark.parametrize("receive_buffer", [None, SMALL_BUFFER])
@pytest.mark.parametrize("size", [1, 30_000, 33_000, 300_000, 16 * MIB])
def test_close_sends_all_that_was_written(loop, size, receive_buffer):
    async def main():
        transport, protocol, peer = await connection(loop, receive_buffer)
        data = pattern(size)
        transport.write(data)
        transport.close()
        assert transport.is_closing()
        assert await in_thread(read_all, peer) == data
        await protocol.called("connection_lost")
        assert protocol.lost_with is None
        peer.close()

    run(loop, main())


@pytest.mark.parametrize("size", [100_000, 16 * MIB])
def test_close_in_a_later_turn_than_the_write(loop, size):
    """By then the kernel has taken a part, and the rest waits for the peer."""
    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER)
        data = pattern(size)
        transport.write(data[:50])
        await turns()
        transport.write(data[50:])
        await turns()
        transport.close()
        await turns()
        if size > 1_000_000:
            assert "connection_lost" not in protocol.calls
        assert await in_thread(read_all, peer) == data
        await protocol.called("connection_lost")
        assert protocol.lost_with is None
        peer.close()

    run(loop, main())


def test_a_short_send_behind_which_the_transport_is_closed(loop):
    """Many small writes of one turn, more than the kernel takes, then close() in the same turn."""
    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        pieces = [pattern(1000, seed) for seed in range(30)]
        for piece in pieces:
            transport.write(piece)
        transport.close()
        await turns()
        assert await in_thread(read_all, peer) == b"".join(pieces)
        await protocol.called("connection_lost")
        assert protocol.lost_with is None
        peer.close()

    run(loop, main())


def test_close_calls_connection_lost_once_and_later(loop):
    async def main():
        transport, protocol, peer = await connection(loop)
        transport.close()
        assert protocol.calls == ["connection_made"]
        transport.close()
        transport.abort()
        await protocol.called("connection_lost")
        await turns()
        transport.close()
        transport.abort()
        await turns()
        assert protocol.calls == ["connection_made", "connection_lost"]
        assert protocol.lost_with is None
        peer.close()

    run(loop, main())


def test_nothing_is_received_after_close(loop):
    async def main():
        transport, protocol, peer = await connection(loop)
        peer.sendall(b"data")
        transport.close()
        await protocol.called("connection_lost")
        await turns()
        assert protocol.calls == ["connection_made", "connection_lost"]
        peer.close()

    run(loop, main())


def test_the_peer_sees_the_end_at_once(loop):
    async def main():
        transport, protocol, peer = await connection(loop)
        transport.close()
        await protocol.called("connection_lost")
        assert await in_thread(peer.recv, 1) == b""
        peer.close()

    run(loop, main())


@pytest.mark.parametrize("size", [0, 100, 16 * MIB])
def test_abort_drops_what_is_queued(loop, size):
    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER)
        transport.write(bytes(size))
        await turns()
        transport.abort()
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        await protocol.called("connection_lost")
        assert protocol.lost_with is None
        try:
            received = await in_thread(read_all, peer)
            assert len(received) <= size
        except ConnectionResetError:
            pass
        if size > MIB:
            assert len(received) < size
        peer.close()

    run(loop, main())


def test_abort_while_closing(loop):
    """close() waits for a peer that does not read; abort() does not."""
    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER)
        transport.write(bytes(16 * MIB))
        transport.close()
        await turns()
        assert "connection_lost" not in protocol.calls
        transport.abort()
        await protocol.called("connection_lost")
        assert protocol.lost_with is None
        peer.close()

    run(loop, main())


@pytest.mark.parametrize("size", [1, 16 * MIB])
def test_the_peer_resets_in_the_middle_of_a_write(loop, size):
    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER)
        transport.write(bytes(size))
        await in_thread(wait_readable, peer)
        reset(peer)
        await protocol.called("connection_lost")
        assert isinstance(protocol.lost_with, (ConnectionResetError, BrokenPipeError))
        assert "eof_received" not in protocol.calls
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        transport.write(b"to nobody")

    run(loop, main())


def test_what_the_peer_answers_before_it_breaks_a_large_write_off(loop):
    """As a web server that answers 413 and closes while the body still comes."""
    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER)
        peer.sendall(b"too large")
        peer.close()
        transport.write(bytes(MIB))
        await protocol.called("connection_lost")
        assert bytes(protocol.data) == b"too large"
        assert isinstance(protocol.lost_with, (ConnectionResetError, BrokenPipeError))

    run(loop, main())


def test_the_peer_resets_while_closing(loop):
    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER)
        transport.write(bytes(16 * MIB))
        transport.close()
        await in_thread(wait_readable, peer)
        reset(peer)
        await protocol.called("connection_lost")
        assert isinstance(protocol.lost_with, (ConnectionResetError, BrokenPipeError))

    run(loop, main())


def test_writing_to_a_peer_that_has_gone(loop):
    """Its reset comes as the answer to the first write, and the second meets it."""
    async def main():
        transport, protocol, peer = await connection(loop, factory=keeps_open)
        peer.close()
        await protocol.called("eof_received")
        while not transport.is_closing():
            transport.write(b"to nobody")
            await asyncio.sleep(0.001)
        await protocol.called("connection_lost")
        assert isinstance(protocol.lost_with, (ConnectionResetError, BrokenPipeError))

    run(loop, main())


def test_eof_received_answers_false(loop):
    async def main():
        transport, protocol, peer = await connection(loop)
        transport.write(b"on its way")
        peer.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, peer) == b"on its way"
        await protocol.called("connection_lost")
        assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]
        assert protocol.lost_with is None
        peer.close()

    run(loop, main())


def test_eof_received_answers_true(loop):
    """The connection stays open for writing, until close()."""
    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER, keeps_open)
        peer.sendall(b"request")
        peer.shutdown(socket.SHUT_WR)
        await protocol.called("eof_received")
        await turns()
        assert not transport.is_closing()
        data = pattern(4 * MIB)
        transport.write(data)
        assert await in_thread(read_exactly, peer, len(data)) == data
        assert protocol.calls.count("eof_received") == 1
        transport.close()
        assert await in_thread(read_all, peer) == b""
        await protocol.called("connection_lost")
        assert protocol.data == b"request"
        peer.close()

    run(loop, main())


@pytest.mark.parametrize("call", ["connection_made", "data_received", "eof_received", "connection_lost"])
def test_a_protocol_that_fails(loop, call):
    """It is reported; data_received and eof_received end their connection with it."""
    class Fails(Recorder):
        pass

    def fail(self, *arguments):
        getattr(Recorder, call)(self, *arguments)
        raise ZeroDivisionError(call)

    setattr(Fails, call, fail)

    async def main():
        _, protocol, peer = await connection(loop, factory=Fails)
        peer.sendall(b"data")
        peer.shutdown(socket.SHUT_WR)
        await protocol.called("connection_lost")
        await turns()
        if call in ("data_received", "eof_received"):
            assert isinstance(protocol.lost_with, ZeroDivisionError)
        else:
            assert protocol.lost_with is None
        peer.close()

    with reports(loop) as contexts:
        run(loop, main())
    (context,) = contexts
    assert isinstance(context["exception"], ZeroDivisionError)
    if call in ("data_received", "eof_received"):
        assert context["message"] == f"Fatal error: protocol.{call}() call failed."
        assert isinstance(context["transport"], asyncio.Transport)
        assert isinstance(context["protocol"], Fails)
    else:
        assert context["message"].startswith("Exception in callback ")


def test_closing_in_connection_made(loop):
    class Closes(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"go away")
            transport.close()

    async def main():
        _, protocol, peer = await connection(loop, factory=Closes)
        assert await in_thread(read_all, peer) == b"go away"
        await protocol.called("connection_lost")
        assert protocol.calls == ["connection_made", "connection_lost"]
        peer.close()

    run(loop, main())


def test_closing_the_loop_between_a_write_and_its_end(kloop):
    """Nothing crashes and nothing leaks; what the kernel had not taken is lost, as on asyncio."""
    loop = kloop.new_event_loop()
    ours, peer = pair(receive_buffer=SMALL_BUFFER)
    transport, _ = run(loop, loop.create_connection(Recorder, sock=ours))
    transport.write(bytes(16 * MIB))
    loop.call_soon(loop.stop)
    loop.run_forever()
    transport.abort()
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    peer.close()


def test_closing_a_transport_of_a_closed_loop(kloop):
    """What it would schedule never runs, and would keep the loop for ever."""
    loop = kloop.new_event_loop()
    ours, peer = pair()
    transport, _ = run(loop, loop.create_connection(Recorder, sock=ours))
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        transport.close()
    transport.abort()
    reference = weakref.ref(loop)
    with pytest.warns(ResourceWarning):
        del loop, transport, _, ours
        gc.collect()
    assert reference() is None
    peer.close()


def test_what_was_written_before_an_abort_of_the_same_turn_is_sent(loop):
    """As on asyncio, where write() itself offers it to the kernel."""
    async def main():
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.write(b"the last words")
        transport.abort()
        with peer:
            peer.settimeout(10)
            assert await loop.run_in_executor(None, peer.recv, 100) == b"the last words"
        await asyncio.sleep(0)

    loop.run_until_complete(main())
