"""An aiohttp application on the event loop of your choice.

    python examples/web_aiohttp.py --loop kloop --port 8080

Prints the port, and which driver carries the loop; ends on SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import signal

from aiohttp import web

# Above what a load of this folder's size opens at once.
BACKLOG = 1024
CHUNK_COUNT = 8


async def hello(_: web.Request) -> web.Response:
    return web.json_response({"message": "Hello, World!"})


async def stream(request: web.Request) -> web.StreamResponse:
    """A body of unknown length: chunked."""
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(CHUNK_COUNT):
        await response.write(f"chunk {number}\n".encode())
    await response.write_eof()
    return response


def make_app() -> web.Application:
    app = web.Application()
    app.add_routes([web.get("/", hello), web.get("/stream", stream)])
    return app


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "kloop":
        import kloop

        return kloop.new_event_loop()
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    runner = web.AppRunner(make_app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=BACKLOG).start()
    print(f"{runner.addresses[0][1]} driver={getattr(loop, 'driver', '-')}", flush=True)
    await stopped.wait()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", choices=("kloop", "uvloop", "asyncio"), default="kloop")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    options = parser.parse_args()
    loop = new_loop(options.loop)
    try:
        loop.run_until_complete(serve(options.port))
    finally:
        loop.close()


if __name__ == "__main__":
    main()
