"""Resolver.resolve_many(): many names, so many at a time, with their answers in the order in which they come."""

import asyncio
import contextlib
import gc
import pickle
import struct
import threading
import time

import pytest
from driving import LIMIT_S, run, turns
from nameserver import REFUSED, SERVFAIL, Nameserver, Zone, name, reply
from resolving import ZONE

MANY = 10_000


async def pairs_of(answers):
    return [pair async for pair in answers]


async def outcome(resolver, owner, kind):
    try:
        return await resolver.resolve(owner, kind)
    except OSError as exc:
        return exc


def comparable(answer):
    return (type(answer), answer.args) if isinstance(answer, Exception) else answer


def addresses(count):
    return {(f"n{number}.test", "A"): [(60, f"10.0.{number >> 8}.{number & 255}")] for number in range(count)}


def silent(question, usual):
    """A server that never answers names of never.test."""
    return [] if question.name.endswith("never.test") else None


@pytest.fixture
def holding(kloop):
    """A server that answers no name of never.test, and a resolver that waits for it."""
    with (
        Nameserver(Zone(addresses(300)), silent) as server,
        kloop.Resolver([server.address], file=None, timeout=LIMIT_S, attempts=1) as resolver,
    ):
        yield server, resolver


def idle(resolver):
    """The resolver has nothing under way any more: its own loop sees to that, in another thread."""
    end = time.monotonic() + LIMIT_S
    while (resolver.stats().running, resolver.stats().waiting) != (0, 0):
        assert time.monotonic() < end, resolver.stats()
        time.sleep(0.001)


def nothing_left(loop, resolver):
    assert loop.stats()["lookups"] == 0
    idle(resolver)


# ---- what it says


@pytest.mark.parametrize("kind", ["A", "AAAA", "MX", "TXT", "HTTPS", "NS", "SOA", "CNAME", 99])
def test_it_says_what_resolve_says(loop, kloop, resolver, kind):
    owners = sorted({owner for owner, _ in ZONE.records}) * 3
    owners += [f"none{number}.test" for number in range(200)] + ["WWW.Test", "www.test.", "münchen.test", "in.hosts"]
    owners += ["a\0b", "ü..x", "x" * 64 + ".test", "", ".", "a..b", "\ud800"]
    got = run(loop, pairs_of(resolver.resolve_many(owners, kind, concurrency=16)))
    assert sorted(owner for owner, _ in got) == sorted(owners)

    async def one_by_one():
        return {owner: await outcome(resolver, owner, kind) for owner in owners}

    expected = run(loop, one_by_one())
    for owner, answer in got:
        assert comparable(answer) == comparable(expected[owner]), owner
        assert isinstance(answer, kloop.ResolveError) or answer.ttl > 0
    nothing_left(loop, resolver)


def test_failures_of_the_server(loop, kloop):
    def behave(question, usual):
        if question.name.startswith("servfail"):
            return [reply(question, SERVFAIL)]
        return [reply(question, REFUSED)] if question.name.startswith("refused") else None

    with (
        Nameserver(Zone(addresses(50)), behave) as server,
        kloop.Resolver([server.address], file=None, attempts=1) as resolver,
    ):
        owners = [f"{what}{number}.test" for number in range(50) for what in ("n", "servfail", "none", "refused")]
        kinds = {}
        for owner, answer in run(loop, pairs_of(resolver.resolve_many(owners))):
            kinds.setdefault(owner.removesuffix(".test").rstrip("0123456789"), []).append(type(answer).__name__)
        assert kinds == {
            "n": ["Answer"] * 50,
            "servfail": ["ServerFailure"] * 50,
            "none": ["NameNotFound"] * 50,
            "refused": ["ServerFailure"] * 50,
        }


def test_nobody_answers(loop, kloop):
    with (
        Nameserver(Zone(addresses(3)), silent) as server,
        kloop.Resolver([server.address], file=None, timeout=0.2, attempts=1) as resolver,
    ):
        got = dict(run(loop, pairs_of(resolver.resolve_many(["n1.test", "a.never.test", "n2.test"]))))
        assert isinstance(got["a.never.test"], kloop.ResolveTimeout)
        assert [got[owner][0].address for owner in ("n1.test", "n2.test")] == ["10.0.0.1", "10.0.0.2"]


