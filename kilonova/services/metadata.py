"""The metadata service from the settings: as a daemon, beside nova-api, inside the all-in-one."""

from __future__ import annotations

import os
from collections.abc import Callable

from starlette.types import ASGIApp

from kilonova.base.clock import Clock
from kilonova.config.settings import Settings
from kilonova.db.cells import Cells
from kilonova.db.database import Database
from kilonova.metadata import service
from kilonova.metadata.lookup import StoredGuests
from kilonova.services import databases, vendor
from kilonova.services.daemon import Daemon


def rules(settings: Settings) -> service.Rules:
    """How the service behaves. Unconfigured for vendor data that cannot be read."""
    return service.Rules(
        proxied=settings.neutron.service_metadata_proxy,
        secret=settings.neutron.metadata_proxy_shared_secret,
        believe_forwarded=settings.api.use_forwarded_for,
        remember=settings.api.metadata_cache_expiration,
        dhcp_domain=settings.api.dhcp_domain,
        vendor_data=vendor.data(settings),
    )


def build(
    settings: Settings,
    api: Database,
    cells: Cells,
    *,
    clock: Clock,
    random: Callable[[int], bytes] = os.urandom,
) -> ASGIApp:
    """The application over opened databases."""
    guests = StoredGuests(api, cells, clock)
    memory = service.Metadata(guests, rules(settings), clock=clock, random=random)
    return service.build(memory, checks=databases.checks(api, cells))


async def compose(daemon: Daemon) -> None:
    """``nova-api-metadata``."""
    api, cells = await databases.open_all(daemon.settings, daemon.stack)
    serve(daemon, build(daemon.settings, api, cells, clock=daemon.clock))


def serve(daemon: Daemon, app: ASGIApp) -> None:
    """Serve it where ``[DEFAULT] metadata_listen`` says."""
    options = daemon.settings.default
    daemon.serve(
        "metadata",
        app,
        options.metadata_listen,
        options.metadata_listen_port,
        tls="metadata" in options.enabled_ssl_apis,
    )
