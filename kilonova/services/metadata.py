"""The metadata service with everything it needs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from kilonova.base.clock import Clock
from kilonova.config.settings import Settings
from kilonova.db.cells import Cells
from kilonova.db.database import Database
from kilonova.metadata.lookup import StoredGuests
from kilonova.metadata.service import Metadata, Rules, build
from kilonova.services.neighbours import Unconfigured
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
        vendor_data=vendor_data(settings),
    )
    guests = StoredGuests(db, cells, clock)
    metadata = Metadata(guests, rules, clock=clock, random=os.urandom)
    return build(metadata, checks=checks)


def vendor_data(settings: Settings) -> dict[str, Any]:
    """The operator's vendor data (``[api] vendordata_jsonfile_path``); empty when there is none."""
    file = settings.api.vendordata_jsonfile_path
    if not file or "StaticJSON" not in settings.api.vendordata_providers:
        return {}
    try:
        read = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unconfigured(
            f"[api] vendordata_jsonfile_path {file} cannot be read: {error}"
        ) from None
    if not isinstance(read, dict):
        raise Unconfigured(f"[api] vendordata_jsonfile_path {file} does not hold a JSON object.")
    return read
