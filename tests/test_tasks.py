"""Tasks, futures and asynchronous generators on the loop."""

import asyncio
import contextvars
import gc
import sys

import pytest
from driving import reports, run, turns

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


async def answer(value):
    await asyncio.sleep(0)
    return value


def test_tasks_and_futures_are_asyncios_own(loop):
    future = loop.create_future()
    assert type(future) is asyncio.Future
    assert future.get_loop() is loop
    future.cancel()

    async def main():
        task = loop.create_task(answer(1))
        assert type(task) is asyncio.Task
        assert await task == 1

    run(loop, main())


def test_create_task_with_a_name(loop):
    async def main():
        task = loop.create_task(answer(1), name="its name")
        assert task.get_name() == "its name"
        await task

    run(loop, main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="create_task takes a context from Python 3.11 on")
def test_create_task_with_a_context(loop):
    async def main():
        context = contextvars.Context()
        context.run(VARIABLE.set, "given")

        async def look():
            return VARIABLE.get()

        assert await loop.create_task(look(), context=context) == "given"
        assert await loop.create_task(look()) == "unset"

    run(loop, main())


def test_create_task_on_a_closed_loop(loop):
    loop.close()
    coroutine = answer(1)
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.create_task(coroutine)
    coroutine.close()


def test_task_factory(loop):
    made = []

    class OwnTask(asyncio.Task):
        pass

    def factory(loop, coroutine, **options):
        made.append(OwnTask(coroutine, loop=loop, **options))
        return made[-1]

    assert loop.get_task_factory() is None
    with pytest.raises(TypeError, match="^task factory must be a callable or None$"):
        loop.set_task_factory(7)
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    task = loop.create_task(answer(3))
    assert type(task) is OwnTask
    assert loop.run_until_complete(task) == 3
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None
    assert len(made) == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks(loop):
    async def main():
        loop.set_task_factory(asyncio.eager_task_factory)
        seen = []

        async def note():
            seen.append("begun")
            await asyncio.sleep(0)
            seen.append("ended")

        task = loop.create_task(note())
        assert seen == ["begun"]
        await task
        assert seen == ["begun", "ended"]

    run(loop, main())
    loop.set_task_factory(None)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="eager_start came with Python 3.14")
def test_create_task_that_starts_at_once(loop):
    async def main():
        seen = []

        async def note(word):
            seen.append(word)

        later = loop.create_task(note("later"), eager_start=False)
        at_once = loop.create_task(note("at once"), name="eager", eager_start=True)
        assert at_once.done()
        assert at_once.get_name() == "eager"
        await later
        assert seen == ["at once", "later"]

    run(loop, main())


@pytest.mark.skipif(sys.version_info < (3, 14), reason="create_task passes all keywords on from Python 3.14 on")
def test_a_task_factory_gets_every_keyword(loop):
    given = []

    def factory(loop, coroutine, **options):
        given.append(options)
        return asyncio.Task(coroutine, loop=loop)

    loop.set_task_factory(factory)
    loop.run_until_complete(loop.create_task(answer(1), name="its name", of_our_own=7))
    loop.set_task_factory(None)
    assert given == [{"name": "its name", "of_our_own": 7}]


def test_gather_of_many_tasks(loop):
    async def main():
        return await asyncio.gather(*(answer(number) for number in range(5000)))

    assert run(loop, main()) == list(range(5000))


def test_wait_for_times_out_and_cancels(loop):
    async def main():
        cancelled = []

        async def forever():
            try:
                await loop.create_future()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(forever(), 0.005)
        assert cancelled == [True]

    run(loop, main())


def test_a_task_awaits_another_loops_future(loop, kloop):
    """asyncio finds it out, since the future knows its loop."""
    other = kloop.new_event_loop()

    async def main():
        future = other.create_future()
        with pytest.raises(RuntimeError, match="attached to a different loop$"):
            await asyncio.shield(answer(0))  # of this loop: fine
            await future

    run(loop, main())
    other.close()


def test_all_tasks_and_current_task(loop):
    async def main():
        task = loop.create_task(answer(1))
        assert asyncio.all_tasks(loop) == {task, asyncio.current_task()}
        await task

    loop.run_until_complete(main())


def test_an_exception_that_nobody_retrieved_is_reported(loop):
    async def fail():
        raise LookupError("lost")

    async def main():
        task = loop.create_task(fail())
        await turns()
        assert task.done()

    with reports(loop) as contexts:
        run(loop, main())
        gc.collect()
    (context,) = contexts
    assert context["message"] == "Task exception was never retrieved"
    assert isinstance(context["exception"], LookupError)


def test_shutdown_asyncgens_closes_them(loop):
    closed = []

    async def generator():
        try:
            while True:
                yield
        finally:
            closed.append(True)

    async def main():
        iterator = generator()
        await iterator.__anext__()
        return iterator

    iterator = run(loop, main())
    assert not closed
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert closed == [True]
    del iterator


def test_a_generator_begun_after_shutdown_asyncgens_is_warned_of(loop):
    async def generator():
        yield

    async def main():
        await loop.shutdown_asyncgens()
        iterator = generator()
        with pytest.warns(ResourceWarning, match=r"was scheduled after loop\.shutdown_asyncgens\(\) call"):
            await iterator.__anext__()
        await iterator.aclose()

    loop.run_until_complete(main())


def test_a_generator_that_is_dropped_is_closed_by_the_loop(loop):
    closed = []

    async def generator():
        try:
            yield
        finally:
            closed.append(asyncio.get_running_loop())

    async def main():
        iterator = generator()
        await iterator.__anext__()
        del iterator
        gc.collect()
        await turns()

    run(loop, main())
    assert closed == [loop]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup and timeout() came with Python 3.11")
def test_task_group_and_timeout(loop):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(3600))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(number)) for number in range(10)]
        assert [task.result() for task in tasks] == list(range(10))

    run(loop, main())


def test_synchronisation_primitives(loop):
    async def main():
        lock, event, queue = asyncio.Lock(), asyncio.Event(), asyncio.Queue(3)
        seen = []

        async def produce():
            await event.wait()
            for number in range(50):
                async with lock:
                    await queue.put(number)

        async def consume():
            for _ in range(50):
                seen.append(await queue.get())

        tasks = [asyncio.ensure_future(produce()), asyncio.ensure_future(consume())]
        event.set()
        await asyncio.gather(*tasks)
        assert seen == list(range(50))

    run(loop, main())
