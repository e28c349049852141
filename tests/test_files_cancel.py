"""Cancelled calls on files: over with the await, nothing lost that was read, nothing written twice, nothing leaked."""

import asyncio
import gc
import io
import os
import random
import time

import leaks
import pytest
from driving import LIMIT_S, cancelled, operations, run, turns, waiting
from peers import pattern


async def same_descriptors(before):
    """Those that nobody has are closed in another thread."""
    deadline_s = time.monotonic() + LIMIT_S
    while (now := leaks.open_fds()) != before:
        if leaks.is_go_netpoller({fd: name for fd, name in now.items() if fd not in before}):
            break
        assert time.monotonic() < deadline_s, f"{now}, {before} before"
        await asyncio.sleep(0.001)


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("mode", ["rb", "wb"])
def test_an_open_that_waits(loop, fifo, mode):
    async def main():
        import kloop

        before = leaks.open_fds()
        for _ in range(20):
            await cancelled(await waiting(kloop.open(fifo, mode)._begin()))
            assert operations(loop) == 0
        for count in range(300):
            task = asyncio.ensure_future(kloop.open(fifo, mode)._begin())
            await turns(1 + count % 5)
            await cancelled(task)
        await same_descriptors(before)
        # It is as if there had been none: both ends can still be opened.
        reader, writer = await asyncio.gather(kloop.open(fifo, "rb")._begin(), kloop.open(fifo, "wb")._begin())
        await reader.close()
        await writer.close()

    run(loop, main())


def test_an_open_at_any_moment(loop, tmp_path):
    """Cancelled before, while and after it is made: no descriptor is left."""
    (tmp_path / "file").write_bytes(b"x")

    async def main():
        import kloop

        gc.collect()
        before = leaks.open_fds()
        ended = interrupted = count = 0
        while count < 200 or not ended:     # how soon one has ended is the machine's affair
            task = asyncio.ensure_future(kloop.open(tmp_path / "file", "rb")._begin())
            await turns(10 * count)
            task.cancel()
            try:
                await (await task).close()
                ended += 1
            except asyncio.CancelledError:
                interrupted += 1
            count += 1
        assert interrupted
        while operations(loop):
            await asyncio.sleep(0)
        gc.collect()
        await same_descriptors(before)

    run(loop, main())


def test_a_read_of_a_pipe_loses_nothing(loop, fifo):
    """Cancelled when bytes come in the same moment: the next read has them."""
    data = pattern(50_000)

    async def main():
        import kloop

        async with kloop.open(fifo, "r+b", buffering=0) as file:
            out = os.open(fifo, os.O_WRONLY)
            chance = random.Random(1)
            got, at = b"", 0
            while len(got) < len(data):
                task = asyncio.ensure_future(file.read(chance.randrange(1, 300)))
                await turns(chance.randrange(3))
                at += os.write(out, data[at:at + chance.randrange(200)])
                if chance.random() < 0.5:
                    await turns(chance.randrange(3))
                    loop.call_soon(task.cancel)
                elif at == len(got):
                    at += os.write(out, data[at:at + 1])
                    if at == len(got):
                        task.cancel()
                try:
                    got += await task
                except asyncio.CancelledError:
                    pass
                if at == len(data) and len(got) < at:
                    got += await file.read(at - len(got))
            assert got == data
            os.close(out)

    run(loop, main())


def test_a_buffered_read_loses_nothing(loop, fifo):
    async def main():
        import kloop

        reading = asyncio.ensure_future(kloop.open(fifo, "rb")._begin())
        out = await kloop.open(fifo, "wb", buffering=0)
        file = await reading
        await out.write(b"first, no line")
        for call in (file.readline, lambda: file.read(100), lambda: file.readinto(bytearray(50)), file.read):
            await cancelled(await waiting(call()))
        await out.write(b" yet\n")
        assert await file.readline() == b"first, no line yet\n"
        await out.write("größer".encode()[:3])
        text = kloop.files.TextFile(file, "r", io.TextIOWrapper(io.BytesIO(), "utf-8"), None, False)
        for call in (text.readline, lambda: text.read(50)):
            await cancelled(await waiting(call()))
        await out.write("größer".encode()[3:])
        await out.close()
        assert await text.read() == "größer"
        await file.close()
        assert operations(loop) == 0

    run(loop, main())


def test_a_write_to_a_full_pipe(loop, fifo):
    """What the pipe had taken is not written again by the next flush; what it had not is."""

    async def main():
        import kloop

        data = pattern(200_000)
        file = await kloop.open(fifo, "r+b", buffering=0)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        out = await kloop.open(fifo, "wb", buffering=len(data) + 1)
        await out.write(data)
        got = b""
        flushing = asyncio.ensure_future(out.flush())
        for _ in range(1000):
            await turns(5)
            flushing.cancel()
            try:
                await flushing
                break
            except asyncio.CancelledError:
                pass
            try:
                got += os.read(reader, 30_000)
            except BlockingIOError:
                pass
            flushing = asyncio.ensure_future(out.flush())
        while len(got) < len(data):
            got += os.read(reader, 100_000)
        assert got == data
        os.close(reader)
        await file.close()
        await out.close()
        assert operations(loop) == 0

    run(loop, main())


