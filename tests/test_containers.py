"""Where io_uring is blocked: what a loop runs on, and what it says. Each in a process of its own."""

import errno
import json
import os
import signal
from pathlib import Path

import pytest
import seccomp
from children import finished, run_python

PROFILE = Path(__file__).parent.parent / "docs" / "seccomp-io_uring.json"

ECHO = """
import asyncio, errno, json, logging, os, sys
import kloop, seccomp

async def echo():
    async def serve(reader, writer):
        writer.write(await reader.readexactly(5))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello")
    assert await reader.read() == b"hello"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    loop = asyncio.get_running_loop()
    print(loop.driver)
    print(loop.driver_reason)

"""


def run(source, driver=None):
    return run_python(ECHO + source, KLOOP_DRIVER=driver, KLOOP_SQPOLL=None, PYTHONPATH=seccomp.HERE).splitlines()


def test_the_default_profile_of_container_engines_leaves_epoll():
    log, driver, reason, *second = run("""
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
seccomp.install(seccomp.DEFAULT_PROFILE)
for _ in range(2):
    kloop.run(echo())
""")
    assert driver == "epoll"
    assert "seccomp" in reason
    assert "Docker" in reason
    assert log == f"INFO:kloop:the event loop runs on epoll: {reason}"
    assert second == [driver, reason]   # and no second line in the log


@pytest.mark.parametrize("driver", ["epoll", "io_uring"])
def test_what_was_asked_for_is_not_logged(driver):
    output = run("""
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
kloop.run(echo())
""", driver)
    assert output[0] == driver


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS", "EINVAL", "EOPNOTSUPP"])
def test_errors_that_leave_epoll(error):
    driver, reason = run(f"""
seccomp.refuse(errno.{error})
kloop.run(echo())
""")
    assert driver == "epoll"
    assert reason


@pytest.mark.parametrize("error", ["ENOMEM", "EMFILE"])
def test_errors_that_do_not(error):
    """What has run out may be there again: the next loop would be on another driver."""
    output = run(f"""
seccomp.refuse(errno.{error})
for _ in range(2):
    try:
        kloop.new_event_loop()
    except kloop.DriverUnavailable:
        raise
    except OSError as exc:
        assert exc.errno == errno.{error}
        print(exc)
""")
    assert len(output) == 2


def test_a_ring_that_may_be_made_and_not_entered():
    driver, reason = run("""
seccomp.refuse(errno.EPERM, [seccomp.IO_URING["io_uring_enter"]])
kloop.run(echo())
""")
    assert driver == "epoll"
    assert "io_uring_enter" in reason


def test_epoll_makes_no_system_call_of_io_uring():
    driver, reason = run("""
seccomp.kill()
kloop.run(echo())
""", "epoll")
    assert driver == "epoll"
    assert "asked for" in reason


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
def test_timers_of_epoll_where_only_milliseconds_are_known(error):
    """Before Linux 5.11, and under filters older than epoll_pwait2(2): rounded up, so that none is early."""
    driver, _, early = run(f"""
EPOLL_PWAIT2 = 441
seccomp.refuse(errno.{error}, [EPOLL_PWAIT2])
kloop.run(echo())

async def sleep():
    loop = asyncio.get_running_loop()
    early = 0
    for step in range(1, 20):
        before = loop.time(), loop.stats()["enters"]
        await asyncio.sleep(step * 0.0003)
        early += loop.time() - before[0] < step * 0.0003
        early += loop.stats()["enters"] - before[1] > 10    # a sleep that ends too soon is repeated
    print(early)

kloop.run(sleep())
""", "epoll")
    assert (driver, early) == ("epoll", "0")


def test_the_filter_that_kills_does_so():
    """Else the test before would show nothing."""
    done = finished("import kloop, seccomp; seccomp.kill(); kloop.new_event_loop()",
                    KLOOP_DRIVER="auto", PYTHONPATH=seccomp.HERE)
    assert done.returncode == -signal.SIGSYS


def test_sqpoll_where_io_uring_is_blocked():
    """A program that asks for a submission thread runs without one, and is told so."""
    driver, reason = run("""
seccomp.refuse(errno.EPERM)
kloop.run(echo(), sqpoll=True)
""")
    assert driver == "epoll"
    assert "SQPOLL" in reason


