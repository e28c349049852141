"""Real servers on the loop: aiohttp and uvicorn, driven by the standard library's HTTP client."""

import asyncio
import contextlib
import http.client
import io
import socket

import aiohttp
import pytest
import uvicorn
from aiohttp import web
from driving import in_thread, run
from peers import listening, pattern

BODY = pattern(3_000_000)
REQUESTS = 50


def drive(port):
    """Small and large bodies, both ways, over connections that stay open."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as client:
        for number in range(REQUESTS):
            client.request("GET", f"/hello/{number}")
            answer = client.getresponse()
            assert (answer.status, answer.read()) == (200, b"hello %d" % number)
        client.request("POST", "/echo", BODY)
        answer = client.getresponse()
        assert answer.status == 200
        assert answer.read() == BODY
        client.request("POST", "/echo", iter([BODY[:1000], BODY[1000:]]), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})
        assert client.getresponse().read() == BODY
        client.request("GET", "/nothing/of/the/kind")
        answer = client.getresponse()
        answer.read()
        assert answer.status == 404


def drive_raw(port):
    """Two requests in one segment, then an end that the server has to notice."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(b"GET /hello/1 HTTP/1.1\r\nHost: x\r\n\r\nGET /hello/2 HTTP/1.1\r\nHost: x\r\n"
                     b"Connection: close\r\n\r\n")
        received = b""
        while data := sock.recv(65536):
            received += data
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.index(b"hello 1") < received.index(b"hello 2")


async def drive_all(port):
    await asyncio.gather(in_thread(drive, port), in_thread(drive, port), in_thread(drive_raw, port))


async def hello(request):
    return web.Response(body=b"hello " + request.match_info["number"].encode())


async def echo(request):
    return web.Response(body=await request.read())


def test_aiohttp_server(loop):
    async def main():
        application = web.Application(client_max_size=2 * len(BODY))
        application.add_routes([web.get("/hello/{number}", hello), web.post("/echo", echo)])
        runner = web.AppRunner(application)
        await runner.setup()
        with listening() as sock:
            site = web.SockSite(runner, sock)
            await site.start()
            await drive_all(sock.getsockname()[1])
            await runner.cleanup()

    run(loop, main())


def test_aiohttp_client(loop):
    async def main():
        application = web.Application(client_max_size=2 * len(BODY))
        application.add_routes([web.get("/hello/{number}", hello), web.post("/echo", echo)])
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        # Where aiodns is here, aiohttp would take that, whose thread stays.
        connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session:
            async def get(number):
                async with session.get(f"/hello/{number}") as answer:
                    assert await answer.read() == b"hello %d" % number

            await asyncio.gather(*(get(number) for number in range(REQUESTS)))
            async with session.post("/echo", data=io.BytesIO(BODY)) as answer:
                assert await answer.read() == BODY
        await runner.cleanup()

    run(loop, main())


async def application(scope, receive, send):
    """The same two routes, for ASGI servers."""
    assert scope["type"] == "http"
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    route = scope["path"].split("/")[1:]
    if route[0] not in ("hello", "echo"):
        status, body = 404, b""
    else:
        status, body = 200, b"hello " + route[1].encode() if route[0] == "hello" else body
    await send({"type": "http.response.start", "status": status,
                "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("http_protocol", ["h11", "httptools"])
def test_uvicorn(loop, http_protocol):
    async def main():
        config = uvicorn.Config(application, http=http_protocol, lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        with listening() as sock:
            serving = asyncio.ensure_future(server.serve(sockets=[sock]))
            await drive_all(sock.getsockname()[1])
            server.should_exit = True
            await serving

    run(loop, main())


def test_uvicorn_takes_the_loop_by_its_name(kloop):
    config = uvicorn.Config(application, loop="kloop:new_event_loop", log_config=None)
    loop = config.get_loop_factory()()
    assert type(loop) is kloop.Loop
    loop.close()
