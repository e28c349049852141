"""CPython's own asyncio tests (tests/cpython/run.py), with several Pythons.

    tests/compat/cpython_suite.py 3.14 --json FILE    on kloop alone, as `make test` does
"""

import argparse
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
# The slowest test takes about 10 s; where dozens of tests hang, the limits add up to hours.
COMPARED_TEST_LIMIT_S = 15


def run(summary, loops, versions):
    """Adds a row for each of these versions; without any, for the running Python."""
    running = environments.version_tag()
    for version in versions or [running]:
        try:
            python, variables = (sys.executable, {}) if version == running else prepare(version)
        except (subprocess.SubprocessError, OSError) as exc:
            summary.not_run.append((f"CPython {version} test_asyncio", str(exc)))
            continue
        run_one(summary, loops, version, python, variables)


def prepare(version):
    """The python of an environment with kloop built for this version, and its environment variables."""
    found = on_this_machine(version)
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
    # Its own pip, where it has one: an older one may not run on it, and one of the two serves the environment.
    pip = [found if succeeds(found, "-c", "import pip") else sys.executable,
           "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--require-hashes", "--no-deps", "-r", ROOT / "requirements" / "build.txt"],
                   check=True, timeout=LIMIT_S)
    print(f"== building kloop for Python {version}", flush=True)
    subprocess.run([python, "setup.py", "--quiet", "build_ext", "--inplace"], cwd=ROOT, check=True,
                   env={**os.environ, **variables}, timeout=LIMIT_S)
    return python, variables


def on_this_machine(version):
    """The python of this version that is here, or None. pyenv's command of this name may not be for this folder."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for found in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python{version}"))):
        if found and succeeds(found, "-c", ""):
            return found
    return None


def succeeds(*command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
                          timeout=LIMIT_S).returncode == 0


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
        limit = ["--limit-s", str(COMPARED_TEST_LIMIT_S)] if loop in environments.COMPARED else []
        subprocess.run([python, RUNNER, "--loop", loop, "--no-listed", "--json", path, *limit], env=variables,
                       timeout=LIMIT_S, check=False)
        files = json.loads(path.read_text())
    return {test_id: entry for outcomes in files.values() for test_id, entry in outcomes.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version")
    parser.add_argument("--json", required=True)
    options = parser.parse_args()
    python, variables = prepare(options.version)
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT / "python")}
    return subprocess.run([python, RUNNER, "--json", options.json], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
