"""What the runner prints: progress, the table, failures, listed tests that pass, totals."""

from collections import Counter

DETAIL_LINES = 25  # of each failure


def progress(result, done, total):
    failed = result.count("failed")
    print(f"[{done}/{total}] {result.name}: {result.count('passed')} passed, {failed} failed, "
          f"{result.count('skipped')} skipped, {len(result.listed)} listed, {result.seconds:.1f} s",
          flush=True)


def summary(results):
    """Prints all there is to know, answers the exit status."""
    failures(results)
    passing(results)
    stock(results)
    listed(results)
    table(results)
    totals = Counter(entry["outcome"] for result in results for entry in result.outcomes.values())
    print(f"{totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped")
    if totals["passed"] + totals["failed"] == 0:
        print("no test was run")
        return 1
    return 1 if totals["failed"] else 0


def failures(results):
    for result in results:
        for test_id, entry in sorted(result.outcomes.items()):
            if entry["outcome"] != "failed":
                continue
            lines = entry["detail"].rstrip().splitlines()
            cut = ["  ..."] if len(lines) > DETAIL_LINES else []
            print(f"\nFAILED {test_id}", *cut, *("  " + line for line in lines[-DETAIL_LINES:]), sep="\n")


def passing(results):
    names = [name for result in results for name in result.listed_passing]
    if names:
        print(f"\n{len(names)} listed tests pass: take them off tests/cpython/exclusions.py, "
              "or say there why not", *("  " + name for name in names), sep="\n")


def stock(results):
    names = [name for result in results for name in result.stock_fails_too]
    if names:
        print("\nfail here on stock asyncio too, counted as skipped", *("  " + n for n in names), sep="\n")


def listed(results):
    counts = Counter(entry.kind for result in results for entry in result.listed.values())
    if counts:
        print("\nlisted in tests/cpython/exclusions.py")
    for kind, count in counts.most_common():
        print(f"{count:7}  {kind.name}: {kind.text}")


def table(results):
    columns = ("file", "passed", "failed", "skipped", "listed", "seconds")
    width = max(len(result.name) for result in results)
    print(f"\n{columns[0]:{width}}" + "".join(f"{column:>9}" for column in columns[1:]))
    for result in results:
        row = (*(result.count(column) for column in columns[1:4]), len(result.listed))
        print(f"{result.name:{width}}" + "".join(f"{cell:>9}" for cell in row) + f"{result.seconds:>9.1f}")
    print()
