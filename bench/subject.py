"""A process under test, from its first line of output to its last."""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import machine

SERVERS = Path(__file__).resolve().parent / "servers"
START_LIMIT_S = 30
STOP_LIMIT_S = 20

# Names of loops as they are asked for: the loop to make, and the environment it is made in.
VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("uvloop", {}),
    "kloop": ("kloop", {}),
    "kloop+spin": ("kloop", {"KLOOP_SPIN_US": "50"}),
    "kloop+sqpoll": ("kloop", {"KLOOP_SQPOLL": "1"}),
    "kloop+epoll": ("kloop", {"KLOOP_DRIVER": "epoll"}),
    "kloop+ssl": ("kloop", {"KLOOP_TLS": "off"}),
    "kloop+go": ("kloop", {"KLOOP_TLS": "go"}),
    "kloop+idle": ("kloop", {"KLOOP_TLS_IDLE": "1"}),
    "uvloop+aiofastnet": ("aiofastnet", {}),
    "uvloop+aiodns": ("aiodns", {}),
    "asyncio+aiofiles": ("aiofiles", {}),
}

# glibc gives memory back to the kernel and takes it again for every large bytes object with its default thresholds;
# the tuned setting (mallopt(3)) takes that out of the picture for all loops alike.
MALLOC_SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "tuned": {"MALLOC_MMAP_THRESHOLD_": str(64 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)},
}


def python(core: int | None, variant: str, malloc: str, program: Path, *arguments: str) -> dict:
    """What subprocess needs to run a program on a loop. core: None for any."""
    loop, environment = VARIANTS[variant]
    return {
        "args": [sys.executable, str(program), "--loop", loop, *arguments],
        "env": {**os.environ, **MALLOC_SETTINGS[malloc], **environment},
        "preexec_fn": functools.partial(machine.pin_and_tie, core),
    }


class SubjectFailed(RuntimeError):
    """A process under test ended by itself, or said nothing."""


class Subject:
    """Runs a command until the end of the with block, then ends it with SIGTERM.

    first: its first line of output. last: its last one, a JSON object.
    """

    def __init__(self, args: list[str], **popen: object) -> None:
        self.process = subprocess.Popen(args, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **popen)
        self.pid = self.process.pid
        self.first = ""
        self.last: dict = {}

    def __enter__(self) -> Subject:
        self.first = self._line(START_LIMIT_S)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.process.kill()
            self.process.communicate()
            return
        self.process.terminate()
        try:
            output, _ = self.process.communicate(timeout=STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise SubjectFailed(f"{self.process.args} did not end on SIGTERM") from None
        # uvicorn cleans up on SIGTERM, then lets the signal end it.
        if self.process.returncode not in (0, -signal.SIGTERM):
            raise SubjectFailed(f"{self.process.args} ended with {self.process.returncode}")
        if output.strip():
            self.last = json.loads(output.splitlines()[-1])

    def ask(self, signal_number: int, limit_s: float) -> str:
        """Sends a signal that the program answers by a line."""
        self.process.send_signal(signal_number)
        return self._line(limit_s)

    def _line(self, limit_s: float) -> str:
        assert self.process.stdout is not None
        deadline = time.monotonic() + limit_s
        ready, _, _ = select.select([self.process.stdout], [], [], max(deadline - time.monotonic(), 0))
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self.process.kill()
            self.process.communicate()
            raise SubjectFailed(f"{self.process.args} said nothing for {limit_s:g} s")
        return line.strip()


def run_once(limit_s: float, args: list[str], **popen: object) -> dict:
    """Run a command to its end and answer the JSON object of its last line."""
    done = subprocess.run(args, stdout=subprocess.PIPE, text=True, timeout=limit_s, check=False, **popen)
    if done.returncode != 0:
        raise SubjectFailed(f"{args} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])
