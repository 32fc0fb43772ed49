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
    """A `World` that is as new as the database each time it is asked for."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._world = World()
        self._mark = Mark()
        self._turn = asyncio.Lock()
        self._begun = 0
        self._latest = 0

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[World]:
        """``world``, which stays as it is until the end; others who want it wait."""
        await self.world()
        async with self._turn:
            yield self._world

    async def world(self) -> World:
        """All committed before the call is in it. Use it before the next ``await``."""
        asked = self._begun
        async with self._turn:
            # Whoever waited while a look was taken that began after this call needs no other.
            if self._latest <= asked:
                self._begun += 1
                delta = await self._source.changes(self._mark)
                if delta is not None:
                    if delta.whole:
                        self._world = World()
                    self._world.apply(delta)
                    self._mark = delta.mark
                self._latest = self._begun
            return self._world
