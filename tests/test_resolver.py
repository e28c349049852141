"""kloop.Resolver: what it answers, keeps and counts, in front of a name server of the test's own."""

import asyncio
import gc
import socket
import threading

import pytest
from driving import LIMIT_S, run, turns
from nameserver import REFUSED, SERVFAIL, Nameserver, Zone, reply
from resolving import ZONE, refused

# ---- records


@pytest.mark.parametrize(
    "owner, kind, expected",
    [
        ("www.test", "A", ["A(ttl=60, address='192.0.2.1')", "A(ttl=60, address='192.0.2.2')"]),
        ("www.test", "AAAA", ["AAAA(ttl=50, address='2001:db8::1')"]),
        ("alias.test", "CNAME", ["CNAME(ttl=7, target='next.test')"]),
        (
            "mail.test",
            "MX",
            ["MX(ttl=60, preference=20, exchange='b.test')", "MX(ttl=60, preference=10, exchange='a.test')"],
        ),
        ("null.test", "MX", ["MX(ttl=60, preference=0, exchange='.')"]),
        ("test", "NS", ["NS(ttl=60, target='ns.test')"]),
        (
            "test",
            "SOA",
            ["SOA(ttl=60, mname='ns.test', rname='root.test', serial=1, refresh=2, retry=3, expire=4, minimum=5)"],
        ),
        ("1.2.0.192.in-addr.arpa", "PTR", ["PTR(ttl=60, target='www.test')"]),
        ("_sip._tcp.test", "SRV", ["SRV(ttl=60, priority=1, weight=2, port=5060, target='sip.test')"]),
        ("text.test", "TXT", ["TXT(ttl=60, strings=(b'one \"two\"', b'\\\\\\x00\\xff', b''))"]),
        ("ca.test", "CAA", ["CAA(ttl=60, flags=128, tag='issue', value=b'ca.example; a=\\\\b')"]),
        (
            "web.test",
            "HTTPS",
            [
                "HTTPS(ttl=60, priority=1, target='.', mandatory=(), alpn=(b'h2', b'h3'), no_default_alpn=False, "
                "port=8443, ipv4hint=('192.0.2.1', '192.0.2.2'), ech=b'ech', ipv6hint=('2001:db8::1',), dohpath=None, "
                "ohttp=False, others=((667, b'\\x00\\xff'),))"
            ],
        ),
        (
            "svc.test",
            "SVCB",
            [
                "SVCB(ttl=60, priority=0, target='target.test', mandatory=(), alpn=(), no_default_alpn=False, "
                "port=None, ipv4hint=(), ech=None, ipv6hint=(), dohpath=None, ohttp=False, others=())"
            ],
        ),
        ("plain.test", 99, ["Other(ttl=60, type=99, text='\"abc\"')"]),
    ],
)
def test_records_of_each_type(loop, resolver, owner, kind, expected):
    for _ in range(2):  # of the server, and of the cache
        answer = run(loop, resolver.resolve(owner, kind))
        assert [repr(record) for record in answer] == expected
        assert (len(answer), answer[0], answer.name) == (len(expected), answer.records[0], owner)


def test_an_alias_is_followed(loop, resolver):
    answer = run(loop, resolver.resolve("Alias.TEST.", "a"))
    assert (answer.name, answer.aliases, answer.ttl) == ("www.test", ("alias.test", "next.test"), 7)
    assert [record.address for record in answer] == ["192.0.2.1", "192.0.2.2"]
    assert not answer.stale and not answer.authenticated


def test_records_are_frozen_and_hashable(loop, resolver):
    [record] = run(loop, resolver.resolve("web.test", "HTTPS"))
    assert {record: 1}[record] == 1
    with pytest.raises(AttributeError):
        record.port = 1


def test_a_large_answer_comes_over_tcp(loop, resolver, server):
    answer = run(loop, resolver.resolve("large.test"))
    assert [record.address for record in answer] == [f"192.0.2.{number}" for number in range(200)]
    assert [tcp for *_, tcp in server.asked] == [False, True]
    stats = resolver.stats()
    assert (stats.udp, stats.tcp, stats.truncated) == (1, 1, 1)
    # It is longer than what a call has room for, from the cache too.
    assert run(loop, resolver.resolve("large.test")).records == answer.records
    assert len(server.asked) == 2


