"""From measurements to tables: medians, paired ratios, goals."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from goals import ABSOLUTE, Goal, goals_for
from rows import Row

TLS_KINDS = ("tls", "tls-oneway", "tls-handshake")
LOAD_KINDS = ("echo", "sock", "unix", "udp", *TLS_KINDS, "web", "process", "file", "client", "busy", "micro", "names")
# The generator's share of its core, above which it may have been the bottleneck, unless the server
# was as busy: then a rate only says what the server can do at least.
LOAD_BUSY_LIMIT = 0.95
SERVER_BUSY = 0.98
# The part of the time for which a process had no core because something else ran on it: above
# this, rates say what else the machine did. CPU per message suffers less.
STARVED_LIMIT = 0.02

METRIC_NAMES = {
    "per_second": "rate",
    "cpu_us": "CPU",
    "syscalls": "syscalls",
    "enters_submit": "submitting enters",
    "cpu_ms_s": "CPU, ms per second",
    "wakeups_s": "wake-ups per second",
    "ms": "start-up over `import asyncio`, ms",
    "ms_over_bare": "start-up over bare Python, ms",
    "kib_conn": "memory per idle connection, KiB",
    "thread": "share of the loop's thread",
}


@dataclass
class Sample:
    """One measurement. error: why there are no metrics."""

    row: str
    loop: str
    malloc: str
    round: int
    metrics: dict[str, float] = field(default_factory=dict)
    error: str = ""


@dataclass
class Verdict:
    """A goal beside what was measured."""

    goal: Goal
    value: float
    at_least: bool = False  # the true value is this or more

    @property
    def reached(self) -> bool:
        return self.goal.reached(self.value)

    @property
    def word(self) -> str:
        """pass, MISS, or that the generator was too slow to tell."""
        if self.reached:
            return "pass"
        return "NOT SHOWN" if self.at_least else "MISS"


class Results:
    """All samples of a run, and what follows from them."""

    def __init__(self, samples: Iterable[Sample], rows: Sequence[Row], loops: Sequence[str], mallocs: Sequence[str]):
        self.rows, self.loops, self.mallocs = rows, loops, mallocs
        self.by_key: dict[tuple[str, str, str], list[Sample]] = {}
        for sample in samples:
            self.by_key.setdefault((sample.row, sample.loop, sample.malloc), []).append(sample)

    def samples(self, row: Row, loop: str, malloc: str) -> list[Sample]:
        return self.by_key.get((row.id, loop, malloc), [])

    def median(self, row: Row, loop: str, malloc: str, metric: str) -> float | None:
        values = [s.metrics[metric] for s in self.samples(row, loop, malloc) if metric in s.metrics]
        return statistics.median(values) if values else None

    def ratio(self, row: Row, loop: str, base: str, malloc: str, metric: str) -> float | None:
        """Median over the rounds of the ratio within a round, where the machine's mood was most alike."""
        pairs = self._pairs(row, loop, base, malloc, metric)
        ratios = [mine / other for mine, other in pairs if other > 0]  # a start-up can be below the noise
        return statistics.median(ratios) if ratios else None

    def difference(self, row: Row, loop: str, base: str, malloc: str, metric: str) -> float | None:
        """The same of differences."""
        differences = [mine - other for mine, other in self._pairs(row, loop, base, malloc, metric)]
        return statistics.median(differences) if differences else None

    def _pairs(self, row: Row, loop: str, base: str, malloc: str, metric: str) -> list[tuple[float, float]]:
        """The figures of two loops in the rounds that have both."""
        of_base = {s.round: s.metrics.get(metric) for s in self.samples(row, base, malloc)}
        both = [(s.metrics.get(metric), of_base.get(s.round)) for s in self.samples(row, loop, malloc)]
        return [(mine, other) for mine, other in both if mine is not None and other is not None]

    def load_limited(self, row: Row, loop: str, malloc: str) -> bool:
        """Whether the load generator may have been the bottleneck of a rate."""
        load, server = (self.median(row, loop, malloc, metric) for metric in ("load_busy", "server_busy"))
        return load is not None and server is not None and load > LOAD_BUSY_LIMIT and server < SERVER_BUSY

    def verdicts(self, row: Row, loop: str, malloc: str, metrics: Iterable[str] = METRIC_NAMES) -> list[Verdict]:
        found = []
        for metric in metrics:
            for goal in goals_for(row.id, loop, malloc, metric):
                value = self._judged(goal, row, loop, malloc)
                if value is not None:
                    limited = metric == "per_second" and self.load_limited(row, loop, malloc)
                    found.append(Verdict(goal, value, limited))
        return found

    def _judged(self, goal: Goal, row: Row, loop: str, malloc: str) -> float | None:
        """The figure that a goal is about."""
        if goal.base == ABSOLUTE:
            return self.median(row, loop, malloc, goal.metric)
        compare = self.difference if goal.difference else self.ratio
        return compare(row, loop, goal.base, malloc, goal.metric)


def _number(value: float | None, digits: int = 2) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"


def _rate_ratio(results: Results, row: Row, loop: str, base: str, malloc: str) -> str:
    """The ratio of two rates, of which neither, one or both may be lower bounds."""
    text = _ratio(results.ratio(row, loop, base, malloc, "per_second"))
    mine, other = (results.load_limited(row, name, malloc) for name in (loop, base))
    if text == "-" or mine == other:
        return f"~{text}" if mine and loop != base else text
    return f"≥{text}" if mine else f"≤{text}"


def _goals(verdicts: list[Verdict], named: bool) -> str:
    texts = []
    for verdict in verdicts:
        name = f"{METRIC_NAMES[verdict.goal.metric]} " if named else ""
        texts.append(f"{name}{verdict.goal} {verdict.word}")
    return ", ".join(texts)


