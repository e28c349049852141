"""TLS server of one-way transfers: it sends, or receives, as fast as flow control allows.

A client first sends the table of the load generator's pattern (load/pattern.go), of which every byte that follows
is made. download: pieces of that table, the same cycle again and again. upload: the table is the beginning of the
client's stream; each byte is compared, and each MiB acknowledged.

Prints where it listens, for the load generator, serves until SIGTERM, prints a line of JSON.
"""

from __future__ import annotations

import asyncio
import gc
from itertools import cycle
from pathlib import Path

from echo import BACKLOG, serve, tls_context
from loops import arguments, new_loop, report

# As in load/oneway.go and load/pattern.go.
TABLE_BYTES = 65_521
PIECE_BYTES = 64 * 1024
CYCLE_PIECES = 31
ACK_EVERY_BYTES = 1 << 20
ACK_BYTES = 8
# Where a transport never pauses its protocol, the loop gets a turn after so many.
PIECES_AT_ONCE = 4
# What is compared at once: more than loops deliver, as a rule.
COMPARED_BYTES = 256 * 1024


class Transfer(asyncio.Protocol):
    """Collects the table."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.head = b""

    def data_received(self, data: bytes) -> None:
        if len(self.head) < TABLE_BYTES:
            self.head += data
            if len(self.head) < TABLE_BYTES:
                return
            self.table = self.head[:TABLE_BYTES]
            data = self.head
            self.begin()
        self.body(data)

    def begin(self) -> None:
        """Called when the table is there."""

    def body(self, data: bytes) -> None:
        """Called with all the bytes of the stream."""


class Download(Transfer):
    """Sends."""

    paused = True

    def begin(self) -> None:
        twice = self.table * 3
        starts = (number * PIECE_BYTES % TABLE_BYTES for number in range(CYCLE_PIECES))
        self.pieces = cycle([twice[start : start + PIECE_BYTES] for start in starts])
        self.resume_writing()

    def send(self) -> None:
        """Write until the transport says that it is enough."""
        transport = self.transport
        for _ in range(PIECES_AT_ONCE):
            if self.paused or transport.is_closing():
                return
            transport.write(next(self.pieces))  # type: ignore[attr-defined]
        asyncio.get_running_loop().call_soon(self.send)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        if self.paused:
            self.paused = False
            asyncio.get_running_loop().call_soon(self.send)

    def eof_received(self) -> None:
        self.paused = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.paused = True


class Upload(Transfer):
    """Receives."""

    def begin(self) -> None:
        self.expected = self.table * (COMPARED_BYTES // TABLE_BYTES + 2)
        self.received = 0

    def body(self, data: bytes) -> None:
        for start in range(0, len(data), COMPARED_BYTES):
            part = data[start : start + COMPARED_BYTES]  # all of it as a rule, which is no copy
            # A comparison of memory, without a copy.
            if not self.expected.startswith(part, self.received % TABLE_BYTES):
                self.transport.abort()  # type: ignore[attr-defined]
                raise AssertionError(f"bytes {self.received} to {self.received + len(part)} came changed")
            before = self.received // ACK_EVERY_BYTES
            self.received += len(part)
            for number in range(before, self.received // ACK_EVERY_BYTES):
                ack = ((number + 1) * ACK_EVERY_BYTES).to_bytes(ACK_BYTES, "big")
                self.transport.write(ack)  # type: ignore[attr-defined]


PROTOCOLS = {"download": Download, "upload": Upload}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--direction", choices=PROTOCOLS, required=True)
    parser.add_argument("--tls", type=Path, metavar="FOLDER", required=True, help="with cert.pem and key.pem")
    options = parser.parse_args()
    gc.collect()
    gc.freeze()
    loop = new_loop(options.loop)
    tls = tls_context(options.tls)
    listening = loop.create_server(PROTOCOLS[options.direction], "127.0.0.1", 0, backlog=BACKLOG, ssl=tls)
    loop.run_until_complete(serve(listening))
    report(loop, direction=options.direction)


if __name__ == "__main__":
    main()
