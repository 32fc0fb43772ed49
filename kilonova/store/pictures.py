"""What a database holds of all servers at one moment, for comparing it with the rest."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.tables.api import (
    build_requests,
    instance_group_members,
    instance_group_places,
    instance_groups,
    instance_mappings,
    request_specs,
)
from kilonova.db.tables.cell import (
    compute_nodes,
    guest_holds,
    instance_actions,
    instance_faults,
    instances,
    nics,
    services,
)
from kilonova.domain.guest import FlavorSpec, ImageRef
from kilonova.domain.server import BuildSpec
from kilonova.store import migrations

_COMPUTES = sa.select(services.c.host, services.c.last_seen_up).where(
    services.c.binary == "nova-compute"
)


class _Made(msgspec.Struct, frozen=True):
    """The part of a server's record that says what it takes."""

    flavor: FlavorSpec
    image: ImageRef | None = None
    from_volume: bool = False


_made = msgspec.json.Decoder(_Made).decode


class Row(msgspec.Struct, frozen=True):
    """A server's row in a cell. ``fault``: it has one; ``open_actions``: not finished.

    ``flavor`` and ``image`` are what it was made with (or resized to); a server that starts from a
    volume has no image here.
    """

    id: str
    host: str | None
    node: str | None
    vm_state: str
    task_state: str | None
    power_state: int
    ports: tuple[str, ...] = ()
    fault: bool = False
    open_actions: tuple[str, ...] = ()
    flavor: FlavorSpec | None = None
    image: ImageRef | None = None


class CellPicture(msgspec.Struct, frozen=True):
    """A cell: living servers, ids of deleted ones, node uuid → (host, name), host → last seen.

    ``holds``: (server, host) of those that hold CPUs, pages or devices of a host. ``moves``:
    migration's uuid → server, of moves that are not over: they hold what it had on their source.
    """

    servers: dict[str, Row]
    deleted: frozenset[str]
    nodes: dict[str, tuple[str, str]]
    computes: dict[str, dt.datetime | None]
    holds: tuple[tuple[str, str], ...] = ()
    moves: dict[str, str] = {}


class ApiPicture(msgspec.Struct, frozen=True):
    """The API database: server → (cell, deleted), build requests, specs that hold secrets.

    ``members``: servers in a group; ``places``: server → hosts its group counts it on; ``crowds``:
    group → (policy, rules, host → members); ``aside``: servers that count in no quota.
    """

    mappings: dict[str, tuple[str | None, bool]]
    requests: frozenset[str]
    secrets: frozenset[str]
    members: frozenset[str] = frozenset()
    places: dict[str, frozenset[str]] = {}
    crowds: dict[str, tuple[str, dict[str, int], dict[str, int]]] = {}
    aside: frozenset[str] = frozenset()


def cell(tx: Tx) -> CellPicture:
    """All of a cell."""
    i = instances.c
    ports: dict[str, list[str]] = defaultdict(list)
    for server_id, port_id in tx.execute(
        sa.select(nics.c.server_id, nics.c.port_id).order_by(nics.c.position)
    ):
        ports[server_id].append(port_id)
    failed = set(tx.execute(sa.select(instance_faults.c.server_id).distinct()).scalars())
    a = instance_actions.c
    running: dict[str, list[str]] = defaultdict(list)
    for server_id, action in tx.execute(
        sa.select(a.server_id, a.action).where(a.finish_time.is_(None)).order_by(a.id)
    ):
        running[server_id].append(action)
    rows = tx.execute(
        sa.select(
            i.uuid, i.host, i.node, i.vm_state, i.task_state, i.power_state, i.deleted, i.server
        ).order_by(i.id)
    ).all()
    made = {row[0]: _made(row[7]) for row in rows if not row[6]}
    return CellPicture(
        {
            row[0]: Row(
                *row[:6],
                tuple(ports[row[0]]),
                row[0] in failed,
                tuple(running[row[0]]),
                made[row[0]].flavor,
                None if made[row[0]].from_volume else made[row[0]].image,
            )
            for row in rows
            if not row[6]
        },
        frozenset(row[0] for row in rows if row[6]),
        {
            uuid: (host, node)
            for uuid, host, node in tx.execute(
                sa.select(compute_nodes.c.uuid, compute_nodes.c.host, compute_nodes.c.node)
            )
        },
        {row.host: row.last_seen_up for row in tx.execute(_COMPUTES)},
        tuple(
            (server_id, host)
            for server_id, host in tx.execute(
                sa.select(guest_holds.c.server_id, guest_holds.c.host)
            )
        ),
        migrations.holders(tx),
    )


def api(tx: Tx) -> ApiPicture:
    """All of the API database."""
    m = instance_mappings.c
    specs: list[tuple[str, BuildSpec]] = [
        (server_id, spec)
        for server_id, spec in tx.execute(
            sa.select(request_specs.c.server_id, request_specs.c.spec)
        )
    ]
    return ApiPicture(
        {
            server_id: (cell_id, bool(gone))
            for server_id, cell_id, gone in tx.execute(
                sa.select(m.server_id, m.cell_id, m.queued_for_delete)
            )
        },
        frozenset(tx.execute(sa.select(build_requests.c.server_id)).scalars()),
        frozenset(server_id for server_id, spec in specs if spec.admin_pass or spec.files),
        frozenset(tx.execute(sa.select(instance_group_members.c.server_id)).scalars()),
        *_places(tx),
        frozenset(tx.execute(sa.select(m.server_id).where(m.set_aside == sa.true())).scalars()),
    )


def _places(
    tx: Tx,
) -> tuple[dict[str, frozenset[str]], dict[str, tuple[str, dict[str, int], dict[str, int]]]]:
    p, g = instance_group_places.c, instance_groups.c
    on: dict[str, set[str]] = defaultdict(set)
    crowds: dict[str, tuple[str, dict[str, int], dict[str, int]]] = {}
    rows = tx.execute(
        sa.select(g.uuid, g.policy, g.rules, p.server_id, p.host).join(
            instance_groups, p.group_id == g.uuid
        )
    )
    for group_id, policy, rules, server_id, host in rows:
        on[server_id].add(host)
        counts = crowds.setdefault(group_id, (policy, rules, {}))[2]
        counts[host] = counts.get(host, 0) + 1
    return {server_id: frozenset(hosts) for server_id, hosts in on.items()}, crowds
