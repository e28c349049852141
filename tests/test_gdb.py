"""A debugger attaches to a process whose loop sleeps, sees the frames of Python, the bridge and Go, and leaves it."""

import shutil
import subprocess
import sys
from pathlib import Path

import kloop
import pytest
from children import LIMIT_S

ROOT = Path(__file__).parents[1]
PACKAGE = Path(kloop.__file__).parent
PROGRAM = """
import asyncio, ctypes, signal, kloop

PR_SET_PTRACER, ANY = 0x59616d61, ctypes.c_ulong(-1)    # prctl(2); without Yama it does nothing
ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY)
loop = kloop.new_event_loop()
loop.add_signal_handler(signal.SIGTERM, loop.stop)
loop.call_later(0.001, lambda: print("ready", flush=True))
loop.run_forever()
loop.close()
print("went on")
"""
GDB = ["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-ex", "thread apply all backtrace"]
# What gdb and the kernel say where one process may not trace another: in a container without CAP_SYS_PTRACE, say.
FORBIDDEN = ("Operation not permitted", "ptrace: Permission denied")


@pytest.fixture(scope="module")
def with_symbols(tmp_path_factory):
    """The package with the library as it is before its symbols are stripped."""
    go = shutil.which("go") or shutil.which("go", path=str(Path(sys.executable).parent))
    if go is None:
        pytest.skip("no go command to build the library with its symbols")
    folder = tmp_path_factory.mktemp("symbols")
    shutil.copytree(PACKAGE, folder / "kloop", ignore=shutil.ignore_patterns("__pycache__", "libkloop.so"))
    subprocess.run([go, "build", "-trimpath", "-buildmode=c-shared", "-o", str(folder / "kloop" / "libkloop.so"),
                    "-ldflags=-X=runtime.godebugDefault=asyncpreemptoff=1", "./pybridge"],
                   cwd=ROOT, check=True, timeout=LIMIT_S * 6)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S * 10)
@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_sees_python_and_go(may_be_long, with_symbols):
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True,
                          env={"PYTHONPATH": str(with_symbols), "PATH": "/usr/bin:/bin"}) as process:
        assert process.stdout.readline() == "ready\n"
        seen = subprocess.run([*GDB, "-p", str(process.pid)], capture_output=True, text=True, timeout=LIMIT_S * 3,
                              stdin=subprocess.DEVNULL, check=False)
        process.terminate()
        rest = process.stdout.read()
        status = process.wait(LIMIT_S)
    if any(text in seen.stderr for text in FORBIDDEN):
        pytest.skip(f"this process may not trace another: {seen.stderr.strip().splitlines()[-1]}")
    frames = seen.stdout
    assert " kloop_poll (" in frames, frames + seen.stderr
    assert "PyEval_Eval" in frames, frames
    assert " runtime.mstart (" in frames, frames
    assert (rest, status) == ("went on\n", 0)
