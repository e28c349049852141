"""Files: random reads, or a copy. Prints a line of JSON: operations per second, and CPU time of each.

kloop reads and copies by its own API, aiofiles by its own on asyncio's loop; asyncio and uvloop stand for the plain
thread pool: os.pread() and shutil.copyfile() by run_in_executor().
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from loops import arguments, new_loop, report

BLOCK = 4096
READ_FILE_BLOCKS = 65_536  # 256 MiB, which stay in the page cache
COPY_BYTES = 1 << 30
MIB = 1 << 20
# What a program takes that copies by reads and writes.
COPY_PART = MIB
WARMUP_S = 0.5

Read = Callable[[int], Awaitable[bytes]]


def make_file(path: Path, size: int) -> None:
    """Blocks that begin with their number."""
    with path.open("wb") as file:
        for first in range(0, size // BLOCK, 256):
            file.write(b"".join(struct.pack("<Q", n).ljust(BLOCK, b"x") for n in range(first, first + 256)))


async def reader_of(loop_name: str, path: Path) -> tuple[Read, Callable[[], Awaitable[None]]]:
    """What reads a block at an offset, and what closes the file: one for each task."""
    if loop_name == "kloop":
        import kloop

        file = await kloop.open(path, "rb", buffering=0)
        return lambda offset: file.pread(BLOCK, offset), file.close
    if loop_name == "aiofiles":
        import aiofiles

        other = await aiofiles.open(path, "rb", buffering=0)

        async def seek_and_read(offset: int) -> bytes:
            await other.seek(offset)
            return await other.read(BLOCK)

        return seek_and_read, other.close
    loop = asyncio.get_running_loop()
    fd = os.open(path, os.O_RDONLY)

    async def close() -> None:
        os.close(fd)

    return lambda offset: loop.run_in_executor(None, os.pread, fd, BLOCK, offset), close


async def read_at_random(loop_name: str, folder: Path, depth: int, seconds: float) -> dict[str, float]:
    path = folder / "blocks"
    make_file(path, READ_FILE_BLOCKS * BLOCK)
    done = 0
    until = time.perf_counter() + WARMUP_S

    async def work(seed: int) -> None:
        nonlocal done
        numbers = random.Random(seed)
        read, close = await reader_of(loop_name, path)
        while time.perf_counter() < until:
            block = numbers.randrange(READ_FILE_BLOCKS)
            data = await read(block * BLOCK)
            if len(data) != BLOCK or data[:8] != struct.pack("<Q", block):
                raise AssertionError(f"other bytes than there are in block {block}")
            done += 1
        await close()

    await asyncio.gather(*(work(seed) for seed in range(depth)))
    done, start, cpu = 0, time.perf_counter(), time.process_time()
    until = start + seconds
    await asyncio.gather(*(work(seed + depth) for seed in range(depth)))
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"per_second": done / elapsed, "cpu_us": cpu / done * 1e6}


async def copy_of(loop_name: str, source: Path, target: Path) -> None:
    if loop_name == "kloop":
        import kloop

        await kloop.files.copy(source, target)
    elif loop_name == "aiofiles":
        import aiofiles

        async with aiofiles.open(source, "rb", buffering=0) as src, aiofiles.open(target, "wb", buffering=0) as dst:
            while part := await src.read(COPY_PART):
                await dst.write(part)
    else:
        await asyncio.get_running_loop().run_in_executor(None, shutil.copyfile, source, target)


async def copy(loop_name: str, folder: Path) -> dict[str, float]:
    """One copy to warm up, of a tenth; then one of 1 GiB. An operation is a MiB."""
    source, target = folder / "source", folder / "target"
    make_file(source, COPY_BYTES // 10 // BLOCK // 256 * 256 * BLOCK)
    await copy_of(loop_name, source, target)
    target.unlink()
    make_file(source, COPY_BYTES)
    start, cpu = time.perf_counter(), time.process_time()
    await copy_of(loop_name, source, target)
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
    with target.open("rb") as copied:
        for number in random.Random(1).sample(range(COPY_BYTES // BLOCK), 1000):
            copied.seek(number * BLOCK)
            if copied.read(8) != struct.pack("<Q", number):
                raise AssertionError(f"other bytes were copied than there are in block {number}")
    if target.stat().st_size != COPY_BYTES:
        raise AssertionError("not all was copied")
    return {"per_second": COPY_BYTES / MIB / elapsed, "cpu_us": cpu / (COPY_BYTES / MIB) * 1e6}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("what", choices=("pread", "copy"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--depth", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    chosen = parser.parse_args()
    loop = new_loop(chosen.loop)
    if chosen.what == "pread":
        work = read_at_random(chosen.loop, chosen.folder, chosen.depth, chosen.seconds)
    else:
        work = copy(chosen.loop, chosen.folder)
    figures = loop.run_until_complete(work)
    report(loop, **figures)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


if __name__ == "__main__":
    main()
