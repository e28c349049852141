"""The event loop policy; a module of its own, since Python 3.16 has no policies."""

from __future__ import annotations

import asyncio
import warnings

from .loop import Loop

with warnings.catch_warnings():
    warnings.simplefilter('ignore', DeprecationWarning)
    _Base = asyncio.DefaultEventLoopPolicy


class EventLoopPolicy(_Base):  # type: ignore[misc,valid-type]
    """Makes kloop loops: ``asyncio.set_event_loop_policy(kloop.EventLoopPolicy())``."""

    def _loop_factory(self) -> Loop:
        return Loop()
