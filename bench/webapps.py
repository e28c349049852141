"""The applications of examples/ that are served under load, and what they have to answer."""

from __future__ import annotations

from pathlib import Path

import native

# Each with the modules that it imports.
APPS = {
    "aiohttp": ("aiohttp", "yarl", "multidict"),
    "uvicorn": ("uvicorn", "httptools"),
}
BODY = '{"message": "Hello, World!"}'
STREAM_BODY = "".join(f"chunk {number}\n" for number in range(8))


def program_of(app: str) -> Path:
    """The program that serves it, on a port that it prints."""
    return native.ROOT / "examples" / f"web_{app}.py"
