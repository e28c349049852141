"""connect_read_pipe, and both ends together: pipes, FIFOs, sockets and terminals."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import logging
import os
import select
import tty

import pytest
from driving import in_thread, joined, reports, run, run_once, turns
from peers import pattern
from pipe_ends import KINDS, MUCH, drain, ends, feed, reading, writing
from recorders import Recorder


@KINDS
@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_000])
def test_everything_is_read(loop, kind, size):
    async def main():
        reader, writer = ends(kind)
        transport, protocol = await reading(reader)
        assert isinstance(transport, asyncio.ReadTransport)
        assert transport.get_extra_info("pipe").fileno() == reader
        assert transport.is_reading()
        data = pattern(size)
        await in_thread(feed, writer, data)
        await protocol.called("connection_lost")
        assert protocol.data == data
        assert protocol.lost_with is None
        assert protocol.calls[0] == "connection_made"
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
        assert transport.is_closing()

    run(loop, main())


def test_pause_and_resume_reading(loop):
    async def main():
        reader, writer = os.pipe()
        transport, protocol = await reading(reader)
        os.write(writer, b"one")
        await protocol.received(3)
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        await turns()
        os.write(writer, b"two")
        await turns()
        assert protocol.data == b"one"
        transport.resume_reading()
        transport.resume_reading()
        await protocol.received(6)
        transport.pause_reading()
        await turns()
        os.write(writer, b"three")
        os.close(writer)
        await turns()
        assert "eof_received" not in protocol.calls
        transport.resume_reading()
        await protocol.called("connection_lost")
        assert protocol.data == b"onetwothree"

    run(loop, main())


def test_a_pause_in_connection_made(loop):
    class Protocol(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def main():
        reader, writer = os.pipe()
        os.write(writer, b"x")
        transport, protocol = await reading(reader, Protocol())
        await turns()
        assert protocol.data == b""
        transport.resume_reading()
        await protocol.received(1)
        transport.close()
        transport.close()
        await protocol.called("connection_lost")
        assert transport.get_extra_info("pipe").closed
        os.close(writer)

    run(loop, main())


def test_a_fifo_waits_for_its_first_writer(loop, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)

    async def main():
        transport, protocol = await reading(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        await turns()
        assert protocol.calls == ["connection_made"]
        writer, _ = await writing(os.open(path, os.O_WRONLY))
        writer.write(b"hello")
        await protocol.received(5)
        writer.close()
        await protocol.called("connection_lost")
        assert protocol.data == b"hello"
        assert transport.is_closing()

    run(loop, main())


def test_both_directions_of_a_terminal(loop):
    """One descriptor in two transports, as programs with a terminal of their own do."""
    async def main():
        master, slave = os.openpty()
        tty.setraw(slave)
        pipe = os.fdopen(master, "r+b", buffering=0)
        reader, protocol = await loop.connect_read_pipe(Recorder, pipe)
        writer, written = await loop.connect_write_pipe(Recorder, os.fdopen(os.dup(master), "wb", 0))
        writer.write(b"typed")
        assert os.read(slave, 100) == b"typed"
        for word in (b"one", b"two", b"three"):
            os.write(slave, word)
            await protocol.received(len(protocol.data) + len(word))
        assert protocol.data == b"onetwothree"
        os.close(slave)
        await protocol.called("connection_lost")
        assert protocol.lost_with.errno == errno.EIO
        assert "eof_received" not in protocol.calls
        assert not writer.is_closing()
        writer.close()
        await written.called("connection_lost")
        assert reader.is_closing()

    run(loop, main())


def test_devices_without_an_end_or_a_beginning(loop):
    async def main():
        _, protocol = await reading(os.open(os.devnull, os.O_RDONLY))
        await protocol.called("connection_lost")
        zeros, protocol = await reading(os.open("/dev/zero", os.O_RDONLY))
        await protocol.received(1000)
        zeros.close()
        await protocol.called("connection_lost")
        transport, protocol = await writing(os.open(os.devnull, os.O_WRONLY))
        transport.write(bytes(MUCH))
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await protocol.called("connection_lost")

    run(loop, main())


def test_files_of_other_types_are_refused(loop, tmp_path):
    async def main():
        with open(tmp_path / "file", "wb") as file:
            with pytest.raises(ValueError, match="Pipe transport is for pipes/sockets only."):
                await loop.connect_read_pipe(Recorder, file)
            with pytest.raises(ValueError, match="Pipe transport is only for "
                                                 "pipes, sockets and character devices"):
                await loop.connect_write_pipe(Recorder, file)
            assert not file.closed

    run(loop, main())


def test_the_pipe_is_made_non_blocking(loop):
    async def main():
        reader, writer = os.pipe()
        reads, protocol = await reading(reader)
        writes, _ = await writing(writer)
        assert not os.get_blocking(reader)
        assert not os.get_blocking(writer)
        writes.close()
        await protocol.called("connection_lost")
        assert reads.is_closing()

    run(loop, main())


def test_an_exception_of_the_protocol_is_reported_and_ends_nothing(loop):
    class Protocol(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if data == b"bad":
                raise ZeroDivisionError

    async def main():
        reader, writer = os.pipe()
        transport, protocol = await reading(reader, Protocol())
        with reports(loop) as contexts:
            os.write(writer, b"bad")
            await protocol.received(3)
            os.write(writer, b"good")
            await protocol.received(7)
        assert isinstance(contexts[0]["exception"], ZeroDivisionError)
        assert not transport.is_closing()
        transport.close()
        await protocol.called("connection_lost")
        os.close(writer)

    run(loop, main())


def test_callbacks_run_in_the_context_of_the_caller(loop):
    variable = contextvars.ContextVar("variable")
    seen = []

    class Protocol(Recorder):
        def note(self, name):
            seen.append((name, variable.get(None)))
            super().note(name)

    async def main():
        variable.set("mine")
        reader, writer = os.pipe()
        _, protocol = await reading(reader, Protocol())
        os.write(writer, b"x")
        await protocol.received(1)
        os.close(writer)
        await protocol.called("connection_lost")

    run(loop, main())
    assert len(seen) == 4
    assert {value for _, value in seen} == {"mine"}


def test_set_protocol(loop):
    async def main():
        reader, writer = os.pipe()
        transport, first = await reading(reader)
        second = Recorder()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        os.write(writer, b"x")
        await second.received(1)
        assert not first.data
        transport.close()
        await second.called("connection_lost")
        os.close(writer)

    run(loop, main())


def test_streams_over_pipes(loop):
    async def main():
        reader, writer = os.pipe()
        stream = asyncio.StreamReader()
        await reading(reader, asyncio.StreamReaderProtocol(stream))
        transport, protocol = await writing(writer, asyncio.streams.FlowControlMixin())
        out = asyncio.StreamWriter(transport, protocol, None, loop)
        lines = [b"%d\n" % n for n in range(30_000)]

        async def send():
            for line in lines:
                out.write(line)
                await out.drain()
            out.close()

        sending = asyncio.ensure_future(send())
        assert [line async for line in stream] == lines
        await sending

    run(loop, main())


def test_a_thread_runs_the_loop_later(loop):
    """What was armed in one thread's ring goes on in another's."""
    reader, writer = os.pipe()
    full, filled = os.pipe()
    reads, protocol = run(loop, reading(reader))
    writes, written = run(loop, writing(filled))
    writes.write(bytes(MUCH))
    run_once(loop)

    async def later():
        os.write(writer, b"x")
        await protocol.received(1)
        assert len(await in_thread(drain, full, MUCH)) == MUCH
        os.close(full)
        await written.called("connection_lost")
        reads.close()
        await protocol.called("connection_lost")

    joined(run, loop, later())
    os.close(writer)


def test_unclosed_pipes_are_warned_of(kloop):
    made = kloop.new_event_loop()
    reader, writer = os.pipe()
    transports = [run(made, reading(reader, asyncio.Protocol()))[0],
                  run(made, writing(writer, asyncio.Protocol()))[0]]
    made.close()
    assert all("open" in repr(transport) for transport in transports)
    with pytest.warns(ResourceWarning, match="unclosed transport <(Read|Write)PipeTransport"):
        del transports
        gc.collect()
    for fd in (reader, writer):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_debug_mode(loop, caplog):
    loop.set_debug(True)

    async def main():
        reader, writer = os.pipe()
        reads, protocol = await reading(reader)
        writes, _ = await writing(writer)
        reads.pause_reading()
        reads.resume_reading()
        writes.close()
        await protocol.called("connection_lost")

    with caplog.at_level(logging.DEBUG, "asyncio"):
        run(loop, main())
    for text in ("Read pipe", "Write pipe", "pauses reading", "resumes reading", "was closed by peer"):
        assert text in caplog.text


def test_a_cancelled_connect_closes_the_pipe(loop):
    async def main():
        reader, writer = os.pipe()
        protocol = Recorder()
        task = asyncio.ensure_future(reading(reader, protocol))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await protocol.called("connection_lost")
        await turns()
        poll = select.poll()
        poll.register(writer, 0)
        assert poll.poll(0) == [(writer, select.POLLERR)]       # nobody reads
        os.close(writer)

    run(loop, main())