@pytest.mark.parametrize("error, cause", [("EPERM", "seccomp"), ("ENOSYS", "kernel")])
def test_io_uring_that_is_asked_for_and_blocked(error, cause):
    """The error is an OSError with the kernel's number; its text names the cause and what to do."""
    first, second = run(f"""
seccomp.refuse(errno.{error})
for _ in range(2):
    try:
        kloop.new_event_loop()
    except kloop.DriverUnavailable as exc:
        assert isinstance(exc, OSError)
        assert exc.errno == errno.{error}, exc.errno
        print(exc)
    else:
        raise AssertionError("a loop was made")
""", "io_uring")
    assert first == second
    assert "io_uring" in first
    assert cause in first.lower()


def test_run_where_the_driver_that_is_asked_for_is_blocked():
    """The coroutine is closed by the caller, as with any loop factory that fails; nothing hangs."""
    done = finished(ECHO + """
seccomp.refuse(errno.EPERM)
coroutine = echo()
try:
    kloop.run(coroutine)
finally:
    coroutine.close()
""", KLOOP_DRIVER="io_uring", PYTHONPATH=seccomp.HERE)
    assert done.returncode == 1
    assert "DriverUnavailable" in done.stderr
    assert done.stdout == ""
    assert str(errno.EPERM) in done.stderr


def test_the_reference_profile_adds_just_the_three_calls():
    profile = json.loads(PROFILE.read_text())
    [rule] = profile["syscalls"]
    assert sorted(rule["names"]) == sorted(seccomp.IO_URING)
    assert rule["action"] == "SCMP_ACT_ALLOW"


def test_under_the_reference_profile_a_loop_runs_on_io_uring():
    """Merged into an engine's default profile as docs/containers.md says."""
    driver, _ = run(f"""
with open({str(PROFILE)!r}) as file:
    addition = json.load(file)
seccomp.install(seccomp.merged(seccomp.DEFAULT_PROFILE, addition))
kloop.run(echo())
""")
    assert driver == "io_uring"


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
DROP = """
def drop():
    os.setegid(65534)
    os.seteuid(65534)

def sqpoll_users():
    users = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/status") as file:
                fields = dict(line.split(":", 1) for line in file)
        except (FileNotFoundError, ProcessLookupError):
            continue    # it has ended meanwhile
        if fields["Name"].strip().startswith("iou-sqp"):
            users.append(fields["Uid"].split()[1])
    return users

# Threads take a while to begin, and to end; the process has a time limit.
def await_users(*users):
    while sqpoll_users() != list(users):
        os.sched_yield()
"""


@needs_root
@pytest.mark.parametrize("ran_before", [True, False])
def test_a_submission_thread_has_no_privileges_that_were_dropped(ran_before):
    """A ring keeps those of the process that made it (CVE-2024-22017), so another is made."""
    output = run(DROP + f"""
loop = kloop.new_event_loop(driver="io_uring", sqpoll=True)
if {ran_before}:
    loop.run_until_complete(echo())
await_users("0")
drop()
loop.run_until_complete(echo())
await_users("65534")
print(*sqpoll_users())
loop.close()
""")
    assert output[-1] == "65534"


@needs_root
@pytest.mark.parametrize("ran_before", [True, False])
@pytest.mark.parametrize("dropped", [True, False])
def test_a_ring_is_made_anew_only_when_privileges_were_dropped(ran_before, dropped):
    done = finished(ECHO + DROP + f"""
loop = kloop.new_event_loop(driver="io_uring", trace=True)
if {ran_before}:
    loop.run_until_complete(echo())
if {dropped}:
    drop()
loop.run_until_complete(echo())
loop.close()
""", KLOOP_DRIVER=None, PYTHONPATH=seccomp.HERE)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("attach: moved true, <nil>") == dropped


@needs_root
def test_epoll_needs_nothing_of_that():
    output = run(DROP + """
loop = kloop.new_event_loop(driver="epoll")
loop.run_until_complete(echo())
drop()
loop.run_until_complete(echo())
loop.close()
""")
    assert output[::2] == ["epoll", "epoll"]