def test_names_that_are_not_ascii(loop, resolver):
    assert run(loop, resolver.resolve("m\xfcnchen.test"))[0].address == "192.0.2.33"
    assert run(loop, resolver.lookup_ip("m\xfcnchen.test", socket.AF_INET)) == ["192.0.2.33"]


# ---- what there is not


def test_errors_say_what_is_wrong(loop, kloop, resolver):
    for error, code, owner, kind in (
        (kloop.NameNotFound, socket.EAI_NONAME, "nobody.test", "A"),
        (kloop.NoRecords, socket.EAI_NODATA, "empty.test", "A"),
        (kloop.InvalidName, socket.EAI_NONAME, "a..test", "A"),
        (kloop.InvalidName, socket.EAI_NONAME, "x" * 64 + ".test", "A"),
        (kloop.InvalidName, socket.EAI_NONAME, "", "MX"),
        (kloop.InvalidName, socket.EAI_NONAME, "a\0b", "MX"),
        (kloop.InvalidName, socket.EAI_NONAME, "\xfc" * 64, "MX"),
    ):
        caught = refused(loop, error, resolver.resolve(owner, kind))
        assert isinstance(caught, kloop.ResolveError) and isinstance(caught, socket.gaierror)
        assert caught.errno == code
        assert owner.split(".")[0] in str(caught) or repr(owner) in str(caught)
    assert isinstance(refused(loop, ValueError, resolver.resolve("a..b")), kloop.InvalidName)


@pytest.mark.parametrize("code", [SERVFAIL, REFUSED])
def test_servers_that_fail(loop, kloop, code):
    with (
        Nameserver(ZONE, lambda question, _: [reply(question, code)]) as server,
        kloop.Resolver([server.address], file=None, attempts=2) as resolver,
    ):
        caught = refused(loop, kloop.ServerFailure, resolver.resolve("www.test"))
        assert server.address in str(caught) and caught.errno == socket.EAI_AGAIN
        assert server.count("www.test") == 2


def test_a_server_that_is_silent(loop, kloop):
    with (
        Nameserver(ZONE, lambda *_: []) as server,
        kloop.Resolver([server.address], file=None, timeout=0.05, attempts=2) as resolver,
    ):
        caught = refused(loop, TimeoutError, resolver.resolve("www.test"))
        assert isinstance(caught, kloop.ResolveTimeout) and caught.errno == socket.EAI_AGAIN
        assert server.count() == 2
        assert resolver.stats().timeouts == 2
        assert resolver.stats().servers[0].down


def test_types_that_do_not_exist(loop, resolver):
    for kind in ("B", "", 0, 1 << 16, -1):
        assert "AAAA, CAA" in str(refused(loop, ValueError, resolver.resolve("www.test", kind)))


def test_a_loop_of_another_kind(kloop, resolver):
    loop = asyncio.SelectorEventLoop()
    try:
        with pytest.raises(RuntimeError, match="needs a kloop event loop"):
            loop.run_until_complete(resolver.resolve("www.test"))
    finally:
        loop.close()


# ---- addresses and names


def test_lookup_ip(loop, resolver):
    assert set(run(loop, resolver.lookup_ip("www.test"))) == {"192.0.2.1", "192.0.2.2", "2001:db8::1"}
    assert run(loop, resolver.lookup_ip("www.test", socket.AF_INET6)) == ["2001:db8::1"]
    assert run(loop, resolver.lookup_ip("in.hosts", socket.AF_INET)) == ["192.0.2.80"]
    assert run(loop, resolver.lookup_ip("192.0.2.7")) == ["192.0.2.7"]
    refused(loop, ValueError, resolver.lookup_ip("www.test", socket.AF_UNIX))
    assert resolver.stats().hosts == 1


def test_the_search_list(loop, kloop, server):
    with kloop.Resolver([server.address], file=None, search=["nothing.test", "test."], ndots=2) as resolver:
        assert sorted(run(loop, resolver.lookup_ip("www", socket.AF_INET))) == ["192.0.2.1", "192.0.2.2"]
        assert [owner for owner, *_ in server.asked] == ["www.nothing.test", "www.test"]
        assert resolver.resolv_conf.search == ("nothing.test", "test")


