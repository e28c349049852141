"""What has to be true before a clock starts."""

from __future__ import annotations

import compileall
from collections.abc import Iterable
from importlib import util
from pathlib import Path


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
