"""What we need of a placement service: providers kept up to date, candidates, claims."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from kilonova.domain.whynot import WhyNot


class Inventory(msgspec.Struct, frozen=True):
    """What a provider has of one class; memory MiB, disk GiB."""

    total: int
    reserved: int = 0
    min_unit: int = 1
    max_unit: int = 2147483647
    step_size: int = 1
    allocation_ratio: float = 1.0


class Usage(msgspec.Struct, frozen=True, gc=False):
    """How much of a class there is to give, and how much is given."""

    capacity: int
    used: int


class Summary(msgspec.Struct, frozen=True, gc=False):
    """A provider as an answer about candidates describes it: what there is, and its tree."""

    resources: dict[str, Usage]
    root: str


class AllocationRequest(Protocol):
    """One way to serve a request. There may be thousands, of which few are ever taken: whose
    ``providers`` they are is known at once, the rest may be read only when it is asked for."""

    @property
    def providers(self) -> Collection[str]:
        """Those that would give something."""

    @property
    def allocations(self) -> dict[str, dict[str, int]]:
        """Provider → class → amount."""

    @property
    def mappings(self) -> dict[str, tuple[str, ...]]:
        """Request group → providers."""


class Way(msgspec.Struct, frozen=True, gc=False):
    """An `AllocationRequest` that is known already."""

    allocations: dict[str, dict[str, int]]
    mappings: dict[str, tuple[str, ...]] = {}

    @property
    def providers(self) -> Collection[str]:
        """Those that would give something."""
        return self.allocations


class Candidates(msgspec.Struct, frozen=True):
    """Every way found, best first where the service knows, and the providers they are of."""

    requests: Sequence[AllocationRequest]
    summaries: Mapping[str, Summary]


class Claim(msgspec.Struct, frozen=True):
    """What a consumer shall hold from now on; no allocations frees it.

    ``generation`` is what is known of the consumer: None when it holds nothing yet.
    """

    consumer: str
    allocations: dict[str, dict[str, int]]
    project_id: str
    user_id: str
    consumer_type: str = "INSTANCE"
    generation: int | None = None
    mappings: dict[str, tuple[str, ...]] = {}


class Holding(msgspec.Struct, frozen=True):
    """What a consumer holds; ``generation`` None means nothing."""

    allocations: dict[str, dict[str, int]] = {}
    project_id: str = ""
    user_id: str = ""
    generation: int | None = None
    consumer_type: str = ""


class PlacementService(Protocol):
    """All writes are idempotent and try again when another writer came first."""

    async def ensure_provider(self, uuid: str, name: str, parent: str | None = None) -> None:
        """Make a provider, or give the present one that name and parent; Conflict on the name."""

    async def delete_provider(self, uuid: str) -> None:
        """Remove it (gone is success); Conflict while it has allocations or children."""

    async def children(self, uuid: str) -> dict[str, str]:
        """Uuid → name of every other provider in its tree; nothing for an unknown one."""

    async def inventory(self, uuid: str) -> dict[str, Inventory]:
        """Class → inventory; nothing for an unknown provider."""

    async def set_inventory(self, uuid: str, inventories: Mapping[str, Inventory]) -> None:
        """Replace all; Conflict when a class that goes is in use."""

    async def traits(self, uuid: str) -> frozenset[str]:
        """The traits of a provider; nothing for an unknown one."""

    async def set_traits(
        self, uuid: str, traits: Collection[str], *, owned: Collection[str] | None = None
    ) -> None:
        """Have these traits; of the others only those of ``owned`` go (None: all go)."""

    async def aggregates(self, uuid: str) -> frozenset[str]:
        """The aggregates of a provider; nothing for an unknown one."""

    async def set_aggregates(
        self, uuid: str, aggregates: Collection[str], *, owned: Collection[str] | None = None
    ) -> None:
        """Be in these aggregates; of the others only those of ``owned`` are left."""

    async def candidates(self, query: Sequence[tuple[str, str]]) -> Candidates:
        """The answer to ``GET /allocation_candidates`` with these parameters; BadRequest."""

    async def explain(self, query: Sequence[tuple[str, str]]) -> WhyNot | None:
        """Why ``candidates`` of the same parameters leaves providers out; BadRequest.

        None from a service that does not tell. To be asked when there were no candidates: it
        costs many times what they cost.
        """

    async def claim(self, claim: Claim) -> bool:
        """Take it: True when the consumer holds exactly that now, False when there is no room.

        Conflict when the consumer holds something else than ``generation`` stands for.
        """

    async def claim_all(self, claims: Sequence[Claim]) -> bool:
        """The same for several consumers at once: all or none."""

    async def release(self, consumer: str) -> None:
        """Free everything a consumer holds; holding nothing is success."""

    async def allocations_of(self, consumer: str) -> Holding:
        """What a consumer holds."""

    async def allocations_for_provider(self, uuid: str) -> dict[str, dict[str, int]]:
        """Consumer → class → amount; nothing for an unknown provider."""

    async def usages(
        self, project_id: str, user_id: str | None = None
    ) -> dict[str, dict[str, int]]:
        """Consumer type → class → amount, with ``consumer_count``."""
