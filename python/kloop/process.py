"""Child processes: spawned by the stdlib, their end told by a pidfd in the ring."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import threading
from asyncio import unix_events
from asyncio.log import logger
from typing import Any

from . import _core

# What asyncio reports for a child whose status somebody else has taken.
UNKNOWN_STATUS = 255

# <linux/pidfd.h>: struct pidfd_info, of which mask and exit_code are of use here, one of its
# bits, and the ioctl that fills it, _IOWR(0xFF, 11, struct pidfd_info).
_PIDFD_INFO = struct.Struct('Q52xi')
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_GET_INFO = 3 << 30 | _PIDFD_INFO.size << 16 | 0xFF << 8 | 11


class ProcessTransport(unix_events._UnixSubprocessTransport):  # type: ignore[misc,name-defined]
    """A child process; asyncio's transport, but for how its end is learnt.

    ``subprocess.Popen`` spawns it, with vfork(2) where that is safe. The child's pidfd
    (pidfd_open(2), Linux 5.3) becomes readable when the child has ended; then it is reaped,
    here and nowhere else. So neither SIGCHLD nor a child watcher has a part in it, and it
    works in any thread and with any number of loops.
    """

    _pidfd = -1
    _watch: _core.Operation | None = None

    def _start(self, *args: Any, **kwargs: Any) -> None:
        super()._start(*args, **kwargs)
        try:
            self._await_end()
        except BaseException:
            self._undo_start()
            raise

    def _await_end(self) -> None:
        try:
            self._pidfd = _core.pidfd_open(self._proc.pid)
        except ProcessLookupError:  # it has ended, and somebody else has reaped it
            self._loop.call_soon(self._ended)
            return
        self._loop._children.add(self)
        self._watch = self._loop._watch(self._pidfd, select.POLLIN, self._on_end)

    def _undo_start(self) -> None:
        """Nobody would learn of the child's end, so it ends now: SIGKILL makes that soon."""
        self._forget_pidfd()
        for stream in (self._proc.stdin, self._proc.stdout, self._proc.stderr):
            if stream is not None:
                stream.close()
        self._proc.kill()
        self._proc.wait()

    def _on_end(self, result: int) -> None:
        """The pidfd is readable: the child is a zombie, or somebody else has reaped it."""
        if result < 0:  # the poll itself failed, for want of memory perhaps
            self._forget_pidfd()
            threading.Thread(target=self._await_end_in_thread, args=(self._loop,), daemon=True,
                             name=f'kloop-waitpid-{self._proc.pid}').start()
            return
        self._ended()

    def _await_end_in_thread(self, loop: Any) -> None:
        returncode = self._reap()
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._process_exited, returncode)

    def _ended(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        # Not now: on asyncio too, what was ready before comes first.
        self._loop.call_soon(self._reap_and_tell)

    def _reap_and_tell(self) -> None:
        """In one step, so that nobody signals a pid that is another process's by then."""
        try:
            returncode = self._reap()
        finally:
            self._forget_pidfd()
        self._process_exited(returncode)

    def _reap(self) -> int:
        """Takes the child's status from the kernel, unless Popen has it; answers the return code."""
        proc = self._proc
        with proc._waitpid_lock:    # another thread may be in Popen.poll()
            if proc.returncode is None:
                proc.returncode = _status_of(proc.pid, self._pidfd)
            return int(proc.returncode)

    def _forget_pidfd(self) -> None:
        """Ends the watch, if there is one."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._pidfd >= 0:
            self._loop._children.discard(self)
            os.close(self._pidfd)
            self._pidfd = -1


def _status_of(pid: int, pidfd: int) -> int:
    """Waits for a child and reaps it; answers its return code.

    If somebody else has reaped it, the kernel may still know; else that is 255.
    """
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        known = _status_of_reaped(pidfd)
        if known is None:
            logger.warning('child process pid %d exit status already read: '
                           ' will report returncode 255', pid)
            return UNKNOWN_STATUS
        status = known
    return os.waitstatus_to_exitcode(status)


def _status_of_reaped(pidfd: int) -> int | None:
    """The wait status of a process that was reaped while pidfd was open (Linux 6.15), or None."""
    info = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, 0))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except (OSError, ValueError):   # an older kernel, or there was no pidfd (-1)
        return None
    mask, status = _PIDFD_INFO.unpack(info)
    return int(status) if mask & _PIDFD_INFO_EXIT else None
