"""Echo server in three styles: protocol, buffered (BufferedProtocol) and streams; over TCP, TLS or
a unix socket.

Prints where it listens, for the load generator, serves until SIGTERM, prints a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import ssl
import threading
from collections.abc import Awaitable
from pathlib import Path

from loops import arguments, new_loop, report, stop_on_signal

# Above what a client of the benchmark opens at once, so that no SYN is dropped.
BACKLOG = 4096
# What uvloop's own echo benchmark uses; one receive may fill it.
BUFFER_SIZE_BYTES = 256 * 1024
# asyncio's default limit of a StreamReader: a larger read never returns more.
STREAM_READ_BYTES = 64 * 1024


class EchoProtocol(asyncio.Protocol):
    """Writes back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]


class BufferedEchoProtocol(asyncio.BufferedProtocol):
    """The same with a buffer of its own. What is written has to be a copy: the
    buffer is filled again while a transport may still hold unsent bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = bytearray(BUFFER_SIZE_BYTES)
        self.view = memoryview(self.buffer)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.view

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.view[:nbytes]))  # type: ignore[attr-defined]


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The same with streams. Random closes of the peer end it in any place."""
    try:
        while data := await reader.read(STREAM_READ_BYTES):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


def tls_context(folder: Path | None) -> ssl.SSLContext | None:
    """What ssl= is given: Python's defaults for servers."""
    if folder is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


async def start(options: argparse.Namespace) -> asyncio.AbstractServer:
    """Start the server on the path that is asked for, or on a free port of 127.0.0.1."""
    loop = asyncio.get_running_loop()
    tls = tls_context(options.tls)
    if options.style == "streams":
        return await asyncio.start_server(echo_stream, "127.0.0.1", 0, backlog=BACKLOG, ssl=tls)
    factory = EchoProtocol if options.style == "protocol" else BufferedEchoProtocol
    if options.path is not None:
        return await loop.create_unix_server(factory, options.path, backlog=BACKLOG)
    return await loop.create_server(factory, "127.0.0.1", 0, backlog=BACKLOG, ssl=tls)


def spin() -> None:
    """A Python thread that never lets go of the GIL by itself."""
    while True:
        pass


async def serve(starting: Awaitable[asyncio.AbstractServer], path: str | None = None) -> None:
    """Start a server, say where it listens, and serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    stop_on_signal(loop, stopped.set)
    server = await starting
    print(path or server.sockets[0].getsockname()[1], flush=True)  # type: ignore[attr-defined]
    await stopped.wait()
    server.close()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--style", choices=("protocol", "buffered", "streams"), default="protocol")
    parser.add_argument("--path", help="listen on a unix socket there")
    parser.add_argument("--tls", type=Path, metavar="FOLDER", help="with cert.pem and key.pem: TLS over TCP")
    parser.add_argument("--spinning-thread", action="store_true", help="run a busy Python thread beside the loop")
    options = parser.parse_args()
    # What was imported never has to be looked at again; the same for every loop.
    gc.collect()
    gc.freeze()
    loop = new_loop(options.loop)
    if options.spinning_thread:
        threading.Thread(target=spin, daemon=True).start()
    loop.run_until_complete(serve(start(options), options.path))
    report(loop, style=options.style)
    # The process ends here: closing 5,000 connections one by one is not what is measured.


if __name__ == "__main__":
    main()
