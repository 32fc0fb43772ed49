"""What the handlers of the block storage service are given, and how they find things."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from kilonova.base.clock import Clock
from kilonova.base.errors import BadRequest, NotFound
from kilonova.base.ids import Ids
from kilonova.db.database import Database, Tx
from kilonova.embedded.volume import rules
from kilonova.embedded.volume.exports import Exports
from kilonova.embedded.volume.files import PARTS, Files
from kilonova.embedded.volume.images import ImageService
from kilonova.embedded.volume.records import (
    DEFAULT_TYPE,
    Snapshot,
    Volume,
    VolumeType,
)
from kilonova.embedded.volume.settings import Settings
from kilonova.embedded.volume.store import rows
from kilonova.embedded.volume.work import Worker
from kilonova.web.call import Call, Caller

R = TypeVar("R", Volume, Snapshot)
Notify = Callable[[list[dict[str, Any]]], Awaitable[None]]
Held = Callable[[str, str, str], Awaitable[bool]]
"""Whether the server has the volume by that attachment, as the compute service knows it."""

WORDS: dict[type[Any], str] = {Volume: "Volume", Snapshot: "Snapshot"}


async def held_by_nobody(_server_id: str, _volume_id: str, _attachment_id: str) -> bool:
    """There is no compute service to ask."""
    return False


async def tell_nobody(_events: list[dict[str, Any]]) -> None:
    """For a service without a compute service beside it."""


class Volumes:
    """An open block storage service."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        *,
        images: ImageService,
        notify: Notify,
        held: Held,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self.settings = settings
        self.db = db
        self.images = images
        self.notify = notify
        self.held = held
        self.clock = clock
        self.ids = ids
        self.files = Files(settings.directory, reserve=settings.reserve_bytes)
        self.exports = (
            Exports(
                settings.directory / "exports",
                address=settings.export_address,
                port=settings.export_port,
                tls=settings.export_tls,
                clock=clock,
            )
            if settings.export_address is not None
            else None
        )
        self.worker = Worker(self)

    @property
    def host(self) -> str:
        """The back end's name as clients see it: ``host@backend#pool``."""
        backend = self.settings.backend
        return f"{self.settings.host}@{backend}#{backend}"

    async def close(self) -> None:
        """Stop the work and close the database; exported volumes stay so."""
        await self.worker.stop()
        if self.exports is not None:
            await self.exports.close()
        self.db.close()


def visible(tx: Tx, kind: type[R], key: str, caller: Caller, *, lock: bool = False) -> R:
    """The volume or snapshot if it is the caller's, else NotFound; ``lock`` it to change it."""
    found = rows.find(tx, kind, key, lock=lock)
    if found is None or not (rules.is_admin(caller) or found.project_id == caller.project_id):
        raise NotFound(f"{WORDS[kind]} {key} could not be found.")
    return found


async def show(call: Call[Volumes], kind: type[R], key: str, rule: str = "volume:get") -> R:
    """`visible` for the caller of a request; Forbidden unless ``rule`` allows."""
    found = await call.app.db.read(visible, kind, key, call.caller)
    call.enforce(rule, {"project_id": found.project_id})
    return found


def find_type(tx: Tx, name: str | None, caller: Caller) -> VolumeType:
    """A type by name or id (None: the default); NotFound when it is not there or not for them."""
    wanted = name or DEFAULT_TYPE
    found = rows.first(tx, VolumeType, ("name", "id"), wanted)
    if found is None or not may_use(found, caller):
        raise NotFound(f"Volume type with name {wanted} could not be found.")
    return found


def may_use(kind: VolumeType, caller: Caller) -> bool:
    """Whether the caller's project has the type."""
    return kind.is_public or rules.is_admin(caller) or caller.project_id in kind.projects


def expect_status(item: Volume | Snapshot, statuses: tuple[str, ...], what: str) -> None:
    """BadRequest unless the status is one of them."""
    if item.status not in statuses:
        word = WORDS[type(item)]
        raise BadRequest(
            f"Invalid {word.lower()}: {word} status must be {' or '.join(statuses)} to {what}, "
            f"but current status is: {item.status}."
        )


async def reconcile(app: Volumes) -> int:
    """Mend what a crash left: work is begun again, files of nobody are removed; how many."""

    def known(tx: Tx) -> set[str]:
        volumes = {app.files.volume(v.id).name for v in rows.where(tx, Volume)}
        return volumes | {app.files.snapshot(s.id).name for s in rows.where(tx, Snapshot)}

    there = await app.db.read(known)
    removed = 0
    for name in await asyncio.to_thread(app.files.names):
        stem = name
        for suffix in PARTS:
            stem = stem.removesuffix(suffix)
        ours = stem.startswith(("volume-", "snapshot-"))
        if ours and (stem not in there or stem != name):
            await asyncio.to_thread((app.files.directory / name).unlink, missing_ok=True)
            removed += 1
    await app.worker.resume()
    return removed


def first_type(app: Volumes) -> Callable[[Tx], None]:
    """A transaction that makes the default type when there is none."""
    made = VolumeType(
        id=app.ids.uuid(),
        name=DEFAULT_TYPE,
        description="Default Volume Type",
        is_public=True,
        extra_specs={},
        projects=[],
        created_at=app.clock.now(),
        updated_at=None,
    )

    def work(tx: Tx) -> None:
        if not rows.where(tx, VolumeType, name=DEFAULT_TYPE):
            rows.create(tx, made)

    return work
