"""What the steps of server sagas work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol, TypeAlias

import msgspec

from kilonova.db.cells import Cells
from kilonova.db.database import Database
from kilonova.domain.request import RequestSpec, Selection, ServerGroup
from kilonova.interfaces.image import ImageMaker
from kilonova.interfaces.network import NetworkService
from kilonova.interfaces.placement import PlacementService
from kilonova.interfaces.shares import ShareService
from kilonova.interfaces.volume import VolumeService
from kilonova.workflows.engine.steps import StepEnv


class Select(Protocol):
    """The scheduler, wherever it runs."""

    async def __call__(self, request: RequestSpec) -> Selection:
        """Hosts for the servers of a request, or why there are none."""


class Group(Protocol):
    """Server groups as the scheduler wants them."""

    async def __call__(self, group_id: str, but: Collection[str]) -> ServerGroup | None:
        """The group with its members counted by host, the servers ``but`` left out."""


class World(msgspec.Struct, frozen=True):
    """Stores and clients. ``token`` gives our own token; ``alive`` tells whether an agent lives."""

    db: Database
    cells: Cells
    images: ImageMaker
    networks: NetworkService
    volumes: VolumeService
    shares: ShareService
    placement: PlacementService
    select: Select
    group: Group
    token: Callable[[], Awaitable[str]]
    alive: Callable[[str], Awaitable[bool]]


Env: TypeAlias = StepEnv[World]
