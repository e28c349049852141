"""Soak: servers under load with random closes, for a long time.

Every byte is verified, nothing may stand still, and neither memory, descriptors, the Go heap nor Python's objects may
grow. First an echo server with 1,000 connections of 1 KiB messages, then with 10 of 100 KiB; then, where the machine
allows it on a network that delays and loses packets, a server of everything: TCP, TLS, unix sockets, datagrams,
child processes, files, names, with clients and children that are killed and connections that are reset.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import machine
import mixed
import native
from network import KINDS, Network, NetworkFailed
from prepare import check_loops, compile_all, progress
from subject import SERVERS, Subject, SubjectFailed, python

STALL = "1s"
SAMPLE_PERIOD_S = 0.5
# The first part of a phase, while heaps find their size, is not part of the fit: with 1,000 connections a
# Python heap rises by 4 MiB in the first minute, then stays. Hardly anything left says nothing about growth.
SETTLING_PART = 0.3
SETTLING_MIN_S = 60
FIT_MIN_S = 30
# Growth over the fitted part that is noise: glibc's arenas move by whole heaps (mallopt(3)).
NOISE_BYTES = 2 << 20
NOISE_PART = 0.03
NOISE_GO_HEAP_BYTES = 1 << 20
# What more may be in use, at rest, than at rest before: cached names, caches of malloc's threads; of blocks, 8,192 for
# the 2,048 addresses of peers that a loop keeps (peer.pxi), four each.
NOISE_IN_USE = {"malloc_bytes": 512 << 10, "blocks": 10_000, "objects": 300}
# Python objects of a server whose connections come and go.
NOISE_OBJECTS = 2000
# After the last connection is gone the server may need this long to notice.
QUIET_LIMIT_S = 10
SETTLED_S = 0.5
# In the mixed phase a reset may be lost, which keep-alive finds out within 2 s (servers/mixed.py).
MIXED_SETTLED_S = 2.5
# Counters that have to be 0 once all connections are gone.
GAUGES = ("conns", "owners_out", "buffers_out")


@dataclass(frozen=True)
class Phase:
    name: str
    conns: int
    size_bytes: int
    close_rate: float
    fd_noise: float = 2  # growth that is none: connections that happen to be open at one end of the fit
    noise_bytes: int = NOISE_BYTES


# Memory of the mixed phase comes and goes with files of up to 3 MB, four copies of each, and with how far the server is
# behind: growth that is a leak is seen in what is in use at rest.
MIXED = Phase("mixed", conns=0, size_bytes=0, close_rate=0, fd_noise=20, noise_bytes=12_000_000)
PHASES = (
    Phase("1000 x 1 KiB", conns=1000, size_bytes=1024, close_rate=200),
    Phase("10 x 100 KiB", conns=10, size_bytes=100 * 1024, close_rate=20),
    MIXED,
)


@dataclass
class Outcome:
    """What a phase showed. times_s, rss_bytes and fds are samples of the server; statuses are its own."""

    phase: str
    times_s: list[float] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    statuses: list[dict] = field(default_factory=list)
    network: str = ""
    lossy: bool = False
    packets: dict = field(default_factory=dict)
    fds_before: int = 0
    fds_after: int = 0
    in_use_before: dict = field(default_factory=dict)
    in_use_after: dict = field(default_factory=dict)
    load: dict = field(default_factory=dict)
    server: dict = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def slope(xs: list[float], ys: list[int]) -> float:
    """Least squares."""
    n = len(xs)
    mean_x, mean_y = sum(xs) / n, sum(ys) / n
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0


def growth(times_s: list[float], values: list[int]) -> float | None:
    """How much the fitted line rises after the settling part; None if the phase was too short."""
    if not times_s:
        return None
    settled_s = max(times_s[-1] * SETTLING_PART, SETTLING_MIN_S)
    if times_s[-1] - settled_s < FIT_MIN_S:
        return None
    start = next(i for i, t in enumerate(times_s) if t >= settled_s)
    xs, ys = times_s[start:], values[start:]
    return slope(xs, ys) * (xs[-1] - xs[0])


def load_command(phase: Phase, server: Subject, seconds: float, seed: int) -> list[str]:
    command = [native.binary(), "echo", "-addr", native.address(server.first), "-conns", str(phase.conns)]
    command += [
        "-size",
        str(phase.size_bytes),
        "-duration",
        f"{seconds:.1f}s",
        "-stall",
        STALL,
        "-pid",
        str(server.pid),
    ]
    return [*command, "-pid", str(server.pid), "-close-rate", str(phase.close_rate), "-seed", str(seed)]


def sample_until_done(load: subprocess.Popen, pid: int, outcome: Outcome, limit_s: float) -> None:
    """Read the server's memory and descriptors while the load runs."""
    begin = time.monotonic()
    while True:
        try:
            load.wait(SAMPLE_PERIOD_S)
            return
        except subprocess.TimeoutExpired:
            pass
        now = time.monotonic() - begin
        outcome.times_s.append(now)
        outcome.rss_bytes.append(machine.rss_bytes(pid))
        outcome.fds.append(machine.fd_count(pid))
        rss_mib = outcome.rss_bytes[-1] / (1 << 20)
        if len(outcome.times_s) % 20 == 1:
            progress(f"{outcome.phase}: {now:.0f} s, RSS {rss_mib:.1f} MiB, {outcome.fds[-1]} fds")
        if now > limit_s:
            load.kill()
            outcome.problems.append("the load did not end in time")


