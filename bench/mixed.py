"""What the mixed phase of soak.py runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import native
from network import Network
from subject import SERVERS, Subject, python

WARMUP_LIMIT_S = 60
REST_LIMIT_S = 40  # a child has 30 s


def server_command(core: int, loop: str, folder: Path, seed: int, network: Network) -> dict:
    """For subject.Subject."""
    status = folder / "status"
    options = ["--folder", str(folder), "--status", str(status), "--seed", str(seed), "--host", network.host]
    command = python(core, loop, "default", SERVERS / "mixed.py", *options)
    return {**command, "args": [*network.server, *command["args"]]}


def load_command(first: str, folder: Path, seconds: float, seed: int, network: Network, *more: str) -> list[str]:
    """first: the server's first line."""
    options = ["--where", first, "--folder", str(folder), "--seconds", f"{seconds:.1f}", "--seed", str(seed), *more]
    return [*network.load, sys.executable, str(SERVERS / "mixed_client.py"), *options]


def warm_up(server: Subject, folder: Path, seed: int, network: Network) -> None:
    """Has the server do each thing once, and no client is left."""
    command = load_command(server.first, folder, WARMUP_LIMIT_S, seed, network, "--warm-up")
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise native.LoadFailed(f"warm-up: {done.stderr.strip() or f'exit status {done.returncode}'}")


def rest(server: Subject) -> dict[str, int]:
    """The server finishes what it does by itself: then only its clients have descriptors there. Answers what memory it
    has in use (servers/memory.py)."""
    return json.loads(server.ask(signal.SIGUSR1, REST_LIMIT_S))


def go_on(server: Subject) -> None:
    server.process.send_signal(signal.SIGUSR2)


def statuses(folder: Path) -> list[dict]:
    """What the server wrote down each second."""
    return [json.loads(line) for line in (folder / "status").read_text().splitlines()]


def prepare(folder: Path) -> None:
    native.make_certificate(folder)
