"""What a handler of the Compute API may use, and `Context`: one request with it."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec

from kilonova.base.cache import Layers
from kilonova.base.clock import Clock
from kilonova.base.errors import Conflict
from kilonova.base.ids import Ids
from kilonova.config.settings import Settings
from kilonova.db.cells import Cells
from kilonova.db.database import Database, Tx
from kilonova.domain.sagas import SagaContext, SagaKind
from kilonova.interfaces.baremetal import BareMetalService
from kilonova.interfaces.identity import IdentityService
from kilonova.interfaces.image import ImageDocuments, ImageMaker
from kilonova.interfaces.network import NetworkDocuments, NetworkService
from kilonova.interfaces.placement import PlacementService
from kilonova.interfaces.shares import ShareService
from kilonova.interfaces.volume import VolumeService
from kilonova.messaging.bus import Bus
from kilonova.web.call import Call

A = TypeVar("A", bound=msgspec.Struct)


class HeldElsewhere(Conflict):
    """The server is held by a saga of another database: start the new one there."""


class Sagas(Protocol):
    """What writes a saga inside the caller's own transaction."""

    def accept(
        self,
        tx: Tx,
        kind: SagaKind[A],
        args: A,
        *,
        server_id: str,
        asked: SagaContext,
        ids: Ids,
        clock: Clock,
    ) -> None:
        """Conflict when another one holds the server, unless ``kind.cancels``."""

    def cancel(self, tx: Tx, kind: SagaKind[Any], server_id: str, *, clock: Clock) -> bool:
        """Ask the saga of that kind that holds the server to stop; whether there is one."""

    def signal(self, tx: Tx, subject: str, name: str, *, ids: Ids, clock: Clock) -> None:
        """Tell the sagas that wait for it; wake the conductors after the transaction."""


class Usages(Protocol):
    """What knows what projects hold: Placement."""

    async def usages(
        self, project_id: str, user_id: str | None = None
    ) -> dict[str, dict[str, int]]:
        """Consumer type → resource class → amount (and ``consumer_count``)."""


class Services(msgspec.Struct, frozen=True):
    """Everything the Compute API works with. ``db`` is the API database.

    ``shown`` remembers servers as JSON, by their rows.
    """

    settings: Settings
    db: Database
    cells: Cells
    bus: Bus
    images: ImageMaker
    networks: NetworkService
    volumes: VolumeService
    documents: NetworkDocuments
    image_documents: ImageDocuments
    sagas: Sagas
    clock: Clock
    ids: Ids
    placement: PlacementService | None = None
    identity: IdentityService | None = None
    usages: Usages | None = None
    shares: ShareService | None = None
    bare_metal: BareMetalService | None = None
    buses: dict[str, Any] = {}
    shown: Layers[Any, msgspec.Raw] = msgspec.field(default_factory=Layers)

    def bus_of(self, cell_id: str) -> Bus:
        """The bus of a cell; the common one unless it has its own."""
        bus: Bus = self.buses.get(cell_id, self.bus)
        return bus

    async def wake(self) -> None:
        """Tell the conductors that there is work."""
        await self.bus.cast("conductor", "wake")

    async def wake_waiting(self) -> None:
        """Tell the conductors that something has come which sagas may wait for."""
        await self.bus.cast("conductor", "wake_waiting")


Context: TypeAlias = Call[Services]
