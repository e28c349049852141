"""What a test must leave as it found it: descriptors, threads, signals, kloop's objects."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time

# Gauges of loop.stats() that are an idle loop's when a test's connections, servers and writes are over.
GAUGES = ("conns", "listeners", "watches", "buffers_out", "owners_out", "operations", "lookups")

KEY_LOG = "/memfd:kloop-keylog (deleted)"

# How long what a test has ended may take to be gone: a thread to exit, the kernel's last
# answer about a closed connection to come. Reached only by a test that fails.
SETTLE_LIMIT_S = 5.0


def open_fds() -> dict[int, str]:
    """The descriptors of this process, and what each is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one that listdir itself had open
            pass
    return found


def wait_for(condition) -> None:
    """Returns when it holds, and fails if that takes too long."""
    deadline_s = time.monotonic() + SETTLE_LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def is_go_netpoller(fds: dict[int, str]) -> bool:
    """Whether these are the Go runtime's own epoll instance and the eventfd that it watches.

    Go opens the pair once per process, when a goroutine first needs a timer or a file, which
    may be in the middle of any test, and never closes it.
    """
    if sorted(fds.values()) != ["anon_inode:[eventfd]", "anon_inode:[eventpoll]"]:
        return False
    eventfd, eventpoll = sorted(fds, key=lambda fd: fds[fd])
    with open(f"/proc/self/fdinfo/{eventpoll}") as info:
        return any(line.split()[:2] == ["tfd:", str(eventfd)] for line in info)


def without_key_log(opened: dict[int, str], after: dict[int, str]) -> dict[int, str]:
    """Leaves out the process's key log, and one file for each living context that writes to it."""
    keylog = sys.modules["kloop.tls_offload"].keylog
    if sum(target == KEY_LOG for target in after.values()) > 1 + keylog.count_armed():
        return opened
    return {fd: target for fd, target in opened.items() if target != KEY_LOG}


def live_objects(*types: type) -> dict[int, object]:
    """The objects of these types that something still refers to, by identity.

    Not the handles that an open loop holds: it hides them from the collector.
    """
    return {id(thing): thing for thing in gc.get_objects() if isinstance(thing, types)}


def gauges(loop) -> dict[str, int]:
    """The gauges of a loop after it has run: what it watches for itself is armed by then."""
    loop.run_until_complete(asyncio.sleep(0))
    stats = loop.stats()
    return {name: stats[name] for name in GAUGES}


def settle(loop, idle: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Runs the loop until its gauges are an idle loop's, or the limit is over.

    Answers the gauges that differ, each with the idle loop's.
    """
    deadline_s = time.monotonic() + SETTLE_LIMIT_S
    while True:
        now = gauges(loop)
        in_use = {name: (now[name], idle[name]) for name in GAUGES if now[name] != idle[name]}
        if not in_use or time.monotonic() >= deadline_s:
            return in_use


class Snapshot:
    """The state of the process before a test; `differences` says what is left after it."""

    def __init__(self, handle_types: tuple[type, ...], loop_type: type):
        self.handle_types = handle_types
        self.loop_type = loop_type
        self.threads = set(threading.enumerate())
        self.wakeup_fd = current_wakeup_fd()
        self.handlers = current_handlers()
        self.objects = live_objects(*handle_types, loop_type)
        self.fds = open_fds()

    def differences(self) -> list[str]:
        found = [*self._threads()]
        gc.collect()
        found += self._objects()
        found += self._signals()
        found += self._fds()
        return found

    def _fds(self) -> list[str]:
        # The sockets of the process's own resolver are closed by its thread, a moment after they were last used.
        deadline_s = time.monotonic() + SETTLE_LIMIT_S
        after = open_fds()
        while set(after) - set(self.fds) and any("socket:" in after[fd] for fd in set(after) - set(self.fds)):
            if time.monotonic() >= deadline_s:
                break
            time.sleep(0.01)
            after = open_fds()
        opened = {fd: target for fd, target in after.items() if self.fds.get(fd) != target}
        if is_go_netpoller(opened):
            opened = {}
        opened = without_key_log(opened, after)
        found = [f"fd {fd} is still open: {target}" for fd, target in sorted(opened.items())]
        found += [f"fd {fd} was closed, and was not the test's: {target}"
                  for fd, target in sorted(self.fds.items()) if fd not in after and target != KEY_LOG]
        return found

    def _threads(self) -> list[str]:
        deadline_s = time.monotonic() + SETTLE_LIMIT_S
        left = [t for t in threading.enumerate() if t not in self.threads]
        for thread in left:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        return [f"thread still runs: {t.name}" for t in left if t.is_alive()]

    def _objects(self) -> list[str]:
        found = []
        for key, thing in live_objects(*self.handle_types, self.loop_type).items():
            if self.objects.get(key) is thing:
                continue
            if not isinstance(thing, self.loop_type):
                found.append(f"handle is still referred to: {thing!r}")
            elif not thing.is_closed():
                found.append(f"loop was not closed: {thing!r}")
        return found

    def _signals(self) -> list[str]:
        found = []
        if current_wakeup_fd() != self.wakeup_fd:
            found.append(f"signal.set_wakeup_fd: {current_wakeup_fd()}, was {self.wakeup_fd}")
        for number, handler in current_handlers().items():
            if handler != self.handlers[number]:
                name = signal.Signals(number).name
                found.append(f"handler of {name}: {handler!r}, was {self.handlers[number]!r}")
        return found


def current_wakeup_fd() -> int:
    fd = signal.set_wakeup_fd(-1)
    if fd != -1:
        signal.set_wakeup_fd(fd)
    return fd


def current_handlers() -> dict[int, object]:
    """All but SIGALRM's, which is pytest-timeout's, and which a test that fails loses early."""
    return {int(number): signal.getsignal(number) for number in signal.Signals
            if number != signal.SIGALRM}
