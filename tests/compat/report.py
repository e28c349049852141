"""What the runner prints: differences with their details, listed tests, the table."""

import sys
from collections import Counter

import differences
import verdict

OUTCOMES = ("passed", "failed", "skipped")
DETAIL_LINES = 25   # of each failure


def counted(counts):
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES)


class Summary:
    """Results of all suites."""

    def __init__(self, loops):
        self.loops = loops
        self.rows = []          # (name, loop -> Counter, loop -> seconds, loop -> share passed of the control's)
        self.runs = []
        self.not_run = []       # (name, reason)
        self.failed = False

    def add(self, run, reason):
        """One suite of another project, or why it was not run."""
        suite = run.suite
        if reason is not None:
            print(f"NOT RUN {suite.requirement}: {reason}", flush=True)
            self.not_run.append((suite.requirement, reason))
            return
        counts = {loop: Counter(entry["outcome"] for entry in outcomes.values())
                  for loop, outcomes in run.outcomes.items()}
        control = run.outcomes["asyncio"]
        base = counts["asyncio"]["passed"]
        shares = {loop: (base - len(verdict.differing(control, outcomes)), base)
                  for loop, outcomes in run.outcomes.items()}
        self.rows.append((suite.requirement, counts, run.seconds, shares))
        self.runs.append(run)

    def add_cpython(self, name, counts, seconds, shares, failed):
        """CPython's own suite, which has its own runner."""
        self.rows.append((name, counts, seconds, shares))
        self.failed = self.failed or failed

    def finish(self, ours):
        """Prints all there is to know about our loop, answers the exit status."""
        for run in self.runs:
            self.differences_of(run, ours)
        for name, reason in self.not_run:
            print(f"\nnot run: {name}: {reason}")
        self.table()
        return 1 if self.failed else 0

    def differences_of(self, run, ours):
        name = run.suite.name
        outcomes = run.outcomes[ours]
        unexplained, explained, passing = verdict.judge(name, run.outcomes["asyncio"], outcomes)
        for test_id in unexplained:
            detail = outcomes.get(test_id, {}).get("detail", "not run")
            lines = detail.rstrip().splitlines()[-DETAIL_LINES:]
            print(f"\nFAILED {name}: {test_id} passes on asyncio", *("  " + line for line in lines), sep="\n")
        for test_id in explained:
            print(f"\nlisted {name}: {test_id}: {differences.find(name, test_id)}")
        for test_id in passing:
            print(f"\nPASSES {name}: {test_id} is listed in differences.py: take it off")
        if run.notes:
            print(f"\nof {name}:", *("  " + note for note in run.notes), sep="\n")
        if not any(entry["outcome"] == "passed" for entry in outcomes.values()):
            print(f"\nFAILED {name}: no test passed")
            self.failed = True
        if unexplained or passing:
            self.failed = True

    def table(self):
        """One row for each suite and loop; the share is of the tests that pass on asyncio."""
        if not self.rows:
            print("no suite was run", file=sys.stderr)
            self.failed = True
            return
        width = max(len(name) for name, *_ in self.rows)
        print(f"\n{'suite':{width}}  {'loop':8}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}"
              "  of what asyncio passes")
        for name, counts, seconds, shares in self.rows:
            for loop, counter in counts.items():
                passed, base = shares[loop]
                share = f"{passed}/{base}  {100 * passed / base:.1f} %" if base else ""
                print(f"{name:{width}}  {loop:8}" + "".join(
                    f"{counter[outcome]:>{8 if outcome != 'skipped' else 9}}" for outcome in OUTCOMES)
                    + f"{seconds[loop]:>9.0f}  {share}")
        print(flush=True)

    def as_json(self):
        return {
            "table": [{"suite": name, "loop": loop, **{o: counts[loop][o] for o in OUTCOMES},
                       "seconds": round(seconds[loop]), "of_asyncio": shares[loop]}
                      for name, counts, seconds, shares in self.rows for loop in counts],
            "not_run": self.not_run,
            "notes": {run.suite.name: run.notes for run in self.runs},
            "outcomes": {run.suite.name: {loop: {i: e["outcome"] for i, e in outcomes.items()}
                                          for loop, outcomes in run.outcomes.items()} for run in self.runs},
        }
