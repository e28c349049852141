"""Coroutines that are destroyed in the middle of a call on a file: what they have open is closed, once, and only when
the core has nothing to do with it any more, whatever becomes of their loop."""

import asyncio
import contextlib
import gc
import os
import threading

import leaks
import pytest
from driving import LIMIT_S, in_thread, operations, run, turns
from peers import pattern

BIG = 32 << 20


class Driven:
    """A coroutine that the test runs call by call."""

    def __init__(self, coroutine):
        self.coroutine = coroutine
        self.call = None
        self.over = False

    async def next(self):
        """Goes on until the next call is under way; answers its name."""
        if self.call is not None:
            done = asyncio.get_running_loop().create_future()
            self.call.add_done_callback(lambda _: done.done() or done.set_result(None))
            await asyncio.wait_for(done, LIMIT_S)
        try:
            self.call = self.coroutine.send(None)
        except StopIteration:
            self.over = True
            return None
        self.call._asyncio_future_blocking = False
        return getattr(self.call, "__name__", type(self.call).__name__)

    async def until(self, name):
        """Goes on until this call is under way."""
        while (found := await self.next()) != name:
            assert found is not None
        return self.call


async def settled(loop):
    """Waits until the core has nothing to do, and what was closed meanwhile is."""
    await turns(3)
    while operations(loop):
        await asyncio.sleep(0)


def is_at(fd, path):
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith(str(path))
    except FileNotFoundError:
        return False


async def use(kloop, path):
    async with kloop.open(path, "r+b") as file:
        await file.write(b"w" * 100_000)
        await file.seek(0)
        await file.read(10)
        await file.pread(1000, 0)
        await file.write(b"a")


async def append(kloop, path):
    async with kloop.open(path, "a", encoding="utf-8") as file:
        await file.write("text")


async def through_an_opener(kloop, path):
    async with kloop.open(path, "rb", opener=lambda name, flags: os.open(name, flags)) as file:
        await file.read(3)


SUBJECTS = {
    "use": use,
    "append": append,
    "opener": through_an_opener,
    "read_bytes": lambda kloop, path: kloop.files.read_bytes(path),
    "write_bytes": lambda kloop, path: kloop.files.write_bytes(path, b"new" * 50_000),
    "copy": lambda kloop, path: kloop.files.copy(path, path + ".copy"),
    "readdir": lambda kloop, path: kloop.files.readdir(os.path.dirname(path)),
}
ENDS = ("destroyed", "destroyed, then closed", "closed, then destroyed", "cancelled, then closed")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_at_every_step(kloop, tmp_path, subject, end):
    """Of what opens, reads, writes, renames: no descriptor and no temporary file is left."""
    path = str(tmp_path / "file")
    step = 0
    while True:
        with open(path, "wb") as file:
            file.write(pattern(2 << 20))
        before = leaks.open_fds()
        loop = kloop.new_event_loop()
        driven = Driven(SUBJECTS[subject](kloop, path))

        async def main(driven=driven, step=step, loop=loop):
            for _ in range(step + 1):
                await driven.next()
                if driven.over:
                    return
            if end == "cancelled, then closed":
                driven.call.cancel()
            elif end != "closed, then destroyed":
                driven.coroutine.close()
            if end == "destroyed":
                await settled(loop)

        run(loop, main())
        if end == "destroyed":
            run(loop, loop.shutdown_default_executor())
        loop.close()
        over = driven.over
        driven.coroutine.close()
        del driven, main
        gc.collect()
        leaks.wait_for(lambda before=before: leaks.open_fds() == before)
        assert {*os.listdir(tmp_path)} <= {"file", "file.copy"}
        if over:
            break
        step += 1
    assert step >= 2


def test_a_write_goes_to_its_end_before_the_close(loop, tmp_path):
    path = str(tmp_path / "file")

    async def main():
        import kloop

        before = leaks.open_fds()
        driven = Driven(kloop.files.write_bytes(path, bytes(BIG), fsync=False))
        call = await driven.until("write")
        (fd,) = [fd for fd, name in leaks.open_fds().items() if name.startswith(str(tmp_path))]
        other = os.dup(fd)
        driven.coroutine.close()
        while is_at(fd, tmp_path):
            await asyncio.sleep(0)
        size = os.fstat(other).st_size
        await settled(loop)
        assert os.fstat(other).st_size == size      # nothing is written to a descriptor that is closed
        os.close(other)
        assert leaks.open_fds() == before
        assert os.listdir(tmp_path) == []
        del call

    run(loop, main())


