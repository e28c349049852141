"""What has to be true before a clock starts, and what is said while it runs."""

from __future__ import annotations

import compileall
import sys
from collections.abc import Iterable
from importlib import util
from pathlib import Path

from subject import VARIANTS


def compile_all(modules: Iterable[str]) -> None:
    """Write .pyc files for what the measured programs import.

    Where they are missing, and PYTHONDONTWRITEBYTECODE or a read-only installation keeps Python from
    writing them, every start compiles again, and that is what a start-up time would show.
    """
    folders = {Path(__file__).resolve().parent}
    for name in {"asyncio", *modules}:
        spec = util.find_spec(name)
        if spec is not None and spec.origin:
            folders.add(Path(spec.origin).parent)
    for folder in sorted(folders):
        compileall.compile_dir(str(folder), quiet=2)


def check_loops(names: list[str]) -> list[str]:
    """End with a plain word if a loop can't be had."""
    if unknown := set(names) - set(VARIANTS):
        raise SystemExit(f"bench: unknown loops {sorted(unknown)}; there are {', '.join(VARIANTS)}")
    for module in sorted({VARIANTS[name][0] for name in names}):
        if module == "asyncio":
            continue
        if util.find_spec(module) is None:
            without = ",".join(name for name in VARIANTS if VARIANTS[name][0] != module)
            raise SystemExit(
                f"bench: {module} can't be imported by {sys.executable}: install it, or leave it out: --loops {without}"
            )
    return names


def progress(text: str) -> None:
    """One line that is overwritten, or a line each where nobody can see that."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)
