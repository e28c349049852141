"""Fixtures for every test: a loop, and checks that the test leaves nothing behind.

A test fails, whatever else it asserts, if after it a descriptor, thread, signal handler,
unclosed loop or Handle is left; if a loop of the `loop` fixture still has connections,
listeners, watches, receive buffers or write owners; if a kloop loop's default exception
handler was called (unless the test asks for `reported_errors`); or on any warning, such as
a ResourceWarning, or an exception in a destructor or a thread.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib.util
import os
from pathlib import Path

import certificates
import leaks
import pytest
from peers import FILE_SIZE, pattern
from resolving import hosts, resolver, server  # noqa: F401 (fixtures)

NEEDS_NO_KLOOP = Path(__file__).parent / "build"
# Every test runs on each driver: tests/everything.py runs all of them twice.
DRIVER = os.environ.get("KLOOP_DRIVER") or "auto"


def pytest_collection_modifyitems(items):
    """Tests of the build, which are slow, come last. Those of a ring are left out on epoll."""
    items.sort(key=lambda item: NEEDS_NO_KLOOP in item.path.parents)
    for item in items:
        if DRIVER == "epoll" and item.get_closest_marker("io_uring"):
            item.add_marker(pytest.mark.skip(reason="is about io_uring"))


@pytest.fixture(scope="session")
def kloop():
    """The package, with its library loaded: the Go runtime's own descriptors are no leak, nor those of the
    background loop, which the first name that is not known starts."""
    import kloop

    loop = kloop.new_event_loop()
    try:
        with kloop.Resolver(["127.0.0.1:1"], file=None, attempts=1) as resolver, contextlib.suppress(OSError):
            loop.run_until_complete(resolver.resolve("nobody.invalid"))
    finally:
        loop.close()
    return kloop


@pytest.fixture(scope="session")
def idle_gauges(kloop):
    """The gauges of a loop on which nothing was opened."""
    idle = kloop.new_event_loop()
    try:
        return leaks.gauges(idle)
    finally:
        idle.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """For "localhost"."""
    return certificates.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def content(tmp_path):
    """A file with FILE_SIZE bytes, open for reading, and the bytes."""
    data = pattern(FILE_SIZE)
    path = tmp_path / "content"
    path.write_bytes(data)
    with open(path, "rb") as file:
        yield file, data


@pytest.fixture
def reported_errors():
    """The contexts that loops gave their default exception handler during the test.

    To ask for this fixture is to say that there are some: assert which.
    """
    return []


@pytest.fixture(autouse=True)
def leaves_nothing(request, monkeypatch):
    """Fails the test for what it leaves behind."""
    if NEEDS_NO_KLOOP in request.path.parents:
        yield
        return
    kloop = request.getfixturevalue("kloop")
    from kloop import _core

    expected = "reported_errors" in request.fixturenames
    reports = request.getfixturevalue("reported_errors") if expected else []
    monkeypatch.setattr(
        kloop.Loop, "default_exception_handler", lambda loop, context: reports.append(context))
    gc.collect()
    before = leaks.Snapshot((_core.Handle, _core.TimerHandle), kloop.Loop)
    yield
    found = before.differences()
    if not expected:
        found += [f"the loop's exception handler was called: {context!r}" for context in reports]
    if found:
        pytest.fail("left behind by the test:\n  " + "\n  ".join(found), pytrace=False)


@pytest.fixture
def may_be_long():
    """For a test whose own time limit is above pytest's limit for all, after which the process ends."""
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def loop(kloop, idle_gauges, leaves_nothing):
    """A new kloop loop, closed afterwards. What the test opened on it must be closed by then."""
    made = kloop.new_event_loop()
    yield made
    if made.is_closed():
        return
    try:
        in_use = leaks.settle(made, idle_gauges)
        made.run_until_complete(made.shutdown_asyncgens())
        made.run_until_complete(made.shutdown_default_executor())
    finally:
        made.close()
    if in_use:
        pytest.fail(f"left on the loop by the test (now, and on an idle loop): {in_use}", pytrace=False)


def pytest_report_header():
    """Says on what the tests run, since much depends on the kernel."""
    if importlib.util.find_spec("kloop") is None:
        return "kloop is not built: run `make build`"
    import platform

    return f"kernel: {platform.release()}, KLOOP_DRIVER: {DRIVER}"
