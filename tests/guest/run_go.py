"""Runs the Go tests that need the kernel's TLS, on a guest kernel that has it.

    tests/guest/run_go.py            says so, and succeeds, where no guest can be started
    tests/guest/run_go.py --require  fails there, after having tried to install one

The output is that of `go test -json`. KLOOP_REQUIRE_GUEST=1 is --require.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
GUEST = ROOT / "tests" / "guest" / "guest-run"
# Packages, and which of their tests have to do with the kernel.
PACKAGES = {"ktls": "Kernel|Prob", "ktls/tlsconn": ".", "core": "Records"}

# The guest has one slow CPU; the whole takes about two minutes.
GUEST_LIMIT_S = 900


def ready(require):
    """Whether a guest can be started; installs it if it is required."""
    if subprocess.run([GUEST, "--check"], stderr=subprocess.DEVNULL).returncode == 0:
        return True
    if not require:
        return False
    subprocess.run([GUEST, "--install"], check=True)
    return True


def run(package, tests, folder):
    """Compiles a package's tests here, runs them in the guest, and answers whether they passed."""
    binary = Path(folder) / (package.replace("/", "-") + ".test")
    subprocess.run(["go", "test", "-c", "-o", binary, "./" + package], cwd=ROOT, check=True)
    command = [GUEST, "--timeout", str(GUEST_LIMIT_S), "--dir", ROOT / package, "--",
               binary, "-test.v=test2json", "-test.run", tests, f"-test.timeout={GUEST_LIMIT_S - 60}s"]
    guest = subprocess.Popen(command, stdout=subprocess.PIPE)
    subprocess.run(["go", "tool", "test2json", "-t", "-p", f"kloop/{package} in the guest"],
                   stdin=guest.stdout, check=True)
    return guest.wait() == 0


def main(argv):
    require = argv == ["--require"] or os.environ.get("KLOOP_REQUIRE_GUEST") == "1"
    if not ready(require):
        print("SKIPPED: the tests of the kernel's TLS: no guest kernel is installed here. "
              "`make test-ktls` installs one (Debian) and runs them.")
        print(json.dumps({"Action": "skip", "Package": "kernel TLS", "Test": "all tests in the guest"}))
        return 0
    with tempfile.TemporaryDirectory(prefix="kloop-guest-") as folder:
        passed = [run(package, tests, folder) for package, tests in PACKAGES.items()]
        return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
