"""Runs CPython's own test.test_asyncio, of the running interpreter, against kloop.

    python tests/cpython/run.py                     every file, on kloop
    python tests/cpython/run.py --loop asyncio      the control: stock asyncio
    python tests/cpython/run.py --loop uvloop       or any MODULE:FACTORY
    python tests/cpython/run.py test_server         some files only
    python tests/cpython/run.py -k 'test_events.*signal*' -v

run.py         one process per test file; the table, the totals
child.py       runs one file's tests, and tells run.py of each through a pipe
stand_in.py    makes the tests' event loops ours
exclusions.py  which tests are not to be run, each with its reason
report.py      what run.py prints
"""
