"""loop.sendfile and loop.sock_sendfile: sendfile(2), what takes its place, and what goes wrong."""

import asyncio
import io
import os
import socket

import pytest
from driving import in_thread, run, turns
from peers import FILE_SIZE, connected, listening, pair, pattern, read_all, read_exactly
from recorders import Recorder


async def accepted(receive_buffer=None):
    """A transport, its protocol, and the blocking socket at the other end."""
    ours, peer = pair(receive_buffer=receive_buffer)
    transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(Recorder, ours)
    return transport, protocol, peer


def narrow_pair():
    """As pair(), between which the kernel holds little."""
    ours, peer = pair(receive_buffer=4096)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    return ours, peer


async def close(transport, protocol):
    transport.close()
    await protocol.called("connection_lost")


@pytest.mark.parametrize("offset, count", [(0, None), (1000, None), (10, 100_000), (FILE_SIZE - 5, 100)])
def test_a_part_of_a_file(loop, content, offset, count):
    file, data = content
    want = data[offset:] if count is None else data[offset:offset + count]

    async def main():
        transport, protocol, peer = await accepted()
        with peer:
            transport.write(b"head")
            receiving = asyncio.ensure_future(in_thread(read_exactly, peer, len(want) + 8))
            assert await loop.sendfile(transport, file, offset, count, fallback=False) == len(want)
            assert file.tell() == offset + len(want)
            transport.write(b"tail")
            assert await receiving == b"head" + want + b"tail"
            await close(transport, protocol)

    run(loop, main())


def test_a_slow_peer(loop, content):
    """The loop goes on meanwhile, and the file is sent behind what was written and not taken yet."""
    file, data = content
    written = pattern(500_000, seed=1)

    async def main():
        transport, protocol, peer = await accepted(receive_buffer=4096)
        with peer:
            transport.write(written)
            task = asyncio.ensure_future(loop.sendfile(transport, file))
            await turns(100)
            assert not task.done()
            with pytest.raises(RuntimeError, match="unable to write; sendfile is in progress"):
                transport.write(b"not now")
            got = await in_thread(read_exactly, peer, len(written) + len(data))
            assert got == written + data
            assert await task == len(data)
            transport.write(b"now")
            assert await in_thread(peer.recv, 10) == b"now"
            await close(transport, protocol)

    run(loop, main())


def test_the_fallback_for_what_is_no_file(loop):
    data = pattern(1_000_000)

    async def main():
        transport, protocol, peer = await accepted()
        with peer:
            with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
                await loop.sendfile(transport, io.BytesIO(data), fallback=False)
            receiving = asyncio.ensure_future(in_thread(read_exactly, peer, len(data)))
            assert await loop.sendfile(transport, io.BytesIO(data)) == len(data)
            assert await receiving == data
            await close(transport, protocol)

    run(loop, main())


def test_a_pipe_in_place_of_a_file(loop):
    """sendfile(2) refuses it; the fallback reads it."""
    async def main():
        reader, writer = os.pipe()
        os.write(writer, b"from a pipe")
        os.close(writer)
        ours, peer = pair()
        with ours, peer, os.fdopen(reader, "rb", buffering=0) as file:
            with pytest.raises(asyncio.SendfileNotAvailableError):
                await loop.sock_sendfile(ours, file, 0, 11, fallback=False)
            # Which seeks no further than to where the pipe is, and there is nowhere to seek.
            file.seek = lambda *_: 0
            assert await loop.sock_sendfile(ours, file, 0, 11) == 11
            assert await in_thread(read_exactly, peer, 11) == b"from a pipe"

    run(loop, main())


def test_an_empty_file(loop, tmp_path):
    async def main():
        (tmp_path / "empty").touch()
        transport, protocol, peer = await accepted()
        with peer, open(tmp_path / "empty", "rb") as file:
            assert await loop.sendfile(transport, file) == 0
            assert await loop.sock_sendfile(transport.get_extra_info("socket"), file) == 0
            await close(transport, protocol)

    run(loop, main())


def test_a_file_that_shrinks(loop, content):
    """What is under way is the file's own pages, so only its length says how far it got."""
    file, data = content

    async def main():
        transport, protocol, peer = await accepted(receive_buffer=4096)
        with peer:
            task = asyncio.ensure_future(loop.sendfile(transport, file))
            await turns()
            os.truncate(file.name, 10)
            transport_ended = asyncio.ensure_future(in_thread(read_all, peer))
            sent = await task
            await close(transport, protocol)
            got = await transport_ended
            assert len(got) == sent < len(data)

    run(loop, main())


def test_the_peer_goes_away(loop, content):
    file, _ = content

    async def main():
        transport, protocol, peer = await accepted(receive_buffer=4096)
        task = asyncio.ensure_future(loop.sendfile(transport, file))
        await turns()
        peer.close()        # with bytes unread: a reset
        with pytest.raises(ConnectionError):
            await task
        await close(transport, protocol)
        assert 0 < file.tell() < FILE_SIZE

    run(loop, main())