def settled_fds(pid: int, unchanged_s: float = SETTLED_S) -> int:
    """Descriptors of a server whose last client has just gone, once they are unchanged for so long."""
    deadline = time.monotonic() + QUIET_LIMIT_S
    count, since = machine.fd_count(pid), time.monotonic()
    while time.monotonic() < min(since + unchanged_s, deadline):
        time.sleep(SAMPLE_PERIOD_S / 10)
        if (now := machine.fd_count(pid)) != count:
            count, since = now, time.monotonic()
    return count


def wait_for_quiet(pid: int, fds_before: int) -> int:
    """Wait until the server has closed all connections; answer its descriptors."""
    deadline = time.monotonic() + QUIET_LIMIT_S
    while (count := machine.fd_count(pid)) > fds_before and time.monotonic() < deadline:
        time.sleep(SAMPLE_PERIOD_S / 10)
    return count


def judge(outcome: Outcome, phase: Phase) -> None:
    """Add what is wrong."""
    rss_growth = growth(outcome.times_s, outcome.rss_bytes)
    allowed = max(phase.noise_bytes, NOISE_PART * (outcome.rss_bytes[-1] if outcome.rss_bytes else 0))
    if rss_growth is not None and rss_growth > allowed:
        outcome.problems.append(f"memory grew by {rss_growth / (1 << 20):.1f} MiB")
    fd_growth = growth(outcome.times_s, outcome.fds)
    if fd_growth is not None and fd_growth > max(phase.fd_noise, phase.conns * NOISE_PART):
        outcome.problems.append(f"descriptors grew by {fd_growth:.0f}")
    for name, noise in (("go_heap", NOISE_GO_HEAP_BYTES), ("objects", NOISE_OBJECTS)):
        rise = growth([line["time_s"] for line in outcome.statuses], [line[name] for line in outcome.statuses])
        if rise is not None and rise > noise:
            outcome.problems.append(f"{name} grew by {rise:,.0f}")
    for name, noise in NOISE_IN_USE.items():
        rise = outcome.in_use_after.get(name, 0) - outcome.in_use_before.get(name, 0)
        if rise > noise:
            outcome.problems.append(f"{rise:,} {name.replace('_', ' ')} more in use at rest than before")
    if outcome.server.get("wrong") or outcome.server.get("failed"):
        wrong, failed = outcome.server["wrong"], outcome.server["failed"][:3]
        outcome.problems.append(f"children, files, names: {wrong} wrong; errors {failed}")
    if outcome.fds_after > outcome.fds_before:
        outcome.problems.append(f"{outcome.fds_after - outcome.fds_before} descriptors left behind")
    stats = outcome.server.get("stats", {})
    outcome.problems += [f"{name} is {stats[name]} at the end" for name in GAUGES if stats.get(name)]


def run_load(command: list[str], core: int, pid: int, seconds: float, outcome: Outcome) -> None:
    """Runs the load to its end, while the server with this pid is looked at."""
    load = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: machine.pin_and_tie(core),
    )
    sample_until_done(load, pid, outcome, seconds + native.GRACE_S)
    output, errors = load.communicate()
    outcome.load = json.loads(output) if output else {}
    if load.returncode != 0:
        outcome.problems.append(errors.strip() or f"the load ended with {load.returncode}")


