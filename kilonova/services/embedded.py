"""``kilonova serve …``: the embedded neighbours as processes of their own, beside the daemons."""

from __future__ import annotations

from pathlib import Path

from kilonova.db.database import Database
from kilonova.embedded.identity import bootstrap
from kilonova.embedded.identity import service as identity_service
from kilonova.embedded.identity.settings import Settings as IdentitySettings
from kilonova.embedded.image import service as image_service
from kilonova.embedded.image.settings import Settings as ImageSettings
from kilonova.embedded.network import service as network_service
from kilonova.embedded.network.app import NetworkSettings
from kilonova.embedded.network.nova import NovaNotifier
from kilonova.embedded.network.open import host_resolvers, open_network
from kilonova.embedded.volume import service as volume_service
from kilonova.embedded.volume.images import HttpImages
from kilonova.embedded.volume.settings import Settings as VolumeSettings
from kilonova.services import neighbours, planes
from kilonova.services.daemon import Compose, Daemon
from kilonova.services.layout import STANDARD_PORTS
from kilonova.services.neighbours import Neighbours, OwnTokens
from kilonova.services.paths import state_path
from kilonova.services.planes import base_url
from kilonova.web.auth import Authenticator

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


async def identity(daemon: Daemon) -> None:
    """The identity service, with users and catalog when ``admin_password`` is set."""
    settings = daemon.settings
    options = settings.embedded
    state = state_path(settings)
    service = await identity_service.open(
        IdentitySettings(
            database=options.identity_connection or f"sqlite:///{state}/identity.db",
            key_dir=Path(options.key_dir or state / "keys"),
            trust_forwarded=settings.oslo_middleware.enable_proxy_headers_parsing,
        ),
        clock=daemon.clock,
        ids=daemon.ids,
    )
    daemon.stack.callback(service.close)
    if options.admin_password:
        await bootstrap.bootstrap(
            service,
            options.admin_password,
            options.region,
            [(kind, name, base_url(settings, kind) + path) for kind, name, path in CATALOG],
            service_password=options.service_password,
            demo_password=options.demo_password,
        )
    daemon.serve(
        "identity",
        identity_service.build(service),
        options.listen,
        STANDARD_PORTS["identity"],
        tls=settings.wsgi.ssl_cert_file is not None,
    )


async def image(daemon: Daemon) -> None:
    """The image service."""
    settings = daemon.settings
    options = settings.embedded
    state = state_path(settings)
    outside = neighbours.connect(settings, daemon.http, daemon.clock)
    service = await image_service.open(
        ImageSettings(
            database=options.image_connection or f"sqlite:///{state}/image.db",
            directory=Path(options.image_dir or state / "images"),
            auth_uri=settings.keystone_authtoken.www_authenticate_uri,
            trust_forwarded=settings.oslo_middleware.enable_proxy_headers_parsing,
        ),
        clock=daemon.clock,
        ids=daemon.ids,
    )
    daemon.stack.callback(service.close)
    daemon.serve(
        "image",
        image_service.build(service, auth=_authenticator(daemon, outside)),
        options.listen,
        STANDARD_PORTS["image"],
        tls=settings.wsgi.ssl_cert_file is not None,
    )


async def network(daemon: Daemon) -> None:
    """The network service; each host of its networks runs ``kilonova serve network-agent``."""
    settings = daemon.settings
    options = settings.embedded
    outside = neighbours.connect(settings, daemon.http, daemon.clock)
    db = Database(
        options.network_connection or f"sqlite:///{state_path(settings)}/network.db",
        name="network",
    )
    daemon.stack.callback(db.close)
    notifier = NovaNotifier(
        daemon.http, lambda: base_url(settings, "compute"), outside.source.token
    )
    app = await open_network(
        db,
        NetworkSettings(mode=options.network_mode, dns=host_resolvers()),
        clock=daemon.clock,
        ids=daemon.ids,
        notify=notifier,
    )
    daemon.stack.push_async_callback(app.close)
    daemon.serve(
        "network",
        network_service.build(
            app,
            auth=_authenticator(daemon, outside),
            auth_uri=settings.keystone_authtoken.www_authenticate_uri,
        ),
        options.listen,
        STANDARD_PORTS["network"],
        tls=settings.wsgi.ssl_cert_file is not None,
    )


async def volume(daemon: Daemon) -> None:
    """The block storage service; compute hosts reach its directory under the same path."""
    settings = daemon.settings
    options = settings.embedded
    state = state_path(settings)
    outside = neighbours.connect(settings, daemon.http, daemon.clock)
    notifier = NovaNotifier(
        daemon.http, lambda: base_url(settings, "compute"), outside.source.token
    )
    app = await volume_service.open(
        VolumeSettings(
            database=options.volume_connection or f"sqlite:///{state}/volume.db",
            directory=Path(options.volume_dir or state / "volumes"),
            host=settings.default.host,
            auth_uri=settings.keystone_authtoken.www_authenticate_uri,
            trust_forwarded=settings.oslo_middleware.enable_proxy_headers_parsing,
        ),
        images=HttpImages(daemon.http, lambda: base_url(settings, "image"), outside.source.token),
        notify=notifier,
        clock=daemon.clock,
        ids=daemon.ids,
    )
    daemon.stack.push_async_callback(app.close)
    daemon.serve(
        "volume",
        volume_service.build(app, auth=_authenticator(daemon, outside)),
        options.listen,
        STANDARD_PORTS["volume"],
        tls=settings.wsgi.ssl_cert_file is not None,
    )


async def network_agent(daemon: Daemon) -> None:
    """The part of the embedded network on a host without nova-compute; needs root."""
    outside = neighbours.connect(daemon.settings, daemon.http, daemon.clock)
    await planes.start(daemon, outside.source.token)


def _authenticator(daemon: Daemon, outside: Neighbours) -> Authenticator:
    return neighbours.authenticator(
        daemon.settings,
        daemon.http,
        daemon.clock,
        strategy="keystone",
        tokens=OwnTokens(outside.source),
    )


SERVICES: dict[str, Compose] = {
    "identity": identity,
    "image": image,
    "network": network,
    "volume": volume,
    "network-agent": network_agent,
}