def test_memory_is_the_callers_again(loop, tmp_path, fifo):
    """When the await has ended, nothing is read into the buffer any more, and it can be resized."""
    (tmp_path / "file").write_bytes(b"x" * (8 << 20))

    async def main():
        import kloop

        buffer = bytearray(8 << 20)
        async with kloop.open(tmp_path / "file", "rb") as file:
            for count in range(60):
                task = asyncio.ensure_future(file.pread_into(buffer, 0))
                await turns(count % 4)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    pass
                buffer[:] = bytes(len(buffer))
                await turns(2)
                assert not buffer.count(b"x")
                buffer.append(0)            # it is exported no more
                buffer.pop()
        pipe = await kloop.open(fifo, "r+b", buffering=0)
        task = await waiting(pipe.readinto(buffer))
        with pytest.raises(BufferError):
            buffer.append(0)
        await cancelled(task)
        buffer.append(0)
        await pipe.write(b"late")
        assert await pipe.read(10) == b"late"
        await pipe.close()
        assert operations(loop) == 0

    run(loop, main())


def test_a_write_in_the_middle(loop, tmp_path):
    """A cancelled pwrite of much has written a part, all or nothing, and goes on no more."""
    path = tmp_path / "file"
    old, new = bytes(4 << 20), b"x" * (4 << 20)

    async def main():
        import kloop

        for count in range(40):
            path.write_bytes(old)
            async with kloop.open(path, "r+b", buffering=0) as file:
                task = asyncio.ensure_future(file.pwrite(new, 0))
                await turns(count % 5)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    pass
                assert operations(loop) == 0
            now = path.read_bytes()
            written = now.count(b"x")
            assert now == new[:written] + old[written:]
            await turns(3)
            assert path.read_bytes() == now

    run(loop, main())


def test_timeouts(loop, fifo):
    async def main():
        import kloop

        file = await kloop.open(fifo, "r+b", buffering=0)
        for _ in range(3):
            with pytest.raises((asyncio.TimeoutError, TimeoutError)):
                await asyncio.wait_for(file.read(1), 0.01)
        await file.write(b"x")
        assert await asyncio.wait_for(file.read(1), 5) == b"x"
        task = await waiting(file.read(1))
        task.cancel("with a message")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        import sys

        if sys.version_info >= (3, 11):
            assert caught.value.args == ("with a message",)
        await file.close()

    run(loop, main())


def test_a_turn_that_is_cancelled(loop, fifo):
    """Those behind it have theirs."""

    async def main():
        import kloop

        async with kloop.open(fifo, "r+b", buffering=0) as file:
            reads = [asyncio.ensure_future(file.read(1)) for _ in range(5)]
            await turns(3)
            await cancelled(reads[1])
            await cancelled(reads[0])
            out = os.open(fifo, os.O_WRONLY)
            os.write(out, b"abc")
            assert await asyncio.gather(*reads[2:]) == [b"a", b"b", b"c"]
            os.close(out)

    run(loop, main())


def test_copies_and_whole_files(loop, tmp_path):
    """No descriptor and no temporary file is left, and the old contents or the new are there."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(pattern(3 << 20))
    target.write_bytes(b"old")

    async def main():
        import kloop

        before = leaks.open_fds()
        for count in range(60):
            for coroutine in (kloop.files.copy(source, tmp_path / "copy"), kloop.files.read_bytes(source),
                              kloop.files.write_bytes(target, b"new" * 1000, fsync=False),
                              kloop.files.readdir(tmp_path)):
                task = asyncio.ensure_future(coroutine)
                await turns(count)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    pass
                while operations(loop):
                    await asyncio.sleep(0)
            assert target.read_bytes() in (b"old", b"new" * 1000)
            assert {*os.listdir(tmp_path)} <= {"source", "target", "copy"}
        await same_descriptors(before)

    run(loop, main())


def test_tasks_that_are_destroyed(kloop, tmp_path, fifo):
    """Coroutines that never go on: their descriptors are closed, with their loop or before."""
    (tmp_path / "file").write_bytes(pattern(100_000))
    loop = kloop.new_event_loop()

    async def use():
        async with kloop.open(tmp_path / "file", "r+b") as file:
            await file.write(b"written")
            async with kloop.open(fifo, "r+b", buffering=0) as pipe:
                waits.set()
                await pipe.read(1)

    waits = asyncio.Event()
    other = tmp_path / "other"
    os.mkfifo(other)

    async def begin():
        tasks = [asyncio.ensure_future(coroutine) for coroutine in (
            use(), kloop.open(other, "rb")._begin(), kloop.files.read_bytes(fifo),
            kloop.files.copy(fifo, tmp_path / "copy"))]
        await waits.wait()
        await turns(50)
        return tasks

    tasks = loop.run_until_complete(begin())
    for task in tasks:
        task._log_destroy_pending = False
    loop.close()
    del tasks, task
    gc.collect()
    assert (tmp_path / "file").read_bytes()[:7] == b"written"


def test_a_write_that_is_destroyed_leaves_no_temporary_file(kloop, tmp_path):
    """Its loop is closed in the middle, and the coroutine ends without it."""
    loop = kloop.new_event_loop()

    async def until_it_has_begun():
        while not os.listdir(tmp_path):
            await asyncio.sleep(0)

    task = loop.create_task(kloop.files.write_bytes(tmp_path / "file", b"x" * 20_000_000))
    loop.run_until_complete(until_it_has_begun())
    assert not task.done()
    task._log_destroy_pending = False
    loop.close()
    del task
    gc.collect()
    assert os.listdir(tmp_path) == []
