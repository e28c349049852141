"""Resolver.resolve_many() and its places: how many names are asked for and taken at a time, what is left to others."""

import asyncio

import pytest
from driving import LIMIT_S, run
from nameserver import Nameserver, Zone
from test_resolver_many import addresses, silent


@pytest.fixture
def server():
    """It answers no name of never.test."""
    with Nameserver(Zone(addresses(300)), silent) as server:
        yield server


def test_others_come_through(loop, kloop, server):
    """A quarter of the resolver's places is theirs, however many names nobody answers."""
    async def main():
        with kloop.Resolver([server.address], file=None, timeout=LIMIT_S, attempts=1, concurrency=8) as resolver:
            answers = resolver.resolve_many(f"{n}.never.test" for n in range(1000))
            waiting = asyncio.create_task(anext_of(answers))
            while resolver.stats().running < 6:
                await asyncio.sleep(0)
            assert (await resolver.resolve("n1.test")).records[0].address == "10.0.0.1"
            assert resolver.stats().running == 6
            answers.close()     # wakes who waits
            with pytest.raises(StopAsyncIteration):
                await waiting

    run(loop, main())


async def anext_of(answers):
    return await answers.__anext__()


def test_more_at_a_time_than_are_taken_in_one_go(loop, kloop, server):
    async def main():
        with kloop.Resolver([server.address], file=None, timeout=LIMIT_S, attempts=1, concurrency=2_000) as resolver:
            answers = resolver.resolve_many((f"{n}.never.test" for n in range(3_000)), concurrency=1_500)
            waiting = asyncio.create_task(anext_of(answers))
            while resolver.stats().running < 1_500:
                await asyncio.sleep(0)
            answers.close()
            with pytest.raises(StopAsyncIteration):
                await waiting

    run(loop, main())


def test_names_that_are_none_leave_the_loop_its_turns(loop, kloop, resolver):
    """However many there are in a row: so many are taken in one go."""
    taken = []

    def names():
        while True:
            taken.append(None)
            yield "a\0b"

    async def main():
        answers = resolver.resolve_many(names(), concurrency=10_000)
        _, answer = await anext_of(answers)
        assert isinstance(answer, kloop.InvalidName)
        assert len(taken) <= 1_024
        await answers.aclose()

    run(loop, main())
