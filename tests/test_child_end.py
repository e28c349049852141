"""How the loop learns of a child's end: beside SIGCHLD handlers, child watchers, threads and other loops."""

import asyncio
import errno
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings

import pytest
from children import run_python
from driving import joined, run
from kloop import _core, process

ALREADY_READ = "exit status already read"


@pytest.fixture
def kernel_forgets(monkeypatch):
    """As before Linux 6.15, where nobody knows the status of a child that somebody else has reaped."""
    monkeypatch.setattr(process, "_status_of_reaped", lambda pidfd: None)


def kernel_remembers():
    """Whether it tells the status of a process that was reaped (Linux 6.15)."""
    child = subprocess.Popen(["sh", "-c", "exit 3"])
    pidfd = _core.pidfd_open(child.pid)
    child.wait()
    try:
        return process._status_of_reaped(pidfd) == 3 << 8
    finally:
        os.close(pidfd)


async def finished(*command):
    child = await asyncio.create_subprocess_exec(*command)
    return await child.wait()


def test_in_a_thread_while_the_main_thread_has_no_loop(kloop):
    assert joined(kloop.run, finished("sh", "-c", "exit 4")) == 4


def test_several_loops_in_threads_at_once(kloop):
    async def main(code):
        return await asyncio.gather(*(finished("sh", "-c", f"exit {code}") for _ in range(10)))

    results = {}
    threads = [threading.Thread(target=lambda n=n: results.update({n: kloop.run(main(n))}))
               for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [n] * 10 for n in range(4)}


def test_a_loop_that_goes_on_in_another_thread(loop):
    """The pidfd is watched in the ring of the thread that runs the loop."""
    child = run(loop, asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE))

    async def end():
        child.stdin.close()
        return await child.wait()

    assert joined(run, loop, end()) == 0


def test_a_handler_of_sigchld_stays_and_is_called(loop):
    seen = []
    before = signal.signal(signal.SIGCHLD, lambda *_: seen.append(True))
    try:
        mine = signal.getsignal(signal.SIGCHLD)
        assert run(loop, finished("true")) == 0
        assert signal.getsignal(signal.SIGCHLD) is mine
        assert seen
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_handler_of_sigchld_on_the_loop(loop):
    async def main():
        told = loop.create_future()
        loop.add_signal_handler(signal.SIGCHLD, told.set_result, None)
        try:
            assert await finished("sh", "-c", "exit 9") == 9
            await told
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)

    run(loop, main())


def test_sigchld_ignored(loop, caplog, kernel_forgets):
    """The kernel then reaps children itself."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run(loop, finished("true")) == process.UNKNOWN_STATUS
        assert ALREADY_READ in caplog.text
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_child_that_is_gone_before_its_pidfd_is_opened(loop, caplog, monkeypatch):
    opened = _core.pidfd_open

    def reaped_first(pid):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return opened(pid)

    monkeypatch.setattr(process._core, "pidfd_open", reaped_first)
    assert run(loop, finished("sleep", "1000")) == process.UNKNOWN_STATUS
    assert ALREADY_READ in caplog.text


async def reaped_by_another():
    """The return code of a child that exits with 7 and that a thread reaps behind the loop's back."""
    child = await asyncio.create_subprocess_exec("sh", "-c", "read x; exit 7", stdin=subprocess.PIPE)
    child.stdin.write(b"\n")
    os.waitpid(child.pid, 0)        # the loop is in this call, and hears of it later
    code = await child.wait()
    child.stdin.close()
    return code


def test_a_child_that_somebody_else_has_reaped(loop, caplog, kernel_forgets):
    assert run(loop, reaped_by_another()) == process.UNKNOWN_STATUS
    assert ALREADY_READ in caplog.text


def test_the_kernel_tells_what_somebody_else_has_reaped(loop, caplog):
    if not kernel_remembers():
        pytest.skip("PIDFD_INFO_EXIT came with Linux 6.15")
    assert run(loop, reaped_by_another()) == 7
    assert not caplog.records


