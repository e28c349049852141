"""Runs every check and test of the project, and says at the end how many tests there were.

    tests/everything.py          `make test`
    tests/everything.py check    `make check`: linters and type checks only

OTHER_PYTHONS="3.14" runs CPython's suite with these too: `make test OTHER_PYTHONS=3.14`, as in CI.

Each step's output is shown as it comes. A step that fails does not keep the others from
being run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PUBLIC_TYPES = "python/kloop"
LINTED = ["setup.py", "build_backend", "python", "tests", "bench", "examples"]

GO_FOLDERS = ["uring", "epoll", "core", "ktls", "dns", "pybridge", "bench", "examples"]
# gofmt names the files it would change, and succeeds all the same.
GOFMT = 'found=$(gofmt -l "$@") && echo "$found" && test -z "$found"'

GO_OUTCOMES = {"pass": "passed", "fail": "failed", "skip": "skipped"}
OUTCOMES = ("passed", "failed", "skipped")
# The first is what the machine can best; it is taken where it is there.
DRIVERS = ("auto", "epoll")

# The simulation ends after so many seeds, or so much time on a slow machine.
SIM_SEEDS, SIM_LIMIT = 200_000, "5m"

# No step may hold up CI, which has 60 minutes for all of them.
STEP_LIMIT_S = 1500

# Versions whose test_asyncio is run beside the running Python's; where they are not here they are fetched.
OTHER_PYTHONS = "OTHER_PYTHONS"


class Steps:
    """Runs steps and keeps their results and counts."""

    def __init__(self):
        self.results: list[tuple[str, bool, float, Counter]] = []
        self.totals: Counter = Counter()

    def run(self, name, command, count=None):
        """Runs a command. count: a function that answers a Counter once it has ended."""
        print(f"\n== {name}: {' '.join(map(str, command))}", flush=True)
        started_s = time.monotonic()
        try:
            status = subprocess.run(command, cwd=ROOT, timeout=STEP_LIMIT_S).returncode
        except subprocess.TimeoutExpired:
            print(f"{name}: stopped after {STEP_LIMIT_S} s", flush=True)
            status = 1
        self.add(name, status == 0, started_s, count)

    def run_go_tests(self, name, command):
        """Runs `go test -json`, shows what fails, one line per package, and counts tests."""
        print(f"\n== {name}: {' '.join(command)}", flush=True)
        started_s = time.monotonic()
        counts: Counter = Counter()
        output: dict = {}
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        timer = threading.Timer(STEP_LIMIT_S, process.kill)
        timer.start()
        with process.stdout as stream:
            for line in stream:
                self.go_event(line, counts, output)
        status = process.wait()
        timer.cancel()
        self.add(name, status == 0, started_s, lambda: counts)

    def go_event(self, line, counts, output):
        try:
            event = json.loads(line)
        except ValueError:
            print(line, end="", flush=True)
            return
        key = (event.get("Package") or event.get("ImportPath"), event.get("Test"))
        action = event["Action"]
        if action in ("output", "build-output"):
            output.setdefault(key, []).append(event["Output"])
        elif action in ("pass", "fail", "skip", "build-fail"):
            lines = output.pop(key, [])
            if action == "fail" and not event.get("Test"):
                # What a test had printed when the process ended under it, by a panic or the time limit.
                for other in [k for k in output if k[0] == key[0]]:
                    lines = output.pop(other) + lines
            if event.get("Test"):
                counts[GO_OUTCOMES[action]] += 1
            if action in ("fail", "build-fail"):
                print("".join(lines), end="", flush=True)
            elif not event.get("Test"):
                print("".join(lines[-1:]), end="", flush=True)  # "ok  package  1.2s"

    def add(self, name, passed, started_s, count):
        counts = count() if count else Counter()
        if not passed and not counts["failed"]:
            counts["failed"] = 1  # a failure outside any test: a compile error, a linter's finding
        self.totals.update(counts)
        self.results.append((name, passed, time.monotonic() - started_s, counts))

    def finish(self):
        """Prints the summary, whose last line counts the tests, if any; answers the exit status."""
        width = max(len(name) for name, *_ in self.results)
        print("\n== summary")
        for name, passed, seconds, counts in self.results:
            text = ", ".join(f"{counts[key]} {key}" for key in OUTCOMES) if any(counts.values()) else ""
            print(f"{'ok    ' if passed else 'FAILED'}  {name:{width}}  {seconds:6.1f} s  {text}")
        if any(self.totals.values()):
            print("\n" + ", ".join(f"{self.totals[key]} {key}" for key in OUTCOMES))
        return 0 if all(passed for _, passed, *_ in self.results) else 1


# What comes from the network, and the files that people write. More are fuzzed by hand: see docs/dns.md.
FUZZED = ("FuzzMessage", "FuzzResolvConf", "FuzzHosts", "FuzzServices")
# About a minute. Counted, as `go test` can fail at the end of a time by its own context, without an input that fails.
FUZZ_TIME = "700000x"


def existing(names):
    """A source distribution, for one, lacks some folders."""
    return [name for name in names if (ROOT / name).exists()]


def check(steps, python):
    """Linters and type checks."""
    steps.run("gofmt", ["sh", "-c", GOFMT, "gofmt", *existing(GO_FOLDERS)])
    steps.run("go vet", ["go", "vet", "./..."])
    steps.run("staticcheck", ["staticcheck", "./..."])
    steps.run("ruff", [python, "-m", "ruff", "check", *existing(LINTED)])
    steps.run("mypy", [python, "-m", "mypy", "--strict", PUBLIC_TYPES])
    steps.run("stubtest", [python, "-m", "mypy.stubtest", "--ignore-disjoint-bases",
                             "--mypy-config-file", "pyproject.toml", "--ignore-unused-allowlist",
                             "--allowlist", "tests/stubtest-allowlist.txt", "kloop._core"])


def junit_counts(path):
    """The totals in a JUnit file of pytest."""
    counts: Counter = Counter()
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        total, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        counts.update(passed=total - skipped - failed, failed=failed, skipped=skipped)
    return counts


def cpython_counts(path):
    """The totals in the file that tests/cpython/run.py writes."""
    files = json.loads(path.read_text()).values()
    return Counter(entry["outcome"] for outcomes in files for entry in outcomes.values())


def compat_counts(path):
    """The totals on kloop in the file that tests/compat/run.py writes.

    A test that fails on stock asyncio too says nothing of our loop, and counts as skipped.
    """
    counts: Counter = Counter()
    for row in json.loads(path.read_text())["table"]:
        if row["loop"] == "kloop":
            passed_too, base = row["of_asyncio"]
            failed = base - passed_too
            counts.update(passed=row["passed"], failed=failed,
                          skipped=row["skipped"] + row["failed"] - failed)
    return counts


def guest_counts(folder):
    """The totals in the files that tests/guest/run_python.py writes."""
    counts = [junit_counts(path) for path in folder.glob("guest-*.xml")]
    return sum(counts + [cpython_counts(path) for path in folder.glob("guest-*.json")], Counter())


def test(steps, python, folder):
    steps.run_go_tests("go test", ["go", "test", "-race", "-timeout=300s", "-json", "./..."])
    steps.run_go_tests("go test in a guest with kernel TLS", [python, "tests/guest/run_go.py"])
    steps.run("Python in a guest with kernel TLS", [python, "tests/guest/run_python.py", f"--junitxml={folder}"],
              lambda: guest_counts(folder))
    steps.run("simulation", ["go", "test", "-C", "core", "-count=1", "-timeout=0", "-run=^TestSimulation$",
                             "-args", f"-sim.seeds={SIM_SEEDS}", f"-sim.time={SIM_LIMIT}"])
    steps.run("simulation of mutants", [python, "tests/sim_mutants.py"])
    for target in FUZZED:
        steps.run(f"fuzz {target}", ["go", "test", "./dns", "-run=^$", f"-fuzz=^{target}$", f"-fuzztime={FUZZ_TIME}"])
    sanitized = folder / "sanitized.xml"
    steps.run("sanitizers", [python, "tests/sanitized.py", "--quick", f"--junitxml={sanitized}"],
              lambda: junit_counts(sanitized) if sanitized.exists() else Counter())
    for driver in DRIVERS:
        os.environ["KLOOP_DRIVER"] = driver
        test_python(steps, python, folder, driver)
    del os.environ["KLOOP_DRIVER"]
    test_tls_of_python(steps, python, folder)
    for version in os.environ.get(OTHER_PYTHONS, "").split():
        other = folder / f"cpython-{version}.json"
        steps.run(f"CPython {version}'s test_asyncio",
                  [python, "tests/compat/cpython_suite.py", version, "--json", str(other)],
                  lambda other=other: cpython_counts(other) if other.exists() else Counter())


def test_python(steps, python, folder, driver):
    """Every suite of Python's side on one driver. What does not run a loop is not run twice."""
    junit, cpython, compat = (folder / f"{name}-{driver}" for name in ("pytest.xml", "cpython.json", "compat.json"))
    left_out = [] if driver == DRIVERS[0] else ["--ignore=tests/build"]
    steps.run(f"pytest, {driver}", [python, "-m", "pytest", f"--junitxml={junit}", *left_out],
              lambda: junit_counts(junit) if junit.exists() else Counter())
    steps.run(f"CPython's test_asyncio, {driver}", [python, "tests/cpython/run.py", "--json", str(cpython)],
              lambda: cpython_counts(cpython) if cpython.exists() else Counter())
    # What they do on asyncio is the same for every driver.
    first = folder / f"compat.json-{DRIVERS[0]}"
    control = ["--control", str(first)] if first.exists() else []
    steps.run(f"uvloop's tests, {driver}", [python, "tests/compat/run.py", "uvloop", "--json", str(compat), *control],
              lambda: compat_counts(compat) if compat.exists() else Counter())


