"""kloop: an asyncio event loop whose I/O the Linux kernel does, through io_uring or epoll.

``kloop.run(main())`` runs a program on it. ``kloop.new_event_loop`` is the factory that
``asyncio.Runner(loop_factory=...)``, uvicorn's ``--loop`` and test plugins take.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ._version import __version__
from .errors import DriverUnavailable
from .loop import Loop
from .tls_offload import TLSOffload, TLSOptions
from .transport import StreamTransport

__all__ = ('DriverUnavailable', 'EventLoopPolicy', 'Loop', 'StreamTransport', 'TLSOffload',
           'TLSOptions', 'files', 'install', '__version__', 'new_event_loop', 'open', 'run')

if TYPE_CHECKING:
    from . import files
    from .files import open

_T = TypeVar('_T')


def new_event_loop(**options: Any) -> Loop:
    """A new loop. Options: ``driver`` ('auto', 'io_uring', 'epoll'), ``sqpoll`` (bool), ``spin_us`` (µs),
    ``tls`` (TLSOptions); see ``Loop``.

    Raises DriverUnavailable, an OSError, where the driver that is asked for can't be had.
    """
    return Loop(**options)


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None, **options: Any) -> _T:
    """As asyncio.run(), on a kloop loop made with these options."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError('kloop.run() cannot be called from a running event loop')
    if sys.version_info >= (3, 11):
        with asyncio.Runner(debug=debug, loop_factory=lambda: Loop(**options)) as runner:
            return runner.run(main)
    return _run_before_runners(main, debug, options)


def _run_before_runners(main: Coroutine[Any, Any, _T], debug: bool | None,
                        options: dict[str, Any]) -> _T:
    """For Python 3.10, which has asyncio.run() but no Runner."""
    from asyncio import coroutines, events, runners
    if not coroutines.iscoroutine(main):
        raise ValueError(f'a coroutine was expected, got {main!r}')
    loop = Loop(**options)
    try:
        events.set_event_loop(loop)
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            runners._cancel_all_tasks(loop)  # type: ignore[attr-defined]
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            events.set_event_loop(None)
            loop.close()


def install() -> None:
    """Makes kloop the policy of this process: asyncio.run() then uses it."""
    asyncio.set_event_loop_policy(__getattr__('EventLoopPolicy')())


def __getattr__(name: str) -> Any:
    # Imported lazily: programs without files start the sooner.
    if name in ('files', 'open'):
        module = importlib.import_module('.files', __name__)
        globals().update(files=module, open=module.open)
        return globals()[name]
    # Made lazily: Python 3.14 warns of policies, and 3.16 has none.
    if name == 'EventLoopPolicy':
        from .policy import EventLoopPolicy
        globals()[name] = EventLoopPolicy
        return EventLoopPolicy
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
