"""kloop.files: what is done to paths, as ``os``, ``shutil`` and ``pathlib`` do it."""

import asyncio
import errno
import os
import shutil
import stat

import pytest
from driving import run
from peers import pattern


@pytest.fixture
def files(kloop):
    return kloop.files


def failure(exc):
    return type(exc), exc.errno, exc.filename, exc.filename2, str(exc)


async def same_failure(coroutine, function):
    """That both fail alike."""
    with pytest.raises(OSError) as expected:
        function()
    with pytest.raises(OSError) as caught:
        await coroutine
    assert failure(caught.value) == failure(expected.value)


def test_stat(loop, files, tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    os.utime(tmp_path / "file", ns=(1_234_567_890_123_456_789, -5_000_000_001))

    async def main():
        for path in (tmp_path / "file", str(tmp_path / "link"), os.fsencode(tmp_path), "/dev/null", "/proc/self", "."):
            for follow in (True, False):
                got, expected = await files.stat(path, follow_symlinks=follow), os.stat(path, follow_symlinks=follow)
                assert got == expected
                for name in dir(expected):
                    if name.startswith("st_") and path not in ("/dev/null", "/proc/self"):
                        assert getattr(got, name) == getattr(expected, name), name
        assert await files.lstat(tmp_path / "link") == os.lstat(tmp_path / "link")
        folder = os.open(tmp_path, os.O_RDONLY)
        assert await files.stat("file", dir_fd=folder) == os.stat("file", dir_fd=folder)
        assert await files.stat(folder) == os.stat(folder)
        os.close(folder)
        await same_failure(files.stat("not there"), lambda: os.stat("not there"))
        await same_failure(files.stat(folder), lambda: os.stat(folder))
        assert await files.exists(tmp_path) and not await files.exists(tmp_path / "nothing")
        with pytest.raises(ValueError, match="null"):
            await files.stat("a\0b")

    run(loop, main())


def test_names(loop, files, tmp_path):
    async def main():
        base = tmp_path
        (base / "a").write_text("a")
        assert await files.rename(base / "a", base / "b") is None
        await files.link(base / "b", base / "hard")
        assert (base / "hard").samefile(base / "b")
        await files.symlink("b", base / "soft")
        assert await files.readlink(base / "soft") == "b"
        assert await files.readlink(os.fsencode(base / "soft")) == b"b"
        await files.link(base / "soft", base / "soft2")     # or what it points to, by Python's version
        os.link(base / "soft", base / "soft3")
        assert (base / "soft2").is_symlink() == (base / "soft3").is_symlink()
        await files.link(base / "soft", base / "not", follow_symlinks=False)
        assert (base / "not").is_symlink()
        await files.replace(base / "hard", base / "b")
        await files.unlink(base / "soft")
        await files.remove(base / "soft2")
        await files.mkdir(base / "folder", 0o700)
        assert stat.S_IMODE((base / "folder").stat().st_mode) == 0o700
        await files.makedirs(base / "x/y/z")
        await files.makedirs(base / "x/y/z", exist_ok=True)
        await files.rmdir(base / "folder")
        folder = os.open(base, os.O_RDONLY)
        await files.rename("b", "c", src_dir_fd=folder, dst_dir_fd=folder)
        await files.mkdir("d", dir_fd=folder)
        await files.symlink("c", "e", dir_fd=folder)
        assert await files.readlink("e", dir_fd=folder) == "c"
        await files.unlink("e", dir_fd=folder)
        os.close(folder)
        assert {"c", "d", "x"} <= set(os.listdir(base))

    run(loop, main())


def test_failures(loop, files, tmp_path):
    async def main():
        base = tmp_path
        (base / "file").write_text("")
        (base / "full").mkdir()
        (base / "full/x").write_text("")
        no, file, full = base / "no", base / "file", base / "full"
        await same_failure(files.rename(no, file), lambda: os.rename(no, file))
        await same_failure(files.rename(file, full), lambda: os.rename(file, full))
        await same_failure(files.unlink(no), lambda: os.unlink(no))
        await same_failure(files.unlink(full), lambda: os.unlink(full))
        await same_failure(files.rmdir(full), lambda: os.rmdir(full))
        await same_failure(files.rmdir(file), lambda: os.rmdir(file))
        await same_failure(files.mkdir(full), lambda: os.mkdir(full))
        await same_failure(files.makedirs(full), lambda: os.makedirs(full))
        await same_failure(files.makedirs(file, exist_ok=True), lambda: os.makedirs(file, exist_ok=True))
        await same_failure(files.makedirs("/sys/no", exist_ok=True), lambda: os.makedirs("/sys/no", exist_ok=True))
        await same_failure(files.link(no, base / "new"), lambda: os.link(no, base / "new"))
        await same_failure(files.link(file, full), lambda: os.link(file, full))
        await same_failure(files.symlink("x", file), lambda: os.symlink("x", file))
        await same_failure(files.readlink(file), lambda: os.readlink(file))
        await same_failure(files.listdir(no), lambda: os.listdir(no))
        await same_failure(files.readdir(file), lambda: os.scandir(file))
        await same_failure(files.read_bytes(no), lambda: no.read_bytes())
        await same_failure(files.read_bytes(str(full)), lambda: open(str(full), "rb").close())

    run(loop, main())


def test_folders(loop, files, tmp_path):
    names = {f"name {n} ä" * (n % 5 + 1) for n in range(3000)}
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    raw = os.path.join(os.fsencode(tmp_path), b"not utf-8 \xff")
    with open(raw, "wb"):
        pass

    async def main():
        assert sorted(await files.listdir(tmp_path)) == sorted(os.listdir(tmp_path))
        assert sorted(await files.listdir(os.fsencode(tmp_path))) == sorted(os.listdir(os.fsencode(tmp_path)))
        found = {entry.name: entry for entry in await files.readdir(tmp_path)}
        with os.scandir(tmp_path) as scanned:
            expected = {entry.name: entry for entry in scanned}
        assert found.keys() == expected.keys()
        for name, entry in found.items():
            other = expected[name]
            assert (entry.path, entry.inode(), os.fspath(entry)) == (other.path, other.inode(), os.fspath(other))
            assert entry.is_symlink() == other.is_symlink()
            assert entry.is_dir() == other.is_dir(follow_symlinks=False)
            assert entry.is_file() == other.is_file(follow_symlinks=False)
        assert await found["link"].stat() == os.stat(tmp_path / "folder")
        assert {entry.name for entry in await files.scandir(b"/")} == set(os.listdir(b"/"))
        here = os.getcwd()
        os.chdir(tmp_path)
        try:
            assert sorted(await files.listdir()) == sorted(os.listdir())
            assert {entry.path for entry in await files.readdir()} == set(os.listdir())
        finally:
            os.chdir(here)

    run(loop, main())


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1_000_000])
def test_whole_files(loop, files, tmp_path, size):
    data = pattern(size)
    path = tmp_path / "file"

    async def main():
        assert await files.write_bytes(path, data) == size
        assert path.read_bytes() == data
        assert await files.read_bytes(path) == data
        assert await files.copy(path, tmp_path / "copy") == tmp_path / "copy"
        assert (tmp_path / "copy").read_bytes() == data
        assert sorted(os.listdir(tmp_path)) == ["copy", "file"]

    run(loop, main())


