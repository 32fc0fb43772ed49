"""Servers: from the build request in the API database to the row in a cell, and its end."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import Conflict, NotFound
from kilonova.db.database import Tx
from kilonova.db.tables.api import build_requests, instance_mappings, request_specs
from kilonova.db.tables.cell import disks, fixed_ips, instance_faults, instances, nics, tags
from kilonova.domain import states
from kilonova.domain.guest import Disk, Nic, PowerState
from kilonova.domain.server import (
    BuildRequest,
    BuildSpec,
    Private,
    Server,
    ServerFault,
    VolumeRef,
    addresses,
)
from kilonova.domain.states import VmState
from kilonova.store import actions, sql

_OWN = [name for name in Server.__struct_fields__ if name not in ("id", "number")]
_OWN = _OWN[: _OWN.index("deleted") + 1]
COLUMNS = [instances.c.uuid, instances.c.id, *(instances.c[name] for name in _OWN)]


class Extras(msgspec.Struct, frozen=True):
    """Which of a server's to-many parts are wanted; each is one more statement for all servers."""

    tags: bool = False
    faults: bool = False
    volumes: bool = False
    user_data: bool = False


EVERYTHING = Extras(tags=True, faults=True, volumes=True, user_data=True)


# --- in the API database ------------------------------------------------------------------


def accepted(tx: Tx, server_ids: Sequence[str]) -> list[str]:
    """Those of the servers that were accepted before (the same request, repeated)."""
    rows = tx.execute(
        sa.select(instance_mappings.c.server_id).where(
            instance_mappings.c.server_id.in_(list(server_ids))
        )
    )
    known = {row[0] for row in rows}
    return [server_id for server_id in server_ids if server_id in known]


def accept(tx: Tx, requests: Sequence[tuple[BuildRequest, BuildSpec]]) -> None:
    """Write the build requests, mappings and request specs of new servers."""
    servers = [request.server for request, _ in requests]
    tx.execute(
        instance_mappings.insert(),
        [
            {
                "server_id": s.id,
                "cell_id": None,
                "project_id": s.project_id,
                "user_id": s.user_id,
                "queued_for_delete": False,
                "vcpus": s.flavor.vcpus,
                "memory_mb": s.flavor.memory_mb,
                "created_at": s.created_at,
            }
            for s in servers
        ],
    )
    tx.execute(
        build_requests.insert(),
        [
            {
                "server_id": r.server.id,
                "project_id": r.server.project_id,
                "created_at": r.server.created_at,
                "request": r,
            }
            for r, _ in requests
        ],
    )
    tx.execute(
        request_specs.insert(), [{"server_id": r.server.id, "spec": spec} for r, spec in requests]
    )


def building(tx: Tx, server_id: str) -> BuildRequest | None:
    """The build request of a server that is not (or was not yet) in a cell."""
    request: BuildRequest | None = tx.execute(
        sa.select(build_requests.c.request).where(build_requests.c.server_id == server_id)
    ).scalar()
    return request


def change_building(
    tx: Tx, server_id: str, change: Callable[[BuildRequest], BuildRequest]
) -> BuildRequest | None:
    """Replace the build request by ``change`` of it, unless its server is in a cell by now."""
    query = (
        sa.select(build_requests.c.request)
        .join(instance_mappings, instance_mappings.c.server_id == build_requests.c.server_id)
        .where(build_requests.c.server_id == server_id, instance_mappings.c.cell_id.is_(None))
        .with_for_update()
    )
    found: BuildRequest | None = tx.execute(query).scalar()
    if found is None:
        return None
    changed = change(found)
    tx.execute(
        build_requests.update()
        .where(build_requests.c.server_id == server_id)
        .values(request=changed)
    )
    return changed


def set_building_task(tx: Tx, server_id: str, task: str | None) -> None:
    """The visible task of a server that is not in a cell."""
    change_building(
        tx,
        server_id,
        lambda r: msgspec.structs.replace(
            r, server=msgspec.structs.replace(r.server, task_state=task)
        ),
    )


# --- in a cell's database -----------------------------------------------------------------


