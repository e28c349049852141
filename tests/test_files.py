"""kloop.open: files of bytes and of text, on either driver, as the built-in open()'s."""

import asyncio
import errno
import gc
import io
import os
import stat
import subprocess
import sys
import time
import warnings

import pytest
from driving import LIMIT_S, run, turns
from peers import pattern


def operations(loop):
    return loop.stats()["operations"]


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "file")


# ---- bytes


def test_what_is_written_is_read(loop, path):
    data = pattern(300_000)

    async def main():
        import kloop

        async with kloop.open(path, "wb") as file:
            assert [await file.write(data[at:at + 1000]) for at in range(0, len(data), 1000)] == [1000] * 300
            assert await file.tell() == len(data)
        assert file.closed
        async with kloop.open(path, "rb") as file:
            assert await file.read() == data
            assert await file.read() == b""
            assert await file.seek(1000) == 1000
            assert await file.read(70_000) == data[1000:71_000]
            assert await file.tell() == 71_000

    run(loop, main())
    with open(path, "rb") as file:
        assert file.read() == data


@pytest.mark.parametrize("size", [1, 7, 4096, 40_000])
def test_lines(loop, path, size):
    lines = [pattern(n).replace(b"\n", b"x") + b"\n" for n in (0, 1, size, 3, 100, size)] + [b"no end"]

    async def main():
        import kloop

        async with kloop.open(path, "wb") as file:
            await file.writelines(lines)
        async with kloop.open(path, "rb") as file:
            assert [line async for line in file] == lines
            await file.seek(0)
            assert await file.readlines() == lines
            await file.seek(0)
            assert await file.readline(0) == b""
            assert await file.readline() == b"\n"
            assert await file.readline(1) == lines[1][:1]

    run(loop, main())


def test_reads_of_every_kind(loop, path):
    data = pattern(100_000)
    with open(path, "wb") as file:
        file.write(data)

    async def main():
        import kloop

        async with kloop.open(path, "rb") as file:
            assert await file.peek() == data[:len(await file.peek())] != b""
            assert await file.read1(10) == data[:10]
            into = bytearray(50_000)
            assert await file.readinto(into) == 50_000
            assert into == data[10:50_010]
            assert 0 < await file.readinto1(into) <= 50_000
            await file.seek(-5, os.SEEK_END)
            assert await file.readinto(into) == 5
            assert into[:5] == data[-5:]
            assert await file.readinto(into) == 0
            into[:] = bytes(50_000)
            assert await file.pread_into(into, 99_000) == 1000
            assert into[:1000] == data[99_000:]

    run(loop, main())


def test_positions(loop, path):
    async def main():
        import kloop

        async with kloop.open(path, "w+b") as file:
            await file.write(b"0123456789")
            assert await file.seek(-3, os.SEEK_CUR) == 7
            assert await file.read(2) == b"78"
            await file.write(b"x")                          # behind what was read, not what was read ahead
            assert await file.seek(0) == 0
            assert await file.read() == b"012345678x"
            assert await file.truncate(4) == 4
            assert await file.tell() == 10
            await file.seek(2)
            assert await file.truncate() == 2
            assert await file.seek(0, os.SEEK_END) == 2
            for whence, offset, error in ((0, -1, OSError), (1, -3, OSError), (9, 0, ValueError)):
                with pytest.raises(error):
                    await file.seek(offset, whence)
            assert await file.tell() == 2

    run(loop, main())


def test_appending(loop, path):
    with open(path, "wb") as file:
        file.write(b"first")

    async def main():
        import kloop

        async with kloop.open(path, "ab") as file:
            assert await file.tell() == 5
            await file.seek(0)
            await file.write(b" second")
        async with kloop.open(path, "a+b") as file:
            assert await file.read() == b""
            await file.seek(0)
            assert await file.read(5) == b"first"
            await file.write(b" third")
            await file.seek(0)
            assert await file.read() == b"first second third"

    run(loop, main())


def test_without_a_buffer(loop, path):
    async def main():
        import kloop

        async with kloop.open(path, "w+b", buffering=0) as file:
            assert isinstance(file, kloop.files.RawFile)
            assert await file.write(b"one\ntwo\n") == 8
            with open(path, "rb") as other:
                assert other.read() == b"one\ntwo\n"
            await file.seek(0)
            assert [line async for line in file] == [b"one\n", b"two\n"]
            assert await file.seek(-4, os.SEEK_END) == 4
            assert await file.readall() == b"two\n"
            into = bytearray(3)
            await file.seek(0)
            assert await file.readinto(into) == 3
            assert into == b"one"
            assert await file.truncate() == 3
            assert await file.read() == b""

    run(loop, main())


