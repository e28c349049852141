"""The exception handler: where errors go that no caller can be told of."""

import asyncio
import functools
import logging

import pytest
from driving import reports, run_once


@pytest.fixture
def stock_handler(loop):
    """Gives the loop asyncio's own default handler, which logs, in place of the tests' watchman."""
    loop.default_exception_handler = functools.partial(
        asyncio.BaseEventLoop.default_exception_handler, loop)
    yield
    del loop.default_exception_handler


def fail():
    raise ZeroDivisionError("on purpose")


def test_set_and_get(loop):
    def handler(loop, context):
        """Never called."""

    assert loop.get_exception_handler() is None
    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None
    with pytest.raises(TypeError, match="^A callable object or None is expected, got 'text'$"):
        loop.set_exception_handler("text")


def test_without_a_handler_the_default_one_is_called(loop, reported_errors):
    loop.call_exception_handler({"message": "something", "exception": None})
    assert reported_errors == [{"message": "something", "exception": None}]


def test_the_default_handler_logs_callback_and_traceback(loop, stock_handler, caplog):
    loop.call_soon(fail)
    with caplog.at_level(logging.ERROR, "asyncio"):
        run_once(loop)
    (record,) = caplog.records
    assert record.message.startswith("Exception in callback fail() at ")
    assert "handle: <Handle fail() at " in record.message
    assert record.exc_info[0] is ZeroDivisionError
    caplog.clear()


def test_a_handler_gets_loop_and_context(loop):
    calls = []
    loop.set_exception_handler(lambda *arguments: calls.append(arguments))
    context = {"message": "something"}
    loop.call_exception_handler(context)
    loop.set_exception_handler(None)
    assert calls == [(loop, context)]


def test_a_handler_that_fails_is_logged_and_the_loop_goes_on(loop, stock_handler, caplog):
    def handler(loop, context):
        raise LookupError("of the handler")

    seen = []
    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    loop.call_soon(seen.append, "next")
    with caplog.at_level(logging.ERROR, "asyncio"):
        run_once(loop)
    loop.set_exception_handler(None)
    assert seen == ["next"]
    (record,) = caplog.records
    assert record.message.startswith("Unhandled error in exception handler")
    assert record.exc_info[0] is LookupError
    caplog.clear()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_handler_may_end_the_program(loop, error):
    def handler(loop, context):
        raise error

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    with pytest.raises(error):
        loop.run_forever()
    loop.set_exception_handler(None)


def test_many_failing_callbacks_do_not_hold_up_the_others(loop):
    seen = []
    for number in range(100):
        loop.call_soon(fail)
        loop.call_soon(seen.append, number)
    with reports(loop) as contexts:
        run_once(loop)
    assert seen == list(range(100))
    assert len(contexts) == 100


def test_base_exceptions_of_callbacks_are_reported_too(loop):
    class Odd(BaseException):
        pass

    def odd():
        raise Odd

    loop.call_soon(odd)
    with reports(loop) as contexts:
        run_once(loop)
    assert isinstance(contexts[0]["exception"], Odd)
