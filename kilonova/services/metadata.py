"""The metadata service with everything it needs."""

from __future__ import annotations

import contextlib
import os

from starlette.types import ASGIApp

from kilonova.base.clock import Clock
from kilonova.clients.providers import MetadataProviders
from kilonova.config.settings import Settings
from kilonova.metadata.service import Guests, Metadata, Rules, build
from kilonova.services import neighbours, vendor
from kilonova.web.client import HttpClient
from kilonova.web.health import Check


def application(
    settings: Settings,
    *,
    guests: Guests,
    http: HttpClient,
    clock: Clock,
    stack: contextlib.AsyncExitStack,
    checks: dict[str, Check] | None = None,
) -> ASGIApp:
    """The ASGI application; Unconfigured for vendor data that cannot be read.

    ``stack`` closes what is opened for it.
    """
    rules = Rules(
        proxied=settings.neutron.service_metadata_proxy,
        secret=settings.neutron.metadata_proxy_shared_secret,
        believe_forwarded=settings.api.use_forwarded_for,
        remember=settings.api.metadata_cache_expiration,
        dhcp_domain=settings.api.dhcp_domain,
    )
    metadata = Metadata(
        guests,
        rules,
        clock=clock,
        random=os.urandom,
        vendor=vendor.make(settings, http, clock, stack),
        providers=_providers(settings, http, clock),
    )
    return build(metadata, checks=checks)


def _providers(settings: Settings, http: HttpClient, clock: Clock) -> MetadataProviders | None:
    """Who knows guests behind load balancers; None without a user of ours to ask as."""
    if not settings.keystone_authtoken.username:
        return None
    return MetadataProviders(neighbours.network(settings, http, clock))
