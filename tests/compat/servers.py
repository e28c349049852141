"""PostgreSQL and Redis of one's own: in a temporary folder, on a port that nobody else uses."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

START_LIMIT_S = 60
STOP_LIMIT_S = 20
INSTALL_LIMIT_S = 300
# Where Debian keeps the server's programs, which are not on PATH.
POSTGRESQL_PROGRAMS = "/usr/lib/postgresql/*/bin"
# PostgreSQL refuses to run as root; Debian's account for it, or the one that owns nothing.
UNPRIVILEGED = ("postgres", "nobody")


class NotHere(Exception):
    """The server can't be had on this machine; the text says why."""


def install(package):
    """Installs a Debian package, which takes root."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NotHere(f"the Debian package {package} is not installed, and installing it takes root and apt")
    print(f"== installing the Debian package {package}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "-qq", "update"], ["apt-get", "-qq", "-y", "--no-install-recommends",
                                                   "install", package]):
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True, timeout=INSTALL_LIMIT_S)
        if done.returncode:
            raise NotHere(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}")


def unused_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_until(ready, process, what):
    """Polls until the server answers; it can't tell by itself."""
    end = time.monotonic() + START_LIMIT_S
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise NotHere(f"{what} did not start")
        time.sleep(0.1)


@contextlib.contextmanager
def running(process, stop_signal=signal.SIGTERM):
    """Ends the process at the end. PostgreSQL waits for its clients after SIGTERM, and drops them after SIGINT."""
    try:
        yield process
    finally:
        process.send_signal(stop_signal)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def redis():
    """A Redis without persistence. Answers the variables and arguments that redis-py's tests take."""
    if not shutil.which("redis-server"):
        install("redis-server")
    port = unused_port()
    with tempfile.TemporaryDirectory(prefix="kloop-redis-") as folder:
        process = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", folder, "--unixsocket", f"{folder}/redis.sock", "--enable-debug-command", "yes"],
            stdout=subprocess.DEVNULL)
        with running(process):
            wait_until(lambda: accepts(port), process, "redis-server")
            yield {}, ("--redis-url", f"redis://127.0.0.1:{port}/0")


def postgresql_programs():
    found = sorted(Path("/").glob(POSTGRESQL_PROGRAMS[1:]), key=lambda path: float(path.parent.name))
    return found[-1] if found else None


@contextlib.contextmanager
def postgresql():
    """A PostgreSQL without durability. Answers the variables that asyncpg's tests take."""
    programs = postgresql_programs()
    if programs is None:
        install("postgresql")
        programs = postgresql_programs()
    if programs is None:
        raise NotHere(f"no PostgreSQL under {POSTGRESQL_PROGRAMS}")
    port, account = unused_port(), unprivileged_account()
    with tempfile.TemporaryDirectory(prefix="kloop-postgresql-") as folder:
        if account:
            os.chown(folder, account.pw_uid, account.pw_gid)
        options = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if account:
            options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        data = f"{folder}/data"
        subprocess.run([programs / "initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync",
                        "--no-locale", "-D", data], check=True, timeout=START_LIMIT_S, **options)
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port), "-k", folder, "-c", "fsync=off",
             "-c", "listen_addresses=127.0.0.1", "-c", "max_prepared_transactions=100"], **options)
        with running(process, signal.SIGINT):
            wait_until(lambda: accepts(port), process, "postgres")
            yield {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres"}, ()


def unprivileged_account():
    """The account to run as instead of root; None where we are not root."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise NotHere("PostgreSQL does not run as root, and there is no account to run it as")


SERVERS = {"redis": redis, "postgresql": postgresql}