def test_answers_come_in_the_order_of_completion(loop, holding):
    _, resolver = holding

    async def main():
        answers = resolver.resolve_many(["a.never.test", "n1.test"])
        owner, answer = await anext(answers)
        await answers.aclose()
        return owner, answer[0].address

    assert run(loop, main()) == ("n1.test", "10.0.0.1")
    nothing_left(loop, resolver)


def test_a_name_that_is_there_twice_is_answered_twice_and_asked_once(loop, resolver, server):
    got = run(loop, pairs_of(resolver.resolve_many(["www.test"] * 500, concurrency=100)))
    assert [owner for owner, _ in got] == ["www.test"] * 500
    assert server.count("www.test") == 1


def test_answers_are_those_of_resolve(loop, resolver):
    [(_, answer)] = run(loop, pairs_of(resolver.resolve_many(["alias.test"])))
    assert (answer.name, answer.aliases, len(answer), answer[1].address) == (
        "www.test",
        ("alias.test", "next.test"),
        2,
        "192.0.2.2",
    )
    assert pickle.loads(pickle.dumps(answer)) == answer and hash(answer) == hash(pickle.loads(pickle.dumps(answer)))
    with pytest.raises(AttributeError):
        answer.ttl = 1
    with pytest.raises(AttributeError):
        answer[0].address = "192.0.2.3"


def test_ten_thousand_names(loop, kloop):
    with (
        Nameserver(Zone(addresses(MANY))) as server,
        # The server is slow for 256 questions at once, of which its socket may lose some.
        kloop.Resolver([server.address], file=None, attempts=10) as resolver,
    ):

        async def main():
            owners = (f"n{number}.test" for number in range(MANY))
            return {owner: answer[0].address async for owner, answer in resolver.resolve_many(owners)}

        got = run(loop, main(), 3 * LIMIT_S)
        assert got == {f"n{n}.test": f"10.0.{n >> 8}.{n & 255}" for n in range(MANY)}
        assert {owner for owner, *_ in server.asked} == set(got)
        nothing_left(loop, resolver)


# ---- how far it goes ahead


@pytest.mark.parametrize("concurrency", [1, 7, 100])
def test_names_are_taken_as_their_answers_are(loop, resolver, concurrency):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield f"none{taken}.test"

    async def main():
        got, ahead = 0, []
        answers = resolver.resolve_many(endless(), concurrency=concurrency)
        async for _ in answers:
            got += 1
            ahead.append(taken - got)
            await turns(got % 3)
            if got == 700:
                break
        await answers.aclose()
        return ahead

    ahead = run(loop, main())
    assert 0 < max(ahead) <= 2 * concurrency
    nothing_left(loop, resolver)


def test_no_more_at_a_time_than_it_was_told(loop, kloop):
    """The server holds what it was asked until nothing more comes that it could be asked."""
    concurrency, total = 8, 40
    held, most, lock = [], 0, threading.Condition()

    def behave(question, usual):
        nonlocal most
        with lock:
            held.append(question)
            most = max(most, len(held))
            if len(held) < concurrency and server.count() < total:
                return []
            everything = [reply(each) for each in held]
            held.clear()
            return everything

    with (
        Nameserver(Zone({}), behave) as server,
        kloop.Resolver([server.address], file=None, attempts=1, timeout=LIMIT_S) as resolver,
    ):
        # One server's round trips are told by its fastest answers: nobody is asked twice meanwhile.
        got = run(loop, pairs_of(resolver.resolve_many((f"n{n}.test" for n in range(total)), concurrency=concurrency)))
        assert len(got) == total and server.count() == total
        assert most == concurrency