def test_many_at_their_offsets(loop, path):
    """Any number may be under way, and what is buffered is written before."""
    data = pattern(256 * 1024)

    async def main():
        import kloop

        async with kloop.open(path, "w+b") as file:
            await asyncio.gather(*(file.pwrite(data[at:at + 4096], at) for at in range(0, len(data), 4096)))
            got = await asyncio.gather(*(file.pread(1000, at) for at in range(0, len(data), 1000)))
            assert b"".join(got) == data
            assert await file.tell() == 0
            await file.write(b"buffered")
            assert await file.pread(8, 0) == b"buffered"
            await file.seek(0)
            assert await file.read(4) == b"buff"
            await file.pwrite(b"ERED!", 4)
            assert await file.read(5) == b"ERED!"           # not what was read ahead
            assert await file.pread(10, len(data) - 3) == data[-3:]
            assert await file.pread(10, 1 << 40) == b""
            assert await file.pread(0, 0) == b""
            for call in (file.pread(-1, 0), file.pread(1, -1), file.pwrite(b"x", -1), file.pread_into(bytearray(1), -5)):
                with pytest.raises(OSError) as caught:
                    await call
                assert caught.value.errno == errno.EINVAL
            with pytest.raises(OverflowError):
                file.pread(1, 1 << 63)
        assert operations(loop) == 0

    run(loop, main())


def test_calls_take_turns(loop, path):
    """Those at the file's position, in the order in which they were made."""
    data = [pattern(5000, seed) for seed in range(40)]

    async def main():
        import kloop

        async with kloop.open(path, "w+b", buffering=0) as file:
            await asyncio.gather(*(file.write(part) for part in data))
            await file.seek(0)
            assert await asyncio.gather(*(file.read(5000) for _ in data)) == data
        async with kloop.open(path, "wb") as file:
            await asyncio.gather(*(file.write(part) for part in data), file.close())
        assert file.closed

    run(loop, main())
    with open(path, "rb") as file:
        assert file.read() == b"".join(data)


# ---- text


TEXT = "".join(f"{n} zwölf Boxkämpfer 🥊\n" for n in range(3000))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "shift_jis", "iso2022_jp", "utf-7"])
def test_encodings(loop, path, encoding):
    text = TEXT if encoding.startswith("utf") else "".join(f"{n} 日本語テキスト\n" for n in range(3000))

    async def main():
        import kloop

        async with kloop.open(path, "w", encoding=encoding) as file:
            for line in text.splitlines(True):
                await file.write(line)
        async with kloop.open(path, encoding=encoding) as file:
            assert await file.read() == text
            await file.seek(0)
            assert "".join([line async for line in file]) == text
            # Each position that tell() gives is one to come back to.
            await file.seek(0)
            places = []
            for size in (1, 2, 3, 5, 8000, 1, 9000, 7, 0):
                places.append((await file.tell(), await file.read(size)))
                places.append((await file.tell(), await file.readline()))
            for place, expected in reversed(places):
                await file.seek(place)
                assert await file.read(len(expected)) == expected
        async with kloop.open(path, "a", encoding=encoding) as file:
            await file.write("end")
        with open(path, encoding=encoding) as builtin:
            assert builtin.read() == text + "end"           # no mark of the order of bytes in the middle

    run(loop, main())


@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
def test_newlines(loop, path, newline):
    raw = b"a\nb\r\nc\rd\r\n\r\n" * 3000 + b"\r"
    with open(path, "wb") as file:
        file.write(raw)

    async def main():
        import kloop

        async with kloop.open(path, newline=newline, encoding="ascii") as file:
            with open(path, newline=newline, encoding="ascii") as builtin:
                lines = builtin.readlines()
                assert [line async for line in file] == lines
                assert file.newlines == builtin.newlines
                await file.seek(0)
                builtin.seek(0)
                places = []
                for size in (1, 2, 3, 8191, 1, 8192, 5):
                    assert await file.read(size) == builtin.read(size)
                    places.append((await file.tell(), await file.readline(), builtin.readline()))
                for place, got, expected in reversed(places):
                    await file.seek(place)
                    assert got == expected == await file.readline()
        async with kloop.open(path, "w", newline=newline, encoding="ascii") as file:
            await file.write("a\nb\r\nc\r")
        written = (tmp := open(path, "rb")).read()
        tmp.close()
        with open(path, "w", newline=newline, encoding="ascii") as builtin:
            builtin.write("a\nb\r\nc\r")
        with open(path, "rb") as builtin:
            assert builtin.read() == written

    run(loop, main())


