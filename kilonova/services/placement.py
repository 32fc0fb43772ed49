"""The Placement service from the settings: as a daemon and inside the all-in-one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp

from kilonova.db import migrate
from kilonova.placement import service
from kilonova.services import databases, policies
from kilonova.services.process import Process
from kilonova.services.startup import Unconfigured
from kilonova.web.auth import Authenticator
from kilonova.web.middleware import with_cors


async def build(at: Process, auth: Callable[[], Authenticator | None]) -> ASGIApp:
    """The application over ``[placement_database]``, closed with the process.

    ``auth`` gives who checks tokens; None believes everybody (``noauth2``). With
    ``sync_on_startup`` the schema is brought to the newest version first; else an old one is
    Unconfigured (an SQLite file is always brought up to date: nobody else can be using it at
    another version).
    """
    settings = at.settings
    db = databases.open_placement(settings)
    at.stack.callback(db.close)
    await databases.reach(db, "[placement_database] connection")
    if settings.placement_database.sync_on_startup or db.dialect == "sqlite":
        await asyncio.to_thread(service.prepare, db, at.clock)
    elif await asyncio.to_thread(migrate.version, db, service.HISTORY) != migrate.newest(
        service.HISTORY
    ):
        raise Unconfigured(
            "The placement database is not at this version's schema: run placement-manage db sync."
        )
    section = settings.keystone_authtoken
    app = service.application(
        db,
        policy=policies.placement_enforcer(settings, near=at.near),
        clock=at.clock,
        ids=at.ids,
        auth=auth(),
        options=settings.placement,
        auth_uri=section.www_authenticate_uri or section.auth_url,
        trust_forwarded=settings.oslo_middleware.enable_proxy_headers_parsing,
    )
    return with_cors(app, policies.cors(settings))
