"""What a cancelled read had taken from a pipe is the next read's, in order, whatever the read was made of."""

import asyncio
import os
import random

import pytest
from driving import in_thread, operations, run, turns, waiting

LINES = "".join(f"{number} grüße\n" * (number % 3) + "x" * (number % 7) for number in range(3000))
DATA = LINES.encode()


@pytest.fixture
def pipe(loop, tmp_path):
    """Makes a file of a kind that reads a FIFO, and the other end's descriptor."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    made = []

    async def make(kind):
        import kloop

        options = {"raw": ("rb", 0), "buffered": ("rb",), "text": ("r", -1, "utf-8")}[kind]
        opening = asyncio.ensure_future(kloop.open(path, *options)._begin())
        out = await in_thread(os.open, path, os.O_WRONLY)
        made.append((await opening, out))
        return made[-1]

    yield make
    for file, _ in made:
        run(loop, file.close())


READS = {
    "raw": [lambda file: file.read(), lambda file: file.readall(), lambda file: file.readline(),
            lambda file: file.readlines(), lambda file: file.read(50), lambda file: file.readlines(100)],
    "buffered": [lambda file: file.read(), lambda file: file.read(50_000), lambda file: file.readline(),
                 lambda file: file.readlines(), lambda file: file.read1(), lambda file: file.readlines(1000)],
    "text": [lambda file: file.read(), lambda file: file.read(50_000), lambda file: file.readline(),
             lambda file: file.readlines(), lambda file: file.readlines(1000), lambda file: file.read(10)],
}


def joined(outcome):
    if isinstance(outcome, list):
        return type(outcome[0])().join(outcome) if outcome else None
    return outcome


@pytest.mark.parametrize("kind", READS)
@pytest.mark.parametrize("number", range(6))
def test_cancelled_in_the_middle(loop, pipe, kind, number):
    """It has some of what it needs, and waits for more."""

    async def main():
        file, out = await pipe(kind)
        os.write(out, b"first\nsecond\nthird, not to its end")
        pieces, interrupted = [], 0
        for _ in range(4):
            task = asyncio.ensure_future(READS[kind][number](file))
            await turns(60)
            if task.cancel():
                await asyncio.wait([task])
                interrupted += 1
            else:
                pieces.append(joined(task.result()))
        assert interrupted
        os.write(out, b", now\n")
        os.close(out)
        pieces.append(await (file.readall() if kind == "raw" else file.read()))
        got = type(pieces[0])().join(pieces)
        assert got in ("first\nsecond\nthird, not to its end, now\n", b"first\nsecond\nthird, not to its end, now\n")
        assert operations(loop) == 0

    run(loop, main())


@pytest.mark.parametrize("kind", READS)
def test_cancelled_at_any_moment(loop, pipe, kind):
    """Bytes come while reads of all kinds begin and are cancelled; together they have each byte once."""

    async def main():
        file, out = await pipe(kind)
        chance = random.Random(5)
        at, pieces = 0, []
        while at < len(DATA):
            task = asyncio.ensure_future(chance.choice(READS[kind])(file))
            for _ in range(chance.randrange(1, 5)):
                await turns(chance.randrange(4))
                at += os.write(out, DATA[at:at + chance.randrange(400)])
            if chance.random() < 0.5:
                await turns(chance.randrange(4))
            loop.call_soon(task.cancel)
            try:
                pieces.append(joined(await task))
            except asyncio.CancelledError:
                pass
        os.close(out)
        pieces.append(await (file.readall() if kind == "raw" else file.read()))
        got = [piece for piece in pieces if piece]
        assert type(got[0])().join(got) == (LINES if kind == "text" else DATA)
        assert operations(loop) == 0

    run(loop, main())


@pytest.mark.parametrize("kind", READS)
def test_destroyed_in_the_middle(loop, pipe, kind):
    """The coroutine ends without a cancellation, and its last read is the kernel's for a moment yet."""

    async def main():
        file, out = await pipe(kind)
        chance = random.Random(6)
        at = 0
        while at < 30_000:
            reading = chance.choice(READS[kind][:2])(file)
            try:
                waits_for = reading.send(None)
            except StopIteration as done:
                raise AssertionError("it ends at the end") from done
            for _ in range(chance.randrange(3)):
                os.write(out, DATA[at:at + 100])
                at += 100
                await turns(chance.randrange(3))
                if waits_for.done() and chance.random() < 0.5:
                    waits_for = reading.send(None)
            os.write(out, DATA[at:at + 100])
            at += 100
            reading.close()
            if chance.random() < 0.5:
                await turns(2)
        os.close(out)
        got = await (file.readall() if kind == "raw" else file.read())
        assert got == (DATA[:at].decode() if kind == "text" else DATA[:at])
        assert operations(loop) == 0

    run(loop, main())


@pytest.mark.parametrize("kind", ["raw", "buffered", "text"])
def test_a_regular_file_is_where_it_was(loop, tmp_path, kind):
    """A cancelled readlines() has moved nothing."""
    path = tmp_path / "file"
    path.write_bytes(DATA * 3)

    async def main():
        import kloop

        options = {"raw": ("rb", 0), "buffered": ("rb",), "text": ("r", -1, "utf-8")}[kind]
        async with kloop.open(path, *options) as file:
            await file.readline()
            before = await file.tell()
            interrupted = 0
            for count in range(1, 40):
                task = asyncio.ensure_future(file.readlines())
                await turns(count)
                if task.cancel():
                    interrupted += 1
                    await asyncio.wait([task])
                    assert await file.tell() == before
                else:
                    await file.seek(before)
            assert interrupted > 5
            with (open(path, encoding="utf-8") if kind == "text" else open(path, "rb")) as other:
                other.readline()
                assert await file.readlines() == other.readlines()

    run(loop, main())


def test_after_what_is_kept_comes_what_the_pipe_has(loop, pipe):
    async def main():
        file, out = await pipe("raw")
        os.write(out, b"1")
        reading = await waiting(file.readall())
        os.write(out, b"2")
        await turns(5)
        reading.cancel()
        await asyncio.wait([reading])
        os.write(out, b"34")
        into = bytearray(1)
        assert await file.readinto(into) == 1 and into == b"1"
        assert await file.read(1) + await file.read(2) == b"234"
        os.close(out)
        assert await file.read(5) == b""

    run(loop, main())