def test_text_of_whole_files(loop, files, tmp_path):
    async def main():
        path = tmp_path / "file"
        assert await files.write_text(path, "zwölf\n", "utf-16", newline="\r\n") == 6
        assert path.read_text("utf-16") == "zwölf\n"
        assert await files.read_text(path, "utf-16", newline="") == "zwölf\r\n"
        with pytest.raises(UnicodeEncodeError):
            await files.write_text(path, "ä", "ascii")
        with pytest.raises(TypeError):
            await files.write_text(path, b"")
        assert await files.read_text(path, "utf-16") == "zwölf\n"

    run(loop, main())


def test_what_is_replaced(loop, files, tmp_path):
    """The permissions stay, links stay, a reader goes on with the old contents, and a failure changes nothing."""
    path, link = tmp_path / "file", tmp_path / "link"

    async def main():
        path.write_bytes(b"old")
        path.chmod(0o640)
        link.symlink_to("file")
        with path.open("rb") as reader:
            await files.write_bytes(link, b"new")
            assert reader.read() == b"old"
        assert link.is_symlink() and path.read_bytes() == b"new"
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        old = os.umask(0o022)
        await files.write_bytes(tmp_path / "fresh", memoryview(bytearray(b"x")))
        os.umask(old)
        assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o644
        for wrong, error in ((tmp_path, errno.EISDIR), (tmp_path / "no/file", errno.ENOENT),
                             ("/dev/null", errno.EINVAL)):
            with pytest.raises(OSError) as caught:
                await files.write_bytes(wrong, b"x")
            assert caught.value.errno == error
            assert str(wrong) in str(caught.value)
        (tmp_path / "dangling").symlink_to("made")
        await files.write_bytes(tmp_path / "dangling", b"made")
        assert (tmp_path / "made").read_bytes() == b"made"
        (tmp_path / "circle").symlink_to("circle")
        with pytest.raises(OSError) as caught:
            await files.write_bytes(tmp_path / "circle", b"x")
        assert caught.value.errno == errno.ELOOP
        with pytest.raises(TypeError):
            await files.write_bytes(path, "text")
        assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]

    run(loop, main())


