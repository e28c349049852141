"""Introspection of Python 3.14: who awaits whom, from inside and from another process."""

import asyncio
import subprocess
import sys

import pytest
from children import LIMIT_S
from driving import run

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs came with Python 3.14")

PROGRAM = """
import asyncio, ctypes, kloop

PR_SET_PTRACER, ANY = 0x59616d61, ctypes.c_ulong(-1)    # prctl(2); without Yama it does nothing
ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY)

async def innermost():
    print("ready", flush=True)
    await asyncio.get_running_loop().create_future()

async def outer():
    await innermost()

async def main():
    async with asyncio.TaskGroup() as group:
        group.create_task(outer(), name="the child")

kloop.run(main())
"""


def test_capture_call_graph(loop):
    async def child():
        return asyncio.capture_call_graph()

    async def main():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(child(), name="the child")
        graph = task.result()
        assert graph.future is task
        (above,) = graph.awaited_by
        assert above.future is asyncio.current_task()

    run(loop, main())


@pytest.mark.parametrize("command", ["ps", "pstree"])
def test_another_process_sees_our_tasks(command):
    target = subprocess.Popen([sys.executable, "-c", PROGRAM],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        assert target.stdout.readline() == "ready\n"
        done = subprocess.run([sys.executable, "-m", "asyncio", command, str(target.pid)],
                              capture_output=True, text=True, timeout=LIMIT_S)
    finally:
        target.kill()
        target.wait()
        target.stdout.close()
    said = done.stdout + done.stderr
    if "remote_debugging.html#permission-requirements" in said:
        pytest.skip("this system lets no process read another's memory")
    assert done.returncode == 0, said
    assert "the child" in said
    assert "innermost" in said and "outer" in said
    assert "TaskGroup.__aexit__" in said
