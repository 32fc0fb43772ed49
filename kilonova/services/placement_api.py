"""``placement-api``: the Placement service on its own."""

from __future__ import annotations

from kilonova.services import neighbours, placement
from kilonova.services.daemon import Daemon


async def compose(daemon: Daemon) -> None:
    """Build and serve it."""
    settings = daemon.settings
    app = await placement.build(
        settings,
        http=daemon.http,
        clock=daemon.clock,
        ids=daemon.ids,
        stack=daemon.stack,
        tokens=neighbours.own_tokens(settings, daemon.http, daemon.clock),
        near=daemon.near,
    )
    options = settings.kilonova
    daemon.serve(
        "placement",
        app,
        options.placement_listen,
        options.placement_listen_port,
        tls=settings.wsgi.ssl_cert_file is not None,
    )
