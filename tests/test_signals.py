"""Signals: handlers on the loop, KeyboardInterrupt, and descriptors that others have set."""

import asyncio
import ctypes
import os
import signal
import socket
import threading

import pytest
from children import finished, run_python
from driving import LIMIT_S, await_sleep_in_the_kernel, joined, reports, run, run_once

USER = signal.SIGUSR1
# <bits/sigaction.h>; the mask is 1024 bits on Linux.
SA_RESTART = 0x10000000
MASK_BYTES = 128


class SigAction(ctypes.Structure):
    """struct sigaction of glibc."""

    _fields_ = (("handler", ctypes.c_void_p), ("mask", ctypes.c_char * MASK_BYTES),
                ("flags", ctypes.c_int), ("restorer", ctypes.c_void_p))


def flags_of(number):
    action = SigAction()
    assert ctypes.CDLL(None).sigaction(number, None, ctypes.byref(action)) == 0
    return action.flags


def test_a_handler_runs_on_the_loop(loop):
    async def main():
        seen = loop.create_future()
        loop.add_signal_handler(USER, seen.set_result, "argument")
        os.kill(os.getpid(), USER)
        assert await seen == "argument"
        assert loop.remove_signal_handler(USER)

    run(loop, main())


def test_a_signal_ends_a_sleep_without_any_timer(loop):
    """Sent by a thread: the loop has nothing else that would wake it."""
    seen = []
    loop.add_signal_handler(USER, lambda: (seen.append(True), loop.stop()))
    running = threading.Event()
    loop.call_soon(running.set)

    def send():
        assert running.wait(LIMIT_S)
        os.kill(os.getpid(), USER)

    thread = threading.Thread(target=send)
    thread.start()
    loop.run_forever()
    thread.join()
    assert seen == [True]
    loop.remove_signal_handler(USER)


def test_every_signal_of_many_in_a_row_is_seen(loop):
    async def main():
        for _ in range(200):
            seen = loop.create_future()
            loop.add_signal_handler(USER, seen.set_result, None)
            signal.raise_signal(USER)
            await seen
        loop.remove_signal_handler(USER)

    run(loop, main())


def test_a_later_handler_replaces_the_former(loop):
    seen = []

    async def main():
        done = loop.create_future()
        loop.add_signal_handler(USER, seen.append, "former")
        loop.add_signal_handler(USER, lambda: (seen.append("later"), done.set_result(None)))
        signal.raise_signal(USER)
        await done
        loop.remove_signal_handler(USER)

    run(loop, main())
    assert seen == ["later"]


def test_remove_signal_handler(loop):
    loop.add_signal_handler(USER, print)
    assert signal.getsignal(USER) is not signal.SIG_DFL
    assert loop.remove_signal_handler(USER) is True
    assert signal.getsignal(USER) is signal.SIG_DFL
    assert loop.remove_signal_handler(USER) is False


def test_close_removes_the_handlers(loop):
    loop.add_signal_handler(USER, print)
    loop.close()
    assert signal.getsignal(USER) is signal.SIG_DFL


def test_system_calls_are_restarted(loop):
    """As asyncio: siginterrupt(False), so that C code in other threads sees no EINTR."""
    loop.add_signal_handler(USER, print)
    assert flags_of(USER) & SA_RESTART
    loop.remove_signal_handler(USER)


def test_an_exception_of_a_handler_is_reported(loop):
    def fail():
        raise ZeroDivisionError

    async def main():
        done = loop.create_future()
        loop.add_signal_handler(USER, fail)
        signal.raise_signal(USER)
        loop.add_signal_handler(signal.SIGUSR2, done.set_result, None)
        signal.raise_signal(signal.SIGUSR2)
        await done
        loop.remove_signal_handler(USER)
        loop.remove_signal_handler(signal.SIGUSR2)

    with reports(loop) as contexts:
        run(loop, main())
    assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]


async def coroutine_function():
    """Never run."""


@pytest.mark.parametrize("number, handler, error, text", [
    ("SIGUSR1", print, TypeError, "^sig must be an int, not 'SIGUSR1'$"),
    (0, print, ValueError, "^invalid signal number 0$"),
    (1000, print, ValueError, "^invalid signal number 1000$"),
    (signal.SIGKILL, print, RuntimeError, "^sig 9 cannot be caught$"),
    (USER, coroutine_function, TypeError, r"^coroutines cannot be used with add_signal_handler\(\)$"),
])
def test_what_add_signal_handler_refuses(loop, number, handler, error, text):
    with pytest.raises(error, match=text):
        loop.add_signal_handler(number, handler)
    assert signal.getsignal(USER) is signal.SIG_DFL


def test_add_signal_handler_in_another_thread(loop):
    with pytest.raises(RuntimeError):
        joined(loop.add_signal_handler, USER, print)


