"""Compares the outcomes on two loops, and runs again, alone, what differs."""

import differences

# A test that passes in one of so many runs of its own is no difference between the loops.
TRIES = 2
# More differences than these are no accidents: they are judged as they are.
ACCIDENTS_MAX = 40


def differing(control, outcomes):
    """The ids of tests that pass on asyncio and not on the other loop."""
    return [test_id for test_id, entry in control.items()
            if entry["outcome"] == "passed" and outcome_of(outcomes, test_id) == "failed"]


def outcome_of(outcomes, test_id):
    """A test without an outcome failed: its process ended before it."""
    return outcomes[test_id]["outcome"] if test_id in outcomes else "failed"


def settle(suite, control, outcomes, run_alone, say):
    """Judges each difference by running the test alone, on both loops; changes outcomes accordingly.

    run_alone(loop_is_control, test_id) answers the outcome. A test that then passes, or that then
    fails on asyncio too, was an accident of the first run and is counted as it came out now.
    """
    unlisted = [test_id for test_id in differing(control, outcomes) if differences.find(suite, test_id) is None]
    if len(unlisted) > ACCIDENTS_MAX:
        say(f"{suite}: {len(unlisted)} tests differ, too many to be run again alone")
        return
    for test_id in unlisted:
        for _ in range(TRIES):
            entry = run_alone(False, test_id)
            if entry["outcome"] != "failed":
                say(f"{suite}: {test_id} failed, and passes when it runs alone")
                outcomes[test_id] = entry
                break
            again = run_alone(True, test_id)
            if again["outcome"] == "failed":
                say(f"{suite}: {test_id} fails on asyncio too when it runs alone")
                control[test_id] = again
                break
            outcomes[test_id] = entry


def judge(suite, control, outcomes):
    """Three lists of ids: differences that no entry explains, explained ones, entries that pass."""
    unexplained, explained = [], []
    for test_id in differing(control, outcomes):
        (unexplained if differences.find(suite, test_id) is None else explained).append(test_id)
    passing = [test_id for test_id in outcomes if outcomes[test_id]["outcome"] == "passed"
               and differences.find(suite, test_id) is not None]
    return unexplained, explained, passing