LOAD_HEAD = (
    "row", "loop", "per second", "/uvloop", "/asyncio", "CPU µs", "/uvloop", "syscalls", "p50 µs", "p99 µs", "goal",
)  # fmt: skip
OTHER_HEAD = ("row", "figure", "loop", "value", "/uvloop", "/asyncio", "goal")


def load_table(results: Results, malloc: str) -> list[tuple[str, ...]]:
    """Rows that have a rate, one line per loop."""
    lines = []
    for row in results.rows:
        if row.kind not in LOAD_KINDS:
            continue
        for loop in results.loops:
            if not results.samples(row, loop, malloc):
                continue

            def med(metric: str, row: Row = row, loop: str = loop) -> float | None:
                return results.median(row, loop, malloc, metric)

            at_least = "≥" if results.load_limited(row, loop, malloc) else ""
            lines.append(
                (
                    row.id,
                    loop,
                    at_least + _number(med("per_second"), 0),
                    _rate_ratio(results, row, loop, "uvloop", malloc),
                    _rate_ratio(results, row, loop, "asyncio", malloc),
                    _number(med("cpu_us")),
                    _ratio(results.ratio(row, loop, "uvloop", malloc, "cpu_us")),
                    _number(med("syscalls")),
                    _number(med("p50_us"), 1),
                    _number(med("p99_us"), 1),
                    _goals(results.verdicts(row, loop, malloc), named=True),
                )
            )
    return lines


def other_table(results: Results, malloc: str) -> list[tuple[str, ...]]:
    """Idle loops, start-up and memory: one line per figure and loop."""
    lines = []
    for row in results.rows:
        if row.kind in LOAD_KINDS:
            continue
        for metric, name in METRIC_NAMES.items():
            for loop in results.loops:
                value = results.median(row, loop, malloc, metric)
                if value is None:
                    continue
                lines.append(
                    (
                        row.id,
                        name,
                        loop,
                        _number(value),
                        _ratio(results.ratio(row, loop, "uvloop", malloc, metric)),
                        _ratio(results.ratio(row, loop, "asyncio", malloc, metric)),
                        _goals(results.verdicts(row, loop, malloc, (metric,)), named=False),
                    )
                )
    return lines


def as_text(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns for a terminal."""
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
    left = {i for i, name in enumerate(head) if name in ("row", "loop", "figure", "goal", "app", "driver")}
    out, before = [], ""
    for line in (head, *lines):
        if before and line[0] != before:
            out.append("")
        before = line[0]
        cells = [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        out.append("  ".join(cells).rstrip())
    return "\n".join(out)


def as_markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The same for docs/performance.md."""
    left = ("row", "loop", "figure", "goal")
    rule = [":--" if name in left else "--:" for name in head]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *lines))


def goal_summary(results: Results, malloc: str) -> tuple[int, list[str]]:
    """How many goals were reached, and the others in words."""
    reached, missed = 0, []
    for row in results.rows:
        for loop in results.loops:
            for verdict in results.verdicts(row, loop, malloc):
                if verdict.reached:
                    reached += 1
                else:
                    name = METRIC_NAMES[verdict.goal.metric]
                    unknown = ", or more: the load generator was at its limit" if verdict.at_least else ""
                    missed.append(f"{row.id} {loop} {name}: {verdict.value:.2f}{unknown}, goal {verdict.goal}")
    return reached, missed


def medians_above(results: Results, metric: str, limit: float) -> list[tuple[str, float]]:
    """Rows and loops where a metric was above a limit."""
    found = []
    for (row, loop, malloc), samples in results.by_key.items():
        values = [s.metrics[metric] for s in samples if metric in s.metrics]
        if values and (median := statistics.median(values)) > limit:
            found.append((f"{row} {loop} ({malloc} malloc)", median))
    return found


def doubts(results: Results) -> list[str]:
    """What speaks against trusting these figures."""
    texts = []
    limited = [
        f"\n- {row.id} {loop} ({malloc} malloc)"
        for row in results.rows
        for loop in results.loops
        for malloc in results.mallocs
        if results.load_limited(row, loop, malloc)
    ]
    if limited:
        texts.append(
            f"The load generator used more than {LOAD_BUSY_LIMIT:.0%} of its core and the server had time left: rates "
            f"marked ≥ are lower bounds, and ratios of two such, marked ~, say little:{''.join(limited)}"
        )
    if lost := medians_above(results, "lost", 0):
        names = "".join(f"\n- {name}: {number:.0f} per round" for name, number in lost)
        texts.append(f"Datagrams were lost, and not counted as messages:{names}")
    if starved := medians_above(results, "starved", STARVED_LIMIT):
        worst = max(share for _, share in starved)
        texts.append(
            f"OTHER WORK RAN ON THIS MACHINE: in {len(starved)} rows the server had to wait for its core, up to "
            f"{worst:.0%} of the time. Rates and latencies are not to be trusted, CPU per message is less affected."
        )
    return texts


def whole(results: Results, style: str) -> str:
    """All tables; style: text or markdown."""
    draw = as_text if style == "text" else as_markdown
    parts = []
    for malloc in results.mallocs:
        title = f"malloc: {malloc}"
        parts.append(f"### {title}" if style == "markdown" else f"== {title}")
        if lines := load_table(results, malloc):
            parts.append(draw(LOAD_HEAD, lines))
        if lines := other_table(results, malloc):
            parts.append(draw(OTHER_HEAD, lines))
        reached, missed = goal_summary(results, malloc)
        if reached or missed:
            bullets = "".join(f"\n- {line}" for line in missed)
            parts.append(f"Goals reached: {reached} of {reached + len(missed)}.{bullets}")
    return "\n\n".join(parts + doubts(results))
