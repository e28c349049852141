"""Receiving: pausing and resuming, order, and protocols with buffers of their own."""

import socket

import pytest
from driving import in_thread, reports, run, turns
from peers import pair, pattern, reset
from recorders import BufferedRecorder, Recorder

MIB = 1024 * 1024


async def connection(loop, factory=Recorder):
    ours, peer = pair()
    transport, protocol = await loop.create_connection(factory, sock=ours)
    return transport, protocol, peer


async def ended(protocol, peer):
    peer.close()
    await protocol.called("connection_lost")


FACTORIES = [Recorder, lambda: BufferedRecorder(1000), lambda: BufferedRecorder(256 * 1024)]


@pytest.mark.parametrize("factory", FACTORIES)
def test_nothing_comes_while_paused_and_all_of_it_afterwards(loop, factory):
    """The kernel may have received ahead by the time of the pause: order holds, and the end comes last."""
    async def main():
        transport, protocol, peer = await connection(loop, factory)
        data = pattern(MIB)
        transport.pause_reading()
        assert not transport.is_reading()
        sender = in_thread(peer.sendall, data[:100_000])
        await sender
        await turns(50)
        assert protocol.calls == ["connection_made"]
        transport.resume_reading()
        assert transport.is_reading()
        await in_thread(peer.sendall, data[100_000:])
        peer.shutdown(socket.SHUT_WR)
        await protocol.called("connection_lost")
        assert protocol.data == data
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
        peer.close()

    run(loop, main())


@pytest.mark.parametrize("factory", FACTORIES)
def test_paused_with_data_and_the_end_already_there(loop, factory):
    """All has arrived before the loop looks; the first piece pauses, and so does each later one."""
    async def main():
        transport, protocol, peer = await connection(loop, factory)
        data = pattern(500_000)
        note = protocol.note
        paused_calls = []

        def pausing(name):
            if not transport.is_reading() and name != "connection_lost":
                paused_calls.append(name)
            note(name)
            if name in ("data_received", "buffer_updated"):
                transport.pause_reading()
                loop.call_soon(loop.call_soon, transport.resume_reading)

        protocol.note = pausing
        await in_thread(peer.sendall, data)
        peer.close()
        await protocol.called("connection_lost")
        assert protocol.data == data
        assert paused_calls == []
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
        assert protocol.lost_with is None

    run(loop, main())