@pytest.mark.parametrize("closes", [False, True], ids=["the loop goes on", "the loop is closed"])
def test_both_files_of_a_copy(kloop, tmp_path, closes):
    (tmp_path / "from").write_bytes(bytes(BIG))
    before = leaks.open_fds()
    loop = kloop.new_event_loop()

    async def main():
        driven = Driven(kloop.files.copy(tmp_path / "from", tmp_path / "to"))
        call = await driven.until("copy")
        fds = [fd for fd, name in leaks.open_fds().items() if name.startswith(str(tmp_path))]
        driven.coroutine.close()
        # The core has not said that the call is over: nothing may be closed.
        assert len(fds) == 2 and all(is_at(fd, tmp_path) for fd in fds)
        if not closes:
            await settled(loop)
        del call

    loop.run_until_complete(main())
    loop.close()
    gc.collect()
    assert leaks.open_fds() == before


def test_a_loop_that_is_closed_before_the_call_is_over(kloop, tmp_path):
    """Who closes when the call is over has no loop any more to do it in."""
    (tmp_path / "file").write_bytes(bytes(BIG))
    before = leaks.open_fds()
    loop = kloop.new_event_loop()

    async def use():
        async with kloop.open(tmp_path / "file", "rb") as file:
            await file.pread(BIG, 0)

    async def main():
        driven = Driven(use())
        await driven.until("read")
        loop.call_soon(driven.coroutine.close)
        loop.stop()
        await turns(1)

    task = loop.create_task(main())
    loop.run_forever()
    task._log_destroy_pending = False
    loop.close()
    del task
    gc.collect()
    assert leaks.open_fds() == before


def test_what_was_written_is_written_once(loop, tmp_path):
    """A flush to a pipe is destroyed in the middle; the next one, and the end of the file, go on where it was."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    data = pattern(300_000)

    async def main():
        import kloop

        for ends in ("flush", "close", "collected"):
            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            out = await kloop.open(path, "wb", buffering=1 << 20)
            await out.write(data)
            driven = Driven(out.flush())
            await driven.until("write")     # the pipe is full
            await turns(5)
            got = []

            def drain(reader=reader, got=got):
                os.set_blocking(reader, True)
                while part := os.read(reader, 50_000):
                    got.append(part)

            driven.coroutine.close()
            if ends == "flush":
                assert await out.write(b"more") == 4
            draining = asyncio.ensure_future(in_thread(drain))
            await turns(1)
            if ends == "collected":
                with pytest.warns(ResourceWarning):
                    del out, driven
                    gc.collect()
            else:
                if ends == "flush":
                    await out.flush()
                await out.close()
            await settled(loop)
            await draining
            assert b"".join(got) == data + (b"more" if ends == "flush" else b"")
            os.close(reader)

    run(loop, main())


@pytest.mark.parametrize("end", ["closed", "cancelled, then closed", "destroyed, then closed", "cancelled", "taken"])
def test_an_open_that_succeeds_while_the_loop_is_stopped(kloop, tmp_path, end):
    """The descriptor is there, and nobody has been told of it yet: it is somebody's all the same."""
    path = str(tmp_path / "file")
    with open(path, "wb"):
        pass
    before = leaks.open_fds()
    loop = kloop.new_event_loop(driver="epoll")      # a ring leaves nothing under way when it stops

    async def begin():
        driven = Driven(kloop.open(path, "rb")._begin())
        assert await driven.next() == "open"
        loop.stop()
        return driven

    task = loop.create_task(begin())
    loop.run_forever()
    loop.run_until_complete(task)       # the core has taken the operation
    driven = task.result()
    leaks.wait_for(lambda: path in leaks.open_fds().values())
    if end.startswith("cancelled"):
        if not driven.call.cancel():    # it had been told already, before the loop stopped
            driven.coroutine.close()
    elif end.startswith("destroyed"):
        driven.coroutine.close()
    if end == "cancelled":
        loop.run_until_complete(settled(loop))
        leaks.wait_for(lambda: path not in leaks.open_fds().values())
    elif end == "taken":
        async def go_on():
            while await driven.next() is not None:
                pass

        with pytest.warns(ResourceWarning):     # what it has opened is let go of
            run(loop, go_on())
            gc.collect()
    loop.close()
    driven.coroutine.close()
    gc.collect()
    leaks.wait_for(lambda: leaks.open_fds() == before)


def test_an_opener_that_is_late(kloop, tmp_path):
    """Its caller has gone, and so has the loop."""
    (tmp_path / "file").touch()
    before = leaks.open_fds()
    loop = kloop.new_event_loop()
    called, may_go = threading.Event(), threading.Event()

    def opener(name, flags):
        called.set()
        may_go.wait(LIMIT_S)
        return os.open(name, flags)

    async def main():
        driven = Driven(kloop.open(tmp_path / "file", "rb", opener=opener)._begin())
        await driven.next()
        await in_thread(called.wait)
        driven.coroutine.close()

    run(loop, main())
    executor = loop._default_executor
    loop.close()
    may_go.set()
    with contextlib.suppress(RuntimeError):
        executor.shutdown(wait=True)
    gc.collect()
    assert leaks.open_fds() == before
