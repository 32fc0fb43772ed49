"""The network service as an ASGI application."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp

from kilonova.db import migrate
from kilonova.db.database import Database
from kilonova.embedded.network import policies
from kilonova.embedded.network.api import (
    floatingips,
    hosts,
    misc,
    networks,
    ports,
    routers,
    security_groups,
    subnets,
)
from kilonova.embedded.network.api.common import routes
from kilonova.embedded.network.app import NetworkApp
from kilonova.policy.enforcer import PolicyEnforcer
from kilonova.web import app as web
from kilonova.web.auth import Authenticator
from kilonova.web.faults import neutron_faults
from kilonova.web.health import Check
from kilonova.web.routes import Api

HISTORY = "kilonova.embedded.network.migrations"

RESOURCES = (
    networks.NETWORK_RESOURCE,
    subnets.SUBNET_RESOURCE,
    ports.PORT_RESOURCE,
    security_groups.GROUP_RESOURCE,
    security_groups.RULE_RESOURCE,
)
TAGGED = (
    networks.NETWORK_RESOURCE,
    subnets.SUBNET_RESOURCE,
    ports.PORT_RESOURCE,
    security_groups.GROUP_RESOURCE,
    routers.ROUTER_RESOURCE,
    floatingips.FLOATING_RESOURCE,
)


def api() -> Api[NetworkApp]:
    """All routes of the service."""
    return Api(
        "network",
        [
            misc.VERSIONS,
            misc.ROUTES,
            hosts.ROUTES,
            *(routes(resource) for resource in RESOURCES),
            routers.ROUTES,
            floatingips.ROUTES,
            *(misc.tag_routes(resource) for resource in TAGGED),
        ],
        faults=neutron_faults,
        wrong_method=404,
    )


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
        checks=checks,
        auth_uri=auth_uri,
        public_url=public_url,
    )
