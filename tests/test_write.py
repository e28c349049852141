"""write and writelines: types, order, copies, buffer limits and flow control."""

import asyncio
import logging
import socket
import threading

import pytest
from driving import LIMIT_S, in_thread, run, turns
from peers import pair, pattern, read_all, read_exactly, unacknowledged, unread
from recorders import Recorder

MIB = 1024 * 1024
SMALL_BUFFER = 4096     # of the peer, so that the kernel soon takes no more


async def connection(loop, receive_buffer=None, factory=Recorder):
    ours, peer = pair(receive_buffer=receive_buffer)
    transport, protocol = await loop.create_connection(factory, sock=ours)
    return transport, protocol, peer


async def ended(protocol, peer):
    protocol.transport.abort()
    await protocol.called("connection_lost")
    peer.close()


def write_until_paused(transport, protocol, piece=64 * 1024):
    """Writes until the protocol is told to stop; answers what was written."""
    written = bytearray()
    while "pause_writing" not in protocol.calls:
        data = pattern(piece, seed=len(written))
        transport.write(data)
        written += data
        assert len(written) < 256 * MIB
    return written


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_like_types(loop, kind):
    async def main():
        transport, protocol, peer = await connection(loop)
        transport.write(kind(b"some "))
        transport.write(kind(b""))
        transport.writelines([kind(b"data"), kind(b""), kind(b"!")])
        assert await in_thread(read_exactly, peer, 10) == b"some data!"
        await ended(protocol, peer)

    run(loop, main())


def test_memoryviews_of_other_shapes(loop):
    """All bytes of each; older asyncio counts items where it should count bytes."""
    import array

    async def main():
        transport, protocol, peer = await connection(loop)
        numbers = array.array("I", range(100))
        transport.write(memoryview(numbers))
        transport.write(memoryview(b"abcdefgh")[::2])
        expected = numbers.tobytes() + b"aceg"
        assert await in_thread(read_exactly, peer, len(expected)) == expected
        await ended(protocol, peer)

    run(loop, main())


@pytest.mark.parametrize("value", ["text", 5, None, [b"list"], object()])
def test_other_types(loop, value):
    async def main():
        transport, protocol, peer = await connection(loop)
        text = f"^data argument must be a bytes-like object, not {type(value).__name__!r}$"
        with pytest.raises(TypeError, match=text):
            transport.write(value)
        with pytest.raises(TypeError):
            transport.writelines([b"good", value])
        transport.write(b"only this")
        transport.close()
        assert (await in_thread(read_all, peer)).endswith(b"only this")
        await protocol.called("connection_lost")
        peer.close()

    run(loop, main())


