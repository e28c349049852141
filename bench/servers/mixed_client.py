"""Clients of the mixed soak, on stock asyncio: every byte that comes back is compared.

The program starts workers and kills one of them at random again and again, with all its connections. The workers'
connections end in every way: closed, half closed, reset, and with bytes unread. Prints a line of JSON at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import selectors
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from pathlib import Path

KINDS = ("tcp", "buffered", "streams", "tls", "unix")
# Far less is usual. But TCP sends what was lost again after 0.2 s at least, then after twice as long each time, a SYN
# after 1 s (RFC 6298): lost four times in a row, which the loads see now and then, a SYN takes 15 s.
STALL_S = 30
REPORT_PERIOD_S = 0.25
KILL_PERIOD_S = (1.0, 4.0)
SIZES = (1, 100, 1024, 16 * 1024, 64 * 1024, 256 * 1024)
MESSAGES = 12  # of a connection, at most
UDP_LIMIT_S = 1.0
UDP_MAX_BYTES = 8192
RESET = struct.pack("ii", 1, 0)
PATTERN = random.Random(3).randbytes(1 << 21)


class Counts(dict):
    """What a worker has seen since it last told."""

    NAMES = ("messages", "bytes", "closes", "mismatches", "stalls", "errors", "datagrams", "lost_datagrams")

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(self.NAMES, 0))
        self.first_error = ""
        self.fastest_connect_s = float("inf")  # over TCP: a round trip at least
        self.ended: set[str] = set()  # kinds of connections that came to their end

    def fail(self, name: str, text: str) -> None:
        self[name] += 1
        self.first_error = self.first_error or text

    def tell(self) -> None:
        told = {"error": self.first_error, "connect_s": self.fastest_connect_s, "ended": sorted(self.ended)}
        print(json.dumps({**self, **told}), flush=True)
        self.update(dict.fromkeys(self.NAMES, 0))
        self.first_error = ""


def message(chance: random.Random, size: int) -> bytes:
    start = chance.randrange(len(PATTERN) - size)
    return PATTERN[start : start + size]


async def connect(kind: str, where: dict, tls: ssl.SSLContext):
    if kind == "unix":
        return await asyncio.open_unix_connection(where["unix"])
    options = {"ssl": tls, "server_hostname": "localhost"} if kind == "tls" else {}
    return await asyncio.open_connection(where["host"], where[kind], **options)


async def exchange(reader, writer, data: bytes, counts: Counts, kind: str) -> bool:
    writer.write(data)
    got = await reader.readexactly(len(data))
    if got != data:
        counts.fail("mismatches", f"{kind}: wrong bytes in an answer of {len(data)}")
        return False
    counts["messages"] += 1
    counts["bytes"] += len(data)
    return True


async def end(reader, writer, how: str, chance: random.Random) -> None:
    """Ends a connection. Those that leave bytes behind look at none of them."""
    if how == "half close" and writer.can_write_eof():
        writer.write_eof()
        if await reader.read() != b"":
            raise ValueError("bytes that nobody has sent")
    elif how == "reset":
        writer.write(message(chance, 100_000))
        sock = writer.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
    elif how == "unread":
        writer.write(message(chance, 256 * 1024))
        await asyncio.sleep(chance.random() / 100)
        writer.transport.abort()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def converse(kind: str, where: dict, tls: ssl.SSLContext, chance: random.Random, counts: Counts) -> None:
    """Connections of one kind, one after the other."""
    while True:
        try:
            begin = time.monotonic()
            reader, writer = await asyncio.wait_for(connect(kind, where, tls), STALL_S)
            if kind != "unix":
                counts.fastest_connect_s = min(counts.fastest_connect_s, time.monotonic() - begin)
            for _ in range(chance.randint(1, MESSAGES)):
                data = message(chance, chance.choice(SIZES))
                if not await asyncio.wait_for(exchange(reader, writer, data, counts, kind), STALL_S):
                    break
            how = chance.choice(("close", "half close", "reset", "unread"))
            await asyncio.wait_for(end(reader, writer, how, chance), STALL_S)
            counts["closes"] += 1
            counts.ended.add(kind)
        except asyncio.TimeoutError:
            counts.fail("stalls", f"{kind}: no progress for {STALL_S} s")
        except (OSError, asyncio.IncompleteReadError, ValueError) as exc:
            counts.fail("errors", f"{kind}: {exc!r}")
            await asyncio.sleep(0.1)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answer: asyncio.Future | None = None

    def datagram_received(self, data: bytes, addr: tuple) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(data)


async def send_datagrams(where: dict, chance: random.Random, counts: Counts) -> None:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=(where["host"], where["udp"]))
    number = 0
    while True:
        number += 1
        data = number.to_bytes(8, "big") + message(chance, chance.randrange(UDP_MAX_BYTES))
        protocol.answer = loop.create_future()
        transport.sendto(data)
        counts["datagrams"] += 1
        try:
            while (got := await asyncio.wait_for(protocol.answer, UDP_LIMIT_S)) != data:
                if int.from_bytes(got[:8], "big") >= number:
                    counts.fail("mismatches", "udp: a datagram that was never sent")
                    break
                protocol.answer = loop.create_future()  # late: it counted as lost
            counts["bytes"] += len(data)
        except asyncio.TimeoutError:
            counts["lost_datagrams"] += 1


async def work(options: argparse.Namespace) -> None:
    """One worker, until it is killed or told to end."""
    where = json.loads(options.where)
    counts, chance = Counts(), random.Random(options.seed)
    tls = ssl.create_default_context(cafile=str(options.folder / "cert.pem"))
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # of transports that were reset on purpose
    for kind in KINDS:
        for _ in range(options.conns):
            asyncio.ensure_future(converse(kind, where, tls, random.Random(chance.random()), counts))
    asyncio.ensure_future(send_datagrams(where, chance, counts))
    while True:
        await asyncio.sleep(REPORT_PERIOD_S)
        counts.tell()


class Supervisor:
    """Starts workers, adds up what they tell, and kills them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.chance = random.Random(options.seed)
        self.totals = Counts()
        self.kills = 0
        self.heard_s: dict[subprocess.Popen, float] = {}
        self.selector = selectors.DefaultSelector()
        self.workers = [self.start() for _ in range(options.workers)]

    def start(self) -> subprocess.Popen:
        seed = str(self.chance.randrange(1 << 30))
        words = ["--where", self.options.where, "--folder", str(self.options.folder)]
        words += ["--conns", str(self.options.conns)]
        worker = subprocess.Popen(
            [sys.executable, __file__, "--worker", "--seed", seed, *words], stdout=subprocess.PIPE, text=True
        )
        self.selector.register(worker.stdout, selectors.EVENT_READ)
        return worker

    def listen(self, limit_s: float) -> None:
        for key, _ in self.selector.select(limit_s):
            line = key.fileobj.readline()
            if not line:
                self.selector.unregister(key.fileobj)
            elif line.endswith("\n"):
                self.add(json.loads(line))

    def add(self, told: dict) -> None:
        for name in Counts.NAMES:
            self.totals[name] += told[name]
        self.totals.first_error = self.totals.first_error or told["error"]
        self.totals.ended.update(told["ended"])
        self.totals.fastest_connect_s = min(self.totals.fastest_connect_s, told["connect_s"])

    def end(self, worker: subprocess.Popen) -> None:
        """Kills it: the kernel ends its connections, in whatever state they are."""
        worker.kill()
        worker.wait()
        rest = worker.stdout.read()
        if worker.stdout in [key.fileobj for key in self.selector.get_map().values()]:
            self.selector.unregister(worker.stdout)
        worker.stdout.close()
        for line in rest.splitlines():
            with contextlib.suppress(ValueError):  # cut off by the kill
                self.add(json.loads(line))

    def has_seen_all(self) -> bool:
        return self.totals.ended.issuperset(KINDS) and self.totals["datagrams"] > self.totals["lost_datagrams"]

    def run(self) -> dict:
        begin = time.monotonic()
        deadline = begin + self.options.seconds
        next_kill = begin + self.chance.uniform(*KILL_PERIOD_S)
        while (now := time.monotonic()) < deadline and not (self.options.warm_up and self.has_seen_all()):
            self.listen(min(deadline, next_kill) - now)
            if time.monotonic() >= next_kill:
                next_kill += self.chance.uniform(*KILL_PERIOD_S)
                chosen = self.chance.randrange(len(self.workers))
                self.end(self.workers[chosen])
                self.workers[chosen] = self.start()
                self.kills += 1
        for worker in self.workers:
            self.end(worker)
        return {**self.totals, "first_error": self.totals.first_error, "kills": self.kills,
                "fastest_connect_s": self.totals.fastest_connect_s,
                "seconds": time.monotonic() - begin, "total_bytes": self.totals["bytes"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--where", required=True, help="the first line of mixed.py")
    parser.add_argument("--folder", type=Path, required=True, help="with cert.pem")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--conns", type=int, default=4, help="of each kind, in each worker")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--warm-up", action="store_true", help="end once a connection of each kind has ended")
    parser.add_argument("--worker", action="store_true", help="be one")
    options = parser.parse_args()
    if options.worker:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        asyncio.run(work(options))
    supervisor = Supervisor(options)
    result = supervisor.run()
    print(json.dumps(result), flush=True)
    if options.warm_up and not supervisor.has_seen_all():
        print(f"in {options.seconds:g} s only these have ended: {sorted(supervisor.totals.ended)}", file=sys.stderr)
        return 1
    if result["mismatches"] or result["stalls"] or result["errors"]:
        print(f"{result['mismatches']} mismatches, {result['stalls']} stalls, {result['errors']} errors; "
              f"the first: {result['first_error']}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
