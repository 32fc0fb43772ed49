"""``placement-api``: the Placement service on its own."""

from __future__ import annotations

from kilonova.services import neighbours, placement
from kilonova.services.daemon import Daemon
from kilonova.web.auth import Authenticator


async def compose(daemon: Daemon) -> None:
    """Build and serve it."""
    settings = daemon.settings

    def auth() -> Authenticator | None:
        strategy = settings.api.auth_strategy
        if strategy == "noauth2":
            return None
        tokens = neighbours.own_tokens(settings, daemon.http, daemon.clock)
        return neighbours.authenticator(
            settings, daemon.http, daemon.clock, strategy=strategy, tokens=tokens
        )

    app = await placement.build(daemon, auth)
    options = settings.kilonova
    daemon.serve(
        "placement",
        app,
        options.placement_listen,
        options.placement_listen_port,
        tls=settings.wsgi.ssl_cert_file is not None,
    )
