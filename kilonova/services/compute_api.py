"""The Compute API with everything it needs: as a daemon and inside the all-in-one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from kilonova.api import service
from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.config.settings import Settings
from kilonova.context import Services
from kilonova.db.cells import Cells
from kilonova.db.database import Database
from kilonova.db.tables.api import idempotency
from kilonova.messaging.bus import Bus
from kilonova.services import neighbours, policies
from kilonova.services.neighbours import Neighbours, OwnTokens
from kilonova.store.idempotency import SqlIdempotencyStore
from kilonova.web.health import Check
from kilonova.web.middleware import with_cors
from kilonova.workflows.accepting import EngineSagas


def application(
    settings: Settings,
    *,
    db: Database,
    cells: Cells,
    bus: Bus,
    outside: Neighbours,
    clock: Clock,
    ids: Ids,
    buses: Mapping[str, Bus] | None = None,
    checks: Mapping[str, Check] | None = None,
    extra: Sequence[BaseRoute] = (),
    near: Sequence[Path] = (),
) -> ASGIApp:
    """The ASGI application. ``buses``: cell id → its own bus. PolicyError, Unconfigured."""
    made: dict[str, Any] = dict(buses or {})
    services = Services(
        settings=settings,
        db=db,
        cells=cells,
        bus=bus,
        images=outside.images,
        networks=outside.networks,
        sagas=EngineSagas(),
        clock=clock,
        ids=ids,
        buses=made,
    )
    section = settings.keystone_authtoken
    app = service.build(
        services,
        auth=neighbours.authenticator(
            settings,
            outside.http,
            clock,
            strategy=settings.api.auth_strategy,
            tokens=OwnTokens(outside.source),
        ),
        policy=policies.compute_enforcer(settings, clock, near=near),
        idempotency=SqlIdempotencyStore(db, idempotency, clock),
        checks=checks,
        extra=extra,
        auth_uri=section.www_authenticate_uri or section.auth_url,
        trust_forwarded=settings.oslo_middleware.enable_proxy_headers_parsing,
    )
    return with_cors(app, policies.cors(settings))
