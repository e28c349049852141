"""Lets what a server does by itself come to rest between two rounds, so that what is left of it can be counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

# What the first use of anything opens is not what a round leaves behind.
FIRST_ROUNDS = 3


class Rounds:
    """Runners that each make one round after the other, until they are told to rest."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task] = []
        self._going = asyncio.Event()
        self._going.set()
        self._idle = asyncio.Event()
        self._busy = 0

    def keep(self, one_round: Callable[[], Awaitable[None]]) -> None:
        """Starts a runner. It ends with the first error of a round, which its task keeps."""
        self._busy += 1
        self.tasks.append(asyncio.create_task(self._run(one_round)))

    async def rest(self) -> None:
        """Ends when no round is under way, and none will begin until go()."""
        self._going.clear()
        await self._idle.wait()

    def go(self) -> None:
        self._going.set()

    async def _run(self, one_round: Callable[[], Awaitable[None]]) -> None:
        """_busy counts this runner at all times but when it rests or is gone."""
        try:
            number = 0
            while True:
                if number >= FIRST_ROUNDS and not self._going.is_set():
                    await self._pause()
                await one_round()
                number += 1
        finally:
            self._one_less()

    async def _pause(self) -> None:
        self._one_less()
        try:
            await self._going.wait()
        finally:
            self._busy += 1
            self._idle.clear()

    def _one_less(self) -> None:
        self._busy -= 1
        if self._busy == 0:
            self._idle.set()
