"""What the tables of bench/ say: rows, goals, and marks."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))

import goals
import measure
import report
import rows
from subject import MALLOC_SETTINGS, VARIANTS

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
    for goal in goals.GOALS:
        malloc = goal.malloc or "default"
        met = [row for row in rows.default_rows() if goal.matches(row.id, goal.loop, malloc, goal.metric)]
        assert met, goal
        for row in met:
            assert malloc in row.mallocs, goal
            assert goal.base == goals.ABSOLUTE or goal.base in row.loops(tuple(VARIANTS)), goal


def test_goals_of_tls_depend_on_malloc_and_on_what_is_compared():
    for malloc, of_uvloop in (("default", 3.2), ("tuned", 1.3)):
        rate, cpu = (goals.goals_for("tls/1K/10", "kloop", malloc, metric) for metric in ("per_second", "cpu_us"))
        bounds = {goal.base: goal.at_least for goal in rate}
        assert bounds == {"uvloop": of_uvloop, "uvloop+aiofastnet": 1.2}
        assert {goal.base: goal.at_most for goal in cpu} == {base: 1 / bound for base, bound in bounds.items()}


def test_peers_of_tls_are_in_the_rows_of_tls_only():
    names = tuple(VARIANTS)
    for row in rows.default_rows():
        has = {rows.SSL, rows.AIOFASTNET} & set(row.loops(names))
        assert has == ({rows.SSL, rows.AIOFASTNET} if row.id.startswith("tls") else set()), row.id


def test_a_goal_may_be_relative_to_any_loop():
    row = rows.Row("tls", size_bytes=1024, conns=10)
    rates = {"uvloop": 100, "uvloop+aiofastnet": 200, "kloop": 330}
    made = [
        report.Sample(row.id, loop, "default", 0, {"per_second": rate, "cpu_us": 1e6 / rate})
        for loop, rate in rates.items()
    ]
    of = report.Results(made, [row], list(rates), ["default"])
    words = [f"{verdict.goal} {verdict.word}" for verdict in of.verdicts(row, "kloop", "default")]
    assert words == [
        ">= 3.2x pass",
        ">= 1.2x uvloop+aiofastnet pass",
        "<= 0.312x pass",
        "<= 0.833x uvloop+aiofastnet pass",
    ]


@pytest.mark.parametrize(("mine", "word"), [(559, "pass"), (561, "MISS")])
def test_a_goal_may_be_a_difference(mine, word):
    row = rows.Row("tls-handshake", name="server", conns=10)
    made = [
        report.Sample(row.id, loop, "default", number, {"cpu_us": cpu + 1000 * number})
        for number in range(3)
        for loop, cpu in (("kloop+ssl", 500), ("kloop", mine))
    ]
    of = report.Results(made, [row], ["kloop+ssl", "kloop"], ["default"])
    (verdict,) = of.verdicts(row, "kloop", "default")
    assert (str(verdict.goal), verdict.word) == ("<= kloop+ssl + 60", word)


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
