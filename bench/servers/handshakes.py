"""TLS client under test: connections to an echo server, each with a full handshake, one message and its end.

Every answer is compared with what was sent. Prints a line of JSON.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from pathlib import Path

from client import PAYLOAD_SEED, Run, finished, load_arguments, measure
from loops import new_loop, report

SERVER_NAME = "localhost"
# A connection that takes so long has lost an event.
STALL_S = 10.0


class OneMessage(asyncio.Protocol):
    """Sends a message, and closes when it is back."""

    def __init__(self, run: Run, payload: bytes, ended: asyncio.Future[None]) -> None:
        self.run = run
        self.payload = payload
        self.ended = ended
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.payload)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.received += data
        if len(self.received) >= len(self.payload):
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.received != self.payload:
            self.run.fail(f"an answer differs from what was sent, or is missing: {exc!r}")
        if not self.ended.done():
            self.ended.set_result(None)


async def connect_again_and_again(run: Run, port: int, context: ssl.SSLContext, payload: bytes) -> None:
    """One connection after the other."""
    loop = asyncio.get_running_loop()
    while not run.stopping and run.error is None:
        begin_ns = time.perf_counter_ns()
        ended: asyncio.Future[None] = loop.create_future()
        made = OneMessage(run, payload, ended)
        try:
            await loop.create_connection(lambda p=made: p, "127.0.0.1", port, ssl=context, server_hostname=SERVER_NAME)
            await ended
        except OSError as error:
            run.fail(f"no connection: {error!r}")
            return
        run.messages += 1
        if run.measuring:
            run.latencies_ns.append(time.perf_counter_ns() - begin_ns)


async def drive(
    port: int, folder: Path, conns: int, size_bytes: int, warmup_s: float, seconds: float, tracepoint: int
) -> dict[str, object]:
    """Warm up, measure, and end."""
    run = Run()
    context = ssl.create_default_context(cafile=folder / "cert.pem")
    rng = random.Random(PAYLOAD_SEED)
    slots = [connect_again_and_again(run, port, context, rng.randbytes(size_bytes)) for _ in range(conns)]
    tasks = [asyncio.ensure_future(slot) for slot in slots]
    result = await measure(run, warmup_s, seconds, tracepoint)
    run.stopping = True
    _, stuck = await asyncio.wait(tasks, timeout=STALL_S)
    if stuck:
        run.fail(f"{len(stuck)} connections did not end")
    return finished(run, result)


def main() -> None:
    parser = load_arguments(__doc__, 64)
    parser.add_argument("--tls", type=Path, metavar="FOLDER", required=True, help="with cert.pem, which is trusted")
    options = parser.parse_args()
    loop = new_loop(options.loop)
    o = options
    run = drive(o.port, o.tls, o.conns, o.size, o.warmup, o.seconds, o.tracepoint)
    report(loop, **loop.run_until_complete(run))


if __name__ == "__main__":
    main()
