"""The network service as an ASGI application."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp

from kilonova.db import migrate
from kilonova.db.database import Database
from kilonova.db.idempotency import SqlIdempotencyStore
from kilonova.embedded.network import policies
from kilonova.embedded.network.api import (
    agents,
    auto,
    crud,
    floatingips,
    hosts,
    interfaces,
    meta,
    networks,
    ports,
    quotas,
    routers,
    security_groups,
    subnetpools,
    subnets,
    tags,
)
from kilonova.embedded.network.app import NetworkApp
from kilonova.embedded.network.tables import KEYS
from kilonova.policy.enforcer import PolicyEnforcer
from kilonova.web import app as web
from kilonova.web.auth import Authenticator
from kilonova.web.faults import neutron_faults
from kilonova.web.health import Check
from kilonova.web.openapi import openapi_routes
from kilonova.web.routes import Api

HISTORY = "kilonova.embedded.network.migrations"

TAGGED = (
    networks.NETWORK_RESOURCE,
    subnets.SUBNET_RESOURCE,
    ports.PORT_RESOURCE,
    security_groups.GROUP_RESOURCE,
    routers.ROUTER_RESOURCE,
    floatingips.FLOATING_RESOURCE,
    subnetpools.SUBNETPOOL_RESOURCE,
)
RESOURCES = (*TAGGED, security_groups.RULE_RESOURCE)


def api() -> Api[NetworkApp]:
    """All routes of the service, and their OpenAPI document."""

    def whole() -> Api[NetworkApp]:
        return made

    made: Api[NetworkApp] = Api(
        "network",
        [
            meta.VERSIONS,
            meta.ROUTES,
            agents.ROUTES,
            auto.ROUTES,
            quotas.ROUTES,
            hosts.ROUTES,
            interfaces.ROUTES,
            *(crud.routes(resource) for resource in RESOURCES),
            *(tags.routes(resource) for resource in TAGGED),
            openapi_routes(whole, title="Network API"),
        ],
        faults=neutron_faults,
        wrong_method=404,
        head=True,
    )
    return made


def prepare(db: Database) -> None:
    """Bring the database to the newest schema."""
    migrate.upgrade(db, HISTORY)


def build(
    app: NetworkApp,
    *,
    auth: Authenticator,
    checks: Mapping[str, Check] | None = None,
    auth_uri: str | None = None,
    public_url: str | None = None,
) -> ASGIApp:
    """The ASGI application over an opened ``NetworkApp``."""
    return web.build(
        api(),
        app,
        auth=auth,
        policy=PolicyEnforcer(policies.rules(), clock=app.clock),
        clock=app.clock,
        ids=app.ids,
        idempotency=SqlIdempotencyStore(app.db, KEYS, app.clock),
        checks=checks,
        auth_uri=auth_uri,
        public_url=public_url,
    )
