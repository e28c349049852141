"""How a process ends while it has loops: at once, with its own exit status, and without a word of ours."""

import signal
import subprocess
import sys
import textwrap

import pytest
from children import LIMIT_S, finished

# A loop with all that may be open when a process ends.
BUSY = """
import asyncio, atexit, logging, os, signal, socket, sys, threading, kloop

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)

async def busy(and_then=None):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    transports = [(await loop.create_connection(Echo, *server.sockets[0].getsockname()))[0] for _ in range(3)]
    for transport in transports:
        transport.write(b"round and round")
    transports[0].write(bytes(16 << 20))
    await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    left, right = socket.socketpair()
    left.setblocking(False)
    busy.kept = [server, transports, right, left,
                 loop.create_task(loop.sock_recv(left, 10)), loop.create_task(asyncio.sleep(1000))]
    loop.call_later(1000, print)
    for _ in range(20):
        await asyncio.sleep(0)
    print("busy", flush=True)
    if and_then:
        and_then()
    await asyncio.sleep(1000)
"""


def ends(source, status=0, errors="", **options):
    """Runs a program, which must end with a status and nothing but the expected on its standard error."""
    done = finished(BUSY + textwrap.dedent(source), PYTHONFAULTHANDLER=None, PYTHONWARNINGS="ignore", **options)
    assert (done.returncode, done.stderr) == (status, errors), done.stderr
    return done.stdout


def test_sys_exit_while_the_loop_runs():
    ends("kloop.run(busy(lambda: sys.exit(7)))", status=7)


def test_sys_exit_in_a_callback_of_a_loop_that_nobody_closes():
    ends("""
        loop = kloop.new_event_loop()
        loop.run_until_complete(busy(lambda: loop.call_soon(sys.exit, 7)))
        """, status=7)


def test_os_exit_while_the_loop_runs():
    ends("""
        async def main():
            child = await asyncio.create_subprocess_exec("sleep", "0.2", stdin=asyncio.subprocess.PIPE)
            await busy(lambda: os._exit(7))
        kloop.run(main())
        """, status=7)


def test_the_end_of_a_program_whose_loop_is_open():
    ends("""
        loop = kloop.new_event_loop()
        loop.create_task(busy(loop.stop))
        loop.run_forever()
        logging.disable(logging.CRITICAL)   # asyncio's word about tasks that are still pending
        """)


def test_a_loop_that_is_run_and_closed_by_atexit():
    output = ends("""
        loop = kloop.new_event_loop()

        @atexit.register
        def at_exit():
            loop.run_until_complete(asyncio.sleep(0.01))
            loop.close()
            kloop.run(asyncio.sleep(0.01))
            print("run at exit")

        loop.run_until_complete(asyncio.sleep(0))
        """)
    assert output == "run at exit\n"


def test_sys_exit_of_another_thread_and_the_end_of_the_main_one():
    """The main thread waits for threads that are no daemons."""
    output = ends("""
        def work():
            loop = kloop.new_event_loop()
            loop.run_until_complete(asyncio.sleep(0.05))
            loop.close()
            print("the thread has ended", flush=True)
            sys.exit(3)

        threading.Thread(target=work).start()
        """)
    assert output == "the thread has ended\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL, signal.SIGQUIT])
def test_a_signal_that_nobody_handles(number):
    """nohup(1) and the like have it ignored, which children inherit."""
    restore = "" if number == signal.SIGKILL else f"signal.signal({int(number)}, signal.SIG_DFL)\n"
    ends(f"{restore}kloop.run(busy(lambda: os.kill(os.getpid(), {int(number)})))", status=-number)


