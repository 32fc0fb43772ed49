"""The Placement service as an ASGI application."""

from __future__ import annotations

from starlette.types import ASGIApp

from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.config.placement import Placement as Options
from kilonova.db import migrate
from kilonova.db.database import Database
from kilonova.db.idempotency import SqlIdempotencyStore
from kilonova.placement.api import allocations, candidates, inventories, names, providers, root
from kilonova.placement.api.common import LARGEST_BODY, Follower, Placement
from kilonova.placement.api.faults import VERSIONS, faults
from kilonova.placement.front import Front, NoAuth
from kilonova.placement.index import Index
from kilonova.placement.store import names as vocabulary
from kilonova.placement.store.tables import keys
from kilonova.web.app import build
from kilonova.web.auth import Authenticator
from kilonova.web.call import Enforcer
from kilonova.web.openapi import openapi_routes
from kilonova.web.routes import Api

HISTORY = "kilonova.placement.migrations"

API: Api[Placement] = Api(
    "placement",
    [
        root.routes,
        providers.routes,
        inventories.routes,
        names.routes,
        allocations.routes,
        candidates.routes,
        openapi_routes(lambda: API, title="Placement API"),
    ],
    versions=VERSIONS,
    faults=faults,
    max_body=LARGEST_BODY,
)


def prepare(db: Database, clock: Clock) -> None:
    """Make or upgrade the tables and the standard vocabulary; safe to run at every start."""
    migrate.upgrade(db, HISTORY)
    db.run_sync(vocabulary.sync, clock.now())


def application(
    db: Database,
    *,
    policy: Enforcer,
    clock: Clock,
    ids: Ids,
    auth: Authenticator | None,
    options: Options | None = None,
    auth_uri: str | None = None,
    public_url: str | None = None,
    trust_forwarded: bool = False,
) -> ASGIApp:
    """The service over a prepared database.

    ``auth`` None is the strategy ``noauth2``: everybody is who they say they are.
    """
    state = Placement(
        db,
        Index(Follower(db, clock)),
        options or Options(),
        SqlIdempotencyStore(db, keys, clock),
    )

    inner = build(
        API,
        state,
        auth=auth or NoAuth(),
        policy=policy,
        clock=clock,
        ids=ids,
        idempotency=state.keys,
        checks={"database": db.check},
        auth_uri=auth_uri,
        public_url=public_url,
        trust_forwarded=trust_forwarded,
    )
    return Front(inner, noauth=auth is None)
