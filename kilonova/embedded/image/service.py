"""Opening the image service and building its ASGI application."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp

from kilonova.base.clock import Clock, SystemClock
from kilonova.base.ids import Ids, RandomIds
from kilonova.db import migrate
from kilonova.db.database import Database
from kilonova.db.idempotency import SqlIdempotencyStore
from kilonova.embedded.image.api import data, images, info, members, versions
from kilonova.embedded.image.app import Images, reconcile
from kilonova.embedded.image.rules import Policy
from kilonova.embedded.image.settings import Settings
from kilonova.embedded.image.tables import KEYS
from kilonova.web import app as web
from kilonova.web.auth import Authenticator
from kilonova.web.faults import glance_faults
from kilonova.web.openapi import openapi_routes
from kilonova.web.routes import Api

MIGRATIONS = "kilonova.embedded.image.migrations"

API: Api[Images] = Api(
    "image",
    [
        versions.routes,
        images.routes,
        data.routes,
        members.routes,
        info.routes,
        openapi_routes(lambda: API, title="Image API"),
    ],
    faults=glance_faults,
    roots=("/v2",),
)


async def open(settings: Settings, *, clock: Clock | None = None, ids: Ids | None = None) -> Images:
    """The image service with its schema brought up to date and what a crash left mended.

    Close it with ``close``.
    """
    db = Database(settings.database, name="image")
    await asyncio.to_thread(migrate.upgrade, db, MIGRATIONS)
    app = await asyncio.to_thread(
        Images, settings, db, clock=clock or SystemClock(), ids=ids or RandomIds()
    )
    await reconcile(app)
    return app


def build(app: Images, *, auth: Authenticator) -> ASGIApp:
    """The ASGI application that serves ``/``, ``/versions`` and ``/v2``."""

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
