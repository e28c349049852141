"""Runs the tests of one file of test.test_asyncio, and reports each as a line of JSON.

A test that exceeds its time limit ends the whole process, after a traceback of all
threads (faulthandler, which needs no co-operation of Python code). The parent sees
the test that started and never ended, and starts a child for the rest.
"""

import argparse
import faulthandler
import importlib
import json
import os
import sys
import time
import unittest
from pathlib import Path

from test import support

# Not "network": no test may reach beyond this machine.
GRANTED_RESOURCES = {"cpu", "walltime", "subprocess", "largefile"}


class Reporter(unittest.TestResult):
    """Writes {"start": id} and {"id", "outcome", "seconds", "detail"} lines."""

    def __init__(self, stream, limit_s):
        super().__init__()
        self.report = stream
        self.limit_s = limit_s
        self.outcome = None

    def send(self, **fields):
        self.report.write(json.dumps(fields) + "\n")
        self.report.flush()

    def startTest(self, test):
        super().startTest(test)
        self.outcome, self.detail = "passed", ""
        self.started_s = time.monotonic()
        self.send(start=short_id(test.id()))
        print(f"--- {test.id()}", file=sys.stderr, flush=True)
        faulthandler.dump_traceback_later(self.limit_s, exit=True)

    def stopTest(self, test):
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)
        self.send(
            id=short_id(test.id()),
            outcome=self.outcome,
            detail=self.detail,
            seconds=round(time.monotonic() - self.started_s, 3),
        )
        self.outcome = None

    def fail(self, test, err):
        text = self._exc_info_to_string(err, test)
        print(text, file=sys.stderr, flush=True)
        if self.outcome is None:  # in setUpClass, tearDownModule and the like
            self.send(id=short_id(test.id()), outcome="failed", detail=text, seconds=0)
        else:
            self.outcome, self.detail = "failed", self.detail + text

    addError = addFailure = fail

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.fail(test, err)

    def addSkip(self, test, reason):
        if self.outcome is None:
            self.send(id=short_id(test.id()), outcome="skipped", detail=reason, seconds=0)
        elif self.outcome == "passed":
            self.outcome, self.detail = "skipped", reason

    def addUnexpectedSuccess(self, test):
        self.outcome, self.detail = "failed", "passed, but CPython expects it to fail"


def short_id(test_id):
    return test_id.replace("test.test_asyncio.", "")


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def load(module_name):
    """All test cases of the file; none, and the reason, if the file skips itself."""
    try:
        module = importlib.import_module(f"test.test_asyncio.{module_name}")
    except unittest.SkipTest as exc:
        return [], str(exc)
    return list(flatten(unittest.defaultTestLoader.loadTestsFromModule(module))), ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", required=True)
    parser.add_argument("--file", required=True)
    parser.add_argument("--limit-s", type=float, required=True)
    parser.add_argument("--report-fd", type=int, required=True)
    parser.add_argument("--names", help="file with the ids to run, one a line (default: list ids)")
    args = parser.parse_args()

    faulthandler.enable()
    os.set_inheritable(args.report_fd, False)
    report = os.fdopen(args.report_fd, "w")
    # Not at the top: processes that multiprocessing spawns import this file, from elsewhere.
    import stand_in

    sys.path.pop(0)  # this folder: its names are not for the tests
    support.use_resources = GRANTED_RESOURCES
    stand_in.install(args.loop)
    cases, skipped = load(args.file)
    if args.names is None:
        ids = [short_id(case.id()) for case in cases]
        report.write(json.dumps({"ids": ids, "skipped": skipped}) + "\n")
        report.close()
        return
    wanted = set(Path(args.names).read_text().split("\n"))
    reporter = Reporter(report, args.limit_s)
    unittest.TestSuite(case for case in cases if short_id(case.id()) in wanted).run(reporter)
    report.write(json.dumps({"done": True}) + "\n")
    report.flush()
    # What tests leave behind (threads, loops) must not hold up or crash the exit.
    faulthandler.dump_traceback_later(args.limit_s, exit=True)


if __name__ == "__main__":
    main()
