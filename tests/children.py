"""Runs a piece of Python in a process of its own, for what a test must not do to pytest's."""

import os
import subprocess
import sys
import textwrap

LIMIT_S = 40


def run_python(source, *arguments, options=(), limit_s=LIMIT_S, **environment):
    """Runs source and answers its standard output; fails with its errors if it fails.

    environment: variables to set, or, with None, to leave out.
    """
    done = finished(source, *arguments, options=options, limit_s=limit_s, **environment)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def finished(source, *arguments, options=(), limit_s=LIMIT_S, **environment):
    """As run_python, for a process that may fail: answers the subprocess.CompletedProcess."""
    variables = {**os.environ, "PYTHONFAULTHANDLER": "1", **environment}
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(source), *arguments],
        env={name: value for name, value in variables.items() if value is not None},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s, check=False)
