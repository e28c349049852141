"""run_in_executor, the default executor and its end."""

import asyncio
import concurrent.futures
import sys
import threading

import pytest
from driving import LIMIT_S, run


def test_run_in_executor_runs_in_another_thread(loop):
    async def main():
        return await loop.run_in_executor(None, threading.get_ident)

    assert run(loop, main()) != threading.get_ident()


def test_run_in_executor_raises_what_the_function_raises(loop):
    async def main():
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 / 0)

    run(loop, main())


def test_run_in_a_given_executor(loop):
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="given") as executor:
        name = run(loop, _named(loop, executor))
    assert name.startswith("given")


async def _named(loop, executor):
    return await loop.run_in_executor(executor, lambda: threading.current_thread().name)


def test_set_default_executor(loop):
    executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="default")
    loop.set_default_executor(executor)
    assert run(loop, _named(loop, None)).startswith("default")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 only warns")
def test_set_default_executor_of_another_kind(loop):
    with pytest.raises(TypeError, match="^executor must be ThreadPoolExecutor instance$"):
        loop.set_default_executor(object())


def test_shutdown_default_executor_waits_for_its_threads(loop):
    begun, go_on, ended = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        assert go_on.wait(LIMIT_S)
        ended.append(True)

    async def main():
        future = loop.run_in_executor(None, work)
        assert begun.wait(LIMIT_S)
        shutdown = asyncio.ensure_future(loop.shutdown_default_executor())
        await asyncio.sleep(0.01)
        assert not shutdown.done()
        go_on.set()
        await shutdown
        assert ended == [True]
        await future
        with pytest.raises(RuntimeError, match="^Executor shutdown has been called$"):
            loop.run_in_executor(None, work)

    run(loop, main())


def test_run_in_executor_of_a_closed_loop(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.run_in_executor(None, print)


def test_to_thread(loop):
    async def main():
        return await asyncio.gather(*(asyncio.to_thread(pow, 2, number) for number in range(50)))

    assert run(loop, main()) == [2**number for number in range(50)]


def test_run_coroutine_threadsafe(loop):
    async def answer():
        return asyncio.get_running_loop()

    async def main():
        def from_thread():
            return asyncio.run_coroutine_threadsafe(answer(), loop).result(LIMIT_S)

        return await loop.run_in_executor(None, from_thread)

    assert run(loop, main()) is loop
