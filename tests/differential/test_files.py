"""The same calls on a file of kloop.open and on the built-in open()'s: results, errors and contents must be the same.

Texts of errors are left out; their class and number are not. As in test_differential.py, KLOOP_DIFFERENTIAL and
KLOOP_DIFFERENTIAL_SEED ask for more and other scripts. How much read1() gives is nowhere said, and is not compared.
"""

import asyncio
import os

import pytest
from driving import run
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from .test_differential import SCRIPTS, SEED, TIME_LIMIT_S

MODES = ("r", "r+", "w", "w+", "a", "a+", "x", "x+")
# Sizes about those at which something changes: a buffer of 16, a chunk of text of 8192, a buffer of 32 KiB.
SIZES = st.one_of(st.integers(-1, 40), st.sampled_from([8191, 8192, 8193, 32767, 32768, 40_000]))
OFFSETS = st.one_of(st.integers(-3, 60), st.sampled_from([8190, 8192, 16_384, 33_000]))
UNSUPPORTED, CLOSED = ("UnsupportedOperation", None), ("ValueError", None)
LINES = b"first\nsecond, longer\r\n\nthird\rfourth"


def payload(draw, size):
    return (LINES * (size // len(LINES) + 1))[:size]


@st.composite
def byte_calls(draw):
    """One call on a file of bytes: its name and arguments."""
    name = draw(st.sampled_from(["read", "read", "readline", "readline", "readlines", "peek", "readinto", "write",
                                 "write", "write", "writelines", "seek", "seek", "tell", "truncate", "flush", "next",
                                 "readable", "writable", "seekable", "fileno?", "closed", "close", "raw size"]))
    if name in ("read", "readline", "readlines"):
        return name, (draw(SIZES),)
    if name == "readinto":
        return name, (draw(st.integers(0, 20_000)),)
    if name == "write":
        return name, (payload(draw, draw(st.one_of(st.integers(0, 50), st.sampled_from([8192, 33_000])))),)
    if name == "writelines":
        return name, ([payload(draw, n) for n in draw(st.lists(st.integers(0, 30), max_size=4))],)
    if name == "seek":
        return name, (draw(OFFSETS), draw(st.sampled_from([0, 0, 0, 1, 2])))
    if name == "truncate":
        return name, (draw(st.one_of(st.none(), OFFSETS)),)
    return name, ()


@st.composite
def text_calls(draw):
    """And on one of text; positions are those that tell() gave before."""
    name = draw(st.sampled_from(["read", "read", "readline", "readline", "readlines", "write", "write", "writelines",
                                 "tell", "tell", "go", "go", "rewind", "end", "flush", "next", "closed", "close",
                                 "newlines", "raw size", "truncate"]))
    if name in ("read", "readline", "readlines"):
        return name, (draw(SIZES),)
    if name in ("write", "writelines"):
        texts = draw(st.lists(st.text("ab\n\rä日🥊", max_size=30), min_size=1, max_size=3))
        return name, ("".join(texts),) if name == "write" else (texts,)
    if name == "go":
        return name, (draw(st.integers(0, 5)),)
    return name, ()


def outcome_of(value):
    if isinstance(value, BaseException):
        # UnsupportedOperation is an OSError and a ValueError, and has no number.
        return type(value).__name__, getattr(value, "errno", None)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return value


class Caller:
    """Makes calls on one of the two files, and keeps what comes of them."""

    def __init__(self, file, path):
        self.file = file
        self.path = path
        self.places = []

    def plan(self, name, arguments):
        """A function that makes the call, and one that makes its outcome of what that answers."""
        file = self.file
        if name == "next":
            return (file.__anext__ if hasattr(file, "__anext__") else lambda: next(file)), lambda value: value
        if name == "readinto":
            buffer = bytearray(arguments[0])
            return lambda: file.readinto(buffer), lambda size: bytes(buffer[:size])
        if name == "peek":
            return file.peek, lambda value: value[:1]           # how much is not said
        if name == "fileno?":
            return file.fileno, lambda value: isinstance(value, int)
        if name in ("closed", "newlines"):
            return lambda: getattr(file, name), lambda value: value
        if name == "raw size":
            return lambda: None, lambda _: None
        if name == "tell" and hasattr(file, "encoding"):
            return file.tell, self.keep
        if name == "go":
            place = self.places[arguments[0] % len(self.places)] if self.places else 0
            return lambda: file.seek(place), lambda _: None
        if name == "at":
            return lambda: file.seek(*arguments), lambda value: value
        if name == "rewind":
            return lambda: file.seek(0), lambda value: value
        if name == "end":
            return lambda: file.seek(0, 2), lambda value: value
        return lambda: getattr(file, name)(*arguments), lambda value: value

    def keep(self, place):
        self.places.append(place)
        return "a place"

    def size(self):
        return os.stat(self.path).st_size


def call_builtin(caller, name, arguments):
    make, outcome = caller.plan(name, arguments)
    try:
        return outcome_of(outcome(make()))
    except StopIteration:
        return "the end"
    except (OSError, ValueError, TypeError) as exc:
        return outcome_of(exc)


async def call_kloop(caller, name, arguments):
    make, outcome = caller.plan(name, arguments)
    try:
        value = make()
        if hasattr(value, "__await__"):
            value = await value
        return outcome_of(outcome(value))
    except StopAsyncIteration:
        return "the end"
    except (OSError, ValueError, TypeError) as exc:
        return outcome_of(exc)


async def compare(tmp_path, mode, content, options, calls):
    import kloop

    paths = [str(tmp_path / name) for name in ("builtin", "kloop")]
    for path in paths:
        if content is None:
            if os.path.exists(path):
                os.unlink(path)
        else:
            with open(path, "wb") as file:
                file.write(content)
    try:
        builtin = open(paths[0], mode, **options)  # noqa: SIM115 (closed below)
    except (OSError, ValueError) as expected:
        with pytest.raises(type(expected)) as caught:
            await kloop.open(paths[1], mode, **options)
        assert outcome_of(caught.value) == outcome_of(expected)
        return
    with builtin:
        async with kloop.open(paths[1], mode, **options) as ours:
            left, right = Caller(builtin, paths[0]), Caller(ours, paths[1])
            for count, (name, arguments) in enumerate(calls):
                if name == "next" and getattr(builtin, "encoding", None):
                    name, arguments = "readline", (-1,)     # iterating disables the built-in's tell()
                if builtin.closed and name in ("readable", "writable", "seekable"):
                    continue            # some types of the built-in's say False, others raise
                if name == "peek" and not hasattr(builtin, "peek") or (name, arguments) == ("readline", (0,)):
                    continue            # which the built-in's lacks, or answers b"" to whatever its mode is
                # With "a" a write not yet flushed is thought to be at the position.
                if name == "peek" or "a" in mode and name == "tell" or getattr(builtin, "encoding", None):
                    # The built-in's peek() and read1(), which its text uses, see nothing that is not flushed.
                    call_builtin(left, "flush", ())
                    await call_kloop(right, "flush", ())
                expected = call_builtin(left, name, arguments)
                seen = await call_kloop(right, name, arguments)
                if builtin.closed and ours.closed and expected == UNSUPPORTED and seen == CLOSED:
                    continue            # it is both
                assert seen == expected, f"call {count}: {name}{arguments}"
    with open(paths[0], "rb") as first, open(paths[1], "rb") as second:
        assert second.read() == first.read()


@pytest.mark.timeout(TIME_LIMIT_S)
@pytest.mark.parametrize("buffering", [-1, 0, 16])
def test_bytes(loop, tmp_path, may_be_long, buffering):
    @seed(SEED)
    @settings(max_examples=SCRIPTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(MODES), st.one_of(st.none(), st.sampled_from([b"", LINES, LINES * 300, LINES * 1500])),
           st.lists(byte_calls(), max_size=25))
    def script(mode, content, calls):
        if buffering == 0:
            # A seek that fails has the built-in's say that it is not seekable.
            calls = [call for call in calls if call[0] not in ("peek", "seekable")]
        run(loop, compare(tmp_path, mode + "b", content, {"buffering": buffering}, calls))

    script()


@pytest.mark.timeout(TIME_LIMIT_S)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "shift_jis"])
def test_text(loop, tmp_path, may_be_long, encoding):
    contents = ["", "first\nsecond ä日\r\n\rend", "a line of some length äöü 日本\r\n" * 600, "x" * 20_000 + "\n🥊\n"]
    raw = [text.encode(encoding, "replace") for text in contents]

    @seed(SEED)
    @settings(max_examples=SCRIPTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(MODES), st.one_of(st.none(), st.sampled_from(raw)),
           st.sampled_from([None, "", "\n", "\r", "\r\n"]), st.sampled_from(["strict", "replace"]),
           st.lists(text_calls(), max_size=25))
    def script(mode, content, newline, errors, calls):
        options = {"encoding": encoding, "newline": newline, "errors": errors}
        run(loop, compare(tmp_path, mode, content, options, calls))

    script()


