"""Opening the block storage service and building its ASGI application."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp

from kilonova.base.clock import Clock, SystemClock
from kilonova.base.ids import Ids, RandomIds
from kilonova.db import migrate
from kilonova.db.database import Database
from kilonova.db.idempotency import SqlIdempotencyStore
from kilonova.embedded.volume import exports
from kilonova.embedded.volume.api import (
    actions,
    attachments,
    info,
    reimage,
    snapshots,
    types,
    versions,
    volumes,
)
from kilonova.embedded.volume.app import (
    Held,
    Notify,
    Volumes,
    first_type,
    held_by_nobody,
    reconcile,
    tell_nobody,
)
from kilonova.embedded.volume.attaching import export_all
from kilonova.embedded.volume.images import ImageService
from kilonova.embedded.volume.rules import Policy
from kilonova.embedded.volume.settings import Settings
from kilonova.embedded.volume.tables import KEYS
from kilonova.web import app as web
from kilonova.web.auth import Authenticator
from kilonova.web.faults import nova_faults
from kilonova.web.openapi import openapi_routes
from kilonova.web.routes import Api

MIGRATIONS = "kilonova.embedded.volume.migrations"

API: Api[Volumes] = Api(
    "volume",
    [
        versions.routes,
        volumes.routes,
        actions.routes,
        reimage.routes,
        snapshots.routes,
        attachments.routes,
        types.routes,
        info.routes,
        info.transfers,
        openapi_routes(lambda: API, title="Volume API"),
    ],
    versions=versions.VERSIONS,
    faults=nova_faults,
    roots=("/v3", "/v3/{project_id}"),
)


async def open(
    settings: Settings,
    *,
    images: ImageService,
    notify: Notify = tell_nobody,
    held: Held = held_by_nobody,
    clock: Clock | None = None,
    ids: Ids | None = None,
) -> Volumes:
    """The service with its schema brought up to date; work that a crash left is begun again.

    What other hosts use is exported.

    ``notify`` tells the compute service's external events, ``held`` asks it whether a server has a
    volume by an attachment. Close it with ``close``.
    """
    db = Database(settings.database, name="volume")
    await asyncio.to_thread(migrate.upgrade, db, MIGRATIONS)
    app = Volumes(
        settings,
        db,
        images=images,
        notify=notify,
        held=held,
        clock=clock or SystemClock(),
        ids=ids or RandomIds(),
    )
    await db.run(first_type(app))
    await reconcile(app)
    await export_all(app)
    return app


def can_export() -> bool:
    """Whether this host has what exports need."""
    return exports.possible()


def build(app: Volumes, *, auth: Authenticator) -> ASGIApp:
    """The ASGI application that serves ``/`` and ``/v3``."""

    return web.build(
        API,
        app,
        auth=auth,
        policy=Policy(),
        clock=app.clock,
        ids=app.ids,
        idempotency=SqlIdempotencyStore(app.db, KEYS, app.clock),
        checks={"database": app.db.check},
        auth_uri=app.settings.auth_uri,
        public_url=app.settings.public_url,
        trust_forwarded=app.settings.trust_forwarded,
    )
