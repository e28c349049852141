"""Echo server for datagrams, a DatagramProtocol.

Prints the port it listens on, serves until SIGTERM, prints a line of JSON.
"""

from __future__ import annotations

import asyncio
import gc
import socket

from loops import arguments, new_loop, report, stop_on_signal

# Room for what 100 clients have under way. Linux counts 2.3 KiB for a datagram of 1 KiB, so its
# default of 208 KiB would lose some. The kernel gives less where net.core.rmem_max says so.
RECEIVE_BUFFER_BYTES = 1024 * 1024


class EchoDatagrams(asyncio.DatagramProtocol):
    """Sends back what it gets. error is what went wrong."""

    def __init__(self) -> None:
        self.error = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)  # type: ignore[attr-defined]

    def error_received(self, exc: Exception) -> None:
        self.error = repr(exc)


async def serve() -> str:
    """Serve until SIGTERM; answers the last error of the socket."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    stop_on_signal(loop, stopped.set)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    transport, protocol = await loop.create_datagram_endpoint(EchoDatagrams, sock=sock)
    print(sock.getsockname()[1], flush=True)
    await stopped.wait()
    transport.close()
    return protocol.error


def main() -> None:
    options = arguments(__doc__).parse_args()
    gc.collect()
    gc.freeze()
    loop = new_loop(options.loop)
    error = loop.run_until_complete(serve())
    report(loop, error=error)


if __name__ == "__main__":
    main()
