"""The Compute API with everything it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from starlette.types import ASGIApp

from kilonova.api import service
from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.clients.identity import Identity, Place
from kilonova.config.settings import Settings
from kilonova.context import Services
from kilonova.db.cells import Cells
from kilonova.db.database import Database
from kilonova.db.idempotency import SqlIdempotencyStore
from kilonova.db.tables import api as tables
from kilonova.messaging.bus import Bus
from kilonova.services import databases, policies
from kilonova.services.figures import CloudFigures
from kilonova.services.neighbours import Neighbours
from kilonova.web.auth import Authenticator
from kilonova.web.health import Check, Metrics
from kilonova.web.middleware import with_cors
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
    near: Sequence[Path] = (),
    buses: Mapping[str, Bus] | None = None,
    checks: Mapping[str, Check] | None = None,
    metrics: Metrics | None = None,
) -> ASGIApp:
    """The ASGI application.

    ``near``: where a relative ``[oslo_policy] policy_file`` is looked for. ``buses``: cell id → its
    own bus. ``metrics``: figures shown besides those of the cloud. Raises PolicyError.
    """
    shown = metrics or Metrics()
    down_after = settings.default.service_down_time
    CloudFigures(shown, db, cells, clock, down_after=down_after)
    section = settings.keystone_authtoken
    app = service.build(
        Services(
            settings=settings,
            db=db,
            cells=cells,
            bus=bus,
            images=neighbours.images,
            networks=neighbours.networks,
            volumes=neighbours.volumes,
            documents=neighbours.documents,
            image_documents=neighbours.image_documents,
            sagas=EngineSagas(),
            placement=neighbours.placement,
            clock=clock,
            ids=ids,
            identity=Identity(neighbours.identity, clock, _place(settings)),
            usages=neighbours.placement,
            shares=neighbours.shares,
            bare_metal=neighbours.bare_metal,
            buses=dict(buses or {}),
        ),
        auth=auth,
        policy=policies.compute_enforcer(settings, clock, near=near),
        idempotency=SqlIdempotencyStore(db, tables.idempotency, clock),
        metrics=shown,
        checks={**databases.checks(db, cells), **(checks or {})},
        auth_uri=section.www_authenticate_uri or section.auth_url,
        trust_forwarded=settings.oslo_middleware.enable_proxy_headers_parsing,
    )
    return with_cors(app, policies.cors(settings))


def _place(settings: Settings) -> Place:
    section = settings.oslo_limit
    return Place(
        endpoint_id=section.endpoint_id,
        service_type=section.endpoint_service_type,
        service_name=section.endpoint_service_name,
        region=section.endpoint_region_name,
    )