def test_a_task_that_takes_answers_lets_others_have_their_turn(loop, resolver):
    run(loop, resolver.resolve("www.test"))
    ticks = 0

    async def main():
        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        got = [pair async for pair in resolver.resolve_many(["www.test"] * 5_000, concurrency=2_000)]
        ticking.cancel()
        return len(got)

    assert run(loop, main()) == 5_000
    assert ticks >= 5_000 // 256


# ---- how it ends


def test_a_break_ends_what_is_under_way(loop, holding):
    server, resolver = holding

    async def main():
        owners = ["n1.test", *(f"n{number}.never.test" for number in range(50))]
        async for owner, _ in resolver.resolve_many(owners, concurrency=10):
            assert owner == "n1.test"
            await asyncio.to_thread(server.await_question, "n8.never.test")
            assert 0 < loop.stats()["lookups"] <= 20
            break
        nothing_left(loop, resolver)
        await loop.shutdown_default_executor()

    run(loop, main())
    assert server.count("n49.never.test") == 0


def test_aclose_ends_it_for_the_task_that_waits(loop, holding):
    server, resolver = holding

    async def main():
        answers = resolver.resolve_many(["a.never.test"])
        task = asyncio.create_task(pairs_of(answers))
        await turns()
        await answers.aclose()
        assert await task == [] == await pairs_of(answers)
        await answers.aclose()
        nothing_left(loop, resolver)

    run(loop, main())


def test_a_cancelled_task_ends_it(loop, holding):
    server, resolver = holding

    async def main():
        answers = resolver.resolve_many(f"n{number}.never.test" for number in range(300))
        task = asyncio.create_task(pairs_of(answers))
        await turns()
        assert loop.stats()["lookups"] == 300
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        nothing_left(loop, resolver)
        with pytest.raises(StopAsyncIteration):
            await anext(answers)

    run(loop, main())


def test_a_time_limit_ends_it(loop, holding):
    server, resolver = holding

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(resolver.resolve_many(["a.never.test"])), 0.05)
        nothing_left(loop, resolver)

    run(loop, main())


def test_dropping_it_in_a_cycle_and_in_another_thread_ends_it(loop, holding):
    server, resolver = holding

    async def begun():
        answers = resolver.resolve_many(["n1.test", "a.never.test"])
        await anext(answers)
        return answers

    async def main():
        cycle = [await begun()]
        cycle.append(cycle)
        del cycle
        gc.collect()
        nothing_left(loop, resolver)
        held = [await begun()]
        thread = threading.Thread(target=held.clear)
        thread.start()
        await asyncio.sleep(0.01)
        thread.join()
        await turns()
        nothing_left(loop, resolver)

    run(loop, main())


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_the_loop_is_closed_under_way(kloop, holding):
    server, resolver = holding
    loop = kloop.new_event_loop()
    answers = resolver.resolve_many(f"n{number}.never.test" for number in range(300))

    async def main():
        task = asyncio.ensure_future(anext(answers))
        task._log_destroy_pending = False
        await turns()
        assert not task.done()

    run(loop, main())
    loop.close()
    idle(resolver)
    other = kloop.new_event_loop()
    try:
        with pytest.raises(RuntimeError, match="another event loop|another task"):
            run(other, pairs_of(answers))
    finally:
        other.close()


def test_the_resolver_is_closed_under_way(loop, kloop, holding):
    server, resolver = holding

    async def main():
        task = asyncio.create_task(pairs_of(resolver.resolve_many(["a.never.test", "b.never.test"])))
        await asyncio.to_thread(server.await_question, "a.never.test")
        resolver.close()
        with pytest.raises(RuntimeError, match="the resolver is closed"):
            await task
        assert loop.stats()["lookups"] == 0
        with pytest.raises(RuntimeError, match="the resolver is closed"):
            await pairs_of(resolver.resolve_many(["n1.test"]))
        await loop.shutdown_default_executor()

    run(loop, main())


def test_what_is_not_begun_needs_no_end(kloop, resolver):
    resolver.resolve_many(["www.test"])
    loop = kloop.new_event_loop()
    try:
        run(loop, resolver.resolve_many(["www.test"]).aclose())
        assert run(loop, pairs_of(resolver.resolve_many([]))) == []
    finally:
        loop.close()


