"""Walks the parts named, or all of them, in their order."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.live.judges.walk import actions, hosts, proxies, resources, servers, volumes
from tests.live.judges.walk.ground import Ground
from tests.live.judges.walk.talk import Talk

PARTS: tuple[Callable[[Ground], None], ...] = (
    resources.quotas,
    resources.versions,
    resources.flavors,
    resources.keypairs,
    resources.server_groups,
    hosts.services,
    hosts.hosts,
    hosts.aggregates,
    hosts.bare_metal,
    hosts.delete_service,
    servers.create,
    servers.show,
    actions.power,
    actions.endings,
    proxies.images,
    proxies.networks,
    proxies.security_groups,
    proxies.floating,
    volumes.proxies,
    volumes.attachments,
    volumes.boot,
    hosts.hypervisors,
    hosts.migrations,
    resources.usage,
    resources.audit_log,
)


def main(cloud: str, file: Path, *names: str) -> None:
    """Walk; what surprised comes out as JSON."""
    talk = Talk(cloud, file)
    ground = Ground(talk)
    for part in PARTS:
        name = f"{part.__module__.rpartition('.')[2]}.{part.__name__}"
        if names and name not in names:
            continue
        try:
            part(ground)
        except Exception:
            talk.surprised(0, name, traceback.format_exc())
    talk.end()
    print(json.dumps(talk.surprises(), indent=1))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