def test_nobody_reads_what_replaces_a_secret(loop, files, tmp_path):
    """The temporary file has no more permissions at any time than the file that it replaces."""
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o600)
    opened = []
    original = os.umask(0)
    from kloop.files import whole

    kept = whole.Descriptor

    class Watched(kept):
        async def __aenter__(self):
            handle = await super().__aenter__()
            opened.append(stat.S_IMODE(os.fstat(handle.fd).st_mode))
            return handle

    whole.Descriptor = Watched
    try:
        run(loop, files.write_bytes(path, b"new", fsync=False))
    finally:
        whole.Descriptor = kept
        os.umask(original)
    assert opened == [0o600]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.read_bytes() == b"new"


def test_long_names(loop, files, tmp_path):
    """NAME_MAX is of bytes: a name of 255 of them can be written, in whatever characters."""
    for name in ("x" * 255, "\U0001f600" * 63, "x" + "\U0001f600" * 63, b"\xff" * 255):
        path = os.path.join(os.fsencode(tmp_path), name) if isinstance(name, bytes) else tmp_path / name
        run(loop, files.write_bytes(path, b"contents", fsync=False))
        with open(path, "rb") as file:
            assert file.read() == b"contents"
    assert len(os.listdir(tmp_path)) == 4


def test_writers_beside_each_other(loop, files, tmp_path):
    """One of them wins, as a whole."""
    path = tmp_path / "file"
    contents = [bytes([n]) * 200_000 for n in range(8)]

    async def main():
        await asyncio.gather(*(files.write_bytes(path, data, fsync=False) for data in contents))
        assert path.read_bytes() in contents
        assert os.listdir(tmp_path) == ["file"]

    run(loop, main())


def test_copies(loop, files, tmp_path):
    data = pattern(40_000_000)

    async def main():
        source = tmp_path / "source"
        source.write_bytes(data)
        source.chmod(0o751)
        target = tmp_path / "target"
        target.write_bytes(data + b"longer")
        await files.copy(source, target)
        assert target.read_bytes() == data
        assert stat.S_IMODE(target.stat().st_mode) == 0o751
        await files.copy("/proc/self/status", target)           # which says that it is empty
        assert target.read_bytes().startswith(b"Name:")
        if os.path.isdir("/dev/shm"):
            elsewhere = f"/dev/shm/kloop-test-{os.getpid()}"
            try:
                await files.copy(source, elsewhere)             # another file system
                with open(elsewhere, "rb") as copied:
                    assert copied.read() == data
            finally:
                os.unlink(elsewhere)
        with pytest.raises(shutil.SameFileError):
            await files.copy(source, str(source))
        await same_failure(files.copy(tmp_path / "no", target), lambda: open(tmp_path / "no").close())
        assert source.read_bytes() == data

    run(loop, main())


def test_the_loop_goes_on_while_it_copies(loop, files, tmp_path):
    (tmp_path / "source").write_bytes(bytes(50 << 20))

    async def main():
        ticks = 0
        copying = asyncio.ensure_future(files.copy(tmp_path / "source", tmp_path / "copy"))
        while not copying.done():
            await asyncio.sleep(0.001)
            ticks += 1
        assert ticks > 3

    run(loop, main())
