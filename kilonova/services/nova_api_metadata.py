"""``nova-api-metadata``: the metadata service, alone or beside nova-api."""

from __future__ import annotations

from starlette.types import ASGIApp

from kilonova.services import databases, metadata
from kilonova.services.daemon import Daemon


async def compose(daemon: Daemon) -> None:
    """Build and serve it."""
    db, cells = await databases.open_all(daemon.settings, daemon.stack)
    databases.follow(daemon, db, cells)
    app = metadata.application(
        daemon.settings,
        db=db,
        cells=cells,
        clock=daemon.clock,
        checks=databases.checks(db, cells),
    )
    serve(daemon, app)


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
