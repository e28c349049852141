"""Warnings about what nobody closed."""

import contextlib
import gc
import re
import warnings

import pytest
from driving import run, run_once
from peers import connected, pair
from recorders import Recorder


@pytest.fixture
def separate(kloop):
    """A loop of its own, which the test leaves as it likes."""
    return kloop.new_event_loop


@contextlib.contextmanager
def warned_of(pattern):
    """As pytest.warns, and allows for the warnings that the socket objects give besides."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    messages = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
    assert any(re.match(pattern, message) for message in messages), messages


def test_an_unclosed_loop(separate):
    with pytest.warns(ResourceWarning, match=r"^unclosed event loop <\w+ running=False closed=False debug=False>$"):
        run_once(separate())
        gc.collect()


def test_a_closed_loop_is_not_warned_of(separate, recwarn):
    loop = separate()
    run_once(loop)
    loop.close()
    del loop
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


def test_an_unclosed_transport(separate):
    """Its socket is closed all the same."""
    loop = separate()
    ours, peer = pair()
    _, protocol = run(loop, loop.create_connection(Recorder, sock=ours))
    loop.close()
    del ours
    with warned_of(r"unclosed transport <\w+ fd=\d+"):
        del protocol, _
        gc.collect()
    assert peer.recv(1) == b""
    peer.close()


def test_an_unclosed_accepted_transport(separate):
    loop = separate()
    protocols = [Recorder()]
    server = run(loop, loop.create_server(lambda: protocols[0], "127.0.0.1", 0))
    peer = connected(server.sockets[0].getsockname())
    run(loop, protocols[0].called("connection_made"))
    server.close()
    run_once(loop)
    loop.close()
    del server
    with warned_of(r"unclosed transport <\w+ fd=\d+"):
        protocols.clear()
        gc.collect()
    assert peer.recv(1) == b""
    peer.close()


def test_a_closed_transport_is_not_warned_of(separate, recwarn):
    loop = separate()
    ours, peer = pair()
    transport, protocol = run(loop, loop.create_connection(Recorder, sock=ours))
    transport.close()
    run(loop, protocol.called("connection_lost"))
    loop.close()
    peer.close()
    del transport, protocol, ours
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


def test_a_task_that_is_still_pending_when_the_loop_is_closed(separate, reported_errors):
    loop = separate()

    async def forever():
        await loop.create_future()

    task = loop.create_task(forever())
    run_once(loop)
    loop.close()
    del task
    gc.collect()
    assert [context["message"] for context in reported_errors] == ["Task was destroyed but it is pending!"]
    reported_errors.clear()
