"""kloop's benchmarks: tables with ratios to uvloop and asyncio.

Rounds are interleaved (A B C A B C), server and load run on different cores, every echoed byte is
checked. See bench/README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import time
from pathlib import Path

import machine
import native
from measure import Setup, measure
from prepare import check_loops, compile_all, progress
from report import Results, Sample, whole
from rows import FLOOR, Row, default_rows, full_rows
from subject import MALLOC_SETTINGS, VARIANTS, SubjectFailed
from webapps import APPS

MIN_ROUNDS = 5
QUICK_ROUNDS, QUICK_SECONDS = 2, 0.4
DEFAULT_SECONDS = 1.0
# What a server needs beside its connections.
SPARE_FILES = 128


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rows", default="", metavar="REGEX", help="only rows whose id matches anywhere")
    parser.add_argument("--loops", default=",".join((*VARIANTS, FLOOR)), help="comma-separated")
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS)
    parser.add_argument("--seconds", type=float, default=DEFAULT_SECONDS, help="measured per round and row")
    parser.add_argument("--malloc", choices=(*MALLOC_SETTINGS, "both"), help="default: the default, for TLS both")
    parser.add_argument("--full", action="store_true", help="every size, number of connections and style")
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement: two short rounds")
    parser.add_argument("--list", action="store_true", help="print the ids of the rows")
    parser.add_argument("--out", type=Path, default=native.ROOT / ".work" / "bench", help="folder of the results")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rounds, chosen.seconds = QUICK_ROUNDS, QUICK_SECONDS
    names = chosen.loops.split(",")
    loops = check_loops([name for name in names if name != FLOOR])
    chosen.loops = [*loops, FLOOR] if FLOOR in names and native.floor_runs() else loops
    return chosen


def select(chosen: argparse.Namespace) -> list[Row]:
    limit = machine.raise_file_limit()
    rows = []
    for row in full_rows() if chosen.full else default_rows():
        if not re.search(chosen.rows, row.id):
            continue
        if row.conns + SPARE_FILES > limit:
            print(f"{row.id}: left out, {limit} files are allowed (ulimit -n)", file=sys.stderr)
            continue
        rows.append(row)
    return rows


def mallocs_of(row: Row, asked: str | None) -> list[str]:
    if asked is None:
        return list(row.mallocs)
    return list(MALLOC_SETTINGS) if asked == "both" else [asked]


def run(chosen: argparse.Namespace, setup: Setup, rows: list[Row]) -> list[Sample]:
    """All measurements. Rounds are inside rows: what is compared is measured within seconds."""
    plan = [
        (row, malloc, number, loop)
        for row in rows
        for malloc in mallocs_of(row, chosen.malloc)
        for number in range(chosen.rounds)
        for loop in row.loops(chosen.loops)
    ]
    samples, begin = [], time.monotonic()
    for done, (row, malloc, number, loop) in enumerate(plan):
        left_s = (time.monotonic() - begin) / done * (len(plan) - done) if done else 0
        progress(f"[{done + 1}/{len(plan)}, {left_s / 60:.0f} min left] {row.id} {loop} {malloc} round {number + 1}")
        sample = Sample(row.id, loop, malloc, number)
        try:
            sample.metrics = measure(setup, row, loop, malloc, count_syscalls=number == 0)
        except (native.LoadFailed, SubjectFailed) as error:
            sample.error = str(error)
            progress("")
            print(f"FAILED {row.id} {loop} round {number + 1}: {error}", file=sys.stderr)
        samples.append(sample)
    progress("")
    return samples


def save(folder: Path, samples: list[Sample], results: Results, about: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    document = {"about": about, "samples": [dataclasses.asdict(sample) for sample in samples]}
    (folder / "bench.json").write_text(json.dumps(document, indent=1) + "\n")
    facts = "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in about.items())
    (folder / "bench.md").write_text(f"{facts}\n\n{whole(results, 'markdown')}\n")
    try:
        import plot
    except ImportError as error:
        print(f"bench: no plot: {error}", file=sys.stderr)
        return
    for kind in ("svg", "png"):
        plot.draw(results, folder / f"bench.{kind}")


def main() -> int:
    chosen = options()
    rows = select(chosen)
    if chosen.list:
        print("\n".join(row.id for row in rows))
        return 0
    tracepoint, how = machine.syscall_tracepoint()
    if tracepoint and (reason := machine.may_count_syscalls(tracepoint)):
        tracepoint, how = 0, f"not counted: {reason}"
    setup = Setup(chosen.seconds, tracepoint)
    if setup.server_core == setup.load_core:
        print("bench: only one core: server and load share it, figures say little", file=sys.stderr)
    native.binary()
    apps = {module for row in rows if row.kind == "web" for module in APPS[row.name]}
    compile_all({VARIANTS[name][0] for name in chosen.loops if name in VARIANTS} | apps)
    about = {**machine.describe(), **versions(chosen.loops)}
    about |= {"rounds": chosen.rounds, "seconds_per_round": chosen.seconds}
    about |= {"server_core": setup.server_core, "load_core": setup.load_core, "system_calls": how}
    samples = run(chosen, setup, rows)
    used = {malloc for row in rows for malloc in mallocs_of(row, chosen.malloc)}
    results = Results(samples, rows, chosen.loops, [malloc for malloc in MALLOC_SETTINGS if malloc in used])
    print("\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in about.items()), end="\n\n")
    print(whole(results, "text"))
    save(chosen.out, samples, results, about)
    print(f"\nresults: {chosen.out}/bench.json, bench.md, bench.svg, bench.png")
    return 1 if any(sample.error for sample in samples) else 0


def versions(names: list[str]) -> dict[str, str]:
    found = {}
    for module in sorted({VARIANTS[name][0] for name in names if name in VARIANTS} - {"asyncio"}):
        found[module] = str(getattr(__import__(module), "__version__", "unknown"))
    return found


if __name__ == "__main__":
    sys.exit(main())
