"""Processes that are forked from one that has used a loop. In processes of their own, since
pytest's should not be forked with its threads."""

from pathlib import Path

import pytest
from children import finished, run_python

TESTS = str(Path(__file__).parent)

ECHO = """
import asyncio, os, sys, traceback, kloop

async def echo_once():
    async def serve(reader, writer):
        writer.write(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello %d" % os.getpid())
    assert await reader.read() == b"hello %d" % os.getpid()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return os.getpid()

def in_child(function):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, "the child has failed"
"""


def test_three_generations_each_with_a_loop_of_its_own():
    output = run_python(ECHO + """
def generation(left):
    assert kloop.run(echo_once()) == os.getpid()
    print("generation", left, flush=True)
    if left:
        in_child(lambda: generation(left - 1))
        assert kloop.run(echo_once()) == os.getpid()    # the parent's library is as before

generation(3)
""")
    assert output.split("\n") == [*(f"generation {left}" for left in (3, 2, 1, 0)), ""]


def test_a_child_of_a_process_that_never_made_a_loop():
    run_python(ECHO + """
in_child(lambda: kloop.run(echo_once()))
kloop.run(echo_once())
""")


def test_several_children_at_once():
    run_python(ECHO + """
kloop.run(echo_once())
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        try:
            kloop.run(echo_once())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    children.append(child)
kloop.run(echo_once())
for child in children:
    assert os.waitpid(child, 0)[1] == 0
""")


@pytest.mark.parametrize("use", [
    "loop.run_until_complete(asyncio.sleep(0))",
    "loop.run_forever()",
    "loop.stats()",
    "loop.driver",
    "loop.add_reader(0, print)",
    "transport.write(b'data' * 100_000)",
])
def test_the_parents_loop_in_a_child(use):
    """A clear error, that says what to do instead; and the parent is not disturbed."""
    run_python(ECHO + f"""
import socket
loop = kloop.new_event_loop()
left, right = socket.socketpair()
left.setblocking(False)
transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=left))

def child():
    coroutine = None
    try:
        {use}
    except RuntimeError as exc:
        text = str(exc)
        assert "belongs to the parent process" in text, text
        assert "make a new loop" in text and "kloop.run()" in text, text
    else:
        raise AssertionError("no error")
    kloop.run(echo_once())      # what the text says works

in_child(child)
loop.run_until_complete(echo_once())
transport.close()
loop.run_until_complete(asyncio.sleep(0))
loop.close()
right.close()
""")


def test_closing_the_parents_loop_in_a_child():
    """Frees what the child has of it; the parent's goes on."""
    run_python(ECHO + """
loop = kloop.new_event_loop()
loop.run_until_complete(echo_once())

def child():
    loop.close()
    assert loop.is_closed()
    kloop.run(echo_once())

in_child(child)
loop.run_until_complete(echo_once())
loop.close()
""")


def test_fork_while_the_loop_runs():
    """The child leaves the parent's running loop and makes its own, as multiprocessing does."""
    run_python(ECHO + """
async def main():
    def child():
        asyncio._set_running_loop(None)
        kloop.run(echo_once())

    in_child(child)
    await echo_once()

kloop.run(main())
""")


def test_the_childs_end_does_not_disturb_the_parent():
    """The child exits as Python does, finalizers included, while the parent has a loop with connections."""
    run_python(ECHO + """
import socket
loop = kloop.new_event_loop()
left, right = socket.socketpair()
left.setblocking(False)
right.settimeout(20)
transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=left))
child = os.fork()
if child == 0:
    del transport, loop
    import gc
    gc.collect()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
transport.write(b"still here")
assert right.recv(100) == b"still here"
transport.close()
loop.run_until_complete(echo_once())
loop.close()
right.close()
""")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(ECHO + f"""
import multiprocessing

def work(number):
    return kloop.run(echo_once()), number * number

if __name__ == "__main__":
    kloop.run(echo_once())
    context = multiprocessing.get_context("{method}")
    with context.Pool(2) as pool:
        results = pool.map(work, range(6))
        pool.close()
        pool.join()
    assert [square for _, square in results] == [number * number for number in range(6)]
    assert os.getpid() not in {{pid for pid, _ in results}}
    print("done")
""")
    output = run_python(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
                        if method == "fork" else SPAWN.format(path=str(script)))
    assert output == "done\n"


# Spawned processes import the main module by its path.
SPAWN = """
import subprocess, sys
sys.exit(subprocess.run([sys.executable, {path!r}]).returncode)
"""


def test_a_forked_child_killed_by_a_signal_leaves_the_parent_alone():
    done = finished(ECHO + """
import signal
kloop.run(echo_once())
child = os.fork()
if child == 0:
    loop = kloop.new_event_loop()
    loop.call_soon(os.kill, os.getpid(), signal.SIGKILL)
    loop.run_forever()
assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
kloop.run(echo_once())
print("parent goes on")
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "parent goes on\n"


def test_a_childs_child_keeps_its_own_descriptors():
    """A child closes the ring it inherited: its own child must not close those numbers again."""
    output = run_python(ECHO + """
loop = kloop.new_event_loop()

def child():
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    in_child(lambda: print([number for number in opened if not os.path.exists(f"/proc/self/fd/{number}")]))

in_child(child)
loop.close()
""")
    assert output == "[]\n"


def test_a_child_wakes_nobody_by_the_loop_of_a_thread_that_sleeps():
    """The descriptor that wakes it is another file in the child."""
    run_python(ECHO + f"""
import tempfile, threading
sys.path.insert(0, {TESTS!r})
from driving import await_sleep_in_the_kernel

loop = kloop.new_event_loop()
thread = threading.Thread(target=loop.run_forever)
thread.start()
await_sleep_in_the_kernel(thread.native_id)

def child():
    files = [tempfile.TemporaryFile() for _ in range(12)]
    try:
        loop.call_soon_threadsafe(print)
    except RuntimeError:
        pass
    assert [os.fstat(file.fileno()).st_size for file in files] == [0] * 12

in_child(child)
loop.call_soon_threadsafe(loop.stop)
thread.join()
loop.close()
""")
