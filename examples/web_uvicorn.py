"""An ASGI application under uvicorn, on the event loop of your choice.

    python examples/web_uvicorn.py --loop kloop --port 8080

is what

    uvicorn --loop kloop:new_event_loop --http httptools --no-access-log --app-dir examples web_uvicorn:app

does on any command line. Prints the port, and which driver carries the loop; ends on SIGTERM or
Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# What uvicorn's --loop is given.
LOOPS = {"kloop": "kloop:new_event_loop", "uvloop": "uvloop", "asyncio": "asyncio"}
BACKLOG = 1024
CHUNK_COUNT = 8
BODY = json.dumps({"message": "Hello, World!"}).encode()


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answers / with JSON, /stream with a chunked body."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(CHUNK_COUNT):
            await send({"type": "http.response.body", "body": f"chunk {number}\n".encode(), "more_body": True})
        await send({"type": "http.response.body"})
    else:
        length = str(len(BODY)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})


async def lifespan(receive: Receive, send: Send) -> None:
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


class AnnouncingServer(uvicorn.Server):
    """Says where it listens, once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        driver = getattr(asyncio.get_running_loop(), "driver", "-")
        port = self.servers[0].sockets[0].getsockname()[1]
        print(f"{port} driver={driver}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", choices=tuple(LOOPS), default="kloop")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    options = parser.parse_args()
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=options.port,
        loop=LOOPS[options.loop],
        http="httptools",
        backlog=BACKLOG,
        access_log=False,
        log_level="warning",
    )
    AnnouncingServer(config).run()


if __name__ == "__main__":
    main()
