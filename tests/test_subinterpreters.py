"""Subinterpreters: the extension refuses them, with an ImportError that says so."""

import sys

import pytest
from children import run_python

# Each Python from 3.12 on has another module for this. Python 3.12.1 may abort when it ends
# after asyncio was imported in a subinterpreter, so that the process ends without a farewell.
PROGRAM = """
    import os, sys

    def error_of(program):
        if sys.version_info >= (3, 14):
            from concurrent import interpreters
            try:
                interpreters.create().exec(program)
            except interpreters.ExecutionFailed as exc:
                return str(exc)
        elif sys.version_info >= (3, 13):
            import _interpreters
            failure = _interpreters.exec(_interpreters.create(), program)
            return failure and failure.formatted
        else:
            import _xxsubinterpreters
            try:
                _xxsubinterpreters.run_string(_xxsubinterpreters.create(), program)
            except _xxsubinterpreters.RunFailedError as exc:
                return str(exc)

    assert error_of("import asyncio") is None
    error = error_of("import kloop")
    assert "ImportError" in error, error
    assert "module kloop._core does not support loading in subinterpreters" in error, error

    import kloop                    # the main interpreter is none the worse for it

    async def answer():
        return 7

    assert kloop.run(answer()) == 7
    os._exit(0)
    """


@pytest.mark.skipif(sys.version_info < (3, 12),
                    reason="extensions can refuse subinterpreters from Python 3.12 on")
def test_a_subinterpreter_is_refused():
    run_python(PROGRAM)
