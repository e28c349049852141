"""Debug mode: slow callbacks, calls from the wrong thread, and where coroutines came from."""

import asyncio
import logging
import re
import sys

import pytest
from driving import joined, run, run_once, turns
from peers import pair
from recorders import Recorder


@pytest.fixture
def debugged(loop):
    loop.set_debug(True)
    return loop


def slow_messages(caplog):
    messages = [record.message for record in caplog.records if record.message.startswith("Executing ")]
    caplog.clear()
    return messages


def callback():
    """Takes no time."""


def test_set_debug(loop):
    assert loop.get_debug() is False or sys.flags.dev_mode
    loop.set_debug(True)
    assert loop.get_debug() is True
    assert "debug=True" in repr(loop)
    loop.set_debug(False)
    assert loop.get_debug() is False


def test_the_environment_sets_debug_mode(kloop, monkeypatch):
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    loop = kloop.new_event_loop()
    assert loop.get_debug() is True
    loop.close()


def test_a_slow_callback_is_logged(debugged, caplog):
    debugged.slow_callback_duration = 0
    debugged.call_soon(callback)
    with caplog.at_level(logging.WARNING, "asyncio"):
        run_once(debugged)
    first = slow_messages(caplog)[0]
    assert re.match(r"Executing <Handle callback\(\) at .*test_debug\.py:\d+ created at .*> took \d+\.\d{3} seconds$",
                    first)


def test_a_slow_task_is_logged_by_its_name(debugged, caplog):
    async def busy():
        """Takes no time, but the limit is none either."""

    debugged.slow_callback_duration = 0
    with caplog.at_level(logging.WARNING, "asyncio"):
        run(debugged, busy())
    assert any(message.startswith("Executing <Task ") for message in slow_messages(caplog))


def test_a_quick_callback_is_not_logged(debugged, caplog):
    debugged.slow_callback_duration = 60
    debugged.call_soon(callback)
    with caplog.at_level(logging.WARNING, "asyncio"):
        run_once(debugged)
    assert slow_messages(caplog) == []


def test_without_debug_mode_nothing_is_logged(loop, caplog):
    loop.set_debug(False)
    loop.slow_callback_duration = 0
    loop.call_soon(callback)
    with caplog.at_level(logging.DEBUG, "asyncio"):
        run_once(loop)
    assert slow_messages(caplog) == []


def test_a_slow_protocol_is_logged(debugged, caplog):
    """Data, the end of the stream and the closing each call the protocol."""
    debugged.slow_callback_duration = 0

    async def main():
        ours, peer = pair()
        _, protocol = await debugged.create_connection(Recorder, sock=ours)
        caplog.clear()
        peer.sendall(b"data")
        await protocol.received(4)
        peer.close()
        await protocol.called("connection_lost")

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(debugged, main())
    assert slow_messages(caplog)


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_calls_from_the_wrong_thread(debugged, method):
    async def main():
        arguments = (callback,) if method == "call_soon" else (0, callback)

        def attempt():
            with pytest.raises(RuntimeError, match="^Non-thread-safe operation invoked on an event loop "
                                                   "other than the current one$"):
                getattr(debugged, method)(*arguments)

        joined(attempt)

    run(debugged, main())


def test_without_debug_mode_the_thread_is_not_checked(loop):
    loop.set_debug(False)

    async def main():
        joined(loop.call_soon, callback)
        await turns()

    run(loop, main())


def test_coroutine_origins_are_tracked_while_it_runs(debugged):
    before = sys.get_coroutine_origin_tracking_depth()

    async def main():
        return sys.get_coroutine_origin_tracking_depth()

    assert run(debugged, main()) > before
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_a_connection_in_debug_mode(debugged, caplog):
    """Each path that logs something is taken once."""

    async def main():
        server = await debugged.create_server(Recorder, "127.0.0.1", 0)
        transport, protocol = await debugged.create_connection(
            lambda: Recorder(keep_open=True), *server.sockets[0].getsockname())
        transport.pause_reading()
        transport.resume_reading()
        transport.write(b"data" * 1000)
        transport.write_eof()
        await protocol.called("eof_received")
        transport.close()
        await protocol.called("connection_lost")
        server.close()
        await server.wait_closed()

    with caplog.at_level(logging.DEBUG, "asyncio"):
        run(debugged, main())
    messages = [record.message for record in caplog.records]
    for expected in ("got a new connection from", "pauses reading", "resumes reading", "received EOF"):
        assert any(expected in message for message in messages), expected


def test_debug_mode_by_asyncio_run_arguments(kloop):
    async def main():
        return asyncio.get_running_loop().get_debug()

    if hasattr(kloop, "run"):
        assert kloop.run(main(), debug=True) is True