def test_a_signal_from_outside_while_the_loop_sleeps():
    with subprocess.Popen([sys.executable, "-c", BUSY + "kloop.run(busy())"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == -signal.SIGTERM
        assert process.stderr.read() == ""


def test_a_handler_of_sigterm_that_exits():
    """As many servers end: the exit passes through the loop, which is closed."""
    output = ends("""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
        atexit.register(print, "cleaned up")
        kloop.run(busy(lambda: os.kill(os.getpid(), signal.SIGTERM)))
        """, status=9)
    assert output == "busy\ncleaned up\n"


@pytest.mark.parametrize("how", ["return", "sys.exit(5)", "os._exit(5)", "os.kill(os.getpid(), 15)"])
def test_daemon_threads_whose_loops_run_when_the_process_ends(how):
    """In a sleep, in callbacks, and in the middle of being made and closed."""
    status = {"return": 0, "os.kill(os.getpid(), 15)": -15}.get(how, 5)
    ends(f"""
        ready = threading.Semaphore(0)

        def sleeper():
            loop = kloop.new_event_loop()
            loop.call_soon(ready.release)
            loop.run_forever()

        def talker():
            async def talk():
                loop = asyncio.get_running_loop()
                server = await loop.create_server(Echo, "127.0.0.1", 0)
                transport, _ = await loop.create_connection(Echo, *server.sockets[0].getsockname())
                transport.write(b"for ever")
                ready.release()
                while True:
                    await asyncio.sleep(0)
            kloop.run(talk())

        def maker():
            ready.release()
            while True:
                kloop.new_event_loop().close()

        for work in (sleeper, talker, maker, sleeper, talker):
            threading.Thread(target=work, daemon=True).start()
        for _ in range(5):
            ready.acquire()
        def end():
            {how}
        end()
        """, status=status)


FAULTS = {
    # At once, in C code that is not Go's, with no handler but Go's in the way.
    "bad address": ("ctypes.string_at(8)", signal.SIGSEGV),
    "SIGSEGV": ("signal.raise_signal(signal.SIGSEGV)", signal.SIGSEGV),
    "SIGBUS": ("signal.raise_signal(signal.SIGBUS)", signal.SIGBUS),
    "SIGFPE": ("signal.raise_signal(signal.SIGFPE)", signal.SIGFPE),
    "SIGILL": ("signal.raise_signal(signal.SIGILL)", signal.SIGILL),
    "abort": ("os.abort()", signal.SIGABRT),
}


@pytest.mark.parametrize("thread", ["main", "another"])
@pytest.mark.parametrize("dumped", ["before the loop", "after the loop", "not"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_kills_the_process_by_its_signal(name, dumped, thread):
    """Also where a Go runtime has handlers of its own; and faulthandler's dump is printed, whenever it was enabled."""
    fault, number = FAULTS[name]
    done = finished(f"""
        import asyncio, ctypes, faulthandler, os, signal, threading, kloop
        if {dumped!r} == "before the loop":
            faulthandler.enable()
        loop = kloop.new_event_loop()
        if {dumped!r} == "after the loop":
            faulthandler.enable()
        def die():
            {fault}
        def live():
            loop.call_soon(die)
            loop.run_forever()
        if {thread!r} == "main":
            live()
        else:
            thread = threading.Thread(target=live)
            thread.start()
            thread.join()
        """, PYTHONFAULTHANDLER=None)
    assert done.returncode == -number, done.stderr
    if dumped == "not":
        assert "Fatal Python error" not in done.stderr
    else:
        assert "Fatal Python error" in done.stderr
        assert 'in die' in done.stderr


def test_faulthandlers_timer_and_signal():
    """Dumps of a process that goes on."""
    done = finished("""
        import asyncio, faulthandler, os, signal, kloop
        faulthandler.register(signal.SIGUSR1)
        async def main():
            os.kill(os.getpid(), signal.SIGUSR1)
            faulthandler.dump_traceback_later(0.01)
            end = asyncio.get_running_loop().time() + 0.2
            while asyncio.get_running_loop().time() < end:
                await asyncio.sleep(0.01)
        kloop.run(main())
        print("went on")
        """, PYTHONFAULTHANDLER=None)
    assert done.returncode == 0 and done.stdout == "went on\n", done.stderr
    assert "Timeout" in done.stderr and "most recent call first" in done.stderr