def test_a_child_that_popen_has_reaped(loop, caplog):
    """Its status is known then, and is reported."""
    async def main():
        child = await asyncio.create_subprocess_exec("sh", "-c", "read x; exit 6",
                                                     stdin=subprocess.PIPE)
        popen = child._transport.get_extra_info("subprocess")
        child.stdin.write(b"\n")
        assert popen.wait() == 6
        assert await child.wait() == 6

    run(loop, main())
    assert not caplog.records


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python 3.14 has no child watchers")
@pytest.mark.parametrize("name", ["FastChildWatcher", "SafeChildWatcher", "ThreadedChildWatcher"])
def test_a_child_watcher_has_no_part_in_it(loop, name):
    """FastChildWatcher takes the status of any child, so that the kernel has to remember it."""
    if name == "FastChildWatcher" and not kernel_remembers():
        pytest.skip("PIDFD_INFO_EXIT came with Linux 6.15")

    async def main():
        return await asyncio.gather(*(finished("sh", "-c", f"exit {n}") for n in range(20)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        watcher = getattr(asyncio, name)()
        asyncio.set_child_watcher(watcher)
        watcher.attach_loop(loop)
        try:
            codes = run(loop, main())
        finally:
            asyncio.set_child_watcher(None)
            watcher.close()
            asyncio.set_event_loop_policy(None)
    assert codes == list(range(20))


def test_no_child_watcher_is_made(kloop):
    run_python("""
        import asyncio, warnings, kloop
        def forbidden(*_):
            raise AssertionError("somebody wants a child watcher")
        if hasattr(asyncio, "get_child_watcher"):
            asyncio.events.get_child_watcher = asyncio.get_child_watcher = forbidden
        async def main():
            assert await (await asyncio.create_subprocess_exec("true")).wait() == 0
        kloop.run(main())
        """)


def test_without_a_descriptor_for_the_pidfd(loop, monkeypatch):
    """The child is not left behind, running and unknown to anybody."""
    spawned = []

    def no_descriptor(pid):
        spawned.append(pid)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(process._core, "pidfd_open", no_descriptor)

    async def main():
        with pytest.raises(OSError, match="Too many open files"):
            await asyncio.create_subprocess_exec("sleep", "1000", stdin=subprocess.PIPE,
                                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    run(loop, main())
    with pytest.raises(ChildProcessError):
        os.waitpid(spawned[0], os.WNOHANG)


def test_when_the_pidfd_can_not_be_polled(loop, monkeypatch):
    def failing(fd, mask, callback):
        operation = watch(fd, mask, lambda result: None)
        operation.cancel()
        loop.call_soon(callback, -errno.ENOMEM)
        return operation

    watch = loop._watch
    monkeypatch.setattr(loop, "_watch", failing)
    assert run(loop, finished("sh", "-c", "exit 8")) == 8


def test_a_loop_closed_while_a_child_runs(kloop):
    made = kloop.new_event_loop()
    child = run(made, asyncio.create_subprocess_exec("sleep", "1000"))
    transport = child._transport
    popen = transport.get_extra_info("subprocess")
    made.close()                # and the pidfd with it
    assert not made._children
    assert popen.poll() is None
    transport.close()
    assert popen.wait() == -signal.SIGKILL


def test_a_forked_child_of_ours_starts_its_own(kloop):
    """In the forked child the parent's transports must not touch descriptors of the child's own."""
    run_python("""
        import asyncio, os, kloop
        async def main():
            return await (await asyncio.create_subprocess_exec("sh", "-c", "exit 3")).wait()
        assert kloop.run(main()) == 3
        pid = os.fork()
        if pid == 0:
            os._exit(kloop.run(main()))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
        """, options=("-W", "ignore::DeprecationWarning"))


def test_debug_mode_tells_of_a_child_that_is_killed(loop, caplog):
    loop.set_debug(True)

    async def main():
        transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1000")
        transport.close()
        await transport._wait()

    with caplog.at_level(logging.DEBUG, "asyncio"):
        run(loop, main())
    assert "Close running child process: kill" in caplog.text
