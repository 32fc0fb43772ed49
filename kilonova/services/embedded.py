"""The embedded neighbours from the settings: in the all-in-one, and as ``kilonova serve …``."""

from __future__ import annotations

from pathlib import Path

from starlette.types import ASGIApp

from kilonova.config.settings import Settings
from kilonova.db.database import Database
from kilonova.embedded.identity import bootstrap
from kilonova.embedded.identity import service as identity_service
from kilonova.embedded.identity.settings import Settings as IdentitySettings
from kilonova.embedded.image import service as image_service
from kilonova.embedded.image.settings import Settings as ImageSettings
from kilonova.embedded.network import service as network_service
from kilonova.embedded.network.app import NetworkApp, NetworkSettings
from kilonova.embedded.network.nova import NovaNotifier
from kilonova.embedded.network.open import host_resolvers, open_network
from kilonova.embedded.volume import service as volume_service
from kilonova.embedded.volume.guarding import NovaServers
from kilonova.embedded.volume.images import HttpImages
from kilonova.embedded.volume.settings import Settings as VolumeSettings
from kilonova.services import neighbours, planes, policies
from kilonova.services.daemon import Compose, Daemon
from kilonova.services.layout import STANDARD_PORTS
from kilonova.services.neighbours import Neighbours, OwnTokens
from kilonova.services.paths import state_path
from kilonova.services.planes import base_url
from kilonova.services.process import Process
from kilonova.web.auth import Authenticator
from kilonova.web.middleware import with_cors

# type, name, path after the base URL
CATALOG = (
    ("identity", "keystone", "/v3"),
    ("image", "glance", ""),
    ("network", "neutron", ""),
    ("placement", "placement", ""),
    ("compute", "nova", "/v2.1"),
    ("block-storage", "cinder", "/v3"),
    ("volumev3", "cinderv3", "/v3"),
)


async def identity(at: Process) -> ASGIApp:
    """The identity service, with users and catalog when ``admin_password`` is set."""
    settings = at.settings
    options = settings.embedded
    state = state_path(settings)
    service = await identity_service.open(
        IdentitySettings(
            database=options.identity_connection or f"sqlite:///{state}/identity.db",
            key_dir=Path(options.key_dir or state / "keys"),
            trust_forwarded=settings.oslo_middleware.enable_proxy_headers_parsing,
        ),
        clock=at.clock,
        ids=at.ids,
    )
    at.stack.callback(service.close)
    if options.admin_password:
        await bootstrap.bootstrap(
            service,
            options.admin_password,
            options.region,
            [(kind, name, base_url(settings, kind) + path) for kind, name, path in CATALOG],
            service_password=options.service_password,
            demo_password=options.demo_password,
        )
    return with_cors(identity_service.build(service), policies.cors(settings))


async def image(at: Process, auth: Authenticator) -> ASGIApp:
    """The image service."""
    settings = at.settings
    options = settings.embedded
    state = state_path(settings)
    service = await image_service.open(
        ImageSettings(
            database=options.image_connection or f"sqlite:///{state}/image.db",
            directory=Path(options.image_dir or state / "images"),
            auth_uri=settings.keystone_authtoken.www_authenticate_uri,
            trust_forwarded=settings.oslo_middleware.enable_proxy_headers_parsing,
        ),
        clock=at.clock,
        ids=at.ids,
    )
    at.stack.callback(service.close)
    return with_cors(image_service.build(service, auth=auth), policies.cors(settings))


async def network(
    at: Process, outside: Neighbours, auth: Authenticator
) -> tuple[NetworkApp, ASGIApp]:
    """The network service; each host of its networks runs an agent (see ``planes``)."""
    settings = at.settings
    options = settings.embedded
    db = Database(
        options.network_connection or f"sqlite:///{state_path(settings)}/network.db",
        name="network",
    )
    at.stack.callback(db.close)
    notifier = NovaNotifier(at.http, lambda: base_url(settings, "compute"), outside.source.token)
    service = await open_network(
        db,
        NetworkSettings(mode=options.network_mode, dns=host_resolvers()),
        clock=at.clock,
        ids=at.ids,
        notify=notifier,
    )
    at.stack.push_async_callback(service.close)
    app = network_service.build(
        service, auth=auth, auth_uri=settings.keystone_authtoken.www_authenticate_uri
    )
    return service, with_cors(app, policies.cors(settings))


