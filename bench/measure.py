"""One measurement: a row of the table, one loop, one round, in processes of its own."""

from __future__ import annotations

import functools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import machine
import native
from rows import FLOOR, PROCESSES, Row
from subject import MALLOC_SETTINGS, SERVERS, VARIANTS, Subject, SubjectFailed, python, run_once
from webapps import BODY, program_of

WARMUP_S = 0.3
# System calls are counted in a run of its own, so that counting does not slow what is timed.
COUNT_S = 0.4
# A stall is an error; in this table, where 5,000 connections share a slow loop, only a long one.
STALL = "10s"
IDLE_SETTLE_S = 1.5
# For making and copying files of a GiB on a slow disk.
FILE_LIMIT_S = 300
IDLE_S = 3.0
# Groups of connections that come one after the other, and how long all are idle then.
TLS_IDLE_GROUPS = 10
TLS_IDLE_S = 3.0
STARTUP_RUNS = 9
# Child processes, enough for a tenth of a second.
FLOOR_COUNT = "150"

Metrics = dict[str, float]


@dataclass
class Setup:
    """What holds for all measurements."""

    seconds: float
    tracepoint: int
    server_core: int = field(default_factory=lambda: machine.cores()[0])
    load_core: int = field(default_factory=lambda: machine.cores()[1])


def under_load(setup: Setup, command: dict, count_syscalls: bool, mode: str, **options: object) -> tuple[Metrics, dict]:
    """A server under the load generator's mode: its metrics, and the counters that it printed last."""
    common = {"core": setup.load_core, "warmup_s": WARMUP_S, "stall": STALL, **options}
    with Subject(**command) as server:
        addr = native.address(server.first)
        got = native.load(mode, addr, seconds=setup.seconds, pid=server.pid, **common)
        metrics: Metrics = {
            "per_second": got["per_second"],
            "p50_us": got["p50_us"],
            "p99_us": got["p99_us"],
            "starved": got["starved_seconds"] / got["run_seconds"],
            "load_busy": max(got["client_cpu_ns"] - got["client_idle_ns"], 0) / got["seconds"] / 1e9,
            "server_busy": got["server_cpu_ns"] / got["seconds"] / 1e9,
            "cpu_us": got["server_cpu_ns"] / got["messages"] / 1e3,
            "lost": got["lost"],
        }
        if count_syscalls:
            counted = native.load(mode, addr, seconds=COUNT_S, pid=server.pid, tracepoint=setup.tracepoint, **common)
            metrics["syscalls"] = counted["syscalls"] / counted["messages"]
    return metrics, server.last


def _server(
    setup: Setup, variant: str, malloc: str, program: str, *arguments: str, floor: tuple[str, ...] = ()
) -> dict:
    """The command of a server; floor: the arguments of the one in C."""
    if variant == FLOOR:
        tie = functools.partial(machine.pin_and_tie, setup.server_core)
        return {"args": [native.floor(), *floor], "preexec_fn": tie}
    return python(setup.server_core, variant, malloc, SERVERS / program, *arguments)


def echo(setup: Setup, row: Row, variant: str, malloc: str, count_syscalls: bool) -> Metrics:
    """Echo server under test, over TCP; busy: beside a thread that spins."""
    arguments = ["--style", row.style] + (["--spinning-thread"] if row.kind == "busy" else [])
    command = _server(setup, variant, malloc, "echo.py", *arguments)
    metrics, last = under_load(setup, command, count_syscalls, "echo", conns=row.conns, size=row.size_bytes)
    if row.kind == "busy":  # the spinning thread's time counts too
        del metrics["cpu_us"]
    stats = last.get("stats", {})
    if "enters_submit" in stats and "sqpoll" in variant:
        metrics["enters_submit"] = stats["enters_submit"]
    return metrics


def sock(setup: Setup, row: Row, variant: str, malloc: str, count_syscalls: bool) -> Metrics:
    """Echo server made of sock_* calls."""
    command = _server(setup, variant, malloc, "sock_echo.py")
    return under_load(setup, command, count_syscalls, "echo", conns=row.conns, size=row.size_bytes)[0]


