"""Runs the Python tests of TLS on a guest kernel that has it, which makes the records, from the end of the
handshake (KLOOP_TLS=kernel) or from the first ones on (KLOOP_TLS_AFTER=1); and CPython's own tests of TLS.

    tests/guest/run_python.py            says so, and succeeds, where no guest can be started
    tests/guest/run_python.py --require  fails there, after having tried to install one
    --junitxml FOLDER                    for a file of results of each run: guest-*.xml, guest-cpython.json

KLOOP_REQUIRE_GUEST=1 is --require. The package must have been built.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from run_go import GUEST, ROOT, ready

# Name of the results, driver, and when a connection is handed over.
RUNS = (
    ("io_uring", "io_uring", "KLOOP_TLS=kernel"),
    ("epoll", "epoll", "KLOOP_TLS=kernel"),
    ("later", "io_uring", "KLOOP_TLS_AFTER=1"),
)
# A minute and a half for each, on one slow CPU.
GUEST_LIMIT_S = 600


def run(driver, way, folder, *arguments):
    """Runs Python with these arguments in the guest; answers whether the tests passed."""
    command = [GUEST, "--timeout", str(GUEST_LIMIT_S), "--dir", ROOT, *(["--rw", folder] if folder else [])]
    # Not resolved: the environment's python is a link to the one it was made with.
    command += ["--", "env", way, f"KLOOP_DRIVER={driver}", "PYTHONDONTWRITEBYTECODE=1", sys.executable, *arguments]
    return subprocess.run(command).returncode == 0


def run_pytest(name, driver, way, folder):
    tests = sorted((ROOT / "tests").glob("test_tls*.py"))
    results = [f"--junitxml={folder / f'guest-{name}.xml'}"] if folder else []
    return run(driver, way, folder, "-m", "pytest", "-p", "no:cacheprovider", *results, *tests)


def run_cpython(folder):
    results = ["--json", folder / "guest-cpython.json"] if folder else []
    return run("io_uring", "KLOOP_TLS=kernel", folder, "tests/cpython/run.py", "test_ssl", "test_sslproto", *results)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--require", action="store_true")
    parser.add_argument("--junitxml", type=Path)
    options = parser.parse_args()
    if not ready(options.require or os.environ.get("KLOOP_REQUIRE_GUEST") == "1"):
        print("SKIPPED: the loop's TLS with the kernel's records: no guest kernel is installed here. "
              "`make test-ktls` installs one (Debian) and runs them.")
        return 0
    passed = [run_pytest(*what, options.junitxml) for what in RUNS]
    passed.append(run_cpython(options.junitxml))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
