"""The mixed phase of soak.py: what it runs, and the network that it runs in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import native
from subject import SERVERS, python

NETEM = "delay 2ms 1ms loss 0.5%"
BRING_UP = "ip link set lo up"
START_LIMIT_S = 20


class Network:
    """A network namespace whose loopback interface delays and loses packets (tc-netem(8)), if the kernel can.

    prefix: what to put before a command, to run it there. said: what there is, and what there is not and why.
    """

    def __init__(self) -> None:
        self.prefix: list[str] = []
        self.holder: subprocess.Popen | None = None
        self.said = ""

    def __enter__(self) -> Network:
        refused = self._hold(f"{BRING_UP} && tc qdisc add dev lo root netem {NETEM}")
        if not refused:
            self.said = f"a namespace of its own: {NETEM}"
            return self
        without = self._hold(BRING_UP)
        if not without:
            self.said = f"a namespace of its own, NO loss and NO delay: tc netem failed: {refused}"
        else:
            self.said = f"this machine's, NO loss and NO delay: a network namespace failed: {without}"
        return self

    def _hold(self, script: str) -> str:
        """Starts a process that keeps a namespace; answers why it could not."""
        command = ["unshare", "--net", "sh", "-c", f"{script} && echo ready && exec cat"]
        try:
            holder = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        except OSError as error:
            return str(error)
        assert holder.stdout is not None and holder.stderr is not None
        if holder.stdout.readline() == "ready\n":
            self.holder = holder
            self.prefix = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
            return ""
        _, errors = holder.communicate(timeout=START_LIMIT_S)
        return " ".join(errors.split()) or f"exit status {holder.returncode}"

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.holder is not None:
            self.holder.communicate(timeout=START_LIMIT_S)


def server_command(core: int, loop: str, folder: Path, seed: int, network: Network) -> dict:
    """For subject.Subject."""
    status = folder / "status"
    options = ["--folder", str(folder), "--status", str(status), "--seed", str(seed)]
    command = python(core, loop, "default", SERVERS / "mixed.py", *options)
    return {**command, "args": [*network.prefix, *command["args"]]}


def load_command(first: str, folder: Path, seconds: float, seed: int, network: Network) -> list[str]:
    """first: the server's first line."""
    options = ["--where", first, "--folder", str(folder), "--seconds", f"{seconds:.1f}", "--seed", str(seed)]
    return [*network.prefix, sys.executable, str(SERVERS / "mixed_client.py"), *options]


def statuses(folder: Path) -> list[dict]:
    """What the server wrote down each second."""
    return [json.loads(line) for line in (folder / "status").read_text().splitlines()]


def prepare(folder: Path) -> None:
    native.make_certificate(folder)