@pytest.mark.parametrize("size", [10, 1000, 100_000, 4 * MIB])
@pytest.mark.parametrize("view", [False, True])
def test_a_buffer_may_be_changed_once_write_has_returned(loop, size, view):
    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER)
        expected = pattern(size)
        buffer = bytearray(expected)
        transport.write(memoryview(buffer) if view else buffer)
        transport.writelines([buffer])
        buffer[:] = bytes(size)
        del buffer[size // 2:]      # nor is it locked
        assert await in_thread(read_exactly, peer, 2 * size) == expected * 2
        await ended(protocol, peer)

    run(loop, main())


def test_order_of_small_large_and_many_writes(loop):
    """Small ones are collected, large ones are tried at once: the order must be that of the calls."""
    sizes = [1, 40_000, 3, 100_000, 10, 10, 33_000, 7, MIB, 5]

    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER)
        expected = b""
        for number, size in enumerate(sizes):
            data = pattern(size, seed=number)
            expected += data
            if number % 3 == 2:
                transport.writelines([data[:size // 2], data[size // 2:]])
            else:
                transport.write(data)
        assert await in_thread(read_exactly, peer, len(expected)) == expected
        await ended(protocol, peer)

    run(loop, main())


@pytest.mark.parametrize("parts", [1, 7, 1023, 1024, 1025, 5000])
def test_writelines_of_many_parts(loop, parts):
    """More than IOV_MAX (1024) go out in several calls."""
    async def main():
        transport, protocol, peer = await connection(loop)
        lines = [b"%d," % number for number in range(parts)]
        transport.writelines(lines)
        expected = b"".join(lines)
        assert await in_thread(read_exactly, peer, len(expected)) == expected
        transport.writelines(iter(lines))
        assert await in_thread(read_exactly, peer, len(expected)) == expected
        transport.writelines([])
        await ended(protocol, peer)

    run(loop, main())


@pytest.mark.parametrize("count", [3000])
def test_many_small_writes_of_one_turn(loop, count):
    async def main():
        transport, protocol, peer = await connection(loop)
        expected = b"".join(b"%d," % number for number in range(count))
        for number in range(count):
            transport.write(b"%d," % number)
        assert await in_thread(read_exactly, peer, len(expected)) == expected
        await ended(protocol, peer)

    run(loop, main())


def test_pause_and_resume_at_the_limits(loop):
    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER)
        sizes = []

        def resumed():
            sizes.append(transport.get_write_buffer_size())
            protocol.note("resume_writing")

        protocol.resume_writing = resumed
        low, high = transport.get_write_buffer_limits()
        written = write_until_paused(transport, protocol)
        assert transport.get_write_buffer_size() > high
        await turns()
        assert protocol.calls.count("pause_writing") == 1
        assert "resume_writing" not in protocol.calls
        received = in_thread(read_exactly, peer, len(written))
        assert await received == written
        await protocol.called("resume_writing")
        assert sizes and sizes[0] <= low
        assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]
        assert transport.get_write_buffer_size() == 0
        await ended(protocol, peer)

    run(loop, main())


def test_paused_and_resumed_many_times(loop):
    """A writer that obeys the flow control, against a slow reader: every byte, in order."""
    total = 12 * MIB

    class Writer(Recorder):
        def __init__(self):
            super().__init__()
            self.sent, self.paused = 0, False
            self.source = pattern(total)

        def go(self):
            while not self.paused and self.sent < total:
                self.transport.write(self.source[self.sent:self.sent + 30_000])
                self.sent += 30_000

        def pause_writing(self):
            super().pause_writing()
            assert not self.paused
            self.paused = True

        def resume_writing(self):
            super().resume_writing()
            assert self.paused
            self.paused = False
            self.go()

    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER, Writer)
        protocol.go()
        assert await in_thread(read_exactly, peer, total) == protocol.source
        assert protocol.calls.count("pause_writing") > 1
        await ended(protocol, peer)

    run(loop, main())


def test_get_write_buffer_size_is_true(loop):
    """What was written is with us, with the kernel, or with the peer; nothing is counted twice."""
    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER)
        fd = transport.get_extra_info("socket").fileno()
        written = 0
        assert transport.get_write_buffer_size() == 0
        for size in [10, 5000, 100_000, 1, 16 * MIB, 70_000, 20]:
            transport.write(bytes(size))
            written += size
            await turns()
            ours = transport.get_write_buffer_size()
            arrived, unknown = unread(peer), unacknowledged(fd)
            assert written - arrived - unknown <= ours <= written - arrived
        assert ours > 0
        await ended(protocol, peer)

    run(loop, main())


def test_get_write_buffer_size_at_once(loop):
    """The kernel is offered what was written before the size is told, as on asyncio."""
    async def main():
        transport, protocol, peer = await connection(loop)
        transport.write(b"a few bytes")
        assert transport.get_write_buffer_size() == 0
        assert await in_thread(read_exactly, peer, 11) == b"a few bytes"
        await ended(protocol, peer)

    run(loop, main())


def test_write_buffer_limits(loop):
    async def main():
        transport, protocol, peer = await connection(loop)
        limits = transport.get_write_buffer_limits
        assert limits() == (16 * 1024, 64 * 1024)
        for options, expected in [
            ({"high": 1000}, (250, 1000)), ({"low": 1000}, (1000, 4000)), ({"high": 0}, (0, 0)),
            ({"high": 10, "low": 10}, (10, 10)), ({"high": 2**40, "low": 0}, (0, 2**40)),
            ({}, (16 * 1024, 64 * 1024)),
        ]:
            transport.set_write_buffer_limits(**options)
            assert limits() == expected
        for high, low in [(10, 11), (10, -1), (-1, None)]:
            with pytest.raises(ValueError, match=r"^high \(.*\) must be >= low \(.*\) must be >= 0$"):
                transport.set_write_buffer_limits(high, low)
        assert limits() == (16 * 1024, 64 * 1024)
        with pytest.raises(TypeError):
            transport.set_write_buffer_limits("much")
        await ended(protocol, peer)

    run(loop, main())


