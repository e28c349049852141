"""Tests of other projects that pass on asyncio and are known not to on kloop, each with its reason.

An entry is the exact id of a test. Nothing is listed because it fails: the reason says what the
test asks for that kloop, by design, does not have.
"""

DIFFERENCES = {
    "uvloop": {},
    "aiohttp": {
        "tests/test_web_functional.py::test_keepalive_expires_on_time[pyloop]":
            "replaces the method loop.time() of one loop, which kloop's timers do not ask",
    },
    "uvicorn": {
        "tests/test_auto_detection.py::test_loop_auto":
            "wants the class of the loop to be of asyncio's own module",
    },
    "anyio": {},
    "websockets": {},
    "tornado": {},
    "asyncpg": {},
    "redis": {},
}


def find(suite, test_id):
    """The reason for which this test may differ, or None."""
    return DIFFERENCES.get(suite, {}).get(test_id)
