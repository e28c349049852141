"""Builds the two shared objects of the package: kloop._core, from Cython, and
libkloop.so, from Go. Everything that is not code stands in pyproject.toml.

KLOOP_DEBUG=1 builds with assertions, debug symbols and the trace of operations.
KLOOP_SANITIZE=1 builds all that is C with gcc's AddressSanitizer and UndefinedBehaviorSanitizer; `make asan` uses it.
KLOOP_SANITIZE=thread does so with ThreadSanitizer, for a Python that has it too; `make free-threaded` uses that.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import ExecError

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "build_backend"))
from toolchain import ToolchainError, check_c, find_go  # noqa: E402 (needs the path above)

DEBUG = os.environ.get("KLOOP_DEBUG", "") not in ("", "0")
SANITIZE = {"": "", "0": "", "1": "address,undefined", "thread": "thread"}[os.environ.get("KLOOP_SANITIZE", "")]

# What pip and setuptools leave in an unpacked source distribution, and no checkout has.
FROM_SDIST = (ROOT / "PKG-INFO").exists()

# No SIGURG may interrupt Python (docs/architecture.md). A //go:debug line refuses this key.
GO_LDFLAGS = ["-X=runtime.godebugDefault=asyncpreemptoff=1"]

C_FLAGS = ["-Wall"]
if not DEBUG:
    # Cython declares a variable for each assertion, also where assertions are compiled out.
    C_FLAGS.append("-Wno-unused-variable")
if not FROM_SDIST:
    # A user's newer compiler may warn about more than ours does: warnings are
    # errors for the project's developers, not for those who install it.
    C_FLAGS.append("-Werror")
# Undefined behaviour ends the process, as a bad address does. Unaligned and signed arithmetic that CPython's headers
# themselves do is defined by Python's own -fwrapv.
SANITIZERS = [f"-fsanitize={SANITIZE}"] if SANITIZE else []
if SANITIZE == "address,undefined":
    SANITIZERS.append("-fno-sanitize-recover=all")
if SANITIZE:
    C_FLAGS += ["-O1", "-g", "-fno-omit-frame-pointer", *SANITIZERS]
else:
    C_FLAGS += ["-O0", "-g", "-UNDEBUG"] if DEBUG else ["-O3", "-g0"]

MACROS = [
    # The extension gets libkloop.so's functions from dlsym(3), and links none.
    ("KLOOP_NO_PROTOTYPES", "1"),
    ("KLOOP_DEBUG", "1") if DEBUG else ("CYTHON_WITHOUT_ASSERTIONS", "1"),
]
if sys.version_info < (3, 14):
    # A free-threaded 3.13 takes its GIL back: its asyncio is not made for threads yet.
    MACROS.append(("CYTHON_FREETHREADING_COMPATIBLE", "0"))


class GoLibrary(Extension):
    """A C shared library made by `go build`; `sources` holds the folder of its package main."""


class BuildExt(build_ext):
    """Builds GoLibrary with go, and leaves alone what is newer than its sources."""

    def finalize_options(self):
        super().finalize_options()
        # Editable builds work in temporary folders, and a release and a debug build
        # have the same file names: products are kept apart, and outlive the build.
        abi = self.get_ext_filename("").removesuffix(".so").strip(".")
        kind = "debug" if DEBUG else f"sanitized-{SANITIZE[:6]}" if SANITIZE else "release"
        self.kept = ROOT / "build" / f"{abi}-{kind}"

    def get_ext_filename(self, fullname):
        if fullname.rpartition(".")[2] == "libkloop":
            return os.path.join(*fullname.split(".")[:-1], "libkloop.so")
        return super().get_ext_filename(fullname)

    def run(self):
        try:
            check_c()
            self.go = find_go()
        except ToolchainError as exc:
            raise ExecError(f"\n\n{exc}\n") from None
        self.kept.mkdir(parents=True, exist_ok=True)
        super().run()

    def build_extension(self, ext):
        kept = self.kept / Path(self.get_ext_filename(ext.name)).name
        if isinstance(ext, GoLibrary):
            self.build_go(ext, kept)
        elif self.force or not is_newer(kept, [*ext.sources, *ext.depends]):
            [made] = cythonize([ext], force=self.force, compiler_directives={"language_level": "3"})
            ext.sources = made.sources
            super().build_extension(ext)
            shutil.copyfile(self.get_ext_fullpath(ext.name), kept)
            return
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        # A process may have mapped the old file: give the new one a new inode.
        target.unlink(missing_ok=True)
        shutil.copy2(kept, target)

    def build_go(self, ext, target):
        """Always runs go: its own cache knows best what changed."""
        ldflags = GO_LDFLAGS if DEBUG else [*GO_LDFLAGS, "-s", "-w"]
        command = [self.go, "build", "-trimpath", "-buildmode=c-shared",
                   f"-ldflags={' '.join(ldflags)}", "-o", str(target)]
        if DEBUG:
            command += ["-tags=kloopdebug"]
        command += ["./" + source for source in ext.sources]
        self.announce(" ".join(command), level=2)
        try:
            subprocess.run(command, cwd=ROOT, env=go_environment(), check=True)
        except subprocess.CalledProcessError as exc:
            raise ExecError(
                f"go build failed with exit status {exc.returncode}; its messages are above. "
                "Where they speak of a module that can't be downloaded, set GOPROXY to a "
                "proxy that this machine reaches."
            ) from None


def go_environment():
    """The environment of `go build`: no toolchain downloads, go.mod as it stands."""
    env = os.environ | {
        "CGO_ENABLED": "1",
        "GOFLAGS": "-mod=readonly -buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    if DEBUG:
        env["CGO_CFLAGS"] = "-O0 -g -DKLOOP_DEBUG"
    if SANITIZE:
        env["CGO_CFLAGS"] = " ".join(["-O1 -g -fno-omit-frame-pointer", *SANITIZERS])
        env["CGO_LDFLAGS"] = SANITIZERS[0]
    return env


def is_newer(product, sources):
    """Whether product exists and was made after every source last changed."""
    if not product.exists():
        return False
    made_ns = product.stat().st_mtime_ns
    return all(Path(source).stat().st_mtime_ns < made_ns for source in sources)


def extensions():
    package = Path("python/kloop")
    # Relative paths, as setuptools wants them; the build runs in ROOT.
    depends = [str(path.relative_to(ROOT)) for pattern in ("*.pxi", "*.pxd", "*.h")
               for path in sorted((ROOT / package).glob(pattern))]
    core = Extension(
        "kloop._core",
        sources=[str(package / "_core.pyx")],
        depends=[*depends, "pybridge/kloop.h", "setup.py"],
        include_dirs=["pybridge", str(package)],
        define_macros=MACROS,
        extra_compile_args=C_FLAGS,
        extra_link_args=SANITIZERS if SANITIZE else [] if DEBUG else ["-s"],
    )
    return [core, GoLibrary("kloop.libkloop", sources=["pybridge"])]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExt})