async def volume(at: Process, outside: Neighbours, auth: Authenticator) -> ASGIApp:
    """The block storage service; other hosts reach its volumes over NBD, or by the same path."""
    settings = at.settings
    options = settings.embedded
    state = state_path(settings)
    token = outside.source.token
    service = await volume_service.open(
        VolumeSettings(
            database=options.volume_connection or f"sqlite:///{state}/volume.db",
            directory=Path(options.volume_dir or state / "volumes"),
            host=settings.default.host,
            export_address=_export_address(settings),
            export_port=options.volume_export_port,
            export_tls=options.volume_export_tls,
            auth_uri=settings.keystone_authtoken.www_authenticate_uri,
            trust_forwarded=settings.oslo_middleware.enable_proxy_headers_parsing,
        ),
        images=HttpImages(at.http, lambda: base_url(settings, "image"), token),
        notify=NovaNotifier(at.http, lambda: base_url(settings, "compute"), token, version="2.93"),
        held=NovaServers(at.http, lambda: base_url(settings, "compute"), token),
        clock=at.clock,
        ids=at.ids,
    )
    at.stack.push_async_callback(service.close)
    return with_cors(volume_service.build(service, auth=auth), policies.cors(settings))


def _export_address(settings: Settings) -> str | None:
    wish = settings.embedded.volume_export
    if wish == "nbd" or (wish == "auto" and volume_service.can_export()):
        return settings.default.my_ip
    return None


async def _serve_identity(daemon: Daemon) -> None:
    """The identity service, with users and catalog when ``admin_password`` is set."""
    _serve(daemon, "identity", await identity(daemon))


async def _serve_image(daemon: Daemon) -> None:
    """The image service."""
    outside = neighbours.connect(daemon.settings, daemon.http, daemon.clock)
    _serve(daemon, "image", await image(daemon, _authenticator(daemon, outside)))


async def _serve_network(daemon: Daemon) -> None:
    """The network service; each host of its networks runs ``kilonova serve network-agent``."""
    outside = neighbours.connect(daemon.settings, daemon.http, daemon.clock)
    _, app = await network(daemon, outside, _authenticator(daemon, outside))
    _serve(daemon, "network", app)


async def _serve_volume(daemon: Daemon) -> None:
    """The block storage service; other hosts reach its volumes over NBD, or by the same path."""
    outside = neighbours.connect(daemon.settings, daemon.http, daemon.clock)
    _serve(daemon, "volume", await volume(daemon, outside, _authenticator(daemon, outside)))


async def _serve_network_agent(daemon: Daemon) -> None:
    """The part of the embedded network on a host without nova-compute; needs root."""
    await planes.start(daemon, neighbours.connect(daemon.settings, daemon.http, daemon.clock))


def _serve(daemon: Daemon, name: str, app: ASGIApp) -> None:
    settings = daemon.settings
    tls = settings.wsgi.ssl_cert_file is not None
    daemon.serve(name, app, settings.embedded.listen, STANDARD_PORTS[name], tls=tls)


def _authenticator(daemon: Daemon, outside: Neighbours) -> Authenticator:
    return neighbours.authenticator(
        daemon.settings,
        daemon.http,
        daemon.clock,
        strategy="keystone",
        tokens=OwnTokens(outside.source),
    )


SERVICES: dict[str, Compose] = {
    "identity": _serve_identity,
    "image": _serve_image,
    "network": _serve_network,
    "volume": _serve_volume,
    "network-agent": _serve_network_agent,
}
