"""The embedded network's part on a host: its names, and its agent; no database."""

from __future__ import annotations

import hashlib
import ipaddress
from pathlib import Path

from kilonova.config.settings import Settings
from kilonova.embedded.network.agent import Announcer, HostLink, PlaneAgent
from kilonova.embedded.network.plane import PlaneEnv
from kilonova.embedded.network.vifs import PlaneVifs
from kilonova.services.layout import STANDARD_PORTS
from kilonova.services.neighbours import Neighbours
from kilonova.services.process import Process
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


async def start(at: Process, outside: Neighbours) -> PlaneAgent | None:
    """Look after this host's networks; None where they are not on the host, which is announced."""
    settings = at.settings
    mode = settings.embedded.network_mode
    host, url, token = settings.default.host, base_url(settings, "network"), outside.source.token
    if mode != BRIDGE:
        announcer = Announcer(HostLink(host, url=url, http=at.http, token=token), mode)
        await announcer.start()
        at.stack.push_async_callback(announcer.stop)
        return None
    secret = settings.neutron.metadata_proxy_shared_secret
    if not secret:
        raise Unconfigured("[neutron] metadata_proxy_shared_secret is not set.")
    from kilonova.embedded.network.plane.metadata_proxy import ProxySettings  # noqa: PLC0415

    agent = PlaneAgent(
        host,
        url=url,
        http=at.http,
        token=token,
        env=plane_env(Path(settings.default.state_path)),
        proxy=ProxySettings(settings.kilonova.metadata_url, secret),
        vtep_ip=_tunnel_end(settings.default.my_ip),
    )
    await agent.start()
    at.stack.push_async_callback(agent.stop)
    return agent


def vifs(at: Process, agent: PlaneAgent | None) -> PlaneVifs | None:
    """What plugs guests' cards into the networks an agent looks after."""
    return None if agent is None else PlaneVifs(plane_env(Path(at.settings.default.state_path)))


def _tunnel_end(address: str) -> str | None:
    """The address other hosts reach this one's tunnels by; None when they cannot."""
    try:
        return None if ipaddress.ip_address(address).is_loopback else address
    except ValueError:
        return address
