"""Runs the Python tests of TLS on a guest kernel that has it, which makes the records, from the end of the
handshake (KLOOP_TLS=kernel) or from the first ones on (KLOOP_TLS_AFTER=1).

    tests/guest/run_python.py            says so, and succeeds, where no guest can be started
    tests/guest/run_python.py --require  fails there, after having tried to install one
    --junitxml FOLDER                    for a file of results of each run

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


def run(name, driver, way, folder):
    """Runs the tests in the guest; answers whether they passed."""
    tests = sorted((ROOT / "tests").glob("test_tls*.py"))
    command = [GUEST, "--timeout", str(GUEST_LIMIT_S), "--dir", ROOT]
    results = []
    if folder:
        command += ["--rw", folder]
        results = [f"--junitxml={folder / f'guest-{name}.xml'}"]
    # Not resolved: the environment's python is a link to the one it was made with.
    command += ["--", "env", way, f"KLOOP_DRIVER={driver}", "PYTHONDONTWRITEBYTECODE=1",
                sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *results, *tests]
    return subprocess.run(command).returncode == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--require", action="store_true")
    parser.add_argument("--junitxml", type=Path)
    options = parser.parse_args()
    if not ready(options.require or os.environ.get("KLOOP_REQUIRE_GUEST") == "1"):
        print("SKIPPED: the loop's TLS with the kernel's records: no guest kernel is installed here. "
              "`make test-ktls` installs one (Debian) and runs them.")
        return 0
    passed = [run(*what, options.junitxml) for what in RUNS]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