def test_others_that_wait_for_the_same_get_it(loop, kloop):
    go_on = threading.Event()

    def behave(question, usual):
        go_on.wait(LIMIT_S)

    with Nameserver(Zone(addresses(3)), behave) as server, kloop.Resolver([server.address], file=None) as resolver:

        async def main():
            task = asyncio.create_task(resolver.resolve("n1.test"))
            answers = resolver.resolve_many(["n1.test", "n2.test"])
            other = asyncio.create_task(pairs_of(answers))
            await turns()
            await answers.aclose()
            assert await other == []
            go_on.set()
            return (await task)[0].address

        assert run(loop, main()) == "10.0.0.1"


# ---- errors


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"type": "NONE"}, "type='NONE'"),
        ({"type": 0}, "type=0"),
        ({"type": 1 << 16}, "type=65536"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"concurrency": 1.5}, "concurrency=1.5"),
        ({"concurrency": (1 << 20) + 1}, "concurrency=1048577"),
        ({"names": "www.test"}, "names='www.test'"),
    ],
)
def test_arguments_that_make_no_sense(resolver, arguments, named):
    with pytest.raises(ValueError, match=named):
        resolver.resolve_many(**{"names": ["www.test"], **arguments})


def test_no_iterable(resolver):
    with pytest.raises(TypeError, match="not iterable"):
        resolver.resolve_many(3)


@pytest.mark.parametrize("error", [LookupError("mine"), TypeError])
def test_an_error_of_the_names_comes_behind_the_answers(loop, resolver, error):
    def names():
        yield from ("www.test", "none.test", "\0")
        if error is TypeError:
            yield b"www.test"
        raise error

    got = []

    async def main():
        answers = resolver.resolve_many(names())
        with pytest.raises(LookupError if error is not TypeError else TypeError, match="mine|b'www.test' is no text"):
            async for owner, _ in answers:
                got.append(owner)
        with pytest.raises(StopAsyncIteration):
            await anext(answers)

    run(loop, main())
    assert sorted(got) == ["\0", "none.test", "www.test"]
    nothing_left(loop, resolver)


def test_names_that_end_their_own_iteration(loop, resolver):
    def names():
        yield "www.test"
        answers.close()
        yield "short.test"

    answers = resolver.resolve_many(names())
    assert run(loop, pairs_of(answers)) == []
    nothing_left(loop, resolver)


def test_one_task_at_a_time(loop, holding):
    server, resolver = holding

    async def main():
        answers = resolver.resolve_many(["a.never.test"])
        task = asyncio.create_task(pairs_of(answers))
        await turns()
        with pytest.raises(RuntimeError, match="another task waits"):
            await anext(answers)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    run(loop, main())


def test_another_loop(kloop, loop, resolver):
    answers = resolver.resolve_many(["www.test", "none.test"], concurrency=1)
    run(loop, anext(answers))
    other = kloop.new_event_loop()
    try:
        with pytest.raises(RuntimeError, match="another event loop"):
            run(other, pairs_of(answers))
    finally:
        other.close()
    assert len(run(loop, pairs_of(answers))) == 1


def test_a_loop_that_is_not_ours(resolver):
    with pytest.raises(RuntimeError, match="needs a kloop event loop"):
        asyncio.run(pairs_of(resolver.resolve_many(["www.test"])))


def test_large_answers_and_types_without_a_class(loop, kloop):
    zone = Zone({
        ("large.test", "A"): [(60, f"192.0.2.{number}") for number in range(200)],
        ("mail.test", "MX"): [(60, struct.pack("!H", 10) + name("a.test"))],
        ("plain.test", 99): [(60, b"\x03abc")],
    })
    with Nameserver(zone) as server, kloop.Resolver([server.address], file=None) as resolver:
        for owner, kind in zone.records:
            [(_, answer)] = run(loop, pairs_of(resolver.resolve_many([owner], kind)))
            assert answer == run(loop, resolver.resolve(owner, kind))
            assert len(answer) == len(zone.records[owner, kind])