def move_to_cell(
    tx: Tx,
    request: BuildRequest,
    *,
    host: str | None,
    node: str | None,
    zone: str | None,
    now: dt.datetime,
) -> Server:
    """Write the server's row and its create action here; the row if it is there already."""
    present = get(tx, request.server.id, deleted=True)
    if present is not None:
        tx.execute(
            instances.update()
            .where(instances.c.uuid == present.id)
            .values(host=host, node=node, availability_zone=zone, updated_at=now)
        )
        found = get(tx, present.id, Extras(tags=True), deleted=True)
        assert found is not None
        return found
    server, private = request.server, request.private
    values = {name: getattr(server, name) for name in _OWN}
    values.update(
        uuid=server.id,
        host=host,
        node=node,
        availability_zone=zone,
        updated_at=now,
        user_data=private.user_data,
        key_type=private.key_type,
        public_key=private.public_key,
        system=private.system,
    )
    tx.execute(instances.insert().values(**values))
    set_disks(tx, server.id, private.disks)
    set_nics(tx, server.id, private.nics, now=now)
    set_tags(tx, server.id, server.tags, now=now)
    actions.start(
        tx,
        server.id,
        "create",
        request_id=request.request_id,
        user_id=server.user_id,
        project_id=server.project_id,
        now=server.created_at,
    )
    moved = get(tx, server.id, Extras(tags=True))
    assert moved is not None
    return moved


def leave_cell(tx: Tx, server_id: str) -> None:
    """Remove the server's rows here (it goes elsewhere); nothing there is success."""
    actions.forget(tx, server_id)
    for table in (tags, disks, nics, fixed_ips, instance_faults):
        tx.execute(table.delete().where(table.c.server_id == server_id))
    tx.execute(instances.delete().where(instances.c.uuid == server_id))


def get(
    tx: Tx,
    server_id: str,
    extras: Extras = Extras(),  # noqa: B008  (frozen)
    *,
    deleted: bool = False,
    lock: bool = False,
) -> Server | None:
    """One server; deleted ones only if asked for. ``lock``: until the transaction ends."""
    query = _select(extras).where(instances.c.uuid == server_id)
    if not deleted:
        query = query.where(instances.c.deleted == sa.false())
    if lock:
        query = query.with_for_update()
    found = complete(tx, tx.execute(query).all(), extras)
    return found[0] if found else None


def _select(extras: Extras) -> sa.Select[Any]:
    return sa.select(*COLUMNS, instances.c.user_data) if extras.user_data else sa.select(*COLUMNS)


def select_servers(extras: Extras) -> sa.Select[Any]:
    """The SELECT whose rows `complete` takes."""
    return _select(extras)


def complete(tx: Tx, rows: Sequence[Any], extras: Extras) -> list[Server]:
    """Rows of `select_servers` as Servers with their extras: one statement for each kind."""
    if not rows:
        return []
    width = len(COLUMNS)
    if not (extras.tags or extras.faults or extras.volumes or extras.user_data):
        return [Server(*row) for row in rows]
    ids = [row[0] for row in rows]
    tagged = _tags(tx, ids) if extras.tags else {}
    attached = _volumes(tx, ids) if extras.volumes else {}
    failed: dict[str, ServerFault] = {}
    if extras.faults:
        state = COLUMNS.index(instances.c.vm_state)
        wanted = [row[0] for row in rows if row[state] in (VmState.ERROR, VmState.DELETED)]
        failed = faults(tx, wanted) if wanted else {}
    found = []
    for row in rows:
        key = row[0]
        user_data = row[width] if extras.user_data else None
        own = row[:width] if extras.user_data else row
        found.append(
            Server(*(*own, tagged.get(key, ()), failed.get(key), attached.get(key, ()), user_data))
        )
    return found


def private(tx: Tx, server_id: str) -> Private | None:
    """What is needed to make the guest."""
    c = instances.c
    row = tx.execute(
        sa.select(c.user_data, c.key_type, c.public_key, c.system).where(c.uuid == server_id)
    ).first()
    if row is None:
        return None
    own_disks = tx.execute(
        sa.select(disks.c.disk).where(disks.c.server_id == server_id).order_by(disks.c.position)
    ).scalars()
    own_nics = get_nics(tx, server_id)
    return Private(tuple(own_disks), own_nics, *row)


def get_nics(tx: Tx, server_id: str) -> tuple[Nic, ...]:
    """The server's cards in their order."""
    rows = tx.execute(
        sa.select(nics.c.nic).where(nics.c.server_id == server_id).order_by(nics.c.position)
    )
    return tuple(row[0] for row in rows)


def update(tx: Tx, /, server_id: str, *, now: dt.datetime, **values: Any) -> None:
    """Change columns of a server; NotFound when it is gone."""
    changed = tx.execute(
        instances.update()
        .where(instances.c.uuid == server_id, instances.c.deleted == sa.false())
        .values(updated_at=now, **values)
    )
    if not changed.rowcount:
        raise NotFound(f"Instance {server_id} could not be found.")


def begin(
    tx: Tx,
    /,
    server_id: str,
    action: str,
    *,
    task: str | None,
    now: dt.datetime,
    override_lock: bool = False,
    **values: Any,
) -> Server:
    """Check that the state allows ``action`` and set the task, under the row's lock.

    NotFound or Conflict (see `kilonova.domain.states.check`). ``task`` None leaves it as it is.
    The server as it was before.
    """
    server = get(tx, server_id, lock=True)
    if server is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    states.check(action, server, override_lock=override_lock)
    if task is not None:
        values["task_state"] = task
    if values:
        update(tx, server_id, now=now, **values)
    return server


