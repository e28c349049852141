"""Which driver carries a loop, its options, its counters, and what happens where there is none."""

import asyncio
import errno
import threading

import pytest
from children import finished, run_python
from driving import LIMIT_S, in_thread, run
from peers import connected, pattern
from recorders import Echo, Recorder

COUNTERS = (
    "enters", "enters_submit", "enters_wait", "enters_wakeup", "submitted", "completions", "overflows",
    "bytes_received", "bytes_sent", "rearms", "nobufs", "short_sends", "direct_sends", "wakes", "accepts",
    "polls", "spins",
)
GAUGES = ("conns", "listeners", "watches", "buffers_out", "owners_out", "operations")

# A seccomp filter that answers io_uring_setup(2) with an error, as container runtimes do.
BLOCK = """
import ctypes, errno, struct
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
BPF_LOAD_WORD, BPF_JUMP_IF_EQUAL, BPF_RETURN = 0x20, 0x15, 0x06     # <linux/bpf_common.h>
ALLOW, ERRNO = 0x7FFF0000, 0x00050000                               # <linux/seccomp.h>
IO_URING_SETUP = 425                                                # the same number on every architecture

def block_io_uring(error):
    filters = [(BPF_LOAD_WORD, 0, 0, 0), (BPF_JUMP_IF_EQUAL, 0, 1, IO_URING_SETUP),
               (BPF_RETURN, 0, 0, ERRNO | error), (BPF_RETURN, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in filters))
    program = ctypes.create_string_buffer(struct.pack("=H6xQ", len(filters), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) == 0
"""


async def exchange(loop, size=300_000):
    """An echo over a connection whose both ends are the loop's."""
    server_side = []

    def factory():
        server_side.append(Echo())
        return server_side[0]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
    data = pattern(size)
    for at in range(0, size, 10_000):
        transport.write(data[at:at + 10_000])
        await protocol.received(min(at + 10_000, size))
    assert protocol.data == data
    transport.close()
    await protocol.called("connection_lost")
    await server_side[0].lost
    server.close()
    await server.wait_closed()


def test_driver_and_reason(loop):
    assert loop.driver == "io_uring"
    assert isinstance(loop.driver_reason, str) and loop.driver_reason


def test_counters(loop):
    before = loop.stats()
    assert tuple(before) == COUNTERS + GAUGES
    assert all(type(value) is int and value >= 0 for value in before.values())
    size = 300_000
    run(loop, exchange(loop, size))
    after = loop.stats()
    assert after["bytes_received"] - before["bytes_received"] == 2 * size
    assert after["bytes_sent"] - before["bytes_sent"] == 2 * size
    assert after["accepts"] - before["accepts"] == 1
    assert after["polls"] > before["polls"]
    assert after["enters"] > before["enters"]
    assert after["completions"] > before["completions"]
    assert after["submitted"] > before["submitted"]
    assert after["enters_wait"] <= after["enters"]
    for name in COUNTERS:
        assert after[name] >= before[name], name


def test_gauges(loop):
    before = loop.stats()

    async def main():
        protocol = Recorder()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        peer = connected(server.sockets[0].getsockname())
        await protocol.called("connection_made")
        during = loop.stats()
        assert during["conns"] == before["conns"] + 1
        assert during["listeners"] == before["listeners"] + 1
        peer.close()
        await protocol.called("connection_lost")
        server.close()
        await server.wait_closed()

    run(loop, main())

    def differences():
        now = loop.stats()
        return {name: now[name] for name in GAUGES if now[name] != before[name]}

    async def settle():
        while differences():
            await asyncio.sleep(0)

    run(loop, settle())


def test_wakes_count_other_threads(loop):
    """Between two calls the loop has nothing to do: it gives up the GIL when it goes to sleep."""
    rounds = 100

    def call_back_and_forth():
        for _ in range(rounds):
            called = threading.Event()
            loop.call_soon_threadsafe(called.set)
            assert called.wait(LIMIT_S)

    run(loop, in_thread(call_back_and_forth))
    assert 0 < loop.stats()["wakes"] <= rounds + 2