def run_mixed(loop: str, seconds: float, seed: int, network_kind: str) -> Outcome:
    """A server of everything, and clients that are killed."""
    outcome = Outcome(MIXED.name)
    server_core, load_core = machine.cores()
    with tempfile.TemporaryDirectory(prefix="kloop-soak-") as name, Network(network_kind, seed) as network:
        folder = Path(name)
        mixed.prepare(folder)
        outcome.network, outcome.lossy = network.said, network.lossy
        progress(f"network: {network.said}")
        with Subject(**mixed.server_command(server_core, loop, folder, seed, network)) as server:
            # What is opened by the first use of everything is no leak, nor is what the server has under way by itself.
            mixed.warm_up(server, folder, seed, network)
            mixed.rest(server)
            outcome.fds_before = settled_fds(server.pid, MIXED_SETTLED_S)
            outcome.in_use_before = mixed.rest(server)
            mixed.go_on(server)
            run_load(mixed.load_command(server.first, folder, seconds, seed, network), load_core, server.pid, seconds,
                     outcome)
            mixed.rest(server)
            outcome.fds_after = wait_for_quiet(server.pid, outcome.fds_before)
            outcome.in_use_after = mixed.rest(server)
        outcome.server = server.last
        outcome.statuses = mixed.statuses(folder)
    outcome.packets = network.packets
    judge(outcome, MIXED)
    return outcome


def run_phase(phase: Phase, loop: str, style: str, seconds: float, seed: int, network_kind: str) -> Outcome:
    """One server, one load, from the first connection to the last."""
    if phase is MIXED:
        return run_mixed(loop, seconds, seed, network_kind)
    outcome = Outcome(phase.name)
    server_core, load_core = machine.cores()
    command = python(server_core, loop, "default", SERVERS / "echo.py", "--style", style)
    with Subject(**command) as server:
        # One connection first: what the loop opens with its first connection is no leak.
        native.load("echo", native.address(server.first), core=load_core, seconds=0.2, warmup_s=0, conns=1)
        outcome.fds_before = settled_fds(server.pid)
        run_load(load_command(phase, server, seconds, seed), load_core, server.pid, seconds, outcome)
        outcome.fds_after = wait_for_quiet(server.pid, outcome.fds_before)
    outcome.server = server.last
    judge(outcome, phase)
    return outcome


def describe(outcome: Outcome) -> str:
    """A few lines for the reader."""
    load, mib = outcome.load, 1 << 20
    rise = growth(outcome.times_s, outcome.rss_bytes)
    fit = "too short to judge growth" if rise is None else f"growth by linear fit {rise / mib:+.2f} MiB"
    if outcome.phase == MIXED.name:
        return "\n".join(describe_mixed(outcome, fit) + [f"  PROBLEM: {problem}" for problem in outcome.problems])
    lines = [
        f"{outcome.phase}: {'ok' if not outcome.problems else 'FAILED'}",
        f"  {load.get('total_bytes', 0) / (1 << 30):.2f} GiB verified, {load.get('messages', 0):,} messages in "
        f"{load.get('seconds', 0):.0f} s, {load.get('closes', 0):,} random closes, "
        f"p99 {load.get('p99_us', 0):,.0f} µs, max {load.get('max_us', 0):,.0f} µs",
        f"  mismatches {load.get('mismatches')}, stalls {load.get('stalls')}, errors {load.get('errors')}; "
        f"no core to run on for {load.get('starved_seconds', 0):.1f} s",
    ]
    if outcome.rss_bytes:
        lines.append(
            f"  RSS {min(outcome.rss_bytes) / mib:.1f} to {max(outcome.rss_bytes) / mib:.1f} MiB, "
            f"{fit}; fds at most {max(outcome.fds)}, before {outcome.fds_before}, after {outcome.fds_after}"
        )
    return "\n".join(lines + [f"  PROBLEM: {problem}" for problem in outcome.problems])


def describe_mixed(outcome: Outcome, fit: str) -> list[str]:
    """The lines of the mixed phase. fit: what is said of the growth of memory."""
    load, server, mib = outcome.load, outcome.server, 1 << 20
    lines = [
        f"{outcome.phase}: {'ok' if not outcome.problems else 'FAILED'}",
        f"  network: {outcome.network}",
        f"  packets: {describe_packets(outcome)}",
        f"  {load.get('total_bytes', 0) / (1 << 30):.2f} GiB verified, {load.get('messages', 0):,} messages in "
        f"{load.get('seconds', 0):.0f} s over tcp, tls and unix, {load.get('closes', 0):,} ends, of each kind; "
        f"{load.get('kills', 0)} clients killed with all their connections",
        f"  {load.get('datagrams', 0):,} datagrams, {load.get('lost_datagrams', 0)} lost; "
        f"{server.get('children', 0):,} children, {server.get('killed', 0):,} killed; "
        f"{server.get('files', 0):,} files, {server.get('names', 0):,} names, some given up; "
        f"mismatches {load.get('mismatches')}, stalls "
        f"{load.get('stalls')}, errors {load.get('errors')}",
    ]
    if outcome.in_use_after:
        before, after = outcome.in_use_before, outcome.in_use_after
        lines.append("  at rest, before and after: " + ", ".join(
            f"{before[name]:,} and {after[name]:,} {name.replace('_', ' ')}" for name in before))
    if outcome.rss_bytes and outcome.statuses:
        heaps = [line["go_heap"] / mib for line in outcome.statuses]
        objects = [line["objects"] for line in outcome.statuses]
        lines.append(
            f"  RSS {min(outcome.rss_bytes) / mib:.1f} to {max(outcome.rss_bytes) / mib:.1f} MiB, {fit}; Go heap "
            f"{heaps[-1]:.2f} MiB at the end, at most {max(heaps):.2f}; {objects[-1]:,} Python objects at the end, "
            f"at most {max(objects):,}; "
            f"fds at most {max(outcome.fds)}, before {outcome.fds_before}, after {outcome.fds_after}"
        )
    return lines


