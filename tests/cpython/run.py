"""Runs CPython's test.test_asyncio, one process per file (see __init__.py for usage)."""

import argparse
import concurrent.futures
import contextlib
import fnmatch
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import exclusions  # noqa: E402 (needs the path above)
import report  # noqa: E402
from stand_in import STOCK  # noqa: E402

JOBS = 2
TEST_LIMIT_S = 40  # the slowest, a TLS test with a slow peer, takes about 10 s
LISTED_LIMIT_S = 10  # listed tests may hang: they are only tried
FILE_LIMIT_S = 600
# Each restart follows a test that hung or crashed the process: more are a broken loop.
RESTARTS = 20
LISTED_RESTARTS = 100
# The last lines of a dead child's standard error, where faulthandler's traceback is.
TAIL_LINES = 60


@dataclass
class FileResult:
    """What one file gave. outcomes: test id -> {"outcome", "detail", "seconds"}."""

    name: str
    outcomes: dict = field(default_factory=dict)
    listed: dict = field(default_factory=dict)
    listed_passing: list = field(default_factory=list)
    stock_fails_too: list = field(default_factory=list)
    seconds: float = 0.0

    def count(self, outcome):
        return sum(1 for entry in self.outcomes.values() if entry["outcome"] == outcome)


class FileRun:
    """Runs the tests of one file, in as many processes as it takes."""

    def __init__(self, name, options):
        self.name = name
        self.options = options

    def run(self):
        result = FileResult(self.name)
        started_s = time.monotonic()
        ids = self.list_ids(result)
        to_try = []
        wanted = []
        for test_id in ids:
            if not fnmatch.fnmatch(test_id, self.options.k):
                continue
            entry = exclusions.find(test_id)
            if entry is None or self.options.all:
                wanted.append(test_id)
                continue
            result.listed[test_id] = entry
            if entry.kind.rerun:
                to_try.append(test_id)
        result.outcomes |= self.run_ids(wanted, self.options.loop, self.options.limit_s, RESTARTS)
        if self.options.loop != STOCK:
            self.set_apart_what_stock_fails(result)
        if self.options.try_listed:
            tried = self.run_ids(to_try, self.options.loop, LISTED_LIMIT_S, LISTED_RESTARTS)
            result.listed_passing = sorted(t for t, e in tried.items() if e["outcome"] == "passed")
        result.seconds = time.monotonic() - started_s
        return result

    def list_ids(self, result):
        with self.child(STOCK, FILE_LIMIT_S) as child:
            lines = child.lines()
        if not lines:
            result.outcomes[f"{self.name} (import)"] = failure(child.tail("could not be imported"))
            return []
        if lines[0]["skipped"] and exclusions.find(self.name + ".") is None:
            result.outcomes[f"{self.name} (import)"] = {
                "outcome": "skipped", "detail": lines[0]["skipped"], "seconds": 0}
        return lines[0]["ids"]

    def run_ids(self, ids, loop, limit_s, restarts):
        """Runs tests until each has an outcome or there were too many restarts."""
        left = list(ids)
        outcomes = {}
        for _ in range(restarts + 1):
            if not left:
                return outcomes
            with self.child(loop, limit_s, left) as child:
                lines = child.lines()
            running = None
            for line in lines:
                if "start" in line:
                    running = line["start"]
                elif "id" in line:
                    running = None
                    outcomes[line["id"]] = line
            if running:
                outcomes[running] = failure(child.tail("hung or ended the process"))
            elif not any("done" in line for line in lines):
                outcomes[f"{self.name} (process)"] = failure(child.tail("the process ended between tests"))
            elif set(left) - set(outcomes):
                # A class or module fixture that failed or skipped: its tests have no outcome of their own.
                return outcomes
            left = [test_id for test_id in left if test_id not in outcomes]
        for test_id in left:
            outcomes[test_id] = failure(f"not run: the file's process had to be restarted {restarts} times")
        return outcomes

    def set_apart_what_stock_fails(self, result):
        """Runs failed tests on stock asyncio: what fails there too says nothing of our loop."""
        failed = [t for t, e in result.outcomes.items() if e["outcome"] == "failed" and "(" not in t]
        control = self.run_ids(failed, STOCK, TEST_LIMIT_S, RESTARTS)
        for test_id in failed:
            if control.get(test_id, {}).get("outcome") == "failed":
                result.outcomes[test_id]["outcome"] = "skipped"
                result.stock_fails_too.append(test_id)

    def child(self, loop, limit_s, ids=None):
        return Child(self.name, loop, limit_s, ids, self.options.verbose)