def test_add_signal_handler_on_a_closed_loop(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.add_signal_handler(USER, print)


def test_keyboard_interrupt_while_asleep(loop):
    running = threading.Event()
    loop.call_soon(running.set)

    def interrupt():
        assert running.wait(LIMIT_S)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    thread.join()
    assert not loop.is_running()
    run_once(loop)


def test_keyboard_interrupt_while_a_callback_computes(loop):
    def compute():
        signal.raise_signal(signal.SIGINT)
        for _ in range(10**9):
            pass

    loop.call_soon(compute)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    run_once(loop)


def test_keyboard_interrupt_while_the_loop_never_sleeps(loop):
    def again():
        loop.call_soon(again)

    def interrupt():
        assert running.wait(LIMIT_S)
        os.kill(os.getpid(), signal.SIGINT)

    running = threading.Event()
    loop.call_soon(running.set)
    again()
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    thread.join()


def test_a_python_handler_runs_while_the_loop_sleeps(loop):
    """signal.signal(), not add_signal_handler(). asyncio runs the handler, and sleeps on."""
    running = threading.Event()
    loop.call_soon(running.set)
    before = signal.signal(USER, lambda *_: loop.stop())

    def send():
        assert running.wait(LIMIT_S)
        os.kill(os.getpid(), USER)

    thread = threading.Thread(target=send)
    thread.start()
    loop.run_forever()
    thread.join()
    signal.signal(USER, before)


def test_a_wakeup_fd_that_the_program_has_set_is_left_alone(loop):
    reading, writing = socket.socketpair()
    reading.settimeout(LIMIT_S)
    writing.setblocking(False)
    before = signal.signal(USER, lambda *_: None)
    assert signal.set_wakeup_fd(writing.fileno()) == -1
    run_once(loop)
    loop.call_soon(signal.raise_signal, USER)
    run_once(loop)
    assert reading.recv(10) == bytes([USER])
    assert signal.set_wakeup_fd(-1) == writing.fileno()
    signal.signal(USER, before)
    reading.close()
    writing.close()


def test_the_wakeup_fd_is_put_back_after_each_run(loop):
    run_once(loop)
    assert signal.set_wakeup_fd(-1) == -1


def test_a_wakeup_fd_that_a_callback_sets_is_left_alone(loop):
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    loop.call_soon(signal.set_wakeup_fd, writing.fileno())
    run_once(loop)
    assert signal.set_wakeup_fd(-1) == writing.fileno()
    reading.close()
    writing.close()


def test_a_python_handler_runs_in_a_sleep_that_submits_something_without_our_wakeup_fd(loop):
    """io_uring_enter(2) then answers what it submitted and not EINTR."""
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    watched, _ = pair = socket.socketpair()
    main_thread = threading.get_native_id()
    before = signal.signal(USER, lambda *_: loop.stop())
    signal.set_wakeup_fd(writing.fileno())
    loop.add_reader(watched, pytest.fail, "nothing was sent")
    late = loop.call_later(LIMIT_S, pytest.fail, "the handler did not run")

    def send():
        await_sleep_in_the_kernel(main_thread)
        os.kill(os.getpid(), USER)

    thread = threading.Thread(target=send)
    thread.start()
    loop.run_forever()
    thread.join()
    late.cancel()
    loop.remove_reader(watched)
    assert signal.set_wakeup_fd(-1) == writing.fileno()
    signal.signal(USER, before)
    for sock in (reading, writing, *pair):
        sock.close()


def test_run_cancels_the_main_task_on_ctrl_c():
    """As asyncio.run() from Python 3.11 on; before, KeyboardInterrupt comes out all the same."""
    done = finished("""
        import asyncio, os, signal, kloop

        async def main():
            try:
                asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
                await asyncio.sleep(3600)
            finally:
                print("cleaned up", flush=True)

        try:
            kloop.run(main())
        except KeyboardInterrupt:
            print("KeyboardInterrupt")
        """)
    assert done.stdout.split("\n")[:2] == ["cleaned up", "KeyboardInterrupt"], done.stderr


def test_faulthandler_still_works():
    done = finished("""
        import faulthandler, signal, kloop
        faulthandler.enable()
        loop = kloop.new_event_loop()
        loop.call_soon(faulthandler._sigsegv)
        loop.run_forever()
        """)
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr


def test_child_processes_are_started_as_before():
    """What a Go runtime catches is neither blocked nor ignored in what Python starts."""
    run_python("""
        import subprocess, kloop
        LIBC_OWN = 1 << 31 | 1 << 32    # signals 32 and 33, of whose state posix_spawn(3) makes its own

        def signals_of_a_child():
            status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout
            fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
            return [int(fields[name], 16) & ~LIBC_OWN for name in ("SigBlk", "SigIgn", "SigCgt")]

        before = signals_of_a_child()
        loop = kloop.new_event_loop()
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert signals_of_a_child() == before, (before, signals_of_a_child())
        loop.close()
        """)


def test_an_interrupted_sleep_goes_on(loop):
    """A signal without a handler of the loop ends no timer early."""
    before = signal.signal(USER, lambda *_: None)

    async def main():
        start = loop.time()
        loop.call_later(0.005, signal.raise_signal, USER)
        await asyncio.sleep(0.03)
        assert loop.time() - start >= 0.03 - 1e-9

    run(loop, main())
    signal.signal(USER, before)
