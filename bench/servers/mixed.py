"""Server of the mixed soak: echo over TCP, TLS, a unix socket and UDP, and child processes that it talks to and kills;
on kloop, files and names too.

Prints a line of JSON that says where it listens, serves until SIGTERM, prints a line of JSON. On SIGUSR1 it finishes
what it does by itself, children, files and names, and says by a line what memory is then in use; on SIGUSR2 it goes
on. Meanwhile it appends a line to --status each second: how large the Go heap is and how many Python objects there are.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import signal
import socket
import time
from asyncio.subprocess import PIPE
from functools import partial
from pathlib import Path

import memory
from echo import BufferedEchoProtocol, EchoProtocol, echo_stream, tls_context
from loops import arguments, new_loop, report, stop_on_signal
from rounds import Rounds

BACKLOG = 1024
STATUS_PERIOD_S = 1.0
UDP_BUFFER_BYTES = 1 << 20
CHILDREN = 2
CHILD_LIMIT_S = 30
CLOSE_LIMIT_S = 5
# What is written to a child at most; a pipe holds 64 KiB.
CHILD_BYTES = 300_000
# A reset may be lost, and is never sent again: without keep-alive (tcp(7)) a connection that has nothing to send would
# never learn that its peer is gone.
KEEP_ALIVE = ((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
              (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 15))
# Of three children one is killed in the middle of its work.
KILLED_PART = 1 / 3


class FlowControlledEcho(EchoProtocol):
    """Stops reading while its own answers pile up: a peer that never reads costs no memory."""

    def pause_writing(self) -> None:
        self.transport.pause_reading()  # type: ignore[attr-defined]

    def resume_writing(self) -> None:
        self.transport.resume_reading()  # type: ignore[attr-defined]


class FlowControlledBufferedEcho(BufferedEchoProtocol):
    """The same with a buffer of its own."""

    pause_writing = FlowControlledEcho.pause_writing
    resume_writing = FlowControlledEcho.resume_writing


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple) -> None:
        self.transport.sendto(data, addr)  # type: ignore[attr-defined]


async def one_child(chance: random.Random, counts: dict[str, int]) -> None:
    """A child that gives back what it is told, or is killed over it."""
    child = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    message = chance.randbytes(chance.randrange(CHILD_BYTES))
    talk = asyncio.ensure_future(child.communicate(message))
    if chance.random() < KILLED_PART:
        await asyncio.sleep(chance.random() / 100)
        try:
            child.kill()
        except ProcessLookupError:  # it was quicker
            pass
        counts["killed"] += 1
    output, _ = await asyncio.wait_for(talk, CHILD_LIMIT_S)
    if child.returncode == 0 and output != message or not message.startswith(output):
        counts["wrong"] += 1
    counts["children"] += 1
    await asyncio.sleep(chance.random() / 10)


async def write_status(path: Path, loop: asyncio.AbstractEventLoop) -> None:
    stats = getattr(loop, "stats", dict)
    begin = time.monotonic()
    while True:
        await asyncio.sleep(STATUS_PERIOD_S)
        go_heap, objects = stats().get("go_heap", 0), len(gc.get_objects())
        line = {"time_s": time.monotonic() - begin, "go_heap": go_heap, "objects": objects}
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")


async def listen(options: argparse.Namespace) -> dict[str, object]:
    """Opens everything and answers where."""
    loop = asyncio.get_running_loop()
    unix_path = str(options.folder / "soak.sock")
    servers = {
        "tcp": await loop.create_server(FlowControlledEcho, options.host, 0, backlog=BACKLOG),
        "buffered": await loop.create_server(FlowControlledBufferedEcho, options.host, 0, backlog=BACKLOG),
        "streams": await asyncio.start_server(echo_stream, options.host, 0, backlog=BACKLOG),
        "tls": await loop.create_server(
            FlowControlledEcho, options.host, 0, backlog=BACKLOG, ssl=tls_context(options.folder)
        ),
    }
    for server in servers.values():     # connections inherit what their listener has
        for option in KEEP_ALIVE:
            server.sockets[0].setsockopt(*option)
    listen.kept = [*servers.values(), await loop.create_unix_server(FlowControlledEcho, unix_path, backlog=BACKLOG)]
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER_BYTES)
    udp.setblocking(False)
    udp.bind((options.host, 0))
    transport, _ = await loop.create_datagram_endpoint(DatagramEcho, sock=udp)
    listen.kept.append(transport)
    where: dict[str, object] = {name: server.sockets[0].getsockname()[1] for name, server in servers.items()}
    return {**where, "host": options.host, "unix": unix_path, "udp": udp.getsockname()[1]}


async def beside(folder: Path, chance: random.Random, counts: dict[str, int], rounds: Rounds) -> list:
    """Starts what only kloop has; answers what has to be closed."""
    import mixed_local

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: mixed_local.NameServer(random.Random(chance.random())), local_addr=("127.0.0.1", 0))
    listen.kept.append(transport)
    port = transport.get_extra_info("sockname")[1]
    chances = [random.Random(chance.random()) for _ in range(3)]
    path = folder / f"soak-{chances[0].randrange(1 << 30)}"
    rounds.keep(lambda: mixed_local.one_file(path, chances[0], counts))
    resolvers = [mixed_local.resolver(port) for _ in chances[1:]]
    for resolver, each in zip(resolvers, chances[1:], strict=True):
        rounds.keep(partial(mixed_local.one_name, resolver, each, counts))
    return resolvers


async def say_at_rest(rounds: Rounds) -> None:
    await rounds.rest()
    gc.collect()
    print(json.dumps(memory.in_use()), flush=True)


async def all_gone(loop: asyncio.AbstractEventLoop) -> None:
    """Waits until the loop has closed what it was told to close, where it can say so; the last line tells the rest."""
    stats = getattr(loop, "stats", dict)
    deadline = time.monotonic() + CLOSE_LIMIT_S
    while stats().get("conns", 0) and time.monotonic() < deadline:
        await asyncio.sleep(CLOSE_LIMIT_S / 100)


async def serve(options: argparse.Namespace) -> dict[str, int]:
    """Serve until SIGTERM; answers what there was of child processes."""
    loop = asyncio.get_running_loop()
    errors: list[str] = []

    def note(_: asyncio.AbstractEventLoop, context: dict) -> None:
        """A peer that breaks off in the middle of TLS is reported as an error; here most peers do. What is reported is
        not kept, nor all that hangs on it."""
        exc = context.get("exception")
        if not isinstance(exc, OSError):
            errors.append(repr(exc))

    loop.set_exception_handler(note)
    stopped = asyncio.Event()
    stop_on_signal(loop, stopped.set)
    counts = {"children": 0, "killed": 0, "wrong": 0, "files": 0, "names": 0}
    print(json.dumps(await listen(options)), flush=True)
    chance = random.Random(options.seed)
    rounds = Rounds()
    for _ in range(CHILDREN):
        rounds.keep(partial(one_child, random.Random(chance.random()), counts))
    status = asyncio.create_task(write_status(options.status, loop))
    if options.loop == "kloop":
        listen.kept += await beside(options.folder, chance, counts, rounds)
    said = set()
    loop.add_signal_handler(signal.SIGUSR1, lambda: said.add(asyncio.create_task(say_at_rest(rounds))))
    loop.add_signal_handler(signal.SIGUSR2, rounds.go)
    await stopped.wait()
    # A child that is given up in the middle lives, and its pipes with it, until the collector finds it.
    await rounds.rest()
    for server in listen.kept:
        server.close()
    tasks = [*rounds.tasks, status]
    broken = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    errors += [repr(result) for result, task in zip(results, tasks, strict=True) if task in broken]
    return {**counts, "failed": errors}  # type: ignore[dict-item]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="with cert.pem and key.pem")
    parser.add_argument("--status", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    gc.collect()
    gc.freeze()
    loop = new_loop(options.loop)
    counts = loop.run_until_complete(serve(options))
    loop.run_until_complete(all_gone(loop))
    report(loop, **counts)


if __name__ == "__main__":
    main()