def failure(text):
    return {"outcome": "failed", "detail": text, "seconds": 0}


class Child(contextlib.AbstractContextManager):
    """One process of child.py in a folder and a session of its own."""

    def __init__(self, name, loop, limit_s, ids, verbose):
        self.folder = tempfile.TemporaryDirectory(prefix="kloop-cpython-")
        folder = Path(self.folder.name)
        self.log = folder / "log"
        self.verbose = verbose
        command = [sys.executable, str(HERE / "child.py"), "--loop", loop, "--file", name,
                   "--limit-s", str(limit_s)]
        if ids is not None:
            (folder / "names").write_text("\n".join(ids))
            command += ["--names", str(folder / "names")]
        read_fd, write_fd = os.pipe()
        command += ["--report-fd", str(write_fd)]
        (folder / "cwd").mkdir()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder / "cwd", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=[write_fd], start_new_session=True)
        os.close(write_fd)
        self.read_fd = read_fd

    def lines(self):
        """The report's lines. Ends with the process, or kills it after the file's limit."""
        timer = threading.Timer(FILE_LIMIT_S, self.kill)
        timer.start()
        try:
            with os.fdopen(self.read_fd, encoding="utf-8") as report_pipe:
                text = report_pipe.read()
            self.process.wait()
        finally:
            timer.cancel()
            self.kill()
        # The last line of a process that was killed may be cut.
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def kill(self):
        """Ends the process and what its tests may have left running."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def tail(self, headline):
        lines = self.log_text.splitlines()[-TAIL_LINES:]
        return "\n".join([f"{headline} (exit status {self.process.returncode})", *lines]) + "\n"

    def __exit__(self, *exc):
        self.log_text = self.log.read_text(errors="replace")
        if self.verbose:
            print(self.log_text, flush=True)
        self.folder.cleanup()


def test_files():
    import test.test_asyncio

    folder = Path(test.test_asyncio.__file__).parent
    return sorted(path.stem for path in folder.glob("test_*.py"))


def choose_files(patterns):
    names = test_files()
    chosen = [n for n in names if not patterns or any(fnmatch.fnmatch(n, p) for p in patterns)]
    if not chosen:
        sys.exit(f"no such file; there are: {', '.join(names)}")
    # Long ones first, so that none runs alone at the end.
    first = ["test_ssl", "test_events", "test_tasks", "test_subprocess", "test_sslproto"]
    return sorted(chosen, key=lambda n: first.index(n) if n in first else len(first))


def parse_options(argv):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", help="test files, as patterns (default: all)")
    parser.add_argument("--loop", default="kloop", help="asyncio, or MODULE[:FACTORY] (default: kloop)")
    parser.add_argument("-k", default="*", help="only tests FILE.CLASS.TEST that match this pattern")
    parser.add_argument("--all", action="store_true", help="run listed tests as if they were not listed")
    parser.add_argument("--no-listed", dest="try_listed", action="store_false",
                        help="do not try listed tests to see whether they pass")
    parser.add_argument("--limit-s", type=float, default=TEST_LIMIT_S, help="seconds a test may take")
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("-v", "--verbose", action="store_true", help="show what the tests print")
    parser.add_argument("--json", type=Path, help="write the outcomes to this file")
    return parser.parse_args(argv)


def main(argv=None):
    options = parse_options(argv)
    # A shell ignores SIGINT for what it starts in the background, and children inherit that:
    # tests of KeyboardInterrupt would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    names = choose_files(options.files)
    print(f"CPython {sys.version.split()[0]} test.test_asyncio on {options.loop}, "
          f"{len(names)} files, {options.jobs} at a time", flush=True)
    results = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        runs = [pool.submit(FileRun(name, options).run) for name in names]
        for done in concurrent.futures.as_completed(runs):
            results.append(done.result())
            report.progress(results[-1], len(results), len(names))
    results.sort(key=lambda result: result.name)
    if options.json:
        options.json.write_text(json.dumps({r.name: r.outcomes for r in results}, indent=1))
    return report.summary(results)


if __name__ == "__main__":
    sys.exit(main())
