"""Runs other projects' test suites on several loops and compares them (see __init__.py for usage)."""

import argparse
import concurrent.futures
import contextlib
import fnmatch
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import cpython_suite  # noqa: E402 (needs the path above)
import environments  # noqa: E402
import report  # noqa: E402
import verdict  # noqa: E402
from file_run import run_file  # noqa: E402
from servers import SERVERS, NotHere  # noqa: E402
from suites import SUITES  # noqa: E402

CONTROL = "asyncio"
OURS = "kloop"
JOBS = 2


class SuiteRun:
    """One suite on all loops."""

    def __init__(self, suite, loops, jobs, control=None, only=""):
        self.suite = suite
        self.only = only        # files whose names this pattern matches anywhere
        self.loops = loops
        self.control = control  # what an earlier run has found on asyncio, or None
        # Tests that share one database or server would meet each other's data.
        self.jobs = 1 if suite.needs else jobs
        self.outcomes = {}      # loop -> id -> {"outcome", "detail"}
        self.seconds = {}
        self.notes = []

    def run(self):
        """Answers why the suite can't be run, or None."""
        suite = self.suite
        if sys.version_info[:2] < suite.since:
            return f"{suite.requirement} needs Python {'.'.join(map(str, suite.since))}"
        try:
            self.python = environments.suite_environment(suite)
            self.folder = environments.workplace(suite)
            if not self.files():
                return f"no test file of its matches --files {self.only}"
            with self.server() as (variables, arguments):
                self.server_variables, self.arguments = variables, (*suite.arguments, *arguments)
                for loop in self.loops:
                    self.run_on(loop)
                self.settle()
        except (NotHere, subprocess.SubprocessError) as exc:
            return str(exc)
        return None

    def server(self):
        if not self.suite.needs:
            return contextlib.nullcontext(({}, ()))
        return SERVERS[self.suite.needs]()

    def files(self):
        """The test files, the largest first, so that none runs alone at the end."""
        found = {path for pattern in self.suite.files for path in self.folder.glob(pattern)}
        names = {str(path.relative_to(self.folder)): path.stat().st_size for path in found}
        kept = [name for name in names if re.search(self.only, name)
                and not any(fnmatch.fnmatch(name, pattern) for pattern in self.suite.without)]
        return sorted(kept, key=lambda name: (-names[name], name))

    def run_on(self, loop):
        if loop in environments.COMPARED and environments.compared_loop(loop) is None:
            self.note(f"{loop} can't be installed for this Python")
            return
        started_s = time.monotonic()
        if loop == CONTROL and self.control is not None:
            self.outcomes[loop] = {test_id: entry for test_id, entry in self.control.items()
                                   if re.search(self.only, test_id.partition("::")[0])}
            self.seconds[loop] = 0
            return
        outcomes, files = {}, self.files()
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            runs = {pool.submit(self.run_file, loop, name): name for name in files}
            for number, done in enumerate(concurrent.futures.as_completed(runs), 1):
                found = done.result()
                outcomes |= found
                counts = Counter(entry["outcome"] for entry in found.values())
                print(f"[{number}/{len(files)}] {self.suite.name} on {loop}: {runs[done]}: "
                      f"{report.counted(counts)}", flush=True)
        self.outcomes[loop] = outcomes
        self.seconds[loop] = time.monotonic() - started_s

    def run_file(self, loop, name, only=None):
        variables = {**environments.variables(self.suite, loop), **self.server_variables}
        return run_file(self.python, self.folder, name, variables, self.arguments, only)

    def settle(self):
        control = self.outcomes[CONTROL]
        for loop, outcomes in self.outcomes.items():
            if loop != CONTROL:
                verdict.settle(self.suite.name, control, outcomes, self.run_alone(loop), self.note)

    def run_alone(self, loop):
        def run(on_control, test_id):
            name = test_id.partition("::")[0].removesuffix(" (import)").removesuffix(" (process)")
            only = {test_id} if "::" in test_id else None
            found = self.run_file(CONTROL if on_control else loop, name, only)
            # A process or an import that goes well has no entry.
            missing = "failed" if only else "passed"
            return found.get(test_id, {"outcome": missing, "detail": "there is no such test"})
        return run

    def note(self, text):
        self.notes.append(text)
        print(text, flush=True)


def parse_options(argv):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", help=f"cpython, {', '.join(SUITES)} (default: all)")
    parser.add_argument("--compare", action="store_true", help="on uvloop and rloop too")
    parser.add_argument("--pythons", nargs="*", default=[], metavar="3.x",
                        help="run CPython's own suite with these Pythons instead of this one, "
                             "fetched where they are not here")
    parser.add_argument("--files", default="", metavar="REGEX", help="only test files whose names it matches anywhere")
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--json", type=Path, default=environments.WORK / "results.json",
                        help="where the outcomes are written (default: build/compat/results.json)")
    parser.add_argument("--control", type=Path, metavar="JSON",
                        help="an earlier run's outcomes, whose tests on asyncio are not run once more")
    options = parser.parse_args(argv)
    unknown = set(options.suites) - {"cpython", *SUITES}
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    return options


def earlier_control(path, suite):
    """What the run that wrote this file has found on asyncio, as SuiteRun keeps it; None where it has not run it."""
    found = json.loads(path.read_text())["outcomes"].get(suite, {}).get(CONTROL)
    return found and {test_id: {"outcome": outcome, "detail": ""} for test_id, outcome in found.items()}


def main(argv=None):
    options = parse_options(argv)
    # A shell ignores SIGINT for what it starts in the background, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    loops = [CONTROL, OURS, *(environments.COMPARED if options.compare else ())]
    chosen = options.suites or ["cpython", *SUITES]
    summary = report.Summary(loops)
    for name in chosen:
        if name == "cpython":
            cpython_suite.run(summary, loops, options.pythons)
            continue
        control = earlier_control(options.control, name) if options.control else None
        run = SuiteRun(SUITES[name], loops, options.jobs, control, options.files)
        summary.add(run, run.run())
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(summary.as_json(), indent=1))
    return summary.finish(OURS)


if __name__ == "__main__":
    sys.exit(main())
