"""The suites: which release, which files, and how each is run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    """One project's tests.

    sha256: of the source distribution. files: glob patterns in it, of test files that pytest is given.
    without: patterns of those that say nothing of a loop, with the reason beside them. copied: what
    else of the distribution the tests read. arguments: for pytest. extra: a module with install(spec),
    which is called before the tests are imported: puts the loop in place where the stand-in for asyncio's
    can't, or sets what the project's own runner sets. needs: a server of servers.py.
    limit_s: for one test. since: the oldest Python. debian: the path in Debian's pool of an archive
    that holds the tests, where the source distribution does not.
    """

    name: str
    version: str
    sha256: str
    files: tuple
    without: tuple = ()
    copied: tuple = ("tests",)
    arguments: tuple = ()
    extra: str = ""
    needs: str = ""
    limit_s: int = 60
    since: tuple = (3, 10)
    debian: str = ""

    @property
    def requirement(self):
        return f"{self.name}=={self.version}"


# Their own options are for coverage, parallel runs and benchmarks.
OWN_OPTIONS = ("-o", "addopts=")
# Tests are limited by the runner.
NO_TIMEOUT = ("-o", "timeout=0")

SUITES = {suite.name: suite for suite in [
    Suite("uvloop", "0.23.0",
          "28d160f51ab4da3b187063652e643dea6831072add4adc1e6d62afbe73b6be27",
          files=("tests/test_*.py",),
          without=("tests/test_cython.py", "tests/test_sourcecode.py"),     # need Cython, flake8 and mypy
          extra="uvloop_base",
          limit_s=90),      # test_many_small_writes sends 2 GB
    Suite("aiohttp", "3.14.5",
          "5558a7f5a05af9ecf744af91e5baefc436f93c9333e656c27ec253f9a6bbe178",
          files=("tests/test_*.py",),
          without=("tests/test_benchmarks_*.py",        # need pytest-codspeed
                   "tests/test_circular_imports.py"),   # needs the source tree
          copied=("tests", "pytest.ini"),
          # dev_mode, autobahn and internal tests are left out by its own options too.
          arguments=(*OWN_OPTIONS, *NO_TIMEOUT, "-m", "not dev_mode and not autobahn and not internal")),
    Suite("uvicorn", "0.54.0",
          "a2e33cbfaa0306f8e6b0c13e0cb89d7d7a2da3e62b90c66e18c33d9807b28620",
          files=("tests/**/test_*.py",),
          without=("tests/benchmarks/*",),
          copied=("tests", "pyproject.toml"),
          arguments=OWN_OPTIONS),
    Suite("anyio", "4.16.0",
          "59bb03251907983d1603d27c3087ddb1e93299ea2163adcdba37899a4fb12ffb",
          files=("tests/**/test_*.py",),
          without=("tests/test_all_attributes.py",),    # needs the source tree
          copied=("tests", "pyproject.toml"),
          arguments=(*OWN_OPTIONS, *NO_TIMEOUT, "-k", "not trio and not asyncio+uvloop")),
    # No source distribution on PyPI holds its tests of asyncio; the newest archive that a stable Debian keeps does.
    Suite("websockets", "15.0.1",
          "8451495265af3e368f794c4dc15c99ce90c771d95560f542bff8c64b5455af3b",
          files=("tests/**/test_*.py",),
          without=("tests/sync/*",),        # threads and sockets, no loop
          debian="pool/main/p/python-websockets/python-websockets_15.0.1.orig.tar.gz"),
    Suite("tornado", "6.6.1",
          "28e6311402af59c8b02e3fa0f5e7d8eb465b25081381803b127d97e6a4395d5a",
          files=("tornado/test/*_test.py",),
          copied=("tornado/test",),
          arguments=(*OWN_OPTIONS, "-p", "no:logging", "-o", "python_files=*_test.py",
                     "-W", "ignore::pytest.PytestCollectionWarning"),
          extra="tornado_logs",
          since=(3, 11)),
    Suite("asyncpg", "0.32.0",
          "45e64e56714d888330b884aad1dfb363d0bf43fb343e3d1a8968525f3bade478",
          files=("tests/test_*.py",),
          without=("tests/test__sourcecode.py",),       # needs flake8 and mypy
          arguments=OWN_OPTIONS,
          needs="postgresql"),
    Suite("redis", "8.1.0",
          "6e1a19beef9225c83efd689c7e6b7da2d5215b1f42cd13b7fc3714d0a09c7b25",
          files=("tests/test_asyncio/test_*.py",),
          # need a cluster, sentinels, or modules that Debian's server lacks
          without=("tests/test_asyncio/test_cluster*.py", "tests/test_asyncio/test_sentinel*.py",
                   "tests/test_asyncio/test_search.py", "tests/test_asyncio/test_json.py",
                   "tests/test_asyncio/test_timeseries.py", "tests/test_asyncio/test_bloom.py",
                   "tests/test_asyncio/test_vsets.py"),
          copied=("tests", "pyproject.toml"),
          arguments=(*OWN_OPTIONS, *NO_TIMEOUT, "-o", "log_level=WARNING"),
          needs="redis"),
]}