# Beside the default, with which a connection is handed over once it has carried much.
TLS_WAYS = {
    "handed over at once": ("KLOOP_TLS", "go"),
    "handed over in the middle": ("KLOOP_TLS_AFTER", "1"),
    "not handed over": ("KLOOP_TLS", "off"),
}


def test_tls_of_python(steps, python, folder):
    """TLS with records that are the core's from the beginning, from the first ones on, and never."""
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("test_tls*.py"))
    for number, (way, (name, value)) in enumerate(TLS_WAYS.items()):
        os.environ[name] = value
        junit, cpython = folder / f"tls{number}.xml", folder / f"tls{number}.json"
        steps.run(f"pytest, TLS {way}", [python, "-m", "pytest", f"--junitxml={junit}", *files],
                  lambda junit=junit: junit_counts(junit) if junit.exists() else Counter())
        steps.run(f"CPython's TLS tests, {way}",
                  [python, "tests/cpython/run.py", "test_ssl", "test_sslproto", "--json", str(cpython)],
                  lambda cpython=cpython: cpython_counts(cpython) if cpython.exists() else Counter())
        del os.environ[name]


def main(argv):
    # Not resolved: the environment's python is a link to the one it was made with.
    python = sys.executable
    # Ignored in what a shell starts in the background, and inherited by the tests of it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(python), os.environ.get("PATH", "")])
    steps = Steps()
    check(steps, python)
    if argv != ["check"]:
        with tempfile.TemporaryDirectory(prefix="kloop-test-") as folder:
            test(steps, python, Path(folder))
    return steps.finish()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
