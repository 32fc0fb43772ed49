"""Opening the identity service and building its ASGI application."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp

from kilonova.base.clock import Clock, SystemClock
from kilonova.base.ids import Ids, RandomIds
from kilonova.db import migrate
from kilonova.db.database import Database
from kilonova.db.idempotency import SqlIdempotencyStore
from kilonova.embedded.identity.api import (
    application_credentials,
    assignments,
    auth,
    catalog,
    credentials,
    domains,
    grants,
    groups,
    limits,
    projects,
    roles,
    users,
    versions,
)
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.policy import Policy
from kilonova.embedded.identity.settings import Settings
from kilonova.embedded.identity.tables import KEYS
from kilonova.web import app as web
from kilonova.web.faults import keystone_faults
from kilonova.web.middleware import AlsoUnder
from kilonova.web.openapi import openapi_routes
from kilonova.web.routes import Api

MIGRATIONS = "kilonova.embedded.identity.migrations"

API: Api[Identity] = Api(
    "identity",
    [
        versions.top,
        versions.routes,
        auth.routes,
        domains.routes,
        projects.routes,
        users.routes,
        groups.routes,
        roles.routes,
        grants.routes,
        assignments.routes,
        catalog.routes,
        application_credentials.routes,
        credentials.routes,
        limits.routes,
        openapi_routes(lambda: API, title="Identity API"),
    ],
    faults=keystone_faults,
    roots=("/v3",),
)


async def open(
    settings: Settings, *, clock: Clock | None = None, ids: Ids | None = None
) -> Identity:
    """The identity service with its database brought to the newest schema; ``close`` it later."""
    db = Database(settings.database, name="identity")
    await asyncio.to_thread(migrate.upgrade, db, MIGRATIONS)
    return await asyncio.to_thread(
        Identity, settings, db, clock=clock or SystemClock(), ids=ids or RandomIds()
    )


def build(app: Identity) -> ASGIApp:
    """The ASGI application that serves ``/`` and ``/v3``, both below ``/identity`` as well."""
    service = web.build(
        API,
        app,
        auth=app.tokens,
        policy=Policy(),
        clock=app.clock,
        ids=app.ids,
        idempotency=SqlIdempotencyStore(app.db, KEYS, app.clock),
        checks={"database": app.db.check},
        public_url=app.settings.public_url,
        trust_forwarded=app.settings.trust_forwarded,
    )
    return AlsoUnder(service, "/identity")
