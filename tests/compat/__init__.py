"""Other projects' test suites, run on kloop and, as the control, on stock asyncio.

    python tests/compat/run.py                      every suite, on asyncio and kloop
    python tests/compat/run.py uvloop aiohttp       some suites only
    python tests/compat/run.py uvloop --files tcp   of its test files only those
    python tests/compat/run.py --compare            beside them uvloop and rloop, for the table
    python tests/compat/run.py --control FILE       with what an earlier run, of another driver, has found on asyncio
    python tests/compat/run.py --pythons 3.10 3.14  CPython's own suite on these

The suites come from the projects' source distributions, pinned with their hashes; each has a
virtual environment of its own. A test that passes on asyncio and fails on kloop fails the run,
unless differences.py lists it with its reason; a listed test that passes fails it too.

run.py           the command: suites one after another, their files side by side
suites.py        what the suites are
environments.py  fetches a suite and what it needs
servers.py       PostgreSQL and Redis of one's own, for the suites that talk to them
file_run.py      one test file on one loop, in as many processes as it takes
loop_plugin.py   the pytest plugin that puts the loop in place and reports each test
uvloop_base.py   the same for the base classes of uvloop's tests
tornado_logs.py  what tornado's own runner sets
differences.py   tests that pass on asyncio and are known not to on kloop, each with its reason
verdict.py       compares two loops' outcomes; runs again alone what differs
report.py        the table
"""
