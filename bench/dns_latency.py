"""docs/dns-latency.svg: how long a look-up takes, on each loop, of what is known and of what is not.

    python bench/dns_latency.py [--out docs/dns-latency.svg]

Rounds are interleaved as bench.py's; the name server has the load's core. See measure.look_up.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import native
from measure import Setup, look_up
from plot import COLOURS
from prepare import check_loops

matplotlib.use("Agg")

import matplotlib.pyplot as plt

LOOPS = ("asyncio", "uvloop", "uvloop+aiodns", "kloop")
PANELS = (
    ("localhost", "localhost, of the hosts file"),
    ("known", "a name that was looked up before"),
    ("single", "a name that was not, one after the other"),
)
POINTS = 200  # of a curve
OWN_COLOURS = {**COLOURS, "uvloop+aiodns": "#66a182"}


def sample(rounds: int) -> dict[tuple[str, str], list[float]]:
    """us of each, over all rounds."""
    setup = Setup(seconds=0, tracepoint=0)
    samples: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for what, _title in PANELS:
            for loop in LOOPS:
                got = look_up(setup, what, loop, "default", "--samples")
                samples.setdefault((what, loop), []).extend(got["samples_us"])
    return samples


def draw(samples: dict[tuple[str, str], list[float]], path: Path) -> None:
    """What part of the look-ups took no longer than so many us."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(10, 3.2), sharey=True)
    for axis, (what, title) in zip(axes, PANELS, strict=True):
        for loop in LOOPS:
            values = sorted(samples[what, loop])
            parts = [index / POINTS for index in range(POINTS)]
            median = values[len(values) // 2]
            took = [values[int(part * len(values))] for part in parts]
            axis.plot(took, parts, label=f"{loop}: {median:.3g} µs", color=OWN_COLOURS[loop], linewidth=1.4)
        axis.set_xscale("log")
        axis.set_xlim(1, 10_000)
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_xlabel("µs", fontsize=8)
        axis.legend(fontsize=7, frameon=False, title="median", title_fontsize=7)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25, linewidth=0.5)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes[0].set_ylabel("part of the look-ups", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=native.ROOT / "docs" / "dns-latency.svg")
    options = parser.parse_args()
    check_loops(list(LOOPS))
    samples = sample(options.rounds)
    draw(samples, options.out)
    for what, _ in PANELS:
        for loop in LOOPS:
            values = sorted(samples[what, loop])
            median, late = values[len(values) // 2], values[len(values) * 99 // 100]
            print(f"{what:10} {loop:14} median {median:8.1f} us, 99 % {late:9.1f} us")


if __name__ == "__main__":
    main()
