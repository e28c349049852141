"""A selector whose polls the ring makes, for what asyncio builds on readers and writers."""

from __future__ import annotations

import errno
import os
import select
import selectors
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loop import Loop

_READ = selectors.EVENT_READ
_WRITE = selectors.EVENT_WRITE


class RingSelector(selectors._BaseSelectorImpl):  # type: ignore[name-defined,misc]
    """Keeps one multishot poll in the ring for each registered descriptor.

    Nobody calls ``select``: a completion schedules the reader's or writer's handle.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loop: Loop | None = None
        self._watches: dict[int, Any] = {}

    def bind(self, loop: Loop) -> None:
        self._loop = loop

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = super().register(fileobj, events, data)
        try:
            self._watch(key)
        except BaseException:
            super().unregister(fileobj)
            raise
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = super().unregister(fileobj)
        self._unwatch(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self.get_key(fileobj)
        changed = key._replace(events=events, data=data)
        self._fd_to_key[key.fd] = changed
        if key.events != events:
            self._unwatch(key.fd)
            self._watch(changed)
        return changed

    def select(self, timeout: float | None = None) -> list[Any]:
        raise RuntimeError('this selector belongs to a kloop loop, which never calls select()')

    def close(self) -> None:
        for fd in list(self._watches):
            self._unwatch(fd)
        self._loop = None
        super().close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return super().get_map()

    def _watch(self, key: selectors.SelectorKey) -> None:
        mask = 0
        if key.events & _READ:
            mask |= select.POLLIN
        if key.events & _WRITE:
            mask |= select.POLLOUT
        _refuse_what_epoll_refuses(key.fd)
        assert self._loop is not None
        self._watches[key.fd] = self._loop._watch(
            key.fd, mask, lambda result: self._ready(key.fd, result))

    def _unwatch(self, fd: int) -> None:
        watch = self._watches.pop(fd, None)
        if watch is not None:
            watch.cancel()

    def _ready(self, fd: int, result: int) -> None:
        """Runs the handles of fd.

        At once, not in the next iteration: its poll would find what they have not read yet, and
        call them a second time, when a blocking read waits forever.
        """
        key = self._fd_to_key.get(fd)
        if key is None or self._loop is None:
            return
        if result < 0:  # the poll itself failed: let the callback meet the error
            self._watches.pop(fd, None)
            result = select.POLLIN | select.POLLOUT
        reader, writer = key.data
        if result & ~select.POLLOUT and key.events & _READ and reader is not None:
            self._loop._run_now(reader)
        if (result & ~select.POLLIN and key.events & _WRITE and writer is not None
                and self._loop is not None):    # the reader may have closed all
            self._loop._run_now(writer)


def _refuse_what_epoll_refuses(fd: int) -> None:
    """Raises OSError at once, as asyncio does, where the ring would answer later or never."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