def set_task(
    tx: Tx,
    server_id: str,
    task: str | None,
    *,
    now: dt.datetime,
    expected: Iterable[str | None] | None = None,
) -> bool:
    """Set the task if it is one of ``expected`` now (any when None); whether it was."""
    where = [instances.c.uuid == server_id, instances.c.deleted == sa.false()]
    if expected is not None:
        words = [word for word in expected if word is not None]
        match: sa.ColumnElement[bool] = instances.c.task_state.in_(words)
        if None in list(expected):
            match = sa.or_(match, instances.c.task_state.is_(None))
        where.append(match)
    changed = tx.execute(instances.update().where(*where).values(task_state=task, updated_at=now))
    return bool(changed.rowcount)


def finish(
    tx: Tx,
    /,
    server_id: str,
    vm_state: str,
    *,
    power: PowerState | int,
    now: dt.datetime,
    **values: Any,
) -> Server:
    """The work on a server ended well: stable state, no task; the first time sets launched_at."""
    server = get(tx, server_id, lock=True)
    if server is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    if server.launched_at is None and vm_state == VmState.ACTIVE:
        values["launched_at"] = now
    update(
        tx,
        server_id,
        now=now,
        vm_state=vm_state,
        task_state=None,
        power_state=int(power),
        **values,
    )
    found = get(tx, server_id)
    assert found is not None
    return found


def set_power(tx: Tx, server_id: str, power: PowerState | int, *, now: dt.datetime) -> None:
    """What the hypervisor says; unchanged rows are not written."""
    tx.execute(
        instances.update()
        .where(
            instances.c.uuid == server_id,
            instances.c.deleted == sa.false(),
            instances.c.power_state != int(power),
        )
        .values(power_state=int(power), updated_at=now)
    )


def add_fault(tx: Tx, server_id: str, fault: ServerFault) -> None:
    """Record why something failed."""
    tx.execute(
        instance_faults.insert().values(
            server_id=server_id,
            code=fault.code,
            message=fault.message[:255],
            details=fault.details,
            created_at=fault.created_at,
        )
    )


def set_error(
    tx: Tx, server_id: str, fault: ServerFault, *, now: dt.datetime, vm_state: str = VmState.ERROR
) -> None:
    """The work failed: the fault, ERROR (or another stable state), no task. Gone is success."""
    add_fault(tx, server_id, fault)
    tx.execute(
        instances.update()
        .where(instances.c.uuid == server_id, instances.c.deleted == sa.false())
        .values(vm_state=vm_state, task_state=None, updated_at=now)
    )


def faults(tx: Tx, server_ids: Sequence[str]) -> dict[str, ServerFault]:
    """The newest fault of each of these servers."""
    f = instance_faults.c
    newest = (
        sa.select(sa.func.max(f.id)).where(f.server_id.in_(list(server_ids))).group_by(f.server_id)
    )
    rows = tx.execute(
        sa.select(f.server_id, f.code, f.message, f.created_at, f.details).where(f.id.in_(newest))
    )
    return {row[0]: ServerFault(*row[1:]) for row in rows}


def delete(tx: Tx, server_id: str, *, now: dt.datetime) -> None:
    """Mark the server deleted; its disks, cards and addresses are gone. Gone is success."""
    changed = tx.execute(
        instances.update()
        .where(instances.c.uuid == server_id, instances.c.deleted == sa.false())
        .values(
            vm_state=VmState.DELETED,
            task_state=None,
            power_state=0,
            deleted=True,
            terminated_at=now,
            updated_at=now,
            addresses=msgspec.Raw(b"{}"),
        )
    )
    if changed.rowcount:
        for table in (disks, nics, fixed_ips):
            tx.execute(table.delete().where(table.c.server_id == server_id))


def set_disks(tx: Tx, server_id: str, wanted: Sequence[Disk]) -> None:
    """Replace the server's disks."""
    tx.execute(disks.delete().where(disks.c.server_id == server_id))
    if wanted:
        tx.execute(
            disks.insert(),
            [
                {
                    "server_id": server_id,
                    "position": position,
                    "volume_id": disk.volume_id,
                    "delete_on_termination": True,
                    "disk": disk,
                }
                for position, disk in enumerate(wanted)
            ],
        )


