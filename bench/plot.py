"""The picture for the README: ratios to uvloop."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from report import TLS_KINDS, Results
from rows import Row

COLOURS = {
    "asyncio": "#b0b0b0",
    "uvloop": "#5b8db8",
    "kloop": "#d1495b",
    "kloop+spin": "#edae49",
    "kloop+sqpoll": "#66a182",
    "kloop+epoll": "#8d96a3",
}
MESSAGE_KINDS = ("echo", "sock", "unix", "udp", *TLS_KINDS, "web", "client")
PANELS = (
    ("per_second", MESSAGE_KINDS, "messages per second / uvloop (higher is better)"),
    ("cpu_us", MESSAGE_KINDS, "CPU per message / uvloop (lower is better)"),
    ("per_second", ("process",), "child processes per second / uvloop (higher is better)"),
    ("per_second", ("micro",), "operations per second / uvloop (higher is better)"),
)
BAR_HEIGHT_INCH = 0.16


def draw(results: Results, path: Path) -> None:
    """Draw what there is; nothing without uvloop as the base."""
    malloc = results.mallocs[0]
    panels = []
    for metric, kinds, title in PANELS:
        rows = [row for row in results.rows if row.kind in kinds]
        rows = [row for row in rows if results.median(row, "uvloop", malloc, metric)]
        if rows:
            panels.append((metric, rows, title))
    if not panels:
        return
    loops = [loop for loop in results.loops if loop in COLOURS and "+" not in loop]
    heights = [(len(loops) + 1) * len(rows) * BAR_HEIGHT_INCH + 0.6 for _, rows, _ in panels]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(8, sum(heights)), gridspec_kw={"height_ratios": heights}, squeeze=False
    )
    for axis, (metric, rows, title) in zip(axes[:, 0], panels, strict=True):
        _panel(axis, results, malloc, metric, rows, loops)
        axis.set_title(title, fontsize=9, loc="left")
    axes[0, 0].legend(fontsize=7, frameon=False, ncols=len(loops), loc="lower right", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _panel(axis: Axes, results: Results, malloc: str, metric: str, rows: list[Row], loops: list[str]) -> None:
    thickness = 1 / (len(loops) + 1)
    for number, loop in enumerate(loops):
        places = [index + number * thickness for index in range(len(rows))]
        values = [results.ratio(row, loop, "uvloop", malloc, metric) or 0 for row in rows]
        bars = axis.barh(places, values, thickness, label=loop, color=COLOURS[loop])
        axis.bar_label(bars, [f"{value:.2f}" if value else "" for value in values], fontsize=6, padding=2)
    axis.set_yticks([index + (len(loops) - 1) * thickness / 2 for index in range(len(rows))])
    axis.set_yticklabels([row.id for row in rows], fontsize=7)
    axis.axvline(1, color="#404040", linewidth=0.6)
    axis.invert_yaxis()
    axis.tick_params(axis="x", labelsize=7)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
