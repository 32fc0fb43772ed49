"""``nova-api-metadata``: the metadata service, alone or beside nova-api."""

from __future__ import annotations

from starlette.types import ASGIApp

from kilonova.metadata.lookup import LocalGuests, StoredGuests
from kilonova.metadata.service import Guests
from kilonova.services import databases, metadata
from kilonova.services.daemon import Daemon
from kilonova.web.health import Check


async def compose(daemon: Daemon) -> None:
    """Build and serve it."""
    guests, checks = await _guests(daemon)
    app = metadata.application(
        daemon.settings,
        guests=guests,
        http=daemon.http,
        clock=daemon.clock,
        stack=daemon.stack,
        checks=checks,
    )
    serve(daemon, app)


async def _guests(daemon: Daemon) -> tuple[Guests, dict[str, Check]]:
    """Where guests are looked up: in every cell, or only in this one's database."""
    settings = daemon.settings
    if settings.api.local_metadata_per_cell:
        db = databases.open_own(settings)
        daemon.stack.callback(db.close)
        await databases.reach(db, "[database] connection")
        return LocalGuests(db, daemon.clock), {"database": databases.check(db)}
    api, cells = await databases.open_all(settings, daemon.stack)
    databases.follow(daemon, api, cells)
    return StoredGuests(api, cells, daemon.clock), databases.checks(api, cells)


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