def set_nics(tx: Tx, server_id: str, wanted: Sequence[Nic], *, now: dt.datetime) -> None:
    """Replace the server's cards, and with them its addresses."""
    for table in (nics, fixed_ips):
        tx.execute(table.delete().where(table.c.server_id == server_id))
    if wanted:
        tx.execute(
            nics.insert(),
            [
                {"server_id": server_id, "position": position, "port_id": nic.port_id, "nic": nic}
                for position, nic in enumerate(wanted)
            ],
        )
    known = {ip.address for nic in wanted for ip in nic.ips}
    if known:
        tx.execute(
            fixed_ips.insert(),
            [{"server_id": server_id, "address": address} for address in sorted(known)],
        )
    tx.execute(
        instances.update()
        .where(instances.c.uuid == server_id)
        .values(addresses=addresses(wanted), updated_at=now)
    )


def set_tags(tx: Tx, server_id: str, wanted: Iterable[str], *, now: dt.datetime) -> None:
    """Replace the server's tags."""
    tx.execute(tags.delete().where(tags.c.server_id == server_id))
    rows = [{"server_id": server_id, "tag": tag} for tag in dict.fromkeys(wanted)]
    sql.insert_missing(tx, tags, rows)
    tx.execute(instances.update().where(instances.c.uuid == server_id).values(updated_at=now))


def change_metadata(
    tx: Tx,
    server_id: str,
    change: Callable[[dict[str, str]], dict[str, str]],
    *,
    now: dt.datetime,
    override_lock: bool = False,
    word: str = "",
) -> dict[str, str]:
    """Replace the metadata by ``change`` of it, if the state allows."""
    server = get(tx, server_id, lock=True)
    if server is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    states.check("metadata", server, override_lock=override_lock, word=word)
    changed = change(server.metadata)
    update(tx, server_id, now=now, metadata=changed)
    return changed


def on_host(tx: Tx, host: str) -> list[Server]:
    """The servers of a host."""
    query = _select(Extras()).where(instances.c.host == host, instances.c.deleted == sa.false())
    return complete(tx, tx.execute(query.order_by(instances.c.id)).all(), Extras())


def counts_by_host(tx: Tx) -> dict[str, tuple[int, int]]:
    """Host → (servers, servers with a task)."""
    c = instances.c
    rows = tx.execute(
        sa.select(c.host, sa.func.count(), sa.func.count(c.task_state))
        .where(c.deleted == sa.false(), c.host.is_not(None))
        .group_by(c.host)
    )
    return {host: (servers, busy) for host, servers, busy in rows}


def hosts_of(tx: Tx, server_ids: Sequence[str]) -> list[str]:
    """The hosts of those of the servers that live here, one entry per server."""
    rows = tx.execute(
        sa.select(instances.c.host).where(
            instances.c.uuid.in_(list(server_ids)),
            instances.c.deleted == sa.false(),
            instances.c.host.is_not(None),
        )
    )
    return list(rows.scalars())


def by_address(tx: Tx, address: str) -> list[str]:
    """The servers that have a fixed address."""
    rows = tx.execute(sa.select(fixed_ips.c.server_id).where(fixed_ips.c.address == address))
    return [row[0] for row in rows]


def name_taken(tx: Tx, name: str, project_id: str | None) -> bool:
    """Whether a living server (of a project, or any) has that name, whatever its case."""
    c = instances.c
    query = sa.select(c.id).where(sa.func.lower(c.name) == name.lower(), c.deleted == sa.false())
    if project_id is not None:
        query = query.where(c.project_id == project_id)
    return tx.execute(query.limit(1)).first() is not None


def lock_server(
    tx: Tx, server_id: str, *, by: str | None, reason: str | None, now: dt.datetime
) -> None:
    """Lock (``by``: owner or admin) or unlock (None)."""
    if by is None:
        reason = None
    update(tx, server_id, now=now, locked_by=by, locked_reason=reason)


def _tags(tx: Tx, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    rows = tx.execute(
        sa.select(tags.c.server_id, tags.c.tag)
        .where(tags.c.server_id.in_(ids))
        .order_by(tags.c.tag)
    )
    found: dict[str, tuple[str, ...]] = {}
    for server_id, tag in rows:
        found[server_id] = (*found.get(server_id, ()), tag)
    return found


def _volumes(tx: Tx, ids: Sequence[str]) -> dict[str, tuple[VolumeRef, ...]]:
    d = disks.c
    rows = tx.execute(
        sa.select(d.server_id, d.volume_id, d.delete_on_termination)
        .where(d.server_id.in_(ids), d.volume_id.is_not(None))
        .order_by(d.server_id, d.position)
    )
    found: dict[str, tuple[VolumeRef, ...]] = {}
    for server_id, volume_id, delete_too in rows:
        found[server_id] = (*found.get(server_id, ()), VolumeRef(volume_id, bool(delete_too)))
    return found


def require_unlocked(server: Server, *, override: bool) -> None:
    """Conflict when the server is locked and the caller may not pass."""
    if server.locked_by and not override:
        raise Conflict(f"Instance {server.id} is locked")