def test_lookup_addr(loop, kloop, resolver):
    assert run(loop, resolver.lookup_addr("192.0.2.1")) == ["www.test"]
    assert run(loop, resolver.lookup_addr("192.0.2.80")) == ["in.hosts", "other.hosts"]
    refused(loop, kloop.NameNotFound, resolver.lookup_addr("192.0.2.200"))
    refused(loop, ValueError, resolver.lookup_addr("www.test"))


# ---- the cache


def test_a_known_name_is_answered_at_once(loop, resolver, server):
    run(loop, resolver.lookup_ip("www.test"))
    asked = len(server.asked)

    def at_once(coroutine):
        with pytest.raises(StopIteration) as caught:
            coroutine.send(None)
        return caught.value.value

    async def main():
        assert at_once(resolver.resolve("www.test"))[0].address == "192.0.2.1"
        assert len(at_once(resolver.lookup_ip("www.test"))) == 3
        assert at_once(resolver.lookup_ip("in.hosts", socket.AF_INET)) == ["192.0.2.80"]
        assert len(at_once(resolver.getaddrinfo("www.test", 80, type=socket.SOCK_STREAM))) == 3

    run(loop, main())
    assert len(server.asked) == asked


def test_the_cache(loop, kloop, resolver, server):
    cache = resolver.cache
    assert len(cache) == 0 and cache and cache.entries() == []
    run(loop, resolver.resolve("alias.test"))
    refused(loop, kloop.NameNotFound, resolver.resolve("nobody.test"))
    refused(loop, kloop.NoRecords, resolver.resolve("empty.test"))
    assert len(cache) == 3 == resolver.stats().entries
    empty, gone, alias = cache.entries()
    assert (empty.name, empty.type, empty.exists, empty.records) == ("empty.test", 1, False, ())
    assert (gone.name, gone.type, gone.exists) == ("nobody.test", 0, False)
    assert (alias.name, alias.canonical, alias.exists, 6 <= alias.left_s <= 7) == ("alias.test", "www.test", True, True)
    assert alias.records[0].address == "192.0.2.1"
    assert server.count("nobody.test") == 1
    refused(loop, kloop.NameNotFound, resolver.resolve("nobody.test", "MX"))
    assert server.count("nobody.test") == 1 and resolver.stats().hits == 1
    cache.clear()
    assert len(cache) == 0
    refused(loop, kloop.NameNotFound, resolver.resolve("nobody.test"))
    assert server.count("nobody.test") == 2


def test_a_ttl_runs_out(loop, kloop, server):
    with kloop.Resolver([server.address], file=None, max_ttl=0.05) as resolver:
        run(loop, resolver.resolve("www.test"))
        run(loop, asyncio.sleep(0.06))
        run(loop, resolver.resolve("www.test"))
        assert server.count() == 2


def test_no_cache(loop, kloop, server):
    with kloop.Resolver([server.address], file=None, cache_entries=0) as resolver:
        for _ in range(2):
            run(loop, resolver.resolve("www.test"))
        assert server.count() == 2 and len(resolver.cache) == 0


def test_stale_answers(loop, kloop):
    silent = threading.Event()
    with (
        Nameserver(ZONE, lambda question, _: [reply(question, SERVFAIL)] if silent.is_set() else None) as server,
        kloop.Resolver([server.address], file=None, max_ttl=0.01, serve_stale=3600) as resolver,
    ):
        assert not run(loop, resolver.resolve("www.test")).stale
        silent.set()
        run(loop, asyncio.sleep(0.02))
        answer = run(loop, resolver.resolve("www.test"))
        assert (answer.stale, answer.ttl, answer[0].address) == (True, 30, "192.0.2.1")
        assert resolver.stats().stale == 1


# ---- many, together, cancelled


def test_the_same_question_is_asked_once(loop, resolver, server):
    async def main():
        answers = await asyncio.gather(*(resolver.resolve("www.test") for _ in range(50)))
        assert len({answer.records for answer in answers}) == 1

    run(loop, main())
    assert server.count() == 1


def test_many_names_at_once(loop, kloop):
    zone = Zone({(f"n{number}.test", "A"): [(60, f"10.0.{number // 250}.{number % 250}")] for number in range(2000)})
    with (
        Nameserver(zone) as server,
        kloop.Resolver([server.address], file=None, concurrency=64, timeout=10) as resolver,
    ):

        async def main():
            answers = await asyncio.gather(*(resolver.resolve(f"n{number}.test") for number in range(2000)))
            assert [answer[0].address for answer in answers] == [
                f"10.0.{number // 250}.{number % 250}" for number in range(2000)
            ]

        run(loop, main())
        assert (resolver.stats().running, resolver.stats().waiting, loop.stats()["lookups"]) == (0, 0, 0)


