"""The package's own names: run, install, new_event_loop and the policy."""

import asyncio
import sys
import warnings

import pytest
from children import run_python


async def running_loop():
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


def test_public_names(kloop):
    assert set(kloop.__all__) >= {
        "DriverUnavailable", "EventLoopPolicy", "Loop", "__version__", "install", "new_event_loop", "run"}
    for name in kloop.__all__:
        if name != "EventLoopPolicy":
            assert getattr(kloop, name)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        kloop.nonsense  # noqa: B018
    assert kloop.__version__.count(".") == 2
    assert issubclass(kloop.DriverUnavailable, OSError)
    assert issubclass(kloop.Loop, asyncio.AbstractEventLoop)
    assert issubclass(kloop.Loop, asyncio.BaseEventLoop)


def test_new_event_loop(kloop):
    first, second = kloop.new_event_loop(), kloop.new_event_loop()
    assert type(first) is kloop.Loop
    assert first is not second
    first.close()
    second.close()


def test_run(kloop):
    loop = kloop.run(running_loop())
    assert type(loop) is kloop.Loop
    assert loop.is_closed()


@pytest.mark.parametrize("debug", [True, False])
def test_run_with_debug(kloop, debug):
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert kloop.run(main(), debug=debug) is debug


def test_run_with_options(kloop):
    async def main():
        await asyncio.sleep(0.001)
        return "done"

    assert kloop.run(main(), spin_us=20) == "done"


def test_run_inside_a_run(kloop):
    async def main():
        inner = running_loop()
        with pytest.raises(RuntimeError, match=r"run\(\) cannot be called from a running event loop$"):
            kloop.run(inner)
        inner.close()

    kloop.run(main())


def test_run_of_something_else(kloop):
    with pytest.raises((ValueError, TypeError), match="coroutine"):
        kloop.run(5)


def test_run_raises_and_cleans_up(kloop):
    seen = []

    async def background():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def generator():
        try:
            yield
        finally:
            seen.append("closed")

    async def main():
        task = asyncio.ensure_future(background())
        iterator = generator()
        await iterator.__anext__()
        await asyncio.to_thread(seen.append, "thread")
        await asyncio.sleep(0)
        raise LookupError(task, iterator)

    with pytest.raises(LookupError):
        kloop.run(main())
    assert sorted(seen) == ["cancelled", "closed", "thread"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner came with Python 3.11")
def test_runner(kloop):
    with asyncio.Runner(loop_factory=kloop.new_event_loop) as runner:
        assert type(runner.get_loop()) is kloop.Loop
        first = runner.run(running_loop())
        assert runner.run(running_loop()) is first


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run takes a loop_factory from Python 3.12 on")
def test_asyncio_run_with_a_loop_factory(kloop):
    assert type(asyncio.run(running_loop(), loop_factory=kloop.new_event_loop)) is kloop.Loop


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="Python 3.16 has no policies")
def test_policy(kloop):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)     # Python 3.14 warns of policies
        policy = kloop.EventLoopPolicy()
        assert isinstance(policy, asyncio.AbstractEventLoopPolicy)
        assert kloop.EventLoopPolicy is kloop.EventLoopPolicy
    loop = policy.new_event_loop()
    assert type(loop) is kloop.Loop
    loop.close()


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="Python 3.16 has no policies")
def test_install(kloop):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            kloop.install()
            assert type(asyncio.run(running_loop())) is kloop.Loop
            loop = asyncio.new_event_loop()
            assert type(loop) is kloop.Loop
            loop.close()
        finally:
            asyncio.set_event_loop_policy(None)
    assert type(asyncio.run(running_loop())) is not kloop.Loop


def test_isolated_asyncio_test_case_and_subprocesses_on_the_policy():
    """What makes loops by the policy works in a fresh process, and so do child watchers."""
    run_python("""
        import asyncio, subprocess, unittest, warnings, kloop
        warnings.simplefilter("ignore", DeprecationWarning)
        kloop.install()

        class Test(unittest.IsolatedAsyncioTestCase):
            async def test_loop(self):
                self.assertIs(type(asyncio.get_running_loop()), kloop.Loop)

            async def test_subprocess(self):
                process = await asyncio.create_subprocess_exec("echo", "hello", stdout=subprocess.PIPE)
                self.assertEqual((await process.communicate())[0], b"hello\\n")

        unittest.main()
        """)


def test_the_loop_can_be_subclassed(kloop):
    class Own(kloop.Loop):
        def __init__(self):
            super().__init__()
            self.called = 0

        def call_soon(self, callback, *arguments, context=None):
            self.called += 1
            return super().call_soon(callback, *arguments, context=context)

    loop = Own()
    loop.run_until_complete(asyncio.sleep(0))
    assert loop.called
    loop.close()
