"""The metadata service with everything it needs."""

from __future__ import annotations

import os

from starlette.types import ASGIApp

from kilonova.base.clock import Clock
from kilonova.config.settings import Settings
from kilonova.db.cells import Cells
from kilonova.db.database import Database
from kilonova.metadata.lookup import StoredGuests
from kilonova.metadata.service import Metadata, Rules, build
from kilonova.services import vendor
from kilonova.web.health import Check


def application(
    settings: Settings,
    *,
    db: Database,
    cells: Cells,
    clock: Clock,
    checks: dict[str, Check] | None = None,
) -> ASGIApp:
    """The ASGI application; Unconfigured for vendor data that cannot be read."""
    rules = Rules(
        proxied=settings.neutron.service_metadata_proxy,
        secret=settings.neutron.metadata_proxy_shared_secret,
        believe_forwarded=settings.api.use_forwarded_for,
        remember=settings.api.metadata_cache_expiration,
        dhcp_domain=settings.api.dhcp_domain,
        vendor_data=vendor.data(settings),
    )
    guests = StoredGuests(db, cells, clock)
    metadata = Metadata(guests, rules, clock=clock, random=os.urandom)
    return build(metadata, checks=checks)