def test_errors_of_text(loop, path):
    with open(path, "wb") as file:
        file.write(b"good \xff bad")

    async def main():
        import kloop

        async with kloop.open(path, encoding="utf-8") as file:
            with pytest.raises(UnicodeDecodeError):
                await file.read()
        async with kloop.open(path, encoding="utf-8", errors="replace") as file:
            assert await file.read() == "good \ufffd bad"
        async with kloop.open(path, "w", encoding="ascii") as file:
            with pytest.raises(UnicodeEncodeError):
                await file.write("ä")
            with pytest.raises(TypeError):
                await file.write(b"bytes")
            await file.write("fine")
        async with kloop.open(path, "r+", encoding="ascii") as file:
            for offset, whence in ((1, os.SEEK_CUR), (-1, os.SEEK_END)):
                with pytest.raises(io.UnsupportedOperation):
                    await file.seek(offset, whence)
            with pytest.raises(ValueError):
                await file.seek(-1)

    run(loop, main())


def test_line_buffering(loop, path):
    async def main():
        import kloop

        async with kloop.open(path, "w", buffering=1) as file:
            await file.write("no end")
            assert os.stat(path).st_size == 0
            await file.write(", an end\n")
            assert os.stat(path).st_size == 15
            assert file.line_buffering

    run(loop, main())


# ---- arguments


WRONG = [
    ((), {"mode": "zz"}), ((), {"mode": "rw"}), ((), {"mode": "rbt"}), ((), {"mode": "U"}), ((), {"mode": ""}),
    ((), {"mode": "rb", "encoding": "utf-8"}), ((), {"mode": "rb", "newline": "\n"}), ((), {"mode": "rb", "errors": "strict"}),
    ((), {"buffering": 0}), ((), {"closefd": False}), ((), {"encoding": "no such"}), ((), {"newline": "x"}),
    ((), {"mode": 3}), ((), {"mode": "w", "errors": 5}),
]


@pytest.mark.parametrize("arguments", WRONG, ids=lambda a: str(a[1]))
def test_wrong_arguments(loop, path, arguments):
    """The built-in open()'s errors, in type and words, and nothing is opened."""
    import kloop

    with open(path, "w"):
        pass
    _, options = arguments
    with pytest.raises((ValueError, TypeError, LookupError)) as expected:
        open(path, **options).close()
    with pytest.raises(type(expected.value)) as caught:
        kloop.open(path, **options)
    assert str(caught.value) == str(expected.value)


@pytest.mark.parametrize("wrong", ["a\0b", 1.5, None, -1])
def test_wrong_paths(loop, wrong):
    import kloop

    with pytest.raises((ValueError, TypeError)) as expected:
        open(wrong)
    with pytest.raises(type(expected.value)) as caught:
        kloop.open(wrong)
    assert str(caught.value).split(",")[0] == str(expected.value).split(",")[0]


def test_errors_of_open(loop, tmp_path):
    """Class, number and name are the built-in's, whatever kind of path is given."""
    (tmp_path / "there").write_text("x")
    (tmp_path / "loop").symlink_to("loop")

    def failure(function):
        with pytest.raises(OSError) as caught:
            function()
        return type(caught.value), caught.value.errno, caught.value.filename, str(caught.value)

    async def main():
        import kloop

        for name, mode in (("not there", "r"), ("not/there", "w"), ("", "r"), ("there/x", "w"), ("there", "x"),
                           ("loop", "r"), ("x" * 300, "w"), (".", "r"), (".", "w")):
            for path in (str(tmp_path / name), tmp_path / name, os.fsencode(tmp_path / name)):
                expected = failure(lambda path=path, mode=mode: open(path, mode).close())
                with pytest.raises(OSError) as caught:
                    await kloop.open(path, mode)
                got = caught.value
                assert (type(got), got.errno, got.filename, str(got)) == expected
        with pytest.raises(OSError) as caught:
            await kloop.open(987)
        assert (caught.value.errno, caught.value.filename) == (errno.EBADF, 987)

    run(loop, main())


