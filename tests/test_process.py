"""What importing the package and loading the Go library change in a process: nothing."""

import pytest
from children import finished, run_python

STATE = """
import ctypes, resource, signal, sys

def state():
    class SigAction(ctypes.Structure):      # of glibc
        _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_char * 128),
                    ("flags", ctypes.c_int), ("restorer", ctypes.c_void_p)]

    handlers = {}
    for number in signal.valid_signals():
        action = SigAction()
        if ctypes.CDLL(None).sigaction(int(number), None, ctypes.byref(action)) == 0:
            handlers[int(number)] = action.handler
    return {
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "pipe": handlers[signal.SIGPIPE], "urgent": handlers[signal.SIGURG],
        "interrupt": handlers[signal.SIGINT],
        "python": {int(n): signal.getsignal(n) for n in signal.valid_signals()},
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "wakeup": signal.set_wakeup_fd(-1),
    }
"""


def test_import_loads_no_library():
    """Forking servers import the application before they fork: no Go runtime must be there then."""
    run_python("""
        import threading, os
        import kloop
        assert "libkloop" not in open("/proc/self/maps").read()
        assert len(os.listdir("/proc/self/task")) == 1
        loop = kloop.new_event_loop()
        assert "libkloop" in open("/proc/self/maps").read()
        loop.close()
        """)


def test_import_warns_of_nothing_and_makes_no_policy():
    run_python("""
        import sys
        import kloop
        assert "kloop.policy" not in sys.modules
        assert "EventLoopPolicy" not in vars(kloop)
        import kloop.loop, kloop.selector, kloop.transport, kloop.errors
        """, options=("-W", "error"))


def test_limits_and_signals_are_as_before():
    run_python(STATE + """
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))      # programs with select() rely on it
signal.signal(signal.SIGURG, lambda *_: None)
before = state()
import kloop
loop = kloop.new_event_loop()
assert state() == before, (before, state())
loop.call_soon(loop.stop)
loop.run_forever()
loop.close()
assert state() == before, (before, state())
""")


@pytest.mark.parametrize("disposition", ["SIG_DFL", "SIG_IGN"])
def test_dispositions_without_python_handlers(disposition):
    run_python(STATE + f"""
signal.signal(signal.SIGPIPE, signal.{disposition})
signal.signal(signal.SIGURG, signal.{disposition})
before = state()
import kloop
kloop.new_event_loop().close()
assert state() == before, (before, state())
""")


def test_writing_to_a_closed_pipe_is_an_error_and_no_death():
    """SIGPIPE is ignored by Python; a Go runtime would let it through for fds 1 and 2."""
    done = finished("""
        import os, sys, kloop
        loop = kloop.new_event_loop()
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, 1)
        try:
            os.write(1, b"to nobody")
        except BrokenPipeError:
            sys.stderr.write("BrokenPipeError")
        loop.close()
        """)
    assert (done.returncode, done.stderr) == (0, "BrokenPipeError")


def test_no_sigurg_reaches_python_while_go_collects_garbage():
    """Go interrupts its own threads with SIGURG to stop them; in Python's threads that would
    interrupt system calls. Collections are forced by a tiny limit, and counted by their trace."""
    done = finished("""
        import asyncio, os, signal, threading, time, kloop

        seen = []
        signal.signal(signal.SIGURG, lambda *_: seen.append(True))

        async def churn():
            async def serve(reader, writer):
                writer.write(await reader.read(100))
                writer.close()

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            for _ in range(300):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"x")
                await reader.read()
                writer.close()
                await writer.wait_closed()
            server.close()

        ending = []

        def compute():
            while not ending:
                sum(range(1000))

        thread = threading.Thread(target=compute)
        thread.start()
        for _ in range(5):
            kloop.run(churn())
            for _ in range(10):
                kloop.new_event_loop().close()
        ending.append(True)
        thread.join()
        print(len(seen))
        """, GOGC="1", GODEBUG="gctrace=1")
    assert done.returncode == 0, done.stderr
    collections = sum(line.startswith("gc ") for line in done.stderr.splitlines())
    assert collections >= 3, done.stderr
    assert done.stdout == "0\n"


def test_the_process_ends_with_a_loop_still_open():
    """Neither a crash nor a hang at the end of the interpreter; only asyncio's warning."""
    done = finished("""
        import asyncio, kloop
        loop = kloop.new_event_loop()
        server = loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0))
        loop.call_later(3600, print)
        loop.call_soon(print, "never")
        print("end")
        """)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def test_the_process_ends_while_the_loop_runs_in_a_thread():
    done = finished("""
        import threading, kloop
        loop = kloop.new_event_loop()
        running = threading.Event()
        loop.call_soon(running.set)
        threading.Thread(target=loop.run_forever, daemon=True).start()
        running.wait()
        print("end")
        """)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def test_sys_exit_inside_a_callback_ends_the_process():
    done = finished("""
        import sys, kloop
        loop = kloop.new_event_loop()
        loop.call_soon(sys.exit, 7)
        loop.run_forever()
        """)
    assert done.returncode == 7, done.stderr
