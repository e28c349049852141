"""Files that are not regular, that give little at a time, or fail in the middle."""

import asyncio
import errno
import io
import os
import subprocess
import sys

import pytest
from driving import LIMIT_S, operations, run, turns
from peers import pattern

# ---- what is no regular file


def test_a_fifo(loop, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    data = pattern(1_000_000)

    async def main():
        import kloop

        reading = asyncio.ensure_future(kloop.open(path, "rb")._begin())
        await turns()
        assert not reading.done()                           # it waits for a writer
        writer = await kloop.open(path, "wb")
        reader = await reading
        assert not reader.seekable()
        with pytest.raises(io.UnsupportedOperation):
            await reader.tell()
        for call in (reader.pread(1, 0), writer.pwrite(b"x", 0)):
            with pytest.raises(OSError) as caught:
                await call
            assert caught.value.errno == errno.ESPIPE
        got, _ = await asyncio.gather(reader.read(len(data)), writer.write(data))
        assert got == data
        await writer.write(b"short")
        await writer.close()
        assert await reader.read(100) == b"short"
        assert await reader.read(100) == b""
        await reader.close()
        with pytest.raises(io.UnsupportedOperation, match="not seekable"):
            await kloop.open(path, "r+b")

    run(loop, main())


def test_a_pipe_without_readers(loop):
    async def main():
        import kloop

        reader, writer = os.pipe()
        os.close(reader)
        async with kloop.open(writer, "wb", buffering=0) as file:
            with pytest.raises(BrokenPipeError):
                await file.write(b"x")

    run(loop, main())


def test_a_terminal(loop):
    async def main():
        import kloop

        master, slave = os.openpty()
        async with kloop.open(slave, "r") as file:
            assert file.isatty()
            assert file.line_buffering
            reading = asyncio.ensure_future(file.readline())
            await turns()
            assert not reading.done()
            os.write(master, b"typed\n")
            assert await reading == "typed\n"
        os.close(master)

    run(loop, main())


def test_devices(loop):
    async def main():
        import kloop

        async with kloop.open("/dev/zero", "rb") as file:
            assert await file.read(100_000) == bytes(100_000)
        async with kloop.open("/dev/null", "r+b", buffering=0) as file:
            assert await file.read() == b""
            assert await file.write(b"x" * 100_000) == 100_000
        file = await kloop.open("/dev/full", "wb")
        await file.write(b"x")
        with pytest.raises(OSError) as caught:
            await file.close()
        assert caught.value.errno == errno.ENOSPC
        assert file.closed

    run(loop, main())


def test_an_eventfd(loop):
    """lseek(2) answers it a position, and pread(2) ESPIPE."""

    async def main():
        import kloop

        async with kloop.open(os.eventfd(3), "rb", buffering=0) as file:
            assert int.from_bytes(await file.read(8), sys.byteorder) == 3

    run(loop, main())


def test_a_descriptor_that_does_not_block(loop):
    """A read waits all the same, by the driver and not by asking again and again."""

    async def main():
        import kloop

        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        async with kloop.open(reader, "rb", buffering=0) as file, kloop.open(writer, "wb", buffering=0) as out:
            reading = asyncio.ensure_future(file.read(10))
            await turns()
            before = loop.stats()["submitted"]
            await asyncio.sleep(0.05)
            assert loop.stats()["submitted"] - before < 20
            assert not reading.done()
            await out.write(b"x")
            assert await reading == b"x"
            data = pattern(300_000)
            writing = asyncio.ensure_future(_write_all(out, data))
            got = b""
            while len(got) < len(data):
                got += await file.read(100_000)
            assert got == data
            await writing

    run(loop, main())


async def _write_all(file, data):
    while data:
        data = data[await file.write(data):]


# ---- errors in the middle


def test_short_reads(loop):
    """Files of /proc give a page or so at a time: pread() goes on until all is there."""
    with open("/proc/kallsyms", "rb") as file:
        expected = file.read(1 << 20)

    async def main():
        import kloop

        async with kloop.open("/proc/kallsyms", "rb") as file:
            assert await file.pread(1 << 20, 0) == expected
            assert await file.read(1 << 20) == expected
            into = bytearray(1 << 20)
            assert await file.pread_into(into, 0) == len(expected)
            assert into[:len(expected)] == expected
        assert (await kloop.files.read_bytes("/proc/kallsyms"))[:1 << 20] == expected

    run(loop, main())


def test_an_error_of_the_device(loop):
    """EIO, by a read where no memory is: with number, class and name, and the file goes on."""

    async def main():
        import kloop

        async with kloop.open("/proc/self/mem", "rb", buffering=0) as file:
            for call in (lambda: file.pread(10, 0), lambda: file.pread_into(bytearray(10), 0), lambda: file.read(10)):
                with pytest.raises(OSError) as caught:
                    await call()
                assert (caught.value.errno, caught.value.filename) == (errno.EIO, "/proc/self/mem")
        data = bytearray(pattern(100))
        import ctypes

        address = ctypes.addressof((ctypes.c_char * len(data)).from_buffer(data))
        async with kloop.open("/proc/self/mem", "r+b", buffering=0) as file:
            assert await file.pread(100, address) == data
            await file.pwrite(b"by the file", address)
            assert data[:11] == b"by the file"

    run(loop, main())
    assert operations(loop) == 0


FULL_DISK = '''
    import asyncio, errno, os, subprocess, sys
    import kloop

    # In a user namespace of our own, with a file system of 64 KiB.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", sys.argv[1]], check=True)
    path = os.path.join(sys.argv[1], "file")

    async def main():
        loop = asyncio.get_running_loop()
        file = await kloop.open(path, "wb", buffering=10_000)
        written = 0
        try:
            while True:
                written += await file.write(b"x" * 3000)
        except OSError as exc:
            assert (exc.errno, exc.filename) == (errno.ENOSPC, path), exc
        assert os.stat(path).st_size == 65536, os.stat(path)
        kept = written - 65536
        assert kept >= 0
        os.truncate(path, 0)            # there is room again, and what was kept is written
        await file.flush()
        assert os.stat(path).st_size == written, (os.stat(path).st_size, written)
        await file.close()

        os.truncate(path, 0)
        with open(path + "2", "wb") as other:
            other.write(b"y" * 40_000)
        async with kloop.open(path, "wb", buffering=0) as raw:
            assert await raw.write(b"x" * 50_000) == 24576      # short, as the kernel says
            try:
                await raw.write(b"x")
            except OSError as exc:
                assert exc.errno == errno.ENOSPC
            try:
                await raw.pwrite(b"z" * 30_000, 0)              # all or an error
            except OSError as exc:
                assert (exc.errno, exc.filename) == (errno.ENOSPC, path)
            else:
                raise AssertionError("no error")
        try:
            await kloop.files.write_bytes(path + "2", b"w" * 50_000)
        except OSError as exc:
            assert exc.errno == errno.ENOSPC
        else:
            raise AssertionError("no error")
        assert open(path + "2", "rb").read() == b"y" * 40_000   # the old contents
        assert sorted(os.listdir(sys.argv[1])) == ["file", "file2"]
        try:
            await kloop.files.copy(path + "2", path + "3")
        except OSError as exc:
            assert exc.errno == errno.ENOSPC
        else:
            raise AssertionError("no error")
        assert loop.stats()["operations"] == 0

    before = os.listdir("/proc/self/fd")
    kloop.run(main())
    print("done")
'''


def test_a_full_disk(kloop, tmp_path):
    import textwrap

    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    done = subprocess.run(
        [*unshare, sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path)],
        capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if "unshare" in done.stderr and "Operation not permitted" in done.stderr:
        pytest.skip("this machine has no user namespaces")
    assert done.stdout == "done\n", done.stderr
