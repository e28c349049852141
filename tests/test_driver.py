"""Which driver carries a loop, its options, its counters, and what happens where there is none."""

import asyncio
import os
import socket
import threading
import time

import pytest
from children import finished
from driving import LIMIT_S, in_thread, run
from peers import connected, pattern
from recorders import Echo, Recorder

COUNTERS = (
    "enters", "enters_submit", "enters_wait", "enters_wakeup", "submitted", "completions", "overflows",
    "bytes_received", "bytes_sent", "rearms", "nobufs", "short_sends", "direct_sends", "wakes", "accepts",
    "polls", "spins",
)
GAUGES = ("conns", "listeners", "watches", "buffers_out", "owners_out", "operations")

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
    asked = os.environ.get("KLOOP_DRIVER") or "auto"
    assert loop.driver == ("io_uring" if asked == "auto" else asked)
    assert isinstance(loop.driver_reason, str) and loop.driver_reason


def test_counters(loop):
    before = loop.stats()
    assert tuple(before) == (*COUNTERS, *GAUGES, "go_heap", "tls_kernel", "tls_go", "tls_ssl", "lookups")
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
    """A chain of callbacks needs no kernel: nothing to submit, and nothing is said to have come.

    With epoll only a look tells that, so there is one every 20 µs.
    """
    left = 10_000

    def again():
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(again)
        else:
            loop.stop()

    before, started_s = loop.stats()["enters"], time.monotonic()
    loop.call_soon(again)
    loop.run_forever()
    looks = (time.monotonic() - started_s) / 20e-6 if loop.driver == "epoll" else 0
    assert loop.stats()["enters"] - before < 100 + looks


def test_a_storm_of_callbacks_does_not_keep_io_from_its_turn(loop):
    """Each callback schedules the next, so that nothing ever sleeps."""
    reading, writing = socket.socketpair()
    turns = 0
    before = 0

    def storm():
        nonlocal turns
        turns += 1
        if turns == 1000:
            writing.send(b"x")
        loop.call_soon(storm)

    def readable():
        nonlocal before
        before = turns
        loop.stop()

    loop.add_reader(reading, readable)
    loop.call_soon(storm)
    late = loop.call_later(LIMIT_S, pytest.fail, "nothing was read")
    started_s = time.monotonic()
    loop.run_forever()
    took_s = time.monotonic() - started_s
    late.cancel()
    loop.remove_reader(reading)
    reading.close()
    writing.close()
    assert before >= 1000
    assert took_s < LIMIT_S / 2


RING = {"driver": "io_uring"}


@pytest.mark.parametrize("options", [
    {"spin_us": 50}, {"spin_us": 20, "entries": 64}, {"buffers": 4, "buffer_size": 4096},
    {**RING, "sqpoll": True}, {**RING, "sqpoll": True, "sqpoll_idle_ms": 1}])
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


@pytest.mark.parametrize("variables", [
    {"KLOOP_SPIN_US": "50"}, {"KLOOP_DRIVER": "auto", "KLOOP_SQPOLL": "1"}, {"KLOOP_DRIVER": "auto"},
    {"KLOOP_DRIVER": "io_uring"}, {"KLOOP_DRIVER": "epoll"}, {"KLOOP_DRIVER": "epoll", "KLOOP_SPIN_US": "50"},
    {"KLOOP_DRIVER": ""}, {"KLOOP_SQPOLL": "0", "KLOOP_SPIN_US": ""}])
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
    with pytest.raises(kloop.DriverUnavailable, match="KLOOP_DRIVER='nonsense'.*io_uring or epoll"):
        kloop.new_event_loop()


def test_an_option_that_names_no_driver(kloop):
    with pytest.raises(ValueError, match="driver='nonsense'.*'auto', 'io_uring', 'epoll'"):
        kloop.new_event_loop(driver="nonsense")


def test_epoll_has_no_submission_thread(kloop, monkeypatch):
    with pytest.raises(ValueError, match="sqpoll=True.*driver='epoll'"):
        kloop.new_event_loop(driver="epoll", sqpoll=True)
    monkeypatch.setenv("KLOOP_DRIVER", "epoll")
    monkeypatch.setenv("KLOOP_SQPOLL", "1")
    with pytest.raises(ValueError, match="sqpoll=True.*driver='epoll'"):
        kloop.new_event_loop()


@pytest.mark.parametrize("variable", ["auto", "io_uring", "epoll"])
@pytest.mark.parametrize("driver", ["io_uring", "epoll"])
def test_the_option_is_stronger_than_the_variable(kloop, monkeypatch, variable, driver):
    monkeypatch.setenv("KLOOP_DRIVER", variable)
    loop = kloop.new_event_loop(driver=driver)
    assert loop.driver == driver
    assert "asked for" in loop.driver_reason
    run(loop, exchange(loop, 20_000))
    loop.close()


def test_a_spin_that_is_no_number(kloop, monkeypatch):
    monkeypatch.setenv("KLOOP_SPIN_US", "long")
    with pytest.raises(ValueError, match="KLOOP_SPIN_US='long'"):
        kloop.new_event_loop()


def test_trace_of_operations():
    """KLOOP_DEBUG=1 writes what the core does to standard error."""
    done = finished("""
        import asyncio, kloop
        kloop.run(asyncio.sleep(0.001))
        """, KLOOP_DEBUG="1")
    assert done.returncode == 0
    assert done.stderr
