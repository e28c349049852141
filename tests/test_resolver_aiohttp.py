"""kloop.aiohttp.Resolver, in a real session."""

import asyncio
import socket

import aiohttp
import pytest
from aiohttp import web
from driving import run
from nameserver import Nameserver, Zone

ZONE = Zone({("web.test", "A"): [(60, "127.0.0.1")], ("both.test", "A"): [(60, "127.0.0.1")],
             ("both.test", "AAAA"): [(60, "::1")], ("linked.test", "AAAA"): [(60, "fe80::1")]})


@pytest.fixture
def server():
    with Nameserver(ZONE) as server:
        yield server


def test_a_session_with_servers_of_its_own(kloop, loop, server):
    import kloop.aiohttp

    async def hello(request):
        return web.Response(text=request.host)

    async def main():
        application = web.Application()
        application.router.add_get("/", hello)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        with kloop.Resolver([server.address], file=None, environment=False) as resolver:
            connector = aiohttp.TCPConnector(
                resolver=kloop.aiohttp.Resolver(resolver), use_dns_cache=False, force_close=True)
            async with aiohttp.ClientSession(connector=connector) as session:
                for _ in range(3):
                    async with session.get(f"http://web.test:{port}/") as response:
                        assert await response.text() == f"web.test:{port}"
                with pytest.raises(aiohttp.ClientConnectorDNSError):
                    await session.get("http://nobody.test/")
            assert not resolver.closed
            assert resolver.stats().hits > 0
        assert server.count("web.test") <= 2    # A and AAAA, once: the resolver keeps what it knows
        await runner.cleanup()
        await asyncio.sleep(0)

    run(loop, main())


def test_results(kloop, loop, server):
    import kloop.aiohttp

    async def main():
        with kloop.Resolver([server.address], file=None, environment=False) as resolver:
            adapter = kloop.aiohttp.Resolver(resolver)
            assert await adapter.resolve("web.test", 80) == [{
                "hostname": "web.test", "host": "127.0.0.1", "port": 80, "family": socket.AF_INET,
                "proto": socket.IPPROTO_TCP, "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV}]
            assert [found["host"] for found in await adapter.resolve("127.0.0.1", 80)] == ["127.0.0.1"]
            with pytest.raises(socket.gaierror):
                await adapter.resolve("nobody.test", 80)
            await adapter.close()
        scoped = kloop.aiohttp.Resolver()       # the process's own
        [found] = await scoped.resolve(f"fe80::1%{socket.if_nametoindex('lo')}", 80, socket.AF_INET6)
        assert found["host"] == "fe80::1%lo"

    run(loop, main())
