"""The checks of conftest.py themselves: each kind of leak is found."""

import os
import signal
import socket
import threading

import leaks
import pytest
from kloop import _core


@pytest.fixture
def snapshot(kloop):
    return leaks.Snapshot((_core.Handle, _core.TimerHandle), kloop.Loop)


def found(snapshot, text):
    return [line for line in snapshot.differences() if text in line]


def test_nothing_is_found_where_nothing_is_left(snapshot):
    assert snapshot.differences() == []


def test_an_open_descriptor(snapshot):
    read_fd, write_fd = os.pipe()
    assert len(found(snapshot, "is still open: pipe:")) == 2
    os.close(read_fd)
    os.close(write_fd)
    assert snapshot.differences() == []


def test_a_descriptor_that_was_not_the_test_s_to_close(kloop):
    fd = os.open("/dev/null", os.O_RDONLY)
    snapshot = leaks.Snapshot((_core.Handle,), kloop.Loop)
    os.close(fd)
    assert found(snapshot, f"fd {fd} was closed")


def test_a_loop_that_was_not_closed(kloop, snapshot):
    loop = kloop.new_event_loop()
    assert found(snapshot, "loop was not closed")
    assert found(snapshot, "[io_uring]" if loop.driver == "io_uring" else "[eventpoll]")
    loop.close()
    assert snapshot.differences() == []


def test_a_handle_that_something_keeps(loop, snapshot):
    handles = [loop.call_soon(loop.stop), loop.call_later(60, print)]
    loop.run_forever()
    loop.close()
    assert len(found(snapshot, "handle is still referred to")) == 2
    handles.clear()
    assert found(snapshot, "handle is still") == []


def test_a_thread_that_does_not_end(snapshot, monkeypatch):
    monkeypatch.setattr(leaks, "SETTLE_LIMIT_S", 0.05)
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait, name="left-behind")
    thread.start()
    assert found(snapshot, "thread still runs: left-behind")
    go_on.set()
    thread.join()
    assert snapshot.differences() == []


def test_a_signal_handler_and_a_wakeup_fd(snapshot):
    old = signal.signal(signal.SIGUSR1, lambda *args: None)
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        assert found(snapshot, "handler of SIGUSR1")
        assert found(snapshot, "signal.set_wakeup_fd")
        signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGUSR1, old)
    assert snapshot.differences() == []


def test_a_connection_left_on_the_loop(loop, idle_gauges, monkeypatch):
    monkeypatch.setattr(leaks, "SETTLE_LIMIT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        transport, _ = loop.run_until_complete(loop.connect_accepted_socket(_Ignore, accepted))
        assert leaks.settle(loop, idle_gauges) == {"conns": (1, 0)}
        transport.abort()
        monkeypatch.undo()
        assert leaks.settle(loop, idle_gauges) == {}


class _Ignore:
    def connection_made(self, transport):
        pass

    def connection_lost(self, exc):
        pass

    def data_received(self, data):
        pass
