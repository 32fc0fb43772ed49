"""The Compute API as a whole: all its routes, and the ASGI application."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from kilonova.api import (
    aggregates,
    assisted_snapshots,
    audit,
    audit_log,
    bare_metal,
    consoles,
    explain,
    extensions,
    external_events,
    flavors,
    hosts,
    hypervisors,
    images,
    inspect,
    instance_actions,
    interfaces,
    keypairs,
    limits,
    migrations,
    networks,
    quotas,
    removed,
    security_groups,
    server_groups,
    services,
    shares,
    usage,
    versions,
    volume_attachments,
    volume_proxies,
    volumes_boot,
    zones,
)
from kilonova.api.actions import (
    addresses,
    admin,
    console,
    evacuate,
    groups,
    imaging,
    live,
    metadata,
    pause,
    power,
    rebuild,
    rescue,
    resize,
    shelve,
    tags,
)
from kilonova.api.servers import create, delete, show, update
from kilonova.api.servers import list as servers_list
from kilonova.context import Services
from kilonova.web import app
from kilonova.web.auth import Authenticator
from kilonova.web.call import Enforcer
from kilonova.web.faults import nova_faults
from kilonova.web.health import Check, Metrics
from kilonova.web.idempotency import IdempotencyStore
from kilonova.web.openapi import openapi_routes
from kilonova.web.routes import Api, Root, Routes

ROUTES: tuple[Routes[Services], ...] = (
    create.ROUTES,
    servers_list.ROUTES,
    show.ROUTES,
    update.ROUTES,
    delete.ROUTES,
    power.ROUTES,
    console.ROUTES,
    admin.ROUTES,
    pause.ROUTES,
    shelve.ROUTES,
    resize.ROUTES,
    imaging.ROUTES,
    rebuild.ROUTES,
    rescue.ROUTES,
    live.ROUTES,
    evacuate.ROUTES,
    groups.ROUTES,
    addresses.ROUTES,
    interfaces.ROUTES,
    consoles.ROUTES,
    inspect.ROUTES,
    shares.ROUTES,
    migrations.ROUTES,
    metadata.ROUTES,
    tags.ROUTES,
    volume_attachments.ROUTES,
    volume_proxies.ROUTES,
    volumes_boot.ROUTES,
    assisted_snapshots.ROUTES,
    instance_actions.ROUTES,
    flavors.ROUTES,
    keypairs.ROUTES,
    zones.ROUTES,
    services.ROUTES,
    hypervisors.ROUTES,
    limits.ROUTES,
    aggregates.ROUTES,
    server_groups.ROUTES,
    quotas.ROUTES,
    usage.ROUTES,
    audit_log.ROUTES,
    security_groups.ROUTES,
    networks.ROUTES,
    images.ROUTES,
    hosts.ROUTES,
    bare_metal.ROUTES,
    removed.ROUTES,
    external_events.ROUTES,
    extensions.ROUTES,
    audit.ROUTES,
    explain.ROUTES,
    versions.ROUTES,
)


def api() -> Api[Services]:
    """Every route of the Compute API under its roots, and their OpenAPI documents."""

    def whole() -> Api[Services]:
        return made

    made: Api[Services] = Api(
        "compute",
        (*ROUTES, openapi_routes(whole, title="Compute API")),
        versions=versions.VERSIONS,
        faults=nova_faults,
        roots=(
            "/v2.1",
            "/v2.1/{project_id}",
            Root("/v2", relaxed=True),
            Root("/v2/{project_id}", relaxed=True),
        ),
        wrong_method=404,
        closing_slash=False,
        request_id_header="X-Compute-Request-Id",
    )
    return made


def build(
    services_: Services,
    *,
    auth: Authenticator,
    policy: Enforcer,
    idempotency: IdempotencyStore | None = None,
    checks: Mapping[str, Check] | None = None,
    extra: Sequence[BaseRoute] = (),
    metrics: Metrics | None = None,
    auth_uri: str | None = None,
    trust_forwarded: bool = False,
) -> ASGIApp:
    """The Compute API as an ASGI application on those services."""
    return app.build(
        api(),
        services_,
        auth=auth,
        policy=policy,
        clock=services_.clock,
        ids=services_.ids,
        checks=checks,
        idempotency=idempotency,
        extra=extra,
        metrics=metrics,
        auth_uri=auth_uri,
        public_url=services_.settings.api.compute_link_prefix,
        trust_forwarded=trust_forwarded,
        answers=services_.settings.api.response_validation,
    )
