"""Runs kloop on a CPython 3.14 without the GIL, which it builds first: `make free-threaded`.

    tests/free_threaded.py              all of these parts, one after the other
    tests/free_threaded.py suite        the test suite, on both drivers
    tests/free_threaded.py cpython      CPython's test_asyncio, beside stock asyncio
    tests/free_threaded.py threads      the tests of threads, with ThreadSanitizer in Python and kloop
    tests/free_threaded.py threads ...  what follows is pytest's

The source is Debian's package, from the archive this machine uses, or a tree that FREE_THREADED_SOURCE names. Needed is
what CPython builds with: gcc, make and the headers of OpenSSL, zlib, libffi and SQLite (apt-get build-dep python3).
Everything is kept in build/free-threaded; the first run takes a quarter of an hour on two cores.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "build" / "free-threaded"
VERSION = "3.14"
# Where none is given: those with which Debian's archive has a source package, newest first.
SUITES = ("sid", "forky")
SOURCE = "FREE_THREADED_SOURCE"
CONFIGURED = {
    "plain": ["--disable-gil"],
    "threads": ["--disable-gil", "--with-thread-sanitizer", "OPT=-O1 -g"],
}
REQUIREMENTS = ("build.txt", "test.txt")
# They need programs whose packages have no wheels for this Python, or test the build.
LEFT_OUT = ["tests/build", "tests/test_usage.py", "tests/test_bench.py", "tests/test_web.py",
            "tests/test_resolver_aiohttp.py"]
# What has several threads in kloop at once, in an order from the shortest to the longest.
THREADED = ["parallel", "threadsafe_handle", "threads"]
# ThreadSanitizer makes all of it some ten times slower.
SLOWER = {"KLOOP_TEST_LIMIT_S": "200"}
TIMEOUT_S = 900


def archive() -> str:
    """The Debian mirror among this machine's package sources."""
    texts = [path.read_text() for folder in ("/etc/apt", "/etc/apt/sources.list.d") if os.path.isdir(folder)
             for path in sorted(Path(folder).iterdir()) if path.suffix in (".list", ".sources")]
    words = re.findall(r"(?m)^(?:URIs:|deb(?: \[[^]]*\])?)\s+(\S+/debian)/?(?:\s|$)", "\n".join(texts))
    if not words:
        raise SystemExit(f"error: no Debian archive among this machine's package sources: unpack the source of CPython "
                         f"{VERSION} somewhere and set {SOURCE}= to that folder")
    return words[0]


def fetch_source(folder: Path) -> Path:
    """Debian's source package of the newest CPython 3.14 that can be had, unpacked."""
    apt = folder / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (apt / "sources.list").write_text("".join(f"deb-src [signed-by={keys}] {archive()} {suite} main\n"
                                              for suite in SUITES))
    settings = {"Dir::Etc::sourcelist": apt / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
                "Dir::Etc::preferencesparts": "/dev/null", "Dir::State": apt, "Dir::State::lists": apt / "lists",
                "Dir::State::status": apt / "status", "Dir::Cache": apt / "cache", "Debug::NoLocking": 1,
                "Acquire::Languages": "none", "APT::Sandbox::User": "root"}
    options = ["-qq", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    subprocess.run(["apt-get", *options, "update"], check=True)
    shown = subprocess.run(["apt-cache", *options, "showsrc", f"python{VERSION}"], check=True, capture_output=True,
                           text=True).stdout
    for version in sorted(set(re.findall(r"(?m)^Version: (\S+)", shown)), key=natural, reverse=True):
        print(f"== fetching the source of Debian's python{VERSION} {version}", flush=True)
        if subprocess.run(["apt-get", *options, "--download-only", "source", f"python{VERSION}={version}"], cwd=folder,
                          check=False).returncode == 0:
            break
    [*archives] = folder.glob("*.orig.tar.*")
    if not archives:
        raise SystemExit(f"error: the archive has no source of CPython {VERSION} at the moment: unpack it somewhere "
                         f"and set {SOURCE}= to that folder")
    with tarfile.open(max(archives, key=lambda path: natural(path.name))) as packed:
        top = packed.getnames()[0].split("/")[0]
        packed.extractall(folder, filter="data")
    return folder / top


def natural(text: str) -> list:
    """A key by which 3.14.10 comes behind 3.14.9."""
    return [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in re.findall(r"\d+|\D+", text)]


def source() -> Path:
    given = os.environ.get(SOURCE)
    if given:
        if not (Path(given) / "configure").exists():
            raise SystemExit(f"error: {SOURCE}={given}: there is no CPython source, whose configure it would have")
        return Path(given).resolve()
    found = [path.parent for path in KEPT.glob("*/configure")]
    return found[0] if found else fetch_source(KEPT)


def fixed(*command: str | Path) -> list[str]:
    """A command without randomised addresses, of which ThreadSanitizer of gcc 12 bears only few bits."""
    return ["setarch", "-R", *map(str, command)]


def build_python(kind: str) -> Path:
    """The interpreter of a virtual environment with what the tests need."""
    folder = KEPT / kind
    python, done = folder / "venv" / "bin" / "python", folder / ".complete"
    if done.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    made = folder / "build"
    made.mkdir(parents=True)
    tree = source()
    print(f"== building CPython of {tree.name} with {' '.join(CONFIGURED[kind])}, some minutes", flush=True)
    with open(folder / "log", "wb") as log:
        for command in ([tree / "configure", f"--prefix={folder / 'python'}", *CONFIGURED[kind]],
                        ["make", f"-j{os.cpu_count()}"],
                        # Only the top of the library is compiled: all of it takes longer than the build.
                        ["make", "install", "COMPILEALL_OPTS=-r0"]):
            if subprocess.run(fixed(*command), cwd=made, stdout=log, stderr=log, check=False).returncode:
                raise SystemExit(f"error: {' '.join(map(str, command))} failed: see {folder / 'log'}")
    shutil.rmtree(made)
    base = folder / "python" / "bin" / f"python{VERSION}t"
    subprocess.run(fixed(base, "-m", "venv", folder / "venv"), check=True)
    for name in REQUIREMENTS:
        subprocess.run(fixed(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                             "--require-hashes", "-r", ROOT / "requirements" / name), check=True)
    # Tests start Pythons that know of no PYTHONPATH.
    [packages] = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "kloop.pth").write_text(f"{folder / 'lib'}\n")
    done.touch()
    return python