def test_lower_limits_pause_at_once(loop):
    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER)
        transport.set_write_buffer_limits(high=256 * MIB)
        transport.write(bytes(8 * MIB))
        await turns()
        assert transport.get_write_buffer_size() > 0
        assert "pause_writing" not in protocol.calls
        transport.set_write_buffer_limits(high=0)
        assert "pause_writing" in protocol.calls
        await in_thread(read_exactly, peer, 8 * MIB)
        await protocol.called("resume_writing")
        await ended(protocol, peer)

    run(loop, main())


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_flow_control_calls_that_fail_are_reported(loop, method):
    from driving import reports

    class Fails(Recorder):
        pass

    def fail(self):
        self.note(method)
        raise ZeroDivisionError

    setattr(Fails, method, fail)

    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER, Fails)
        written = write_until_paused(transport, protocol)
        assert await in_thread(read_exactly, peer, len(written)) == written
        await protocol.called("resume_writing")
        await turns()
        await ended(protocol, peer)

    with reports(loop) as contexts:
        run(loop, main())
    (context,) = contexts
    assert context["message"] == f"protocol.{method}() failed"
    assert isinstance(context["exception"], ZeroDivisionError)
    assert isinstance(context["protocol"], Fails)
    assert isinstance(context["transport"], asyncio.Transport)


def test_written_objects_are_let_go_once_sent(loop):
    """bytes are not copied: the transport refers to them just as long as the kernel needs them."""
    import sys

    async def main():
        transport, protocol, peer = await connection(loop, SMALL_BUFFER)
        data = pattern(MIB)
        before = sys.getrefcount(data)
        transport.write(data)
        assert await in_thread(read_exactly, peer, len(data)) == data
        while transport.get_write_buffer_size():
            await asyncio.sleep(0)
        await turns()
        assert sys.getrefcount(data) == before
        await ended(protocol, peer)

    run(loop, main())


@pytest.mark.parametrize("sent", [b"", b"in time"])
def test_writes_after_close_are_dropped_and_after_some_logged(loop, caplog, sent):
    async def main():
        transport, protocol, peer = await connection(loop)
        transport.write(sent)
        transport.close()
        for _ in range(4):
            transport.write(b"too late")
        assert caplog.records == []
        transport.write(b"too late")
        assert [record.message for record in caplog.records] == ["socket.send() raised exception."]
        assert await in_thread(read_all, peer) == sent
        await protocol.called("connection_lost")
        transport.write(b"much too late")
        peer.close()

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(loop, main())
    caplog.clear()


def test_write_from_connection_lost_does_nothing(loop):
    class Writes(Recorder):
        def connection_lost(self, exc):
            self.transport.write(b"too late")
            super().connection_lost(exc)

    async def main():
        _, protocol, peer = await connection(loop, factory=Writes)
        peer.close()
        await protocol.called("connection_lost")

    run(loop, main())


def test_writes_before_the_loop_runs_and_between_runs(loop):
    """They go out without the loop, as on asyncio, where write() offers them to the kernel."""
    ours, peer = pair()
    transport, protocol = run(loop, loop.create_connection(Recorder, sock=ours))
    transport.write(b"between runs")
    assert read_exactly(peer, 12) == b"between runs"
    run(loop, turns())
    transport.writelines([b"and ", b"again"])
    assert read_exactly(peer, 9) == b"and again"
    run(loop, ended(protocol, peer))


def test_a_large_write_between_runs_ends_in_the_next(loop):
    ours, peer = pair(receive_buffer=SMALL_BUFFER)
    transport, protocol = run(loop, loop.create_connection(Recorder, sock=ours))
    data = pattern(6 * MIB)
    transport.write(data)
    received = []
    reader = threading.Thread(target=lambda: received.append(read_exactly(peer, len(data))))
    reader.start()

    async def main():
        await protocol.called("resume_writing")
        while transport.get_write_buffer_size():
            await asyncio.sleep(0.001)

    run(loop, main())
    reader.join(LIMIT_S)
    assert received == [data]
    run(loop, ended(protocol, peer))


def test_a_backlog_that_is_over_before_it_is_told(loop):
    """The kernel refuses a part of small writes; before the loop learns of it, a callback finds room for all."""
    sent = bytearray()

    async def main():
        ours, peer = pair(receive_buffer=SMALL_BUFFER)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        before = loop.stats()["short_sends"]

        def fill():
            for i in range(6):      # each too small to be sent at once, together too much for the socket
                write(pattern(4000, seed=i))
            loop.call_soon(make_room)

        def make_room():
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
            write(pattern(10_000))  # enough to be offered at once, with all before it

        def write(data):
            sent.extend(data)
            transport.write(data)

        loop.call_soon(fill)
        await turns()
        assert loop.stats()["short_sends"] > before
        assert transport.get_write_buffer_size() == 0
        transport.write(b"end")
        transport.close()
        assert await in_thread(read_all, peer) == sent + b"end"
        await protocol.called("connection_lost")
        peer.close()

    run(loop, main())