def test_paths_and_descriptors(loop, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")

    async def main():
        import kloop

        for name in (path, str(path), os.fsencode(path)):
            async with kloop.open(name, "rb") as file:
                assert await file.read() == b"content"
                assert file.name == os.fspath(name)
                assert not os.get_inheritable(file.fileno())
        fd = os.open(path, os.O_RDWR)
        async with kloop.open(fd, "rb", closefd=False) as file:
            assert await file.read(3) == b"con"
            assert file.name == fd
        assert os.lseek(fd, 0, os.SEEK_CUR) == 7            # as the built-in's: what was read ahead is read
        async with kloop.open(fd, "r+b") as file:
            await file.seek(0)
        with pytest.raises(OSError):
            os.fstat(fd)

    run(loop, main())


def test_an_opener(loop, tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    threads = []

    def opener(path, flags):
        import threading

        threads.append(threading.current_thread())
        return os.open(path, flags, dir_fd=folder)

    async def main():
        import kloop

        async with kloop.open("file", "w", opener=opener) as file:
            await file.write("x")
        with pytest.raises(ValueError, match="opener returned -1"):
            await kloop.open("file", opener=lambda *_: -1)
        with pytest.raises(TypeError, match="expected integer from opener"):
            await kloop.open("file", opener=lambda *_: None)
        with pytest.raises(ZeroDivisionError):
            await kloop.open("file", opener=lambda *_: 1 / 0)

    run(loop, main())
    os.close(folder)
    assert (tmp_path / "file").read_text() == "x"
    import threading

    assert threads[0] is not threading.main_thread()        # it may wait


def test_exclusive(loop, path):
    async def main():
        import kloop

        results = await asyncio.gather(*(kloop.open(path, "x")._begin() for _ in range(5)), return_exceptions=True)
        made = [result for result in results if not isinstance(result, Exception)]
        assert len(made) == 1
        assert {type(result) for result in results if result not in made} == {FileExistsError}
        await made[0].close()

    run(loop, main())


def test_the_umask(loop, tmp_path):
    async def main():
        import kloop

        old = os.umask(0o027)
        try:
            async with kloop.open(tmp_path / "file", "w"):
                pass
        finally:
            os.umask(old)

    run(loop, main())
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_what_a_mode_forbids(loop, path):
    async def main():
        import kloop

        async with kloop.open(path, "wb") as file:
            assert (file.readable(), file.writable(), file.seekable(), file.isatty()) == (False, True, True, False)
            for call in (file.read, file.readline, lambda: file.readinto(bytearray(1)), lambda: file.read1(1), file.peek):
                with pytest.raises(io.UnsupportedOperation):
                    await call()
            with pytest.raises(io.UnsupportedOperation):
                file.pread(1, 0)
        async with kloop.open(path, "rb") as file:
            for call in (lambda: file.write(b"x"), lambda: file.truncate(1), lambda: file.pwrite(b"x", 0)):
                with pytest.raises(io.UnsupportedOperation):
                    await call()
        for mode in ("r", "rb"):
            async with kloop.open(path, mode) as file:
                pass
            for call in (file.read, file.readline, lambda: file.write("x"), lambda: file.seek(0), file.tell, file.flush,
                         file.fsync, file.__anext__, lambda: file.truncate(0), file.__aenter__):
                with pytest.raises(ValueError, match="closed file"):
                    await call()
            for call in (file.fileno, file.readable, file.isatty, file.__aiter__):
                with pytest.raises(ValueError, match="closed file"):
                    call()
            await file.close()
            await file.aclose()

    run(loop, main())


def test_only_on_kloop(kloop):
    async def main():
        with pytest.raises(RuntimeError, match="need a running kloop loop"):
            await kloop.open("/dev/null")
        with pytest.raises(RuntimeError, match="need a running kloop loop"):
            await kloop.files.stat("/")

    asyncio.run(main())
    with pytest.raises(RuntimeError, match="no running event loop"):
        kloop.files.read_bytes("/dev/null").send(None)


def test_the_binary_line_buffer_warns(loop, path):
    async def main():
        import kloop

        with pytest.warns(RuntimeWarning, match="line buffering"):
            opening = kloop.open(path, "wb", 1)
        async with opening as file:
            await file.write(b"x")

    run(loop, main())


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
                kloop.open(fifo, "rb")._begin(), kloop.open(data, "rb")._begin(), pipe.read(100), file.pread(1 << 20, 0),
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

    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path)],
        capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if "unshare" in done.stderr and "Operation not permitted" in done.stderr:
        pytest.skip("this machine has no user namespaces")
    assert done.stdout == "done\n", done.stderr


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
    eventfds = [link for link in os.listdir("/proc/self/fd") if "eventfd" in os.path.realpath(f"/proc/self/fd/{{link}}")]
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
    await kloop.files.link(folder + "/new", folder + "/hard"); await kloop.files.rename(folder + "/hard", folder + "/other")
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
    waits = ("open", "close(", "stat", "read(", "pread", "write(", "pwrite", "fsync", "fdatasync", "ftruncate", "rename",
             "unlink", "mkdir", "rmdir", "symlink", "link(", "readlink", "getdents", "copy_file_range", "fchmod", "access")
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

        opens = [asyncio.ensure_future(kloop.open(tmp_path / str(n), "rb" if n % 2 else "wb")._begin()) for n in range(30)]
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
