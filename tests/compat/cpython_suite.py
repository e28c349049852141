"""CPython's own asyncio tests (tests/cpython/run.py), with several Pythons."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import environments
from environments import ROOT, WORK

RUNNER = ROOT / "tests" / "cpython" / "run.py"
BESIDE = ROOT / "tests" / "python-beside"
LIMIT_S = 1800


def run(summary, loops, versions):
    """Adds a row for the running Python and for each of these versions."""
    running = environments.version_tag()
    run_one(summary, loops, running, sys.executable, {})
    for version in versions:
        if version == running:
            continue
        try:
            python, variables = prepare(version)
        except subprocess.SubprocessError as exc:
            summary.not_run.append((f"CPython {version} test_asyncio", str(exc)))
            continue
        run_one(summary, loops, version, python, variables)


def prepare(version):
    """The python of an environment with kloop built for this version, and its environment variables."""
    found = shutil.which(f"python{version}")
    variables = {}
    if found is None:
        folder = WORK / f"python{version}"
        print(f"== fetching Python {version}", flush=True)
        done = subprocess.run([BESIDE, folder, version], check=True, stdout=subprocess.PIPE, text=True,
                              timeout=LIMIT_S)
        found = done.stdout.splitlines()[-1]
        variables = {"CPATH": str(folder / "root" / "usr" / "include")}
    python = WORK / f"env-{version}" / "build" / "bin" / "python"
    if not python.exists():
        subprocess.run([found, "-m", "venv", "--without-pip", python.parent.parent], check=True,
                       timeout=LIMIT_S)
    # This Python's pip serves the other's environment.
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--require-hashes", "--no-deps", "-r", ROOT / "requirements" / "build.txt"],
                   check=True, timeout=LIMIT_S)
    print(f"== building kloop for Python {version}", flush=True)
    subprocess.run([python, "setup.py", "--quiet", "build_ext", "--inplace"], cwd=ROOT, check=True,
                   env={**os.environ, **variables}, timeout=LIMIT_S)
    return python, variables


def run_one(summary, loops, version, python, variables):
    """One Python on all loops. The control is asyncio with the tests that are listed for us left out too."""
    name = f"CPython {version} test_asyncio"
    counts, seconds, passed = {}, {}, {}
    for loop in loops:
        path = [str(ROOT / "python")]
        if loop in environments.COMPARED:
            folder = environments.compared_loop(loop) if version == environments.version_tag() else None
            if folder is None:
                continue
            path.append(str(folder))
        started_s = time.monotonic()
        outcomes = outcomes_on(python, loop, {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(path)})
        counts[loop] = Counter(entry["outcome"] for entry in outcomes.values())
        seconds[loop] = time.monotonic() - started_s
        passed[loop] = {test_id for test_id, entry in outcomes.items() if entry["outcome"] == "passed"}
    base = passed["asyncio"]
    shares = {loop: (len(base & tests), len(base)) for loop, tests in passed.items()}
    summary.add_cpython(name, counts, seconds, shares, counts["kloop"]["failed"] > 0)


def outcomes_on(python, loop, variables):
    with tempfile.TemporaryDirectory(prefix="kloop-compat-") as folder:
        path = Path(folder) / "outcomes.json"
        subprocess.run([python, RUNNER, "--loop", loop, "--no-listed", "--json", path], env=variables,
                       timeout=LIMIT_S, check=False)
        files = json.loads(path.read_text())
    return {test_id: entry for outcomes in files.values() for test_id, entry in outcomes.items()}
