"""What the harness asks the kernel about: cores, clocks, memory, tracepoints."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
# linux/posix-timers.h: a process' CPU clock is ~pid << 3 | CPUCLOCK_SCHED
CPUCLOCK_SCHED = 2
TRACEFS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
SYS_ENTER = Path("events/raw_syscalls/sys_enter/id")
PAGE_SIZE = resource.getpagesize()
_libc = ctypes.CDLL(None, use_errno=True)


def cores() -> tuple[int, int]:
    """One core for what is measured, another for the load; the same one twice if there is no other."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def pin_and_tie(core: int | None) -> None:
    """In a new child: run on one core only, unless it is None, and end when the harness ends."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def raise_file_limit() -> int:
    """Raise this process' limit, which its children inherit, as far as it goes, and answer it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process, ended ones and the kernel's for io_uring included."""
    return time.clock_gettime_ns(~pid << 3 | CPUCLOCK_SCHED)


def sleeps(pid: int) -> int:
    """How often the threads of a process have gone to sleep: every wake-up follows one."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        try:
            text = status.read_text()
        except OSError:  # the thread has ended
            continue
        for line in text.splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_SIZE


def fd_count(pid: int) -> int:
    """Open file descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def syscall_tracepoint() -> tuple[int, str]:
    """The id of raw_syscalls:sys_enter and how it was found; 0 and why not.

    Where tracefs is not mounted it is mounted in a mount namespace of a short-lived child, so that
    nothing of the machine changes.
    """
    for root in TRACEFS:
        try:
            return int((root / SYS_ENTER).read_text()), f"perf_event_open, id from {root}"
        except OSError:
            continue
    with tempfile.TemporaryDirectory() as folder:
        script = f"mount -t tracefs tracefs {folder} && cat {folder}/{SYS_ENTER}"
        try:
            done = subprocess.run(
                ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return 0, f"not counted: {error}"
    if done.returncode == 0:
        return int(done.stdout), "perf_event_open, id from a tracefs of its own"
    return 0, f"not counted: tracefs can't be read ({done.stderr.strip() or 'no permission'})"


def may_count_syscalls(tracepoint: int) -> str:
    """Empty if this process may count system calls of its children, else why not."""
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent / 'servers')!r})\n"
    script += f"from syscount import SyscallCounter; SyscallCounter({tracepoint}).read()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def describe() -> dict[str, object]:
    """What a reader needs to compare results."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "kernel": platform.release(),
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
        "load_average_before": os.getloadavg()[0],
    }