def test_pause_in_connection_made(loop):
    class Pauses(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def main():
        transport, protocol, peer = await connection(loop, Pauses)
        peer.sendall(b"data")
        await turns(50)
        assert protocol.calls == ["connection_made"]
        transport.resume_reading()
        await protocol.received(4)
        await ended(protocol, peer)

    run(loop, main())


def test_pausing_and_resuming_twice_and_at_once(loop):
    async def main():
        transport, protocol, peer = await connection(loop)
        for _ in range(100):
            transport.pause_reading()
            transport.pause_reading()
            transport.resume_reading()
            transport.resume_reading()
        peer.sendall(b"data")
        await protocol.received(4)
        for _ in range(20):
            transport.pause_reading()
            await turns(2)
            transport.resume_reading()
            await turns(2)
        peer.sendall(b"more")
        await protocol.received(8)
        await ended(protocol, peer)

    run(loop, main())


def test_pause_and_resume_after_close_do_nothing(loop):
    async def main():
        transport, protocol, peer = await connection(loop)
        transport.close()
        assert not transport.is_reading()
        transport.pause_reading()
        transport.resume_reading()
        await protocol.called("connection_lost")
        transport.pause_reading()
        transport.resume_reading()
        peer.close()

    run(loop, main())


def test_closing_while_paused(loop):
    async def main():
        transport, protocol, peer = await connection(loop)
        transport.pause_reading()
        peer.sendall(b"never seen")
        await turns()
        transport.close()
        await protocol.called("connection_lost")
        assert protocol.calls == ["connection_made", "connection_lost"]
        peer.close()

    run(loop, main())


def test_a_reset_while_paused_is_told_in_order(loop):
    async def main():
        transport, protocol, peer = await connection(loop)
        transport.pause_reading()
        reset(peer)
        await turns(50)
        transport.resume_reading()
        await protocol.called("connection_lost")
        assert isinstance(protocol.lost_with, ConnectionResetError)
        assert "eof_received" not in protocol.calls

    run(loop, main())


def test_a_paused_peer_is_held_back(loop):
    """Its sends block once the buffers of the kernel are full: we do not read on without bound."""
    async def main():
        transport, protocol, peer = await connection(loop)
        transport.pause_reading()
        peer.setblocking(False)
        sent = 0
        try:
            while sent < 512 * MIB:
                sent += peer.send(bytes(64 * 1024))
        except BlockingIOError:
            pass
        await turns(50)
        assert sent < 512 * MIB
        with pytest.raises(BlockingIOError):
            for _ in range(1000):
                peer.send(bytes(64 * 1024))
        peer.close()
        transport.abort()
        await protocol.called("connection_lost")

    run(loop, main())


@pytest.mark.parametrize("size", [1, 7, 4096, 65536, MIB])
def test_a_buffer_of_any_size(loop, size):
    async def main():
        transport, protocol, peer = await connection(loop, lambda: BufferedRecorder(size))
        data = pattern(20_000 if size == 1 else 700_001)
        await in_thread(peer.sendall, data)
        await protocol.received(len(data))
        assert protocol.data == data
        await ended(protocol, peer)

    run(loop, main())


def test_a_buffer_may_be_another_one_each_time(loop):
    class Varies(BufferedRecorder):
        def get_buffer(self, sizehint):
            self.buffer = bytearray(1 + len(self.data) % 100)
            return memoryview(self.buffer)

    async def main():
        _, protocol, peer = await connection(loop, lambda: Varies(0))
        data = pattern(50_000)
        peer.sendall(data)
        await protocol.received(len(data))
        assert protocol.data == data
        await ended(protocol, peer)

    run(loop, main())


@pytest.mark.parametrize("buffer, message", [
    (bytearray(), "Fatal error: protocol.get_buffer() call failed."),
    (b"read-only", "Fatal error: protocol.get_buffer() call failed."),
    (None, "Fatal error: protocol.get_buffer() call failed."),
])
def test_a_buffer_that_cannot_be_used(loop, buffer, message):
    class Wrong(BufferedRecorder):
        def get_buffer(self, sizehint):
            return buffer

    async def main():
        _, protocol, peer = await connection(loop, lambda: Wrong(0))
        peer.sendall(b"data")
        await protocol.called("connection_lost")
        assert protocol.lost_with is not None
        peer.close()

    with reports(loop) as contexts:
        run(loop, main())
    (context,) = contexts
    if buffer == bytearray():
        assert str(context["exception"]) == "get_buffer() returned an empty buffer"
        assert isinstance(context["exception"], RuntimeError)
        assert context["message"] == message


@pytest.mark.parametrize("call", ["get_buffer", "buffer_updated"])
def test_a_buffered_protocol_that_fails(loop, call):
    class Fails(BufferedRecorder):
        pass

    def fail(self, number):
        raise ZeroDivisionError(call)

    setattr(Fails, call, fail)

    async def main():
        _, protocol, peer = await connection(loop, lambda: Fails(10))
        peer.sendall(b"data")
        await protocol.called("connection_lost")
        assert isinstance(protocol.lost_with, ZeroDivisionError)
        peer.close()

    with reports(loop) as contexts:
        run(loop, main())
    (context,) = contexts
    assert context["message"] == f"Fatal error: protocol.{call}() call failed."


def test_get_buffer_is_given_a_hint(loop):
    hints = []

    class Asks(BufferedRecorder):
        def get_buffer(self, sizehint):
            hints.append(sizehint)
            return super().get_buffer(sizehint)

    async def main():
        _, protocol, peer = await connection(loop, lambda: Asks(100))
        peer.sendall(b"data")
        await protocol.received(4)
        await ended(protocol, peer)

    run(loop, main())
    assert hints and all(type(hint) is int for hint in hints)


def test_received_bytes_are_exact_and_owned(loop):
    """What data_received gets is bytes, and later data does not change it."""
    kept = []

    class Keeps(Recorder):
        def data_received(self, data):
            assert type(data) is bytes
            kept.append(data)
            super().data_received(data)

    async def main():
        _, protocol, peer = await connection(loop, Keeps)
        data = pattern(2 * MIB)
        await in_thread(peer.sendall, data)
        await protocol.received(len(data))
        assert b"".join(kept) == data
        await ended(protocol, peer)

    run(loop, main())


def test_one_busy_connection_does_not_starve_another(loop):
    """A sender that never stops, and beside it a request that must be answered."""
    async def main():
        _, busy, flood = await connection(loop)
        _, quiet, peer = await connection(loop)
        ending = []

        def send():
            flood.settimeout(20)
            while not ending:
                flood.sendall(bytes(256 * 1024))

        sending = loop.create_task(in_thread(send))
        for number in range(50):
            peer.sendall(b"x")
            await quiet.received(number + 1)
            busy.data.clear()
        ending.append(True)
        await sending
        await ended(busy, flood)
        await ended(quiet, peer)

    run(loop, main())
