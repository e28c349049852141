"""Nothing grows while everything is made, used and ended again and again: loops, servers, connections, datagrams,
processes, pipes, TLS and sock_* calls, failed ones too.

KLOOP_LIVES=500     lives, instead of what CI has time for; `make lives`
"""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

LIVES = int(os.environ.get("KLOOP_LIVES", 40))
HERE = Path(__file__).parent
# A life takes a quarter of a second, and much longer on a busy machine.
LIMIT_S = 120 + 5 * LIVES
MIB = 1 << 20
# The first lives fill caches, free lists and heaps.
SETTLING_PART = 0.4
# Less than one more object, block or reference a life comes to between the first and the last of the lives that are
# judged. A thread of Go's comes when one is busy at the wrong moment.
FEW = LIVES // 5
ALLOWED = {"fds": 0, "threads": 2, "objects": FEW, "blocks": FEW, "references": FEW, "rss": 4 * MIB,
           "go_heap": MIB // 4}


def lives(count, *options, **environment):
    """What the process held after each life, and what it said on its standard error."""
    done = subprocess.run([sys.executable, *options, str(HERE / "lives.py"), str(count)], cwd=HERE,
                          capture_output=True, text=True, timeout=LIMIT_S, check=False,
                          env={**os.environ, "GOGC": "1", **environment})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def growth(values):
    """From the least of the first lives that are judged to the least of the last ones: peaks say nothing."""
    settled = values[int(len(values) * SETTLING_PART):]
    third = len(settled) // 3
    return min(settled[-third:]) - min(settled[:third])


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 10)
def test_nothing_grows(may_be_long):
    history, errors = lives(LIVES)
    assert errors == ""
    assert set(history) == set(ALLOWED)
    grown = {name: (growth(values), values) for name, values in history.items() if growth(values) > ALLOWED[name]}
    assert grown == {}


ALLOCATORS = {
    "dev mode": (("-X", "dev", "-W", "error"), {}),
    "Python's debug allocators": ((), {"PYTHONMALLOC": "debug", "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}),
}
if not sysconfig.get_config_var("Py_GIL_DISABLED"):     # where all memory of objects is mimalloc's
    ALLOCATORS["malloc's"] = (("-X", "dev", "-W", "error"), {"PYTHONMALLOC": "malloc_debug"})


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 10)
@pytest.mark.parametrize("options, environment", ALLOCATORS.values(), ids=ALLOCATORS)
def test_no_warning_and_no_word(may_be_long, options, environment):
    """Development mode warns of what is not closed or not awaited; the allocators check the ends of what they gave."""
    _, errors = lives(3, *options, **environment)
    assert errors == ""


def test_growth_is_seen():
    """One more each life is too much; a peak is not."""
    assert growth([1000 + number for number in range(LIVES)]) > ALLOWED["objects"]
    assert growth([1000] * (LIVES - 1) + [5000]) == 0
