"""Scripts of operations on stock asyncio and on kloop give the same trace.

KLOOP_DIFFERENTIAL=5000   scripts of each kind, instead of what CI has time for
KLOOP_DIFFERENTIAL_SEED=7 other scripts than CI's, which are the same in every run

A failure prints the smallest script that still shows the difference. Put it into KEPT, so that it is run first from
then on.
"""

import asyncio
import contextlib
import logging
import os
import tempfile

import pytest
from hypothesis import HealthCheck, given, seed, settings

from . import compare, datagrams, schedule, servers, sockets, streams
from .world import World

# Each driver has a run of its own (tests/everything.py).
DRIVERS = ["epoll" if os.environ.get("KLOOP_DRIVER") == "epoll" else "io_uring"]
KINDS = {"streams": streams, "datagrams": datagrams, "sockets": sockets, "servers": servers, "schedule": schedule}
IN_CI = 150
SCRIPTS = int(os.environ.get("KLOOP_DIFFERENTIAL", IN_CI))
SEED = int(os.environ.get("KLOOP_DIFFERENTIAL_SEED", 0))
# A script takes some tens of milliseconds on each loop, and shrinking one that fails runs it some hundred times.
TIME_LIMIT_S = 300 + SCRIPTS
# A difference counts if it is there at leisure too: where another process has the core, events come in another order.
PATIENCES = (1, 10)

# Scripts that have shown a difference: (kind, script).
KEPT = [
    # An answer that had arrived was dropped when the write beside it failed.
    ("streams", ((("tcp", False, False, False, False, ()),),
                 (((0, "peer", "send", 100), (0, "peer", "close"), (0, "write", 1048576)),))),
]


@pytest.fixture(params=DRIVERS)
def kloop_loop(request, kloop, monkeypatch):
    """Makes loops on one driver."""
    monkeypatch.setenv("KLOOP_DRIVER", request.param)
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", True)
    with contextlib.closing(kloop.new_event_loop()) as made:
        assert made.driver == request.param
    return kloop.new_event_loop


def trace(new_loop, kind, script, patience):
    """The world after a script."""
    with tempfile.TemporaryDirectory(prefix="kloop-differential-") as folder:
        loop = new_loop()
        try:
            world = World(loop, folder, patience)
            loop.set_exception_handler(world.reported)
            loop.run_until_complete(world.run(kind, script))
            return world
        finally:
            loop.close()


def check(new_loop, kind, script):
    text = ""
    for patience in PATIENCES:
        expected = trace(asyncio.SelectorEventLoop, kind, script, patience)
        text = compare.difference(expected, trace(new_loop, kind, script, patience))
        if not text:
            return
    pytest.fail(f"the traces of this script differ:\n{script!r}\n{text}", pytrace=False)


@pytest.mark.slow
@pytest.mark.timeout(TIME_LIMIT_S)
@pytest.mark.parametrize("name", KINDS)
def test_generated_scripts(kloop_loop, may_be_long, name):
    kind = KINDS[name]

    @settings(max_examples=SCRIPTS, deadline=None, database=None, derandomize=not SEED, print_blob=False,
              report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
    @given(kind.scripts())
    def generated(script):
        check(kloop_loop, kind, script)

    (seed(SEED)(generated) if SEED else generated)()


@pytest.mark.parametrize("name, script", KEPT)
def test_scripts_that_have_shown_a_difference(kloop_loop, name, script):
    check(kloop_loop, KINDS[name], script)


def test_a_difference_is_seen():
    """The comparison itself: other bytes, another order, another error, a missing call."""
    script = ((("tcp", False, False, False, False, ()),), (((0, "peer", "send", 100), (0, "peer", "shutdown")),))
    expected = trace(asyncio.SelectorEventLoop, streams, script, 1)
    assert compare.difference(expected, trace(asyncio.SelectorEventLoop, streams, script, 1)) == ""
    lane = "connection 0"
    for change in (lambda events: events.remove(("eof_received",)),
                   lambda events: events.reverse(),
                   lambda events: events.__setitem__(2, ("data_received", 100, 0)),
                   lambda events: events.__setitem__(-1, ("connection_lost", "OSError(EIO)"))):
        other = trace(asyncio.SelectorEventLoop, streams, script, 1)
        change(other.lanes[lane])
        assert compare.difference(expected, other).startswith(lane)
