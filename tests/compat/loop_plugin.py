"""The pytest plugin inside each suite's process: puts the loop in place, reports each test.

The environment says what to do:
    COMPAT_LOOP     which loop asyncio's ways of making one lead to (see cpython/stand_in.py)
    COMPAT_REPORT   the file for lines of JSON: {"start": id}, {"id", "outcome", "detail"}
    COMPAT_ONLY     a file with the ids of tests to run, one a line; or not set: all
    COMPAT_WITHOUT  a file with the ids of tests that are not to be run
    COMPAT_LIMIT_S  seconds a test may take before the process ends with a traceback

A test that hangs can't be interrupted from within, whatever it hangs in: faulthandler ends the
process, and the runner starts another one for the rest.
"""

import faulthandler
import importlib
import json
import os
import re
import sys
from pathlib import Path

import pytest

# For files under tests/compat and tests/cpython, in environments that know nothing of them.
sys.path.append(str(Path(__file__).resolve().parent.parent / "cpython"))
import stand_in

DETAIL_CHARACTERS = 4000
# The process's own, before pytest captures what tests write.
STDERR = os.dup(2)
ADDRESS = re.compile(r"0x[0-9a-f]{4,}")


class Reporter:
    """Writes what became of each test."""

    def __init__(self, path, limit_s):
        self.stream = open(path, "a", encoding="utf-8")  # noqa: SIM115 (open as long as the process)
        os.set_inheritable(self.stream.fileno(), False)
        self.pid = os.getpid()
        self.limit_s = limit_s
        self.outcome = None

    def send(self, **fields):
        if os.getpid() == self.pid:     # not a forked child that came back into pytest
            self.stream.write(json.dumps(fields) + "\n")
            self.stream.flush()

    def pytest_runtest_logstart(self, nodeid, location):
        self.outcome, self.detail = "passed", ""
        self.send(start=stable(nodeid))
        faulthandler.dump_traceback_later(self.limit_s, file=STDERR, exit=True)

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.outcome, self.detail = "failed", self.detail + report.longreprtext
        elif report.skipped and self.outcome == "passed":
            self.outcome, self.detail = "skipped", str(report.longrepr)

    def pytest_runtest_logfinish(self, nodeid, location):
        faulthandler.cancel_dump_traceback_later()
        self.send(id=stable(nodeid), outcome=self.outcome, detail=self.detail[-DETAIL_CHARACTERS:])

    def pytest_collectreport(self, report):
        if report.failed:
            self.send(id=f"{report.nodeid} (import)", outcome="failed",
                      detail=report.longreprtext[-DETAIL_CHARACTERS:])

    def pytest_sessionfinish(self, session, exitstatus):
        self.send(done=int(exitstatus))
        # What tests leave behind (threads, loops) must not hold up the exit.
        faulthandler.dump_traceback_later(self.limit_s, file=STDERR, exit=True)


def stable(nodeid):
    """A test's id without the addresses of objects, which some parameters show."""
    return ADDRESS.sub("0x", nodeid)


def ids_in(variable):
    path = os.environ.get(variable)
    return None if path is None else set(Path(path).read_text().split("\n"))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config):
    """Before any module of the suite is imported, which may keep asyncio's functions."""
    stand_in.install(os.environ["COMPAT_LOOP"])
    extra = os.environ.get("COMPAT_EXTRA")
    if extra:
        importlib.import_module(extra).install(os.environ["COMPAT_LOOP"])


def pytest_configure(config):
    if not config.option.collectonly:
        reporter = Reporter(os.environ["COMPAT_REPORT"], float(os.environ["COMPAT_LIMIT_S"]))
        config.pluginmanager.register(reporter, "compat-reporter")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    only, without = ids_in("COMPAT_ONLY"), ids_in("COMPAT_WITHOUT")
    chosen = [item for item in items
              if (only is None or stable(item.nodeid) in only)
              and (without is None or stable(item.nodeid) not in without)]
    if len(chosen) < len(items):
        items[:] = chosen
