"""A short run of the soak's mixed phase: everything at once, clients and children killed, every byte verified."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[1] / "bench" / "soak.py"
sys.path.insert(0, str(SOAK.parent))
import network  # noqa: E402

LINK_END_S = 10
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
    # What the server does by itself was at rest both times, and counts for neither.
    assert outcome["fds_after"] <= outcome["fds_before"] < max(outcome["fds"])
    assert server["driver"] in ("io_uring", "epoll")
    judge_network(outcome)


def judge_network(outcome):
    """What was said of the network must be what it did, and a network with loss must be had where one can be."""
    packets = outcome["packets"]
    assert outcome["lossy"] or "NO loss" in outcome["network"]
    assert outcome["lossy"] or not may_have_tun(), outcome["network"]
    if not outcome["lossy"]:
        return
    assert packets["forwarded"] > 1000
    assert packets["dropped"] > 0 and packets["sent_again"] > 0
    assert outcome["load"]["fastest_connect_s"] >= 2 * network.MIN_DELAY_S
    if "link" in outcome["network"]:
        assert min(packets["duplicated"], packets["reordered"]) > 0
        assert packets["min_delay_ms"] >= network.MIN_DELAY_S * 1000
        share = packets["dropped"] / (packets["dropped"] + packets["forwarded"])
        assert 0.5 < share / float(network.LINK["loss"]) < 2


def may_have_tun():
    """Whether this process may have what the lossy link needs: a namespace, and a TUN interface in it."""
    made = subprocess.run(["unshare", "--net", "ip", "tuntap", "add", "dev", "probe", "mode", "tun"],
                          capture_output=True, check=False)
    return made.returncode == 0


def test_the_link_ends_with_its_parent():
    """Killed, soak.py can't tell the link to end; the link's namespaces must go all the same."""
    if not may_have_tun():
        pytest.skip("SKIPPED: no namespace, or no TUN interface in one")
    program = ("from network import Network; from subprocess import PIPE; import sys\n"
               "with Network('link') as network:\n"
               "    print(network.holder.pid, flush=True); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", program], cwd=SOAK.parent, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as parent:
        link = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        assert select.select([link], [], [], LINK_END_S)[0]
        os.close(link)
