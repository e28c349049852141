"""kloop.open: files of bytes and of text, on either driver, as the built-in open()'s."""

import asyncio
import errno
import io
import os

import pytest
from driving import operations, run
from peers import pattern


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
            for call in (file.pread(-1, 0), file.pread(1, -1), file.pwrite(b"x", -1),
                         file.pread_into(bytearray(1), -5)):
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


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_nobody_overtakes(loop, path, mode):
    """Calls made in the iteration in which the one before ends, when the next one has its turn and has not run yet."""
    a, b, c = (letter if mode == "w" else letter.encode() for letter in "abc")

    async def main():
        import kloop

        file = await kloop.open(path, mode)

        async def first():
            await file.write(a * 1_000_000)
            await file.write(c)
            await file.close()

        async def second():
            await file.write(b)

        await asyncio.gather(first(), second())
        assert file.closed

    run(loop, main())
    with open(path, "rb") as written:
        assert written.read() == b"a" * 1_000_000 + b"bc"


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_a_close_overtakes_no_write(loop, path, mode):
    async def main():
        import kloop

        file = await kloop.open(path, mode)
        data = "a" if mode == "w" else b"a"

        async def first():
            await file.write(data * 1_000_000)
            await file.close()

        await asyncio.gather(first(), *(file.write(data) for _ in range(5)))
        assert file.closed

    run(loop, main())
    with open(path, "rb") as written:
        assert written.read() == b"a" * 1_000_005


@pytest.mark.parametrize("mode", ["rb", "r"])
def test_no_line_is_read_before_its_turn(loop, path, mode):
    with open(path, "w") as file:
        file.write("0\n1\n2\n3\n")

    async def main():
        import kloop

        async with kloop.open(path, mode) as file:
            async def twice():
                return await file.readline(), await file.readline()

            both, *others = await asyncio.gather(twice(), file.readline(), file.readline())
        assert [int(line) for line in (*both, *others)] == [0, 3, 1, 2]

    run(loop, main())


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
        with open(path, "rb") as ours:
            written = ours.read()
        with open(path, "w", newline=newline, encoding="ascii") as builtin:
            builtin.write("a\nb\r\nc\r")
        with open(path, "rb") as builtin:
            assert builtin.read() == written

    run(loop, main())


@pytest.mark.parametrize("newline", [None, "\n", "\r\n"])
def test_positions_beside_ends_of_lines(loop, path, newline):
    """As the built-in's, also where one is cut off or written at."""
    contents = b"ab\r\ncd\r\r\nef"

    async def main():
        import kloop

        for size in range(len(contents)):
            for change in ("truncate", "write"):
                with open(path, "wb") as file:
                    file.write(contents)
                with open(path, "r+", newline=newline) as file:
                    file.read(size)
                    want = file.tell()
                    file.seek(want)
                    file.truncate() if change == "truncate" else file.write("X")
                with open(path, "rb") as file:
                    expected = file.read()
                with open(path, "wb") as file:
                    file.write(contents)
                async with kloop.open(path, "r+", newline=newline) as file:
                    await file.read(size)
                    cookie = await file.tell()
                    await file.seek(cookie)
                    await (file.truncate() if change == "truncate" else file.write("X"))
                with open(path, "rb") as file:
                    assert (size, file.read()) == (size, expected)
                assert cookie == want, size

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