def test_an_idle_loop_makes_no_system_calls_for_ready_callbacks(loop):
    """A chain of callbacks needs no kernel: nothing to submit, and nothing is said to have come."""
    left = 10_000

    def again():
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(again)
        else:
            loop.stop()

    before = loop.stats()["enters"]
    loop.call_soon(again)
    loop.run_forever()
    assert loop.stats()["enters"] - before < 100


@pytest.mark.parametrize("options", [{"spin_us": 50}, {"sqpoll": True}, {"spin_us": 20, "entries": 64},
                                     {"buffers": 4, "buffer_size": 4096}, {"sqpoll": True, "sqpoll_idle_ms": 1}])
def test_options(kloop, options):
    loop = kloop.new_event_loop(**options)
    run(loop, exchange(loop))
    stats = loop.stats()
    loop.close()
    if options.get("sqpoll"):
        assert stats["enters_submit"] == 0


def test_spinning_finds_completions(kloop):
    """Both ends are on one loop, so that answers come within the spin."""
    loop = kloop.new_event_loop(spin_us=50)
    run(loop, exchange(loop))
    assert loop.stats()["spins"] >= 0
    loop.close()


@pytest.mark.parametrize("options", [{"nonsense": 1}, {"spin_us": "much"}])
def test_wrong_options(kloop, options):
    with pytest.raises(TypeError):
        kloop.new_event_loop(**options)


@pytest.mark.parametrize("variables", [{"KLOOP_SPIN_US": "50"}, {"KLOOP_SQPOLL": "1"}, {"KLOOP_DRIVER": "auto"},
                                       {"KLOOP_DRIVER": "io_uring"}, {"KLOOP_SQPOLL": "0", "KLOOP_SPIN_US": ""}])
def test_environment_variables(kloop, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    loop = kloop.new_event_loop()
    run(loop, exchange(loop, 20_000))
    if variables.get("KLOOP_SQPOLL") == "1":
        assert loop.stats()["enters_submit"] == 0
    loop.close()


def test_a_driver_that_does_not_exist(kloop, monkeypatch):
    monkeypatch.setenv("KLOOP_DRIVER", "nonsense")
    with pytest.raises(kloop.DriverUnavailable, match="KLOOP_DRIVER='nonsense'.*io_uring"):
        kloop.new_event_loop()


def test_a_spin_that_is_no_number(kloop, monkeypatch):
    monkeypatch.setenv("KLOOP_SPIN_US", "long")
    with pytest.raises(ValueError, match="KLOOP_SPIN_US='long'"):
        kloop.new_event_loop()


@pytest.mark.parametrize("error, cause", [("EPERM", "seccomp"), ("ENOSYS", "kernel")])
def test_where_io_uring_is_blocked(error, cause):
    """The error is an OSError with the kernel's number; its text names the cause and what to do."""
    output = run_python(BLOCK + f"""
import kloop
block_io_uring(errno.{error})
for _ in range(2):
    try:
        kloop.new_event_loop()
    except kloop.DriverUnavailable as exc:
        assert isinstance(exc, OSError)
        assert exc.errno == errno.{error}, exc.errno
        print(exc)
    else:
        raise AssertionError("a loop was made")
""", KLOOP_DRIVER="io_uring")
    first, second = output.splitlines()
    assert first == second
    assert "io_uring" in first
    assert cause in first.lower()


def test_run_where_io_uring_is_blocked():
    """The coroutine is closed by the caller, as with any loop factory that fails; nothing hangs."""
    done = finished(BLOCK + """
import kloop
block_io_uring(errno.EPERM)

async def main():
    print("never")

coroutine = main()
try:
    kloop.run(coroutine)
finally:
    coroutine.close()
""", KLOOP_DRIVER="io_uring")
    assert done.returncode == 1
    assert "DriverUnavailable" in done.stderr
    assert done.stdout == ""
    assert str(errno.EPERM) in done.stderr


def test_trace_of_operations():
    """KLOOP_DEBUG=1 writes what the core does to standard error."""
    done = finished("""
        import asyncio, kloop
        kloop.run(asyncio.sleep(0.001))
        """, KLOOP_DEBUG="1")
    assert done.returncode == 0
    assert done.stderr