def unix(setup: Setup, row: Row, variant: str, malloc: str, count_syscalls: bool) -> Metrics:
    """Echo server on a unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/echo"
        command = _server(setup, variant, malloc, "echo.py", "--path", path, floor=(path,))
        return under_load(setup, command, count_syscalls, "echo", conns=row.conns, size=row.size_bytes)[0]


def udp(setup: Setup, row: Row, variant: str, malloc: str, count_syscalls: bool) -> Metrics:
    """Echo server for datagrams."""
    command = python(setup.server_core, variant, malloc, SERVERS / "udp.py")
    metrics, last = under_load(setup, command, count_syscalls, "udp", conns=row.conns, size=row.size_bytes)
    if last["error"]:
        raise SubjectFailed(f"the server's error_received was told {last['error']}")
    return metrics


def tls(setup: Setup, row: Row, variant: str, malloc: str, count_syscalls: bool) -> Metrics:
    """Echo server over TLS, with a certificate made for this measurement."""
    with tempfile.TemporaryDirectory() as folder:
        native.make_certificate(Path(folder))
        command = python(setup.server_core, variant, malloc, SERVERS / "echo.py", "--tls", folder)
        options = {"conns": row.conns, "size": row.size_bytes, "trusted": f"{folder}/cert.pem"}
        return under_load(setup, command, count_syscalls, "tls", **options)[0]


def oneway(setup: Setup, row: Row, variant: str, malloc: str, count_syscalls: bool) -> Metrics:
    """TLS server that sends, or receives, as fast as flow control allows. A message is a MiB."""
    with tempfile.TemporaryDirectory() as folder:
        native.make_certificate(Path(folder))
        command = python(
            setup.server_core, variant, malloc, SERVERS / "oneway.py", "--tls", folder, "--direction", row.name
        )
        options = {"conns": row.conns, "trusted": f"{folder}/cert.pem"}
        metrics = under_load(setup, command, count_syscalls, row.name, **options)[0]
    # Nothing waits for anything: the time of a MiB says what the rate says.
    return {name: value for name, value in metrics.items() if name not in ("p50_us", "p99_us")}


def handshake(setup: Setup, row: Row, variant: str, malloc: str, count_syscalls: bool) -> Metrics:
    """TLS connections, each with a handshake, one message and its end: the server's cost, or a client's."""
    with tempfile.TemporaryDirectory() as folder:
        native.make_certificate(Path(folder))
        if row.name == "server":
            command = python(setup.server_core, variant, malloc, SERVERS / "echo.py", "--tls", folder)
            options = {"conns": row.conns, "trusted": f"{folder}/cert.pem"}
            return under_load(setup, command, count_syscalls, "handshakes", **options)[0]
        server = ("tlsserver", "-folder", folder)
        arguments = ("--tls", folder, "--conns", str(row.conns))
        return _client(setup, server, variant, malloc, count_syscalls, "handshakes.py", *arguments)


def web(setup: Setup, row: Row, variant: str, malloc: str, count_syscalls: bool) -> Metrics:
    """One of the applications of `make run`."""
    command = python(setup.server_core, variant, malloc, program_of(row.name))
    return under_load(setup, command, count_syscalls, "http", conns=row.conns, expect=BODY)[0]


def client(setup: Setup, row: Row, variant: str, malloc: str, count_syscalls: bool) -> Metrics:
    """Client under test, against the native echo server."""
    server = ("echoserver", "-conns", str(row.conns + 1), "-size", str(row.size_bytes))
    arguments = ("--conns", str(row.conns), "--size", str(row.size_bytes))
    return _client(setup, server, variant, malloc, count_syscalls, "client.py", *arguments)


def _client(
    setup: Setup,
    native_server: tuple[str, ...],
    variant: str,
    malloc: str,
    count_syscalls: bool,
    program: str,
    *options: str,
) -> Metrics:
    """A client under test, against a server of the load generator."""
    args = [native.binary(), *native_server]
    tie = {"preexec_fn": lambda: machine.pin_and_tie(setup.load_core)}
    server = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **tie)
    try:
        port = server.stdout.readline().strip() if server.stdout else ""
        arguments = ["--port", port, *options, "--warmup", str(WARMUP_S), "--seconds", str(setup.seconds)]
        if count_syscalls:
            arguments += ["--tracepoint", str(setup.tracepoint)]
        command = python(setup.server_core, variant, malloc, SERVERS / program, *arguments)
        got = run_once(setup.seconds + native.GRACE_S, **command)
    finally:
        server.communicate("")
    return {name: got[name] for name in ("per_second", "cpu_us", "p50_us", "p99_us", "syscalls") if name in got}


def micro(setup: Setup, row: Row, variant: str, malloc: str, _: bool) -> Metrics:
    """Loop micro benchmark."""
    command = python(setup.server_core, variant, malloc, SERVERS / "micro.py", row.name)
    got = run_once(native.GRACE_S, **command)
    return {name: got[name] for name in ("per_second", "cpu_us")}


# What names.py has around it: a network with the name server and nothing else, and files of /etc that say so.
NAMES_SCRIPT = """
set -e
mount --make-rprivate /
ip link set lo up
for file in resolv.conf hosts nsswitch.conf; do mount --bind "$1/$file" "/etc/$file"; done
# Its standard input ends with this script's.
taskset -c "$2" "$3" 53 < "$1/alive" > "$1/port" &
while [ ! -s "$1/port" ]; do sleep 0.01; done
shift 3
exec "$@"
"""
NAMES_ETC = {
    "resolv.conf": "nameserver 127.0.0.1\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "hosts: files dns\nservices: files\n",
}


def look_up(setup: Setup, what: str, variant: str, malloc: str, *options: str) -> dict:
    """What names.py prints, in namespaces of its own with a name server on the load's core."""
    command = python(setup.server_core, variant, malloc, SERVERS / "names.py", what, *options)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in NAMES_ETC.items():
            Path(folder, name).write_text(text)
        os.mkfifo(f"{folder}/alive")
        alive = os.open(f"{folder}/alive", os.O_RDWR)
        try:
            namespaces = ["unshare", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child"]
            command["args"] = [*namespaces, "sh", "-c", NAMES_SCRIPT, "sh", folder, str(setup.load_core),
                               native.floor(native.DNS_SERVER), *command["args"]]
            return run_once(native.GRACE_S, **command)
        finally:
            os.close(alive)


def names(setup: Setup, row: Row, variant: str, malloc: str, _: bool) -> Metrics:
    """Names: one that is known again and again, or 10,000 that are not, 256 at a time."""
    got = look_up(setup, row.name, variant, malloc)
    return {name: got[name] for name in ("per_second", "cpu_us", "p50_us", "p99_us", "thread")}


def process(_: Setup, row: Row, variant: str, malloc: str, __: bool) -> Metrics:
    """Child processes. On all cores: they would otherwise take the loop's from it."""
    if variant == FLOOR:
        path = shutil.which(PROCESSES[row.name]) or ""
        command = {"args": [native.floor(native.FLOOR_PROCESS), row.name, path, FLOOR_COUNT]}
    else:
        command = python(None, variant, malloc, SERVERS / "processes.py", row.name)
    got = run_once(native.GRACE_S, **command)
    return {name: got[name] for name in ("per_second", "cpu_us", "p50_us", "p99_us")}


def file(setup: Setup, row: Row, variant: str, malloc: str, _: bool) -> Metrics:
    """Reads of a file, or a copy. On all cores: a thread pool uses them."""
    with tempfile.TemporaryDirectory(prefix="kloop-bench-") as folder:
        options = ("--folder", folder, "--depth", str(row.conns), "--seconds", str(setup.seconds))
        command = python(None, variant, malloc, SERVERS / "files.py", row.name, *options)
        got = run_once(FILE_LIMIT_S + setup.seconds, **command)
    return {name: got[name] for name in ("per_second", "cpu_us")}


def idle(setup: Setup, row: Row, variant: str, malloc: str, _: bool) -> Metrics:
    """CPU time and wake-ups of a loop that has nothing, or only a timer, to do."""
    command = python(setup.server_core, variant, malloc, SERVERS / "idle.py", "--timer-hz", row.name)
    with Subject(**command) as subject:
        time.sleep(IDLE_SETTLE_S)
        start_ns, cpu_ns, sleeps = time.monotonic_ns(), machine.cpu_ns(subject.pid), machine.sleeps(subject.pid)
        time.sleep(IDLE_S)
        cpu_ns, sleeps = machine.cpu_ns(subject.pid) - cpu_ns, machine.sleeps(subject.pid) - sleeps
        seconds = (time.monotonic_ns() - start_ns) / 1e9
    return {"cpu_ms_s": cpu_ns / seconds / 1e6, "wakeups_s": sleeps / seconds}


def memory(setup: Setup, row: Row, variant: str, malloc: str, _: bool) -> Metrics:
    """Memory that an idle connection holds, after one message."""
    return _memory(setup, row, python(setup.server_core, variant, malloc, SERVERS / "echo.py"), "echo", "idle")


def tls_memory(setup: Setup, row: Row, variant: str, malloc: str, _: bool) -> Metrics:
    """The same with TLS."""
    return _tls_memory(setup, row, variant, malloc, groups=1)


def tls_idle(setup: Setup, row: Row, variant: str, malloc: str, _: bool) -> Metrics:
    """The same, of connections that come in groups, one a second, and have been idle for a while in the end."""
    return _tls_memory(setup, row, variant, malloc, groups=TLS_IDLE_GROUPS)


def _tls_memory(setup: Setup, row: Row, variant: str, malloc: str, groups: int) -> Metrics:
    with tempfile.TemporaryDirectory() as folder:
        native.make_certificate(Path(folder))
        command = python(setup.server_core, variant, malloc, SERVERS / "echo.py", "--tls", folder)
        return _memory(setup, row, command, "tls", "tlsidle", groups, trusted=f"{folder}/cert.pem")


def _memory(setup: Setup, row: Row, command: dict, first: str, idle: str, groups: int = 1, **options: str) -> Metrics:
    """first: the generator's mode for one connection, after which what all of them share is there. idle: that which
    holds all of them, or a group."""
    with Subject(**command) as server:
        addr = native.address(server.first)
        native.load(first, addr, core=setup.load_core, seconds=0.1, warmup_s=0, conns=1, **options)
        before = machine.rss_bytes(server.pid)
        args = [native.binary(), idle, "-addr", addr, "-conns", str(row.conns // groups)]
        for name, value in options.items():
            args += [f"-{name}", value]
        holders = []
        try:
            for _ in range(groups):
                holders.append(subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
                said = holders[-1].stdout.readline()
                if said.strip() != "ready":
                    raise native.LoadFailed(f"{row.conns} idle connections: {said!r}")
                if groups > 1:
                    time.sleep(1)
            if groups > 1:
                time.sleep(TLS_IDLE_S)
            after = machine.rss_bytes(server.pid)
        finally:
            for holder in holders:
                holder.communicate("")
    return {"kib_conn": (after - before) / row.conns / 1024}


def startup(setup: Setup, _: Row, variant: str, malloc: str, __: bool) -> Metrics:
    """Wall time of a fresh process: import, loop, first callback, close, exit.

    Two figures: over `import asyncio`, which every loop needs and which alone costs more
    than all the rest, and over the bare interpreter.
    """
    loop, environment = VARIANTS[variant]
    env = {**os.environ, **MALLOC_SETTINGS[malloc], **environment}
    walls: dict[str, list[float]] = {"bare": [], "import-asyncio": [], loop: []}
    for _run in range(STARTUP_RUNS):
        for name in walls:
            args = [sys.executable, str(SERVERS / "startup.py"), name]
            begin = time.perf_counter()
            subprocess.run(args, env=env, check=True, preexec_fn=lambda: machine.pin_and_tie(setup.server_core))
            walls[name].append(time.perf_counter() - begin)
    bare, imported, whole = (statistics.median(values) * 1e3 for values in walls.values())
    return {"ms": whole - imported, "ms_over_bare": whole - bare}


KINDS = {
    "echo": echo,
    "file": file,
    "busy": echo,
    "client": client,
    "micro": micro,
    "idle": idle,
    "memory": memory,
    "names": names,
    "process": process,
    "sock": sock,
    "startup": startup,
    "tls": tls,
    "tls-handshake": handshake,
    "tls-memory": tls_memory,
    "tls-idle": tls_idle,
    "tls-oneway": oneway,
    "udp": udp,
    "unix": unix,
    "web": web,
}


def measure(setup: Setup, row: Row, variant: str, malloc: str, count_syscalls: bool) -> Metrics:
    """Measure one row once."""
    return KINDS[row.kind](setup, row, variant, malloc, count_syscalls and setup.tracepoint != 0)
