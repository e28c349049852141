"""What the mixed phase of soak.py runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import native
from network import Network
from subject import SERVERS, python


def server_command(core: int, loop: str, folder: Path, seed: int, network: Network) -> dict:
    """For subject.Subject."""
    status = folder / "status"
    options = ["--folder", str(folder), "--status", str(status), "--seed", str(seed), "--host", network.host]
    command = python(core, loop, "default", SERVERS / "mixed.py", *options)
    return {**command, "args": [*network.server, *command["args"]]}


def load_command(first: str, folder: Path, seconds: float, seed: int, network: Network) -> list[str]:
    """first: the server's first line."""
    options = ["--where", first, "--folder", str(folder), "--seconds", f"{seconds:.1f}", "--seed", str(seed)]
    return [*network.load, sys.executable, str(SERVERS / "mixed_client.py"), *options]


def statuses(folder: Path) -> list[dict]:
    """What the server wrote down each second."""
    return [json.loads(line) for line in (folder / "status").read_text().splitlines()]


def prepare(folder: Path) -> None:
    native.make_certificate(folder)
