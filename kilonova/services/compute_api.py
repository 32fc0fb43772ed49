"""The Compute API with everything it needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from starlette.types import ASGIApp

from kilonova.api import service
from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.config.settings import Settings
from kilonova.context import Services
from kilonova.db.cells import Cells
from kilonova.db.database import Database, Tx
from kilonova.db.tables import api as tables
from kilonova.messaging.bus import Bus
from kilonova.policy import base, compute
from kilonova.policy.enforcer import PolicyEnforcer
from kilonova.services.neighbours import Neighbours
from kilonova.store.idempotency import SqlIdempotencyStore
from kilonova.web.auth import Authenticator
from kilonova.web.health import Check
from kilonova.workflows.accepting import EngineSagas


def application(
    settings: Settings,
    *,
    db: Database,
    cells: Cells,
    bus: Bus,
    neighbours: Neighbours,
    auth: Authenticator,
    clock: Clock,
    ids: Ids,
    policy_file: Path | None = None,
    checks: Mapping[str, Check] | None = None,
) -> ASGIApp:
    """The ASGI application."""

    def ping(tx: Tx) -> None:
        tx.exec_driver_sql("SELECT 1")

    async def database() -> str | None:
        await db.read(ping)
        return None

    return service.build(
        Services(
            settings=settings,
            db=db,
            cells=cells,
            bus=bus,
            images=neighbours.images,
            networks=neighbours.networks,
            sagas=EngineSagas(),
            clock=clock,
            ids=ids,
        ),
        auth=auth,
        policy=PolicyEnforcer(
            (*base.RULES, *(rule for rule in compute.RULES if rule not in base.RULES)),
            clock=clock,
            policy_file=policy_file,
        ),
        idempotency=SqlIdempotencyStore(db, tables.idempotency, clock),
        checks={"database": database, **(checks or {})},
        auth_uri=settings.keystone_authtoken.www_authenticate_uri,
    )
