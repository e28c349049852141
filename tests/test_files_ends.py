"""Files that end: closed, unclosed, under way; and the loop that ends, stops, or goes on beside them."""

import asyncio
import gc
import os
import subprocess
import sys
import time
import warnings

import pytest
from driving import LIMIT_S, operations, run, turns
from peers import pattern


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "file")


# ---- the ends of files


def test_an_unclosed_file(loop, path):
    """Its descriptor is closed, its bytes are written, and there is a warning, as of the built-in's."""

    async def main():
        import kloop

        file = await kloop.open(path, "wb")
        await file.write(b"not lost")
        fd = file.fileno()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del file
            gc.collect()
        assert [w.category for w in caught] == [ResourceWarning]
        assert "unclosed file <kloop.files.BufferedFile name=" in str(caught[0].message)
        with pytest.raises(OSError):
            os.fstat(fd)

    run(loop, main())
    with open(path, "rb") as file:
        assert file.read() == b"not lost"


def test_a_loop_that_is_closed_under_a_file(kloop, path):
    loop = kloop.new_event_loop()

    async def main():
        file = await kloop.open(path, "wb")
        await file.write(b"x")
        return file

    file = loop.run_until_complete(main())
    loop.close()
    with pytest.raises(RuntimeError):
        file.flush().send(None)
    with pytest.warns(ResourceWarning):
        del file
        gc.collect()
    with open(path, "rb") as written:
        assert written.read() == b"x"


