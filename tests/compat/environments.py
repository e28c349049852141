"""Fetches a suite and makes the virtual environment that it runs in. All is kept under build/compat."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from servers import NotHere

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "build" / "compat"
# A build of a source distribution's metadata, an installation, or one file.
FETCH_LIMIT_S = 900
# apt's own client for one file, which holds it against its hash.
APT_HELPER = "/usr/lib/apt/apt-helper"
# Where a suite's own options for pytest are.
CONFIGURATIONS = ("pytest.ini", "pyproject.toml")
# The other loops, apart from the suites' environments: some suites use uvloop where they find it.
COMPARED = {"uvloop": "uvloop==0.23.0", "rloop": "rloop==0.5.0"}
# They are waited for this part of a test's limit: where dozens of tests hang, the limits add up to hours.
COMPARED_PART = 6


def pip(python, *arguments):
    subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "--quiet", *map(str, arguments)],
                   check=True, timeout=FETCH_LIMIT_S)


def version_tag():
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def venv(name, requirements):
    """The python of the environment with these pinned requirements, made if it isn't there."""
    folder = WORK / f"env-{version_tag()}" / name
    python = folder / "bin" / "python"
    made = folder / ".made"
    wanted = requirements.read_text()
    if not made.exists() or made.read_text() != wanted:
        print(f"== making the environment of {name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, timeout=FETCH_LIMIT_S)
        pip(python, "install", "--require-hashes", "--no-deps", "-r", requirements)
        made.write_text(wanted)
    return python


def suite_environment(suite):
    return venv(suite.name, HERE / "requirements" / f"{suite.name}.txt")


def source(suite):
    """The folder of the unpacked source distribution."""
    folder = WORK / "src" / f"{suite.name}-{suite.version}"
    if not folder.exists():
        print(f"== fetching the source distribution {suite.requirement}", flush=True)
        archives = WORK / "sdist"
        archives.mkdir(parents=True, exist_ok=True)
        unpack(fetch_from_debian(suite, archives) if suite.debian else fetch(suite, archives), folder)
    return folder


def fetch(suite, archives):
    pinned = archives / f"{suite.name}.txt"
    pinned.write_text(f"{suite.requirement} --hash=sha256:{suite.sha256}\n")
    # Of this project alone: what it is built with may be wheels.
    pip(sys.executable, "download", "--no-deps", "--no-binary", suite.name, "--require-hashes",
        "--dest", archives, "-r", pinned)
    (archive,) = archives.glob(f"{suite.name}-{suite.version}.tar.gz")
    return archive


def fetch_from_debian(suite, archives):
    """The upstream's archive in Debian's pool, from the mirror that this machine's apt uses."""
    listed = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
                            check=True, stdout=subprocess.PIPE, text=True, timeout=FETCH_LIMIT_S)
    mirrors = [uri for uri in listed.stdout.split() if uri.rstrip("/").endswith("/debian")]
    if not mirrors:
        raise NotHere("no Debian mirror among this machine's package sources")
    archive = archives / Path(suite.debian).name
    subprocess.run([APT_HELPER, "download-file", f"{mirrors[0].rstrip('/')}/{suite.debian}", archive,
                    f"SHA256:{suite.sha256}"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=FETCH_LIMIT_S)
    return archive


def unpack(archive, folder):
    """Unpacks, so that a folder that exists is a whole one."""
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    with tarfile.open(archive) as opened:
        # The filters came with Python 3.11.4 and 3.10.12; the archive's hash is pinned.
        filters = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        opened.extractall(part, **filters)
    (inner,) = part.iterdir()
    folder.parent.mkdir(parents=True, exist_ok=True)
    inner.rename(folder)
    part.rmdir()


def workplace(suite):
    """A folder with the tests alone: beside the package's sources they would import these."""
    folder = WORK / "run" / suite.name
    shutil.rmtree(folder, ignore_errors=True)
    origin = source(suite)
    for name in suite.copied:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (origin / name).is_dir():
            shutil.copytree(origin / name, target)
        else:
            shutil.copy(origin / name, target)
    if not any((folder / name).exists() for name in CONFIGURATIONS):
        (folder / "pytest.ini").write_text("[pytest]\n")    # else it takes kloop's, found further up
    return folder


def compared_loop(name):
    """The folder with another loop, for PYTHONPATH; None where it can't be installed."""
    folder = WORK / f"loop-{version_tag()}" / name
    if not folder.exists():
        try:
            pip(sys.executable, "install", "--no-deps", "--only-binary", ":all:", "--target", folder,
                COMPARED[name])
        except subprocess.CalledProcessError:
            shutil.rmtree(folder, ignore_errors=True)
            return None
    return folder


def variables(suite, loop):
    """The environment of a suite's process."""
    path = [ROOT / "python", HERE]
    if loop in COMPARED and suite.name != loop:
        path.append(compared_loop(loop))
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COMPAT_"))},
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "COMPAT_LOOP": loop,
        "COMPAT_LIMIT_S": str(suite.limit_s / COMPARED_PART if loop in COMPARED else suite.limit_s),
        **({"COMPAT_EXTRA": suite.extra} if suite.extra else {}),
    }
