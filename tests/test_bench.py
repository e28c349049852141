"""What the tables of bench/ say: rows, goals, and marks."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))

import measure
import report
import rows
from subject import MALLOC_SETTINGS

SOCK = rows.Row("sock", size_bytes=1024, conns=10)
LOOPS = ("uvloop", "kloop")
IDLE, AT_LIMIT, FULL = 0.5, 0.99, 1.0


def results(*samples):
    """Of the row SOCK: (loop, rate, load_busy, server_busy) each."""
    made = [
        report.Sample(SOCK.id, loop, "default", 0, {"per_second": rate, "load_busy": load, "server_busy": server})
        for loop, rate, load, server in samples
    ]
    return report.Results(made, [SOCK], LOOPS, ["default"])


def line(of, loop):
    return next(line for line in report.load_table(of, "default") if line[1] == loop)


def test_every_row_can_be_measured_and_has_an_id_of_its_own():
    for chosen in (rows.default_rows(), rows.full_rows()):
        ids = [row.id for row in chosen]
        assert len(set(ids)) == len(ids)
        for row in chosen:
            assert row.kind in measure.KINDS
            assert set(row.mallocs) <= set(MALLOC_SETTINGS)


def test_every_goal_is_of_a_row_of_the_table():
    for goal in rows.GOALS:
        malloc = goal.malloc or "default"
        met = [row for row in rows.default_rows() if goal.matches(row.id, goal.loop, malloc, goal.metric)]
        assert met, goal
        assert all(malloc in row.mallocs for row in met), goal


def test_goals_of_tls_depend_on_malloc():
    goals = {malloc: rows.goal_for("tls/1K/10", "kloop", malloc, "per_second").at_least for malloc in MALLOC_SETTINGS}
    assert goals == {"default": 2.2, "tuned": 1.0}


@pytest.mark.parametrize(
    ("base", "mine", "rate", "ratio", "word"),
    [
        ((100, IDLE, FULL), (300, IDLE, FULL), "300", "3.00x", "pass"),
        ((100, IDLE, FULL), (200, IDLE, FULL), "200", "2.00x", "MISS"),
        ((100, IDLE, FULL), (200, AT_LIMIT, IDLE), "≥200", "≥2.00x", "NOT SHOWN"),
        ((100, IDLE, FULL), (300, AT_LIMIT, IDLE), "≥300", "≥3.00x", "pass"),
        ((100, IDLE, FULL), (200, AT_LIMIT, FULL), "200", "2.00x", "MISS"),
        ((100, AT_LIMIT, IDLE), (200, IDLE, FULL), "200", "≤2.00x", "MISS"),
        ((100, AT_LIMIT, IDLE), (200, AT_LIMIT, IDLE), "≥200", "~2.00x", "NOT SHOWN"),
    ],
)
def test_rates_that_the_generator_limits_are_marked(base, mine, rate, ratio, word):
    of = results(("uvloop", *base), ("kloop", *mine))
    got = line(of, "kloop")
    assert (got[2], got[3]) == (rate, ratio)
    assert got[-1] == f"rate >= 2.5x {word}"
    limited = "≥" in rate or "≥" in line(of, "uvloop")[2]
    assert limited == ("load generator" in "".join(report.doubts(of)))


def test_a_ratio_is_the_median_of_those_within_a_round():
    made = [
        report.Sample(SOCK.id, loop, "default", number, {"per_second": rate})
        for loop, rates in (("uvloop", (100, 10, 100)), ("kloop", (200, 40, 300)))
        for number, rate in enumerate(rates)
    ]
    of = report.Results(made, [SOCK], LOOPS, ["default"])
    assert of.ratio(SOCK, "kloop", "uvloop", "default", "per_second") == 3


def test_lost_datagrams_are_reported():
    sample = report.Sample(SOCK.id, "kloop", "default", 0, {"lost": 3})
    (text,) = report.doubts(report.Results([sample], [SOCK], LOOPS, ["default"]))
    assert "lost" in text and "3 per round" in text