def test_more_than_may_wait(loop, kloop):
    with (
        Nameserver(ZONE, lambda *_: []) as server,
        kloop.Resolver([server.address], file=None, concurrency=1, queue=0, timeout=20) as resolver,
    ):

        async def main():
            first = asyncio.ensure_future(resolver.resolve("www.test"))
            await asyncio.to_thread(server.await_question, "www.test")
            with pytest.raises(kloop.ResolverBusy):
                await resolver.resolve("next.test")
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            await loop.shutdown_default_executor()

        run(loop, main())


async def until(condition):
    """Lets other threads and the loop go on until it holds."""
    while not condition():
        await asyncio.sleep(0.001)


def test_a_cancelled_lookup_ends_its_work(loop, kloop):
    with Nameserver(ZONE, lambda *_: []) as server, kloop.Resolver([server.address], file=None, timeout=20) as resolver:

        async def main():
            task = asyncio.ensure_future(resolver.resolve("www.test"))
            await until(lambda: server.count())
            assert resolver.stats().running == 1 and loop.stats()["lookups"] == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: resolver.stats().running == 0 and loop.stats()["lookups"] == 0)
            assert resolver.stats().canceled == 1

        run(loop, main())


def test_a_cancelled_lookup_leaves_others_work_alone(loop, kloop):
    go = threading.Event()
    with (
        Nameserver(ZONE, lambda *_: go.wait(LIMIT_S) and None) as server,
        kloop.Resolver([server.address], file=None) as resolver,
    ):

        async def main():
            tasks = [asyncio.ensure_future(resolver.resolve("www.test")) for _ in range(3)]
            await until(lambda: server.count())
            tasks[0].cancel()
            await turns()
            go.set()
            assert isinstance((await asyncio.gather(*tasks, return_exceptions=True))[0], asyncio.CancelledError)
            assert tasks[1].result().records == tasks[2].result().records
            assert server.count() == 1 and resolver.stats().canceled == 0

        run(loop, main())


def test_wait_for(loop, kloop):
    with Nameserver(ZONE, lambda *_: []) as server, kloop.Resolver([server.address], file=None, timeout=20) as resolver:

        async def main():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(resolver.resolve("www.test"), 0.02)
            await until(lambda: resolver.stats().running == 0)

        run(loop, main())


def test_a_loop_that_stops_in_between(loop, resolver, server):
    """What comes meanwhile waits for its next run."""
    task = loop.create_task(resolver.resolve("www.test"))
    loop.call_soon(loop.stop)
    loop.run_forever()
    server.await_question("www.test")
    assert run(loop, asyncio.wait_for(task, LIMIT_S))[0].address == "192.0.2.1"


def test_a_loop_is_closed_with_lookups_under_way(kloop, reported_errors):
    with Nameserver(ZONE, lambda *_: []) as server, kloop.Resolver([server.address], file=None, timeout=20) as resolver:
        loop = kloop.new_event_loop()
        task = loop.create_task(resolver.resolve("www.test"))
        loop.call_soon(loop.stop)
        loop.run_forever()
        server.await_question("www.test")
        loop.close()
        del task
        gc.collect()
        [report] = reported_errors
        assert report["message"] == "Task was destroyed but it is pending!"
        other = kloop.new_event_loop()
        run(other, until(lambda: resolver.stats().running == 0))
        other.close()


def test_closing_a_resolver(loop, kloop):
    with Nameserver(ZONE, lambda *_: []) as server, kloop.Resolver([server.address], file=None, timeout=20) as resolver:

        async def main():
            task = asyncio.ensure_future(resolver.resolve("www.test"))
            await until(lambda: server.count())
            resolver.close()
            with pytest.raises(RuntimeError, match="resolver is closed"):
                await task

        run(loop, main())
        assert resolver.closed
        resolver.close()
        for use in (
            resolver.stats,
            resolver.reload,
            resolver.cache.clear,
            resolver.cache.entries,
            lambda: len(resolver.cache),
            lambda: run(loop, resolver.resolve("www.test")),
        ):
            with pytest.raises(RuntimeError, match="resolver is closed"):
                use()
