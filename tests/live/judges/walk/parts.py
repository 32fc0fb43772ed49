"""The parts of the walk, in their order."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Container
from pathlib import Path

from tests.live.judges.walk import (
    actions,
    hosts,
    images,
    moves,
    outside,
    proxies,
    resources,
    servers,
    volumes,
)
from tests.live.judges.walk.backstage import Backstage
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
    hosts.delete_service,
    servers.create,
    servers.show,
    actions.power,
    actions.consoles,
    actions.states,
    actions.endings,
    images.make,
    images.rebuild,
    moves.shelve,
    moves.resize,
    moves.live,
    moves.evacuate,
    proxies.images,
    proxies.networks,
    proxies.security_groups,
    proxies.floating,
    volumes.proxies,
    volumes.attachments,
    volumes.assisted,
    volumes.boot,
    outside.bare_metal,
    outside.shares,
    hosts.hypervisors,
    hosts.migrations,
    resources.usage,
    resources.audit_log,
)


def walk(backstage: Backstage, file: Path, names: Container[str] = ()) -> list[str]:
    """Walk the parts named, or all; what was not answered as wanted.

    Every exchange becomes a line of ``file``.
    """
    talk = Talk(backstage, file)
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
    return talk.surprises()