@st.composite
def calls_about_ends_of_lines(draw):
    # Not newlines: tell() of the built-in forgets them near the start of a file.
    name = draw(st.sampled_from(["read", "read", "readline", "tell", "go", "at", "write", "truncate"]))
    if name in ("read", "readline"):
        return name, (draw(st.integers(-1, 9)),)
    if name == "write":
        return name, (draw(st.text("a\n\r日", min_size=1, max_size=4)),)
    if name == "go":
        return name, (draw(st.integers(0, 5)),)
    if name == "at":
        return name, (draw(st.integers(0, 12)),)
    return name, ()


@pytest.mark.timeout(TIME_LIMIT_S)
@pytest.mark.parametrize("newline", ["", None])
def test_positions_in_the_middle_of_an_end_of_line(loop, tmp_path, may_be_long, newline):
    """Between a carriage return and its line feed, where the decoder keeps one back, and inside characters."""
    @seed(SEED)
    @settings(max_examples=SCRIPTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(["r", "r+", "w+"]), st.sampled_from(["utf-8", "utf-16", "shift_jis", "utf-7"]),
           st.text("ab\n\r日", max_size=16), st.sampled_from([0, 8188, 8191]),
           st.lists(calls_about_ends_of_lines(), min_size=2, max_size=14))
    def script(mode, encoding, text, before, calls):
        if before:
            calls = [("read", (before + 1,)), *calls]
        options = {"encoding": encoding, "newline": newline, "errors": "replace"}
        run(loop, compare(tmp_path, mode, b"x" * before + text.encode(encoding), options, calls))

    script()


def test_it_sees_a_difference(loop, tmp_path, monkeypatch):
    """A comparison that can't fail compares nothing."""
    import kloop

    async def tell(self):
        return await self.seek(0, os.SEEK_CUR) + 1

    monkeypatch.setattr(kloop.files.RawFile, "tell", tell)
    with pytest.raises(AssertionError, match="call 1: tell"):
        run(loop, compare(tmp_path, "rb", LINES, {"buffering": 0}, [("read", (3,)), ("tell", ())]))


def test_the_loop_is_idle_afterwards(loop, tmp_path):
    run(loop, compare(tmp_path, "r+b", LINES, {}, [("read", (3,)), ("write", (b"x",)), ("close", ())]))
    run(loop, asyncio.sleep(0))
    assert loop.stats()["operations"] == 0