def build_kloop(kind: str, python: Path) -> dict[str, str]:
    """Builds this tree for it; answers the environment to run it in."""
    folder = KEPT / kind
    environment = {**os.environ, "PATH": os.pathsep.join([str(python.parent), os.environ["PATH"]]),
                   "PYTHONPATH": str(folder / "lib")}
    if kind == "threads":
        environment["KLOOP_SANITIZE"] = "thread"
        environment["TSAN_OPTIONS"] = "report_bugs=0"       # of Python's own, in the build
    print(f"== building kloop for {kind}", flush=True)
    subprocess.run(fixed(python, "setup.py", "--quiet", "build", "--build-base", folder / "kloop", "--build-lib",
                         folder / "lib"), cwd=ROOT, env=environment, check=True)
    environment.pop("KLOOP_SANITIZE", None)
    printed = subprocess.run(
        fixed(python, "-c", "import sys, kloop; kloop.new_event_loop().close()\n"
                            "print(kloop.__file__, sys._is_gil_enabled())"),
        env=environment, capture_output=True, text=True, check=False)
    if printed.stdout.split() != [str(folder / "lib" / "kloop" / "__init__.py"), "False"]:
        raise SystemExit(f"error: this is not kloop without the GIL: {printed.stdout}{printed.stderr}")
    return environment


def run_suite(arguments: list[str]) -> int:
    python = build_python("plain")
    environment = build_kloop("plain", python)
    status = 0
    for driver in ("auto", "epoll"):
        print(f"== pytest without the GIL, {driver}", flush=True)
        left_out = [f"--ignore={path}" for path in LEFT_OUT]
        command = [python, "-m", "pytest", "-p", "no:cacheprovider", *left_out, *arguments]
        status |= subprocess.run(command, cwd=ROOT, env={**environment, "KLOOP_DRIVER": driver}, check=False).returncode
    return status


def run_cpython(arguments: list[str]) -> int:
    python = build_python("plain")
    environment = build_kloop("plain", python)
    print("== CPython's test_asyncio without the GIL", flush=True)
    command = [python, "tests/cpython/run.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def run_threads(arguments: list[str]) -> int:
    """ThreadSanitizer ends the process with an exit status of its own if it had anything to report."""
    python = build_python("threads")
    environment = {**build_kloop("threads", python), **SLOWER}
    environment["TSAN_OPTIONS"] = f"suppressions={suppressions()} exitcode=66"
    tests = arguments or [f"tests/test_{name}.py" for name in THREADED]
    print("== pytest with ThreadSanitizer", flush=True)
    # Uncaptured: its reports go to the standard error.
    command = fixed(python, "-m", "pytest", "-p", "no:cacheprovider", "-s", f"--timeout={TIMEOUT_S}",
                    "-o", f"faulthandler_timeout={TIMEOUT_S + 30}", *tests)
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def suppressions() -> Path:
    """CPython's own list of what it knows to be reported of itself."""
    kept = KEPT / "threads" / "suppressions.txt"
    if not kept.exists():
        shutil.copyfile(source() / "Tools" / "tsan" / "suppressions_free_threading.txt", kept)
    return kept


PARTS = {"suite": run_suite, "cpython": run_cpython, "threads": run_threads}


def main(arguments: list[str]) -> int:
    KEPT.mkdir(parents=True, exist_ok=True)
    if not arguments:
        return max(part([]) for part in PARTS.values())
    if arguments[0] not in PARTS:
        raise SystemExit(f"error: {arguments[0]!r}: use one of {', '.join(PARTS)}")
    return PARTS[arguments[0]](arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