def test_a_cancelled_sendfile(loop, content):
    """The transport is usable after it, behind what had been sent."""
    file, data = content

    async def main():
        transport, protocol, peer = await accepted(receive_buffer=4096)
        with peer:
            task = asyncio.ensure_future(loop.sendfile(transport, file))
            await turns(50)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert transport.is_reading()
            transport.write(b"after")
            receiving = asyncio.ensure_future(in_thread(read_all, peer))
            await close(transport, protocol)
            got = await receiving
            assert got.endswith(b"after")
            assert got[:-5] == data[:len(got) - 5]
            assert file.tell() == len(got) - 5

    run(loop, main())


def test_a_sendfile_cancelled_before_it_begins(loop, content):
    """It waits for the transport's buffer, which is then sent all the same."""
    file, _ = content
    written = pattern(5_000_000, seed=2)

    async def main():
        transport, protocol, peer = await accepted(receive_buffer=4096)
        with peer:
            transport.write(written)
            task = asyncio.ensure_future(loop.sendfile(transport, file))
            await turns()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            receiving = asyncio.ensure_future(in_thread(read_all, peer))
            await close(transport, protocol)
            assert await receiving == written

    run(loop, main())


def test_it_waits_for_its_turn_among_sends_of_the_same_socket(loop, content):
    """As operations of the ring: no send of the socket is put into the middle of another one."""
    file, data = content
    before, after = pattern(1_000_000, seed=3), pattern(1_000_000, seed=4)

    async def main():
        ours, peer = narrow_pair()
        with ours, peer:
            tasks = [loop.create_task(coroutine) for coroutine in (
                loop.sock_sendall(ours, before), loop.sock_sendfile(ours, file), loop.sock_sendall(ours, after))]
            await turns()
            assert not any(task.done() for task in tasks)
            assert "sock_sendfile" in repr(tasks[1])
            got = await in_thread(read_exactly, peer, len(before) + len(data) + len(after))
            assert got == before + data + after
            assert await asyncio.gather(*tasks) == [None, len(data), None]

    run(loop, main())


def test_cancelled_while_it_waits_for_its_turn(loop, content):
    file, _ = content
    written = pattern(1_000_000, seed=3)

    async def main():
        ours, peer = narrow_pair()
        with ours, peer:
            sending = loop.create_task(loop.sock_sendall(ours, written))
            task = loop.create_task(loop.sock_sendfile(ours, file))
            await turns()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert file.tell() == 0
            assert await in_thread(read_exactly, peer, len(written)) == written
            await sending

    run(loop, main())


def test_a_file_closed_while_it_is_sent(loop, content):
    file, _ = content

    async def main():
        ours, peer = narrow_pair()
        with ours, peer:
            task = loop.create_task(loop.sock_sendfile(ours, file))
            await turns()
            file.close()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(loop, main())


def test_many_at_once(loop, content):
    file, data = content

    async def one(listener):
        receiving = asyncio.ensure_future(in_thread(fetch, listener.getsockname(), len(data)))
        ours, _ = await in_thread(listener.accept)
        ours.setblocking(False)
        transport, protocol = await loop.connect_accepted_socket(Recorder, ours)
        with open(file.name, "rb") as own:
            assert await loop.sendfile(transport, own) == len(data)
        await close(transport, protocol)
        assert await receiving == data

    def fetch(address, size):
        with connected(address) as sock:
            return read_exactly(sock, size)

    async def main():
        with listening() as listener:
            await asyncio.gather(*(one(listener) for _ in range(10)))

    run(loop, main())


def test_arguments_that_asyncio_refuses(loop, content, tmp_path):
    file, _ = content

    async def main():
        transport, protocol, peer = await accepted()
        with peer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            with pytest.raises(ValueError, match="file should be opened in binary mode"):
                with open(tmp_path / "content") as text:
                    await loop.sendfile(transport, text)
            for offset, count, text in ((-1, None, "offset must be a non-negative integer"),
                                        (0, -1, "count must be a positive integer"),
                                        (0, 0, "count must be a positive integer")):
                with pytest.raises(ValueError, match=text):
                    await loop.sock_sendfile(transport.get_extra_info("socket"), file, offset, count)
            datagram.setblocking(False)
            with pytest.raises(ValueError, match="only SOCK_STREAM type sockets are supported"):
                await loop.sock_sendfile(datagram, file)
            await close(transport, protocol)
            with pytest.raises(RuntimeError, match="Transport is closing"):
                await loop.sendfile(transport, file)

    run(loop, main())


def test_a_pipe_transport_has_no_sendfile(loop, content):
    file, _ = content

    async def main():
        reader, writer = os.pipe()
        transport, protocol = await loop.connect_write_pipe(Recorder, os.fdopen(writer, "wb", 0))
        with pytest.raises(RuntimeError, match="sendfile is not supported for transport"):
            await loop.sendfile(transport, file)
        await close(transport, protocol)
        os.close(reader)

    run(loop, main())
