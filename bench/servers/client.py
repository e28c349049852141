"""Client under test: connections that each keep one message under way to an echo server.

Every answer is compared with what was sent. Prints a line of JSON.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import random
import time

from loops import arguments, new_loop, report

PAYLOAD_SEED = 1
# A connection that waits so long for an answer has lost an event.
STALL_NS = 5_000_000_000
# System calls are counted over this part of the measured time, after it.
COUNTED_PART = 0.3


class Run:
    """What the connections share."""

    def __init__(self) -> None:
        self.measuring = False
        self.stopping = False
        self.messages = 0
        self.latencies_ns = array.array("q")
        self.error: str | None = None

    def fail(self, text: str) -> None:
        self.error = self.error or text


class EchoClient(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: Run, payload: bytes) -> None:
        self.run = run
        self.payload = payload
        self.received = bytearray()
        self.last = 0
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.open = True

    def send(self) -> None:
        self.sent_ns = time.perf_counter_ns()
        self.transport.write(self.payload)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if len(data) != len(self.payload) or self.received:
            self.received += data
            if len(self.received) < len(self.payload):
                return
            data = bytes(self.received)
            self.received.clear()
        if data != self.payload:
            self.run.fail("an answer differs from what was sent")
        run = self.run
        run.messages += 1
        if run.measuring:
            run.latencies_ns.append(time.perf_counter_ns() - self.sent_ns)
        if not run.stopping:
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if not self.run.stopping:
            self.run.fail(f"connection lost: {exc!r}")


async def phase(run: Run, seconds: float) -> dict[str, float]:
    """Measure for some time."""
    messages, cpu_ns, start_ns = run.messages, time.process_time_ns(), time.perf_counter_ns()
    await asyncio.sleep(seconds)
    messages, cpu_ns = run.messages - messages, time.process_time_ns() - cpu_ns
    elapsed_ns = time.perf_counter_ns() - start_ns
    if not messages:
        run.fail("no message in the whole run")
    return {"messages": messages, "per_second": messages / elapsed_ns * 1e9, "cpu_us": cpu_ns / max(messages, 1) / 1e3}


def quantile_us(latencies_ns: array.array, q: float) -> float:
    """The q-quantile of nanoseconds in microseconds; sorted before."""
    return latencies_ns[min(int(len(latencies_ns) * q), len(latencies_ns) - 1)] / 1e3 if latencies_ns else 0.0


async def count_syscalls(run: Run, seconds: float, tracepoint: int) -> float:
    """Count system calls per message; a phase of its own, for counting costs time."""
    from syscount import SyscallCounter

    counter = SyscallCounter(tracepoint)
    before = counter.read()
    messages = (await phase(run, seconds))["messages"]
    return (counter.read() - before) / max(messages, 1)


async def measure(run: Run, warmup_s: float, seconds: float, tracepoint: int) -> dict[str, object]:
    """Warm up, measure, and count system calls if a tracepoint is given."""
    await asyncio.sleep(warmup_s)
    run.measuring = True
    result: dict[str, object] = {**await phase(run, seconds)}
    run.measuring = False
    if tracepoint:
        result["syscalls"] = await count_syscalls(run, seconds * COUNTED_PART, tracepoint)
    return result


def finished(run: Run, result: dict[str, object]) -> dict[str, object]:
    """The result with its latencies, unless something went wrong."""
    latencies = array.array("q", sorted(run.latencies_ns))
    result.update(p50_us=quantile_us(latencies, 0.5), p99_us=quantile_us(latencies, 0.99))
    if run.error:
        raise AssertionError(run.error)
    return result


def load_arguments(doc: str | None, size_bytes: int) -> argparse.ArgumentParser:
    """What every client under test takes."""
    parser = arguments(doc)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--conns", type=int, default=10, help="at a time")
    parser.add_argument("--size", type=int, default=size_bytes)
    parser.add_argument("--warmup", type=float, default=0.2, help="seconds")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--tracepoint", type=int, default=0, help="id; count system calls, after the timed phase")
    return parser


async def drive(
    port: int, conns: int, size_bytes: int, warmup_s: float, seconds: float, tracepoint: int
) -> dict[str, object]:
    """Connect, warm up, measure, and end."""
    loop = asyncio.get_running_loop()
    run = Run()
    rng = random.Random(PAYLOAD_SEED)
    clients = []
    for _ in range(conns):
        payload = rng.randbytes(size_bytes)
        _, client = await loop.create_connection(lambda p=payload: EchoClient(run, p), "127.0.0.1", port)
        clients.append(client)
    for client in clients:
        client.send()
    result = await measure(run, warmup_s, seconds, tracepoint)
    stuck = sum(time.perf_counter_ns() - client.sent_ns > STALL_NS for client in clients)
    if stuck:
        run.fail(f"{stuck} connections without an answer")
    run.stopping = True
    for client in clients:
        client.transport.close()
    return finished(run, result)


def main() -> None:
    options = load_arguments(__doc__, 1024).parse_args()
    loop = new_loop(options.loop)
    o = options
    result = loop.run_until_complete(drive(o.port, o.conns, o.size, o.warmup, o.seconds, o.tracepoint))
    report(loop, **result)


if __name__ == "__main__":
    main()