def test_a_loop_that_is_closed_with_calls_under_way(kloop, tmp_path):
    """Their memory lives until the kernel has answered, and no descriptor is left."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    data = tmp_path / "data"
    data.write_bytes(pattern(1 << 20))
    loop = kloop.new_event_loop()

    async def main():
        file = await kloop.open(data, "rb")
        pipe = await kloop.open(fifo, "r+b", buffering=0)
        return file, pipe, [
            asyncio.ensure_future(coroutine) for coroutine in (
                kloop.open(fifo, "rb")._begin(), kloop.open(data, "rb")._begin(), pipe.read(100),
                file.pread(1 << 20, 0),
                file.pread_into(bytearray(1 << 20), 0), kloop.files.stat(data), file.close())]

    file, pipe, tasks = loop.run_until_complete(main())
    loop.run_until_complete(asyncio.sleep(0))
    for task in tasks:
        task._log_destroy_pending = False
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del file, pipe, tasks, task
        gc.collect()


def test_a_loop_that_stops_and_goes_on(loop, path):
    """Also in another thread: no call is lost, and none is made twice."""
    from driving import joined

    async def begin():
        import kloop

        file = await kloop.open(path, "a+b", buffering=0)
        return file, [asyncio.ensure_future(file.write(pattern(10_000, n))) for n in range(20)]

    file, tasks = loop.run_until_complete(begin())
    for task in tasks:
        if not task.done():
            joined(loop.run_until_complete, asyncio.wait({task}))
    loop.run_until_complete(file.close())
    with open(path, "rb") as written:
        assert written.read() == b"".join(pattern(10_000, n) for n in range(20))


def test_a_close_that_is_cancelled_closes(loop, tmp_path):
    async def main():
        import kloop

        os.mkfifo(tmp_path / "fifo")
        file = await kloop.open(tmp_path / "fifo", "r+b", buffering=0)
        fd = file.fileno()
        reading = asyncio.ensure_future(file.read(1))
        await turns()
        closing = asyncio.ensure_future(file.close())
        await turns()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert not file.closed                              # the read is before it
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        while is_open(fd):
            await asyncio.sleep(0)
        assert file.closed

    run(loop, main())


def test_a_close_waits_for_those_at_offsets(loop, path):
    data = pattern(4 << 20)
    with open(path, "wb") as file:
        file.write(data)

    async def main():
        import kloop

        for _ in range(10):
            file = await kloop.open(path, "rb")
            reads = [asyncio.ensure_future(file.pread(1 << 20, n << 20)) for n in range(4)]
            await asyncio.sleep(0)
            await file.close()
            assert all(read.done() for read in reads)
            assert b"".join(read.result() for read in reads) == data
            with pytest.raises(ValueError):
                await file.pread(1, 0)

    run(loop, main())


# ---- the loop goes on


def test_no_call_blocks_the_loop(loop, tmp_path):
    """The thread of the loop makes no system call that opens, closes, reads or writes the files."""
    (tmp_path / "data").write_bytes(pattern(200_000))
    script = f'''
import asyncio, kloop, os
async def main():
    folder = {str(tmp_path)!r}
    async with kloop.open(folder + "/data", "r+b") as file:
        await file.truncate(150_000)                # the kernel is asked once whether it has that operation
    fds = os.listdir("/proc/self/fd")
    eventfds = [fd for fd in fds if "eventfd" in os.path.realpath(f"/proc/self/fd/{{fd}}")]
    print(*eventfds)
    os.write(1, b"<begin>")
    async with kloop.open(folder + "/data", "r+b") as file:
        await file.read(10); await file.seek(0, 2); await file.write(b"x" * 100_000); await file.flush()
        await file.pread(4096, 0); await file.pwrite(b"y", 0); await file.truncate(1000); await file.fsync()
    await kloop.files.write_bytes(folder + "/new", b"x" * 100_000)
    await kloop.files.read_bytes(folder + "/new")
    await kloop.files.copy(folder + "/new", folder + "/copy")
    await kloop.files.stat(folder); await kloop.files.readdir(folder); await kloop.files.mkdir(folder + "/sub")
    await kloop.files.symlink("new", folder + "/link"); await kloop.files.readlink(folder + "/link")
    await kloop.files.link(folder + "/new", folder + "/hard")
    await kloop.files.rename(folder + "/hard", folder + "/other")
    await kloop.files.unlink(folder + "/other"); await kloop.files.rmdir(folder + "/sub")
    async with kloop.open(folder + "/new", "a", encoding="utf-8") as file:
        await file.write("text")
    os.write(1, b"<end>")
kloop.run(main())
'''
    trace = tmp_path / "trace"
    if subprocess.run(["strace", "-V"], capture_output=True, check=False).returncode:
        pytest.skip("there is no strace")
    done = subprocess.run(["strace", "-f", "-o", str(trace), sys.executable, "-c", script], capture_output=True,
                          timeout=LIMIT_S, check=False, text=True)
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    main_thread = lines[0].split()[0]
    mine = [line.split(None, 1)[1] for line in lines if line.split()[0] == main_thread]
    begin, = (at for at, call in enumerate(mine) if "<begin>" in call)
    end, = (at for at, call in enumerate(mine) if "<end>" in call)
    waits = ("open", "close(", "stat", "read(", "pread", "write(", "pwrite", "fsync", "fdatasync", "ftruncate",
             "rename", "unlink", "mkdir", "rmdir", "symlink", "link(", "readlink", "getdents", "copy_file_range",
             "fchmod", "access")
    found = [call for call in mine[begin + 1:end] if call.startswith(waits) or "stat" in call.split("(")[0]]
    # Answers of the pool's threads are told by an eventfd.
    eventfds = done.stdout.replace("<begin>", "").replace("<end>", "").split()
    found = [call for call in found if call.split("(")[1].split(",")[0] not in eventfds]
    assert found == []


def test_callbacks_run_beside_a_slow_open(loop, tmp_path):
    """A FIFO without a writer, and one without a reader: other opens and calls go on."""
    for n in range(30):
        os.mkfifo(tmp_path / str(n))
    (tmp_path / "file").write_bytes(b"x")

    async def main():
        import kloop

        opens = [asyncio.ensure_future(kloop.open(tmp_path / str(n), "rb" if n % 2 else "wb")._begin())
                 for n in range(30)]
        await turns()
        started_s = time.monotonic()
        for _ in range(20):
            assert await kloop.files.read_bytes(tmp_path / "file") == b"x"
        assert time.monotonic() - started_s < LIMIT_S / 2
        assert not any(task.done() for task in opens)
        for task in opens:
            task.cancel()
        results = await asyncio.gather(*opens, return_exceptions=True)
        assert {type(result) for result in results} == {asyncio.CancelledError}
        assert operations(loop) == 0

    run(loop, main())


def test_a_thread_for_each_slow_call():
    """Two calls of one iteration, of which the first waits for a lease: the second does not wait for it."""
    script = f'''
import asyncio, fcntl, kloop, os, signal, tempfile
signal.signal(signal.SIGIO, signal.SIG_IGN)     # by which the kernel asks for the lease
async def main():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "leased")
        open(path, "w").close()
        for _ in range(10):
            await kloop.files.stat(folder)      # a thread of the pool is idle
            fd = os.open(path, os.O_WRONLY)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            slow = asyncio.ensure_future(kloop.files.read_bytes(path))
            await asyncio.wait_for(asyncio.ensure_future(kloop.files.stat(folder)), {LIMIT_S} / 4)
            assert not slow.done()
            os.close(fd)
            assert await slow == b""
kloop.run(main())
'''
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=LIMIT_S, check=False, text=True)
    assert done.returncode == 0, done.stderr
