"""A `World` that follows the database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

from kilonova.placement.store.snapshot import Delta, Mark
from kilonova.placement.world import World


class Source(Protocol):
    """Where changes come from."""

    async def changes(self, since: Mark) -> Delta | None:
        """What to change to be up to date; None when nothing."""


class Index:
    """A `World` that is as new as the database each time it is asked for; ``mark`` is how new."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._world = World()
        self.mark = Mark()
        self._turn = asyncio.Lock()
        self._begun = 0
        self._latest = 0

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[World]:
        """A world with all in it that was committed before, which stays as it is until the end.

        Others who want it wait meanwhile.
        """
        asked = self._begun
        async with self._turn:
            # Whoever waited while a look was taken that began after this call needs no other.
            if self._latest <= asked:
                await self._look()
            yield self._world

    async def world(self) -> World:
        """The same for use before the next ``await``."""
        async with self.held() as world:
            return world

    async def _look(self) -> None:
        self._begun += 1
        delta = await self._source.changes(self.mark)
        if delta is not None:
            if delta.whole:
                self._world = World()
            self._world.apply(delta)
            self.mark = delta.mark
        self._latest = self._begun