def describe_packets(outcome: Outcome) -> str:
    """What the network did to packets."""
    packets = dict(outcome.packets)
    again, mean = packets.pop("sent_again", 0), packets.pop("mean_delay_ms", None)
    delays = [packets.pop(name, 0) for name in ("min_delay_ms", "max_delay_ms")]
    words = [f"{count:,} {name}" for name, count in packets.items()]
    if mean is not None:
        words.append(f"delays of {delays[0]:.1f} to {delays[1]:.1f} ms, {mean:.1f} ms on average")
    words.append(f"{again:,} sent again by TCP")
    if "fastest_connect_s" in outcome.load:
        words.append(f"the fastest connect took {outcome.load['fastest_connect_s'] * 1000:.2f} ms")
    return ", ".join(words)


def draw(outcomes: list[Outcome], path: Path) -> str:
    """Plot the samples, if matplotlib is there; answers what to say about it."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError as error:
        return f"no plot: {error}"
    figure, axes = plt.subplots(4, len(outcomes), figsize=(5 * len(outcomes), 8), squeeze=False, sharex="col")
    for column, outcome in enumerate(outcomes):
        axes[0, column].plot(outcome.times_s, [value / (1 << 20) for value in outcome.rss_bytes], color="#5b8db8")
        axes[0, column].set(title=outcome.phase, ylabel="RSS, MiB")
        axes[1, column].plot(outcome.times_s, outcome.fds, color="#d1495b")
        axes[1, column].set(ylabel="descriptors")
        times_s = [line["time_s"] for line in outcome.statuses]
        axes[2, column].plot(times_s, [line["go_heap"] / (1 << 20) for line in outcome.statuses], color="#66a182")
        axes[2, column].set(ylabel="Go heap, MiB")
        axes[3, column].plot(times_s, [line["objects"] for line in outcome.statuses], color="#8d6a9f")
        axes[3, column].set(xlabel="seconds", ylabel="Python objects")
        for axis in axes[:, column]:
            axis.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
    return f"plot: {path}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6, help="in all, shared by the phases (default: %(default)s)")
    parser.add_argument("--loop", default="kloop")
    parser.add_argument("--style", choices=("protocol", "buffered", "streams"), default="protocol")
    parser.add_argument("--phase", choices=[phase.name for phase in PHASES], help="only this one, for all the time")
    parser.add_argument("--seed", type=int, default=1, help="of the random closes")
    parser.add_argument("--network", choices=("auto", *KINDS), default="auto",
                        help="of the mixed phase; auto: the first of these that this machine allows")
    parser.add_argument("--out", type=Path, default=native.ROOT / ".work" / "soak", help="folder of the results")
    chosen = parser.parse_args()
    check_loops([chosen.loop])
    machine.raise_file_limit()
    compile_all([])
    chosen.out.mkdir(parents=True, exist_ok=True)
    phases = [phase for phase in PHASES if chosen.phase in (None, phase.name)]
    seconds = chosen.minutes * 60 / len(phases)
    outcomes = []
    for phase in phases:
        try:
            outcome = run_phase(phase, chosen.loop, chosen.style, seconds, chosen.seed,
                                chosen.network)
        except (native.LoadFailed, SubjectFailed, NetworkFailed) as error:
            outcome = Outcome(phase.name, problems=[str(error)])
        progress("")
        print(describe(outcome), flush=True)
        outcomes.append(outcome)
    (chosen.out / "soak.json").write_text(json.dumps([asdict(outcome) for outcome in outcomes]) + "\n")
    print(draw(outcomes, chosen.out / "soak.svg"))
    return 1 if any(outcome.problems for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
