"""Echo server made of loop.sock_accept, sock_recv and sock_sendall: no transport, one task per connection.

Prints the port it listens on, serves until SIGTERM, prints a line of JSON.
"""

from __future__ import annotations

import asyncio
import gc
import socket

from loops import arguments, new_loop, report, stop_on_signal

BACKLOG = 4096
# What one receive takes at most: asyncio's documentation and most programs ask for no more.
RECEIVE_BYTES = 64 * 1024


async def echo(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Write back what comes, until its end."""
    with sock:
        try:
            while data := await loop.sock_recv(sock, RECEIVE_BYTES):
                await loop.sock_sendall(sock, data)
        except ConnectionError:
            pass


async def accept(loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
    """Start a task for each connection. The loop keeps only weak references to tasks."""
    tasks = set()
    while True:
        sock, _ = await loop.sock_accept(listener)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(echo(loop, sock))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def serve() -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    stop_on_signal(loop, stopped.set)
    with socket.socket() as listener:
        listener.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        listener.listen(BACKLOG)
        accepting = loop.create_task(accept(loop, listener))
        print(listener.getsockname()[1], flush=True)
        await stopped.wait()
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)


def main() -> None:
    options = arguments(__doc__).parse_args()
    gc.collect()
    gc.freeze()
    loop = new_loop(options.loop)
    loop.run_until_complete(serve())
    report(loop)


if __name__ == "__main__":
    main()
