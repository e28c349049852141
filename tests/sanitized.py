"""Builds all that is C with gcc's AddressSanitizer and UndefinedBehaviorSanitizer, and runs the tests on it.

    tests/sanitized.py                `make asan`: every test
    tests/sanitized.py --quick        what CI has time for: the tests of what the extension does
    tests/sanitized.py ARGUMENTS      pytest's

Python's own objects come from malloc(3) meanwhile, so that the sanitizer sees each of them. Go's code is built as ever.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "build" / "sanitized"
QUICK = ["echo", "read", "write", "close", "transport", "server", "connect", "pipes", "pipes_write", "process", "sock",
         "sock_cancel", "datagram", "datagram_errors", "tls", "timers", "call_soon", "garbage", "threads",
         "signals"]
# They test the build, other programs' processes, or Python and kloop as they are shipped. And they fork beside Go's
# threads: one of these may be in the sanitizer's allocator then, whose lock nobody gives back in the child (gcc 12).
LEFT_OUT = ["tests/build", "tests/test_usage.py", "tests/test_bench.py", "tests/test_gdb.py", "tests/test_fork.py"]
# What is freed stays in the sanitizer's quarantine, and malloc(3) is not glibc's: that memory stays as it is, or is
# given back, can't be seen.
DESELECTED = ["tests/test_lives.py::test_nothing_grows",
              "tests/test_tls_snapshot.py::test_the_kernel_has_the_memory_of_idle_connections"]
# A test takes a few times as long.
TIMEOUT_S = 300
OPTIONS = {
    # CPython frees little at its end. Faults are faulthandler's, Go's and the tests' own to see.
    "ASAN_OPTIONS": "detect_leaks=0:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:handle_abort=0"
                    # Go puts its heap into the gap of the sanitizer's own map of memory, which is free.
                    ":protect_shadow_gap=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "PYTHONMALLOC": "malloc",
}


def library(name: str) -> str:
    """gcc's own path of one of its libraries."""
    asked = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    path = asked.stdout.strip()
    if not os.path.isabs(path):
        raise SystemExit(f"error: gcc has no {name}: install the Debian package libgcc-dev of its version")
    return path


def build() -> None:
    print("== building with -fsanitize=address,undefined", flush=True)
    subprocess.run([sys.executable, "setup.py", "--quiet", "build", "--build-base", str(BUILT),
                    "--build-lib", str(BUILT / "lib")], cwd=ROOT, env={**os.environ, "KLOOP_SANITIZE": "1"}, check=True)


def environment() -> dict[str, str]:
    """The sanitizer must be the first library of a process; libstdc++, which it hooks into, may come no later."""
    return {**os.environ, **OPTIONS, "LD_PRELOAD": f"{library('libasan.so')} {library('libstdc++.so')}",
            "PYTHONPATH": str(BUILT / "lib")}


def main(arguments: list[str]) -> int:
    build()
    seen = subprocess.run([sys.executable, "-c", "import kloop; kloop.new_event_loop().close(); print(kloop.__file__)"],
                          env=environment(), capture_output=True, text=True, check=False)
    if not seen.stdout.startswith(str(BUILT)):
        raise SystemExit(f"error: the sanitized build is not what Python imports: {seen.stdout}{seen.stderr}")
    if arguments[:1] == ["--quick"]:
        arguments = [*[f"tests/test_{name}.py" for name in QUICK], "-m", "not slow", *arguments[1:]]
    elif not arguments:
        arguments = ["tests", *[word for path in LEFT_OUT for word in ("--ignore", path)],
                     *[word for test in DESELECTED for word in ("--deselect", test)]]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--timeout={TIMEOUT_S}",
               "-o", f"faulthandler_timeout={TIMEOUT_S + 30}", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
