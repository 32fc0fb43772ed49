"""``nova-api``: the Compute API, and the metadata service where ``enabled_apis`` says so."""

from __future__ import annotations

from kilonova.config.settings import Settings
from kilonova.metadata.lookup import StoredGuests
from kilonova.services import (
    buses,
    compute_api,
    databases,
    metadata,
    neighbours,
    notices,
    nova_api_metadata,
)
from kilonova.services.daemon import Daemon
from kilonova.services.neighbours import OwnTokens
from kilonova.services.startup import Unconfigured

APIS = ("osapi_compute", "metadata")


async def compose(daemon: Daemon) -> None:
    """Build and serve what ``[DEFAULT] enabled_apis`` names."""
    settings = daemon.settings
    wanted = enabled(settings)
    db, cells = await databases.open_all(settings, daemon.stack)
    databases.follow(daemon, db, cells)
    notices.follow(daemon, db, cells, binary="nova-api")
    if "osapi_compute" in wanted:
        outside = neighbours.connect(settings, daemon.http, daemon.clock)
        bus, check = await buses.connect(settings, daemon.stack)
        app = compute_api.application(
            settings,
            db=db,
            cells=cells,
            bus=bus,
            buses=await buses.of_cells(settings, cells, daemon.stack),
            neighbours=outside,
            auth=neighbours.authenticator(
                settings,
                daemon.http,
                daemon.clock,
                strategy=settings.api.auth_strategy,
                tokens=OwnTokens(outside.source),
            ),
            clock=daemon.clock,
            ids=daemon.ids,
            checks={"bus": check},
            near=daemon.near,
        )
        options = settings.default
        daemon.serve(
            "compute",
            app,
            options.osapi_compute_listen,
            options.osapi_compute_listen_port,
            tls="osapi_compute" in options.enabled_ssl_apis,
        )
    if "metadata" in wanted:
        nova_api_metadata.serve(
            daemon,
            metadata.application(
                settings,
                guests=StoredGuests(db, cells, daemon.clock),
                http=daemon.http,
                clock=daemon.clock,
                stack=daemon.stack,
                checks=databases.checks(db, cells),
            ),
        )


def enabled(settings: Settings) -> tuple[str, ...]:
    """The APIs to serve. Unconfigured for names nobody knows."""
    names = settings.default.enabled_apis
    unknown = [name for name in names if name not in APIS]
    if unknown or not names:
        raise Unconfigured(
            f"[DEFAULT] enabled_apis names {', '.join(unknown) or 'nothing'}; "
            f"there are {' and '.join(APIS)}."
        )
    return names
