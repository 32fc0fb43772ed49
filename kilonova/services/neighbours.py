"""Clients of all services outside of compute, made from the settings."""

from __future__ import annotations

import msgspec

from kilonova.base.clock import Clock
from kilonova.clients import keystone
from kilonova.clients.cinder import Cinder
from kilonova.clients.glance import Glance, GlanceDocuments
from kilonova.clients.ironic import Ironic
from kilonova.clients.keystone import Endpoint, Login, TokenSource
from kilonova.clients.manila import Manila
from kilonova.clients.neutron import Neutron
from kilonova.clients.neutron_documents import NeutronDocuments
from kilonova.clients.placement import Placement
from kilonova.config.keystone import KeystoneAuthtoken, VendordataDynamicAuth
from kilonova.config.settings import Settings
from kilonova.services.startup import Unconfigured
from kilonova.web.auth import Authenticator, CachingAuthenticator, NoAuth2
from kilonova.web.client import HttpClient
from kilonova.web.keystone import KeystoneAuthenticator


class Neighbours(msgspec.Struct, frozen=True):
    """Everything outside of compute this process speaks with."""

    http: HttpClient
    source: TokenSource
    images: Glance
    image_documents: GlanceDocuments
    networks: Neutron
    documents: NeutronDocuments
    volumes: Cinder
    placement: Placement
    identity: Endpoint
    compute: Endpoint
    shares: Manila
    bare_metal: Ironic


class OwnTokens:
    """Our token for the token check (``TokenSupplier``)."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    async def __call__(self, *, fresh: bool = False) -> str:
        if fresh:
            self._source.forget()
        return await self._source.token()


def login(settings: Settings) -> Login:
    """Our user at the identity service (``[keystone_authtoken]``)."""
    section = settings.keystone_authtoken
    for option in ("auth_url", "username", "password", "project_name"):
        if not getattr(section, option):
            raise Unconfigured(f"[keystone_authtoken] {option} is not set; give our user there.")
    return login_of(section)


def login_of(section: KeystoneAuthtoken | VendordataDynamicAuth) -> Login:
    """A user at an identity service as a section of the configuration names it."""
    return Login(
        auth_url=section.auth_url or "",
        username=section.username or "",
        password=section.password or "",
        project_name=section.project_name or "",
        user_domain_name=section.user_domain_name,
        project_domain_name=section.project_domain_name,
        auth_type=section.auth_type,
    )


def connect(settings: Settings, http: HttpClient, clock: Clock) -> Neighbours:
    """Clients of all neighbours; nothing is asked yet. Unconfigured names a missing option."""
    source = keystone.source(http, login(settings), clock)

    def endpoint(kind: str, override: str | None, region: str | None) -> Endpoint:
        return Endpoint(http, source, kind, override=override, region=region)

    glance, neutron, placement = settings.glance, settings.neutron, settings.placement
    network = endpoint("network", neutron.endpoint_override, neutron.region_name)
    image = endpoint("image", glance.endpoint_override, glance.region_name)
    return Neighbours(
        http=http,
        source=source,
        images=Glance(http, image),
        image_documents=GlanceDocuments(image),
        networks=Neutron(network),
        documents=NeutronDocuments(network),
        volumes=Cinder(
            endpoint(
                "block-storage", settings.cinder.endpoint_override, settings.cinder.os_region_name
            )
        ),
        placement=Placement(
            endpoint("placement", placement.endpoint_override, placement.region_name)
        ),
        identity=endpoint("identity", settings.keystone.endpoint_override, None),
        compute=endpoint("compute", None, None),
        shares=Manila(
            endpoint(
                "shared-file-system",
                settings.manila.endpoint_override,
                settings.manila.region_name,
            )
        ),
        bare_metal=Ironic(
            endpoint("baremetal", settings.ironic.endpoint_override, settings.ironic.region_name)
        ),
    )


def network(settings: Settings, http: HttpClient, clock: Clock) -> Endpoint:
    """The network service alone, for who needs no other neighbour."""
    section = settings.neutron
    source = keystone.source(http, login(settings), clock)
    return Endpoint(
        http, source, "network", override=section.endpoint_override, region=section.region_name
    )


def own_tokens(settings: Settings, http: HttpClient, clock: Clock) -> OwnTokens | None:
    """Our own token for token checks; None when no user of ours is configured."""
    if not settings.keystone_authtoken.username:
        return None
    return OwnTokens(keystone.source(http, login(settings), clock))


def authenticator(
    settings: Settings, http: HttpClient, clock: Clock, *, strategy: str, tokens: OwnTokens | None
) -> Authenticator:
    """Who checks callers' tokens: a Keystone, remembered for a while, or nobody (``noauth2``)."""
    if strategy == "noauth2":
        return NoAuth2()
    section = settings.keystone_authtoken
    if not section.auth_url:
        raise Unconfigured("[keystone_authtoken] auth_url is not set; tokens cannot be checked.")
    asking = KeystoneAuthenticator(http, section.auth_url, tokens=tokens)
    if section.token_cache_time < 0:
        return asking
    return CachingAuthenticator(asking, clock, float(section.token_cache_time))
