"""The embedded network's part on a host: its names, and its agent; no database."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from kilonova.config.settings import Settings
from kilonova.embedded.network.agent import Announcer, HostLink, PlaneAgent
from kilonova.embedded.network.plane import PlaneEnv
from kilonova.embedded.network.plane.metadata_proxy import ProxySettings
from kilonova.services.daemon import Daemon
from kilonova.services.layout import STANDARD_PORTS
from kilonova.services.startup import Unconfigured

BRIDGE = "bridge"


def plane_env(state_dir: Path) -> PlaneEnv:
    """The data plane's own names and directory for the cloud on ``state_dir``."""
    mark = hashlib.sha256(str(state_dir).encode()).hexdigest()[:8]
    return PlaneEnv(deployment_id=mark, run_dir=Path("/run/kilonova") / mark)


SAME = {"block-storage": "volume", "volumev3": "volume"}
"""Names of the catalog for one service."""


def base_url(settings: Settings, kind: str) -> str:
    """Where a service is, without the version."""
    kind = SAME.get(kind, kind)
    given = settings.embedded.endpoints.get(kind)
    return (given or f"http://{settings.default.my_ip}:{STANDARD_PORTS[kind]}").rstrip("/")


async def start(daemon: Daemon, token: Callable[[], Awaitable[str]]) -> None:
    """Look after this host's networks, or only announce it where they are not on the host."""
    settings = daemon.settings
    mode = settings.embedded.network_mode
    host, url = settings.default.host, base_url(settings, "network")
    agent: PlaneAgent | Announcer
    if mode != BRIDGE:
        agent = Announcer(HostLink(host, url=url, http=daemon.http, token=token), mode)
    else:
        secret = settings.neutron.metadata_proxy_shared_secret
        if not secret:
            raise Unconfigured("[neutron] metadata_proxy_shared_secret is not set.")
        agent = PlaneAgent(
            host,
            url=url,
            http=daemon.http,
            token=token,
            env=plane_env(Path(settings.default.state_path)),
            proxy=ProxySettings(settings.kilonova.metadata_url, secret),
            vtep_ip=settings.default.my_ip,
        )
    await agent.start()
    daemon.stack.push_async_callback(agent.stop)
