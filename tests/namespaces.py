"""Runs a program in mount and network namespaces of its own, where it may have files in /etc and interfaces as a test
needs them; as an ordinary user where the kernel lets one (user_namespaces(7))."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT_S = 240
TESTS = Path(__file__).parent


def require():
    """Skips the test where there are none to be had."""
    try:
        made = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "--net", "ip", "link", "set", "lo", "up"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as exc:
        pytest.skip(f"SKIPPED: no namespaces: {exc}")
    if made.returncode:
        pytest.skip(f"SKIPPED: no namespaces here: {made.stderr.strip()}")


def run_inside(folder, etc, setup, *command, limit_s=LIMIT_S):
    """The standard output of a Python program: command, with etc (name -> text) in place of files of /etc.

    setup: shell commands before it.
    """
    script = "set -e; mount --make-rprivate /; ip link set lo up\n"
    for name, text in etc.items():
        (folder / name).write_text(text)
        script += f"[ -e /etc/{name} ] || touch /etc/{name}; mount --bind {folder}/{name} /etc/{name}\n"
    script += f'{setup}\nexec "$@"'
    done = subprocess.run(
        [
            "unshare",
            "--map-root-user",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            script,
            "sh",
            sys.executable,
            *map(str, command),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout, done.stderr
