"""A short run of the soak's mixed phase: everything at once, clients and children killed, every byte verified."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[1] / "bench" / "soak.py"
MINUTES = 0.15
LIMIT_S = 180


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 20)
def test_the_mixed_phase(may_be_long, tmp_path):
    done = subprocess.run(
        [sys.executable, str(SOAK), "--phase", "mixed", "--minutes", str(MINUTES), "--out", str(tmp_path)],
        capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [outcome] = json.loads((tmp_path / "soak.json").read_text())
    assert outcome["problems"] == []
    load, server = outcome["load"], outcome["server"]
    assert min(load["messages"], load["closes"], load["kills"], load["datagrams"], server["children"]) > 0
    assert server["driver"] in ("io_uring", "epoll")
    assert outcome["network"]
