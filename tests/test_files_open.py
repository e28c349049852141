"""kloop.open: its arguments and errors, as the built-in open()'s."""

import asyncio
import errno
import io
import os
import stat

import pytest
from driving import run


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "file")


# ---- arguments


WRONG = [
    ((), {"mode": "zz"}), ((), {"mode": "rw"}), ((), {"mode": "rbt"}), ((), {"mode": "U"}), ((), {"mode": ""}),
    ((), {"mode": "rb", "encoding": "utf-8"}), ((), {"mode": "rb", "newline": "\n"}),
    ((), {"mode": "rb", "errors": "strict"}),
    ((), {"buffering": 0}), ((), {"closefd": False}), ((), {"encoding": "no such"}), ((), {"newline": "x"}),
    ((), {"mode": 3}), ((), {"mode": "w", "errors": 5}),
]


@pytest.mark.parametrize("arguments", WRONG, ids=lambda a: str(a[1]))
def test_wrong_arguments(loop, path, arguments):
    """The built-in open()'s errors, in type and words, and nothing is opened."""
    import kloop

    with open(path, "w"):
        pass
    _, options = arguments
    with pytest.raises((ValueError, TypeError, LookupError)) as expected:
        open(path, **options).close()
    with pytest.raises(type(expected.value)) as caught:
        kloop.open(path, **options)
    assert str(caught.value) == str(expected.value)


@pytest.mark.parametrize("wrong", ["a\0b", 1.5, None, -1])
def test_wrong_paths(loop, wrong):
    import kloop

    with pytest.raises((ValueError, TypeError)) as expected:
        open(wrong)  # noqa: SIM115 (which it never is)
    with pytest.raises(type(expected.value)) as caught:
        kloop.open(wrong)
    assert str(caught.value).split(",")[0] == str(expected.value).split(",")[0]


def test_errors_of_open(loop, tmp_path):
    """Class, number and name are the built-in's, whatever kind of path is given."""
    (tmp_path / "there").write_text("x")
    (tmp_path / "loop").symlink_to("loop")

    def failure(function):
        with pytest.raises(OSError) as caught:
            function()
        return type(caught.value), caught.value.errno, caught.value.filename, str(caught.value)

    async def main():
        import kloop

        for name, mode in (("not there", "r"), ("not/there", "w"), ("", "r"), ("there/x", "w"), ("there", "x"),
                           ("loop", "r"), ("x" * 300, "w"), (".", "r"), (".", "w")):
            for path in (str(tmp_path / name), tmp_path / name, os.fsencode(tmp_path / name)):
                expected = failure(lambda path=path, mode=mode: open(path, mode).close())
                with pytest.raises(OSError) as caught:
                    await kloop.open(path, mode)
                got = caught.value
                assert (type(got), got.errno, got.filename, str(got)) == expected
        with pytest.raises(OSError) as caught:
            await kloop.open(987)
        assert (caught.value.errno, caught.value.filename) == (errno.EBADF, 987)

    run(loop, main())


def test_paths_and_descriptors(loop, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")

    async def main():
        import kloop

        for name in (path, str(path), os.fsencode(path)):
            async with kloop.open(name, "rb") as file:
                assert await file.read() == b"content"
                assert file.name == os.fspath(name)
                assert not os.get_inheritable(file.fileno())
        fd = os.open(path, os.O_RDWR)
        async with kloop.open(fd, "rb", closefd=False) as file:
            assert await file.read(3) == b"con"
            assert file.name == fd
        assert os.lseek(fd, 0, os.SEEK_CUR) == 7            # as the built-in's: what was read ahead is read
        async with kloop.open(fd, "r+b") as file:
            await file.seek(0)
        with pytest.raises(OSError):
            os.fstat(fd)

    run(loop, main())


def test_an_opener(loop, tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    threads = []

    def opener(path, flags):
        import threading

        threads.append(threading.current_thread())
        return os.open(path, flags, dir_fd=folder)

    async def main():
        import kloop

        async with kloop.open("file", "w", opener=opener) as file:
            await file.write("x")
        with pytest.raises(ValueError, match="opener returned -1"):
            await kloop.open("file", opener=lambda *_: -1)
        with pytest.raises(TypeError, match="expected integer from opener"):
            await kloop.open("file", opener=lambda *_: None)
        with pytest.raises(ZeroDivisionError):
            await kloop.open("file", opener=lambda *_: 1 / 0)

    run(loop, main())
    os.close(folder)
    assert (tmp_path / "file").read_text() == "x"
    import threading

    assert threads[0] is not threading.main_thread()        # it may wait


def test_exclusive(loop, path):
    async def main():
        import kloop

        results = await asyncio.gather(*(kloop.open(path, "x")._begin() for _ in range(5)), return_exceptions=True)
        made = [result for result in results if not isinstance(result, Exception)]
        assert len(made) == 1
        assert {type(result) for result in results if result not in made} == {FileExistsError}
        await made[0].close()

    run(loop, main())


def test_the_umask(loop, tmp_path):
    async def main():
        import kloop

        old = os.umask(0o027)
        try:
            async with kloop.open(tmp_path / "file", "w"):
                pass
        finally:
            os.umask(old)

    run(loop, main())
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_what_a_mode_forbids(loop, path):
    async def main():
        import kloop

        async with kloop.open(path, "wb") as file:
            assert (file.readable(), file.writable(), file.seekable(), file.isatty()) == (False, True, True, False)
            for call in (file.read, file.readline, lambda: file.readinto(bytearray(1)), lambda: file.read1(1),
                         file.peek):
                with pytest.raises(io.UnsupportedOperation):
                    await call()
            with pytest.raises(io.UnsupportedOperation):
                file.pread(1, 0)
        async with kloop.open(path, "rb") as file:
            for call in (lambda: file.write(b"x"), lambda: file.truncate(1), lambda: file.pwrite(b"x", 0)):
                with pytest.raises(io.UnsupportedOperation):
                    await call()
        for mode in ("r", "rb"):
            async with kloop.open(path, mode) as file:
                pass
            for call in (file.read, file.readline, lambda: file.write("x"), lambda: file.seek(0), file.tell, file.flush,
                         file.fsync, file.__anext__, lambda: file.truncate(0), file.__aenter__):
                with pytest.raises(ValueError, match="closed file"):
                    await call()
            for call in (file.fileno, file.readable, file.isatty, file.__aiter__):
                with pytest.raises(ValueError, match="closed file"):
                    call()
            await file.close()
            await file.aclose()

    run(loop, main())


def test_only_on_kloop(kloop):
    async def main():
        with pytest.raises(RuntimeError, match="need a running kloop loop"):
            await kloop.open("/dev/null")
        with pytest.raises(RuntimeError, match="need a running kloop loop"):
            await kloop.files.stat("/")

    asyncio.run(main())
    with pytest.raises(RuntimeError, match="no running event loop"):
        kloop.files.read_bytes("/dev/null").send(None)


def test_the_binary_line_buffer_warns(loop, path):
    async def main():
        import kloop

        with pytest.warns(RuntimeWarning, match="line buffering"):
            opening = kloop.open(path, "wb", 1)
        async with opening as file:
            await file.write(b"x")

    run(loop, main())
