"""What the mixed soak's server does beside serving, on kloop: files, and names of a server that loses and forges."""

from __future__ import annotations

import asyncio
import contextlib
import random
import zlib
from ipaddress import IPv4Address
from pathlib import Path

import kloop

FILE_BYTES = 3_000_000
PART_BYTES = 70_000
# Of what is begun a part is given up: after how much is chance's.
CANCELLED_PART = 0.2
NAMES = 3_000
# Full within seconds: a cache that has room for all names grows for as many minutes as it takes to ask for each.
CACHE_ENTRIES = 300
HEADER = 12
# Flags of a response: it is one, recursion is wanted and available; and that more does not fit.
RESPONSE, TRUNCATED = 0x8180, 0x0200
LOST, FORGED, TOO_LONG = 0.03, 0.2, 0.03
TTL_S = 2


async def given_up(work: asyncio.Task, chance: random.Random) -> bool:
    """Cancels some of the work somewhere; answers whether that came in time."""
    try:
        if chance.random() < CANCELLED_PART:
            await asyncio.sleep(chance.random() / 200)
            work.cancel()
        await asyncio.wait([work])
    finally:
        if not work.done():     # it is this task that is to end
            work.cancel()
            await asyncio.wait([work])
    return work.cancelled()


async def _use_file(path: Path, data: bytes, chance: random.Random) -> bool:
    """Writes, changes, copies and reads one; answers whether all was as it should."""
    await kloop.files.write_bytes(path, data)
    copy = path.with_suffix(".copy")
    async with await kloop.open(path, "r+b") as file:
        at = chance.randrange(len(data))
        await file.seek(at)
        await file.write(data[:1000])
    wanted = data[:at] + data[:1000] + data[at + 1000:]
    await kloop.files.copy(path, copy)
    parts = []
    async with await kloop.open(copy, "rb") as file:
        while part := await file.read(PART_BYTES):
            parts.append(part)
    return b"".join(parts) == wanted and (await kloop.files.stat(copy)).st_size == len(wanted)


async def one_file(path: Path, chance: random.Random, counts: dict[str, int]) -> None:
    """A file; some are given up in the middle, and then removed all the same."""
    work = asyncio.create_task(_use_file(path, chance.randbytes(chance.randrange(1, FILE_BYTES)), chance))
    if not await given_up(work, chance):
        counts["wrong"] += not work.result()
    for name in (path, path.with_suffix(".copy")):
        with contextlib.suppress(FileNotFoundError):
            await kloop.files.unlink(name)
    left = [name for name in await kloop.files.listdir(path.parent) if name.startswith(path.name)]
    counts["wrong"] += bool(left)
    counts["files"] += 1
    await asyncio.sleep(chance.random() / 10)


def address_of(name: bytes) -> IPv4Address:
    return IPv4Address(zlib.crc32(name.lower()))


class NameServer(asyncio.DatagramProtocol):
    """Answers each name with the address that its letters tell; says less than that now and then, or lies first."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple) -> None:
        if self.chance.random() < LOST:
            return
        end = data.index(0, HEADER) + 5
        name, question, number = data[HEADER + 1:end - 5], data[HEADER:end], data[:2]
        flags = RESPONSE | (TRUNCATED if self.chance.random() < TOO_LONG else 0)
        if self.chance.random() < FORGED:
            other = int.from_bytes(number, "big") ^ 1
            self._send(other.to_bytes(2, "big"), RESPONSE, question, IPv4Address("192.0.2.1"), addr)
        self._send(number, flags, question, address_of(name), addr)

    def _send(self, number: bytes, flags: int, question: bytes, address: IPv4Address, addr: tuple) -> None:
        counts = b"\0\1\0\0\0\0\0\0" if flags & TRUNCATED else b"\0\1\0\1\0\0\0\0"
        answer = b"" if flags & TRUNCATED else (
            b"\xc0\x0c\0\1\0\1" + TTL_S.to_bytes(4, "big") + b"\0\4" + address.packed)
        self.transport.sendto(number + flags.to_bytes(2, "big") + counts + question + answer, addr)  # type: ignore


def resolver(port: int) -> kloop.Resolver:
    return kloop.Resolver(
        [f"127.0.0.1:{port}"], timeout=1, attempts=2, cache_entries=CACHE_ENTRIES, environment=False, file=None)


async def one_name(resolver: kloop.Resolver, chance: random.Random, counts: dict[str, int]) -> None:
    """A question, of a few thousand; an answer must be the right one, a failure may be."""
    work = asyncio.create_task(_look_up(resolver, f"name-{chance.randrange(NAMES)}"))
    if not await given_up(work, chance):
        counts["wrong"] += not work.result()
    counts["names"] += 1
    await asyncio.sleep(chance.random() / 100)


async def _look_up(resolver: kloop.Resolver, label: str) -> bool:
    try:
        answer = await resolver.resolve(label)
    except (kloop.ResolveTimeout, kloop.ServerFailure):     # what is cut off can't be had over TCP here
        return True
    return [record.address for record in answer.records] == [str(address_of(label.encode()))]
