"""connect_write_pipe: what is written, and what becomes of it when nobody reads."""

import asyncio
import os
import socket
import tty

import pytest
from driving import in_thread, run, turns
from peers import pattern
from pipe_ends import KINDS, MUCH, drain, ends, writing


@KINDS
def test_everything_is_written(loop, kind):
    async def main():
        reader, writer = ends(kind)
        transport, protocol = await writing(writer)
        assert isinstance(transport, asyncio.WriteTransport)
        assert transport.can_write_eof()
        data = pattern(MUCH)
        transport.write(data[:10])
        assert os.read(reader, 100) == data[:10]        # at once, not when the loop is idle
        transport.write(bytearray(data[10:20]))
        transport.write(b"")
        transport.write(memoryview(data)[20:500_000])
        assert protocol.calls[-1] == "pause_writing"
        assert transport.get_write_buffer_size() > 64 * 1024
        transport.write(data[500_000:])
        transport.write_eof()
        assert transport.is_closing()
        transport.write(b"too late")
        assert await in_thread(drain, reader, MUCH + 1) == data[10:]
        await protocol.called("connection_lost")
        assert protocol.calls.count("pause_writing") == protocol.calls.count("resume_writing") == 1
        assert protocol.lost_with is None
        os.close(reader)

    run(loop, main())


def test_write_limits(loop):
    async def main():
        reader, writer = os.pipe()
        transport, protocol = await writing(writer)
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.set_write_buffer_limits(high=10)
        assert transport.get_write_buffer_limits() == (2, 10)
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.write(bytes(65536))
        assert transport.get_write_buffer_size() == 0
        transport.write(bytes(11))
        assert "pause_writing" in protocol.calls
        assert transport.get_write_buffer_size() == 11
        assert "polling bufsize=11" in repr(transport)
        os.read(reader, 65536)
        await protocol.called("resume_writing")
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await protocol.called("connection_lost")
        os.close(reader)

    run(loop, main())


@KINDS
def test_a_writer_learns_that_its_reader_has_gone(loop, kind):
    async def main():
        reader, writer = ends(kind)
        transport, protocol = await writing(writer)
        await turns()
        assert protocol.calls == ["connection_made"]
        os.close(reader)
        await protocol.called("connection_lost")
        assert protocol.lost_with is None
        assert transport.is_closing()

    run(loop, main())


@KINDS
def test_a_writer_with_a_full_buffer_learns_that_its_reader_has_gone(loop, kind):
    async def main():
        reader, writer = ends(kind)
        transport, protocol = await writing(writer)
        transport.write(bytes(MUCH))
        await turns()
        os.close(reader)
        await protocol.called("connection_lost")
        assert isinstance(protocol.lost_with, (BrokenPipeError, ConnectionResetError))
        assert transport.get_write_buffer_size() == 0

    run(loop, main())


def test_writes_to_nobody(loop, caplog):
    async def main():
        reader, writer = os.pipe()
        transport, protocol = await writing(writer)
        os.close(reader)
        transport.write(b"x")       # fails now, before the loop knows
        assert transport.is_closing()
        for _ in range(10):
            transport.write(b"x")
        await protocol.called("connection_lost")
        assert isinstance(protocol.lost_with, BrokenPipeError)

    run(loop, main())
    assert "pipe closed by peer or os.write(pipe, data) raised exception." in caplog.text


def test_abort_drops_what_is_buffered(loop):
    async def main():
        reader, writer = os.pipe()
        transport, protocol = await writing(writer)
        transport.write(bytes(MUCH))
        transport.abort()
        await protocol.called("connection_lost")
        assert protocol.lost_with is None
        await turns()
        assert len(await in_thread(drain, reader, MUCH)) < MUCH
        os.close(reader)

    run(loop, main())


def test_a_socket_written_to_by_both_sides(loop):
    """What comes from the peer is no end; asyncio takes it for one."""
    async def main():
        ours, peer = socket.socketpair()
        with peer:
            transport, protocol = await writing(ours.detach())
            peer.send(b"for somebody else, who reads this socket too")
            await turns()
            assert not transport.is_closing()
            transport.write(b"still open")
            assert peer.recv(100) == b"still open"
            transport.close()
            await protocol.called("connection_lost")

    run(loop, main())


def test_a_slow_terminal(loop):
    async def main():
        master, slave = os.openpty()
        tty.setraw(slave)
        transport, protocol = await writing(master)
        data = pattern(300_000)
        transport.write(data)
        assert "pause_writing" in protocol.calls
        assert await in_thread(drain, slave, len(data)) == data
        await protocol.called("resume_writing")
        transport.close()
        await protocol.called("connection_lost")
        os.close(slave)

    run(loop, main())


def test_writes_and_closes_from_another_thread(loop):
    async def main():
        reader, writer = os.pipe()
        transport, protocol = await writing(writer)
        await in_thread(transport.write, b"from a thread")
        assert await in_thread(os.read, reader, 100) == b"from a thread"
        await in_thread(transport.close)
        await protocol.called("connection_lost")
        os.close(reader)

    run(loop, main())
