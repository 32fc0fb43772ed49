"""The Placement service from the settings: as a daemon and inside the all-in-one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from starlette.types import ASGIApp

from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.config.settings import Settings
from kilonova.db import migrate
from kilonova.placement import service
from kilonova.services import databases, neighbours, policies
from kilonova.services.neighbours import OwnTokens
from kilonova.services.startup import Unconfigured
from kilonova.web.client import HttpClient
from kilonova.web.middleware import with_cors


async def build(
    settings: Settings,
    *,
    http: HttpClient,
    clock: Clock,
    ids: Ids,
    stack: contextlib.AsyncExitStack,
    tokens: OwnTokens | None = None,
    near: Sequence[Path] = (),
    sync: bool = False,
) -> ASGIApp:
    """The application over ``[placement_database]``, closed with ``stack``.

    ``sync``: bring the schema to the newest version first; else an old one is Unconfigured (an
    SQLite file is always brought up to date: nobody else can be using it at another version).
    """
    db = databases.open_placement(settings)
    stack.callback(db.close)
    await databases.reach(db, "[placement_database] connection")
    if sync or settings.placement_database.sync_on_startup or db.dialect == "sqlite":
        await asyncio.to_thread(service.prepare, db, clock)
    elif await asyncio.to_thread(migrate.version, db, service.HISTORY) != migrate.newest(
        service.HISTORY
    ):
        raise Unconfigured(
            "The placement database is not at this version's schema: run placement-manage db sync."
        )
    auth = None
    if settings.api.auth_strategy != "noauth2":
        auth = neighbours.authenticator(
            settings, http, clock, strategy=settings.api.auth_strategy, tokens=tokens
        )
    section = settings.keystone_authtoken
    app = service.application(
        db,
        policy=policies.placement_enforcer(settings, near=near),
        clock=clock,
        ids=ids,
        auth=auth,
        options=settings.placement,
        auth_uri=section.www_authenticate_uri or section.auth_url,
        trust_forwarded=settings.oslo_middleware.enable_proxy_headers_parsing,
    )
    return with_cors(app, policies.cors(settings))
