"""Servers: from the build request in the API database to the row in a cell, and its end."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import NotFound
from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.db.tables.cell import (
    disks,
    fixed_ips,
    guest_holds,
    instance_faults,
    instances,
    nics,
    tags,
)
from kilonova.domain import states
from kilonova.domain.guest import Disk, Nic, PowerState
from kilonova.domain.server import (
    EMPTY,
    BuildRequest,
    BuildSpec,
    Private,
    Server,
    ServerFault,
    addresses,
)
from kilonova.domain.states import VmState
from kilonova.store import actions, block_devices, holds, shares, sql
from kilonova.store import server_statements as q
from kilonova.store.noting import note as tell
from kilonova.store.noting import notes

decode = msgspec.json.Decoder(Server).decode
_encode = msgspec.json.encode

# Fields of Server that have a column of the same name, and the columns made of others.
_REPEATED = frozenset(
    column.name for column in instances.c if column.name in Server.__struct_fields__
) - {"id", "user_data"}
_MADE: dict[str, tuple[str, Callable[[Server], Any]]] = {
    "flavor": ("flavor_id", lambda s: s.flavor.flavorid),
    "image": ("image_id", lambda s: s.image.id if s.image else None),
}
_PRIVATE = frozenset({"user_data", "key_type", "public_key", "system"})


class Extras(msgspec.Struct, frozen=True):
    """What is wanted of servers beside what every list shows; ``host``: as a column of its own."""

    user_data: bool = False
    host: bool = False


SET_ASIDE = "soft_deleted_at"
"""The key of ``Private.system`` that tells when a server was soft-deleted."""

EVERYTHING = Extras(user_data=True, host=True)

# --- in the API database ------------------------------------------------------------------


def accepted(tx: Tx, server_ids: Sequence[str]) -> list[str]:
    """Those of the servers that were accepted before (the same request, repeated)."""
    known = set(q.ACCEPTED.scalars(tx, {"servers": server_ids}))
    return [server_id for server_id in server_ids if server_id in known]


def accept(tx: Tx, requests: Sequence[tuple[BuildRequest, BuildSpec]]) -> None:
    """Write the build requests, mappings and request specs of new servers."""
    servers = [request.server for request, _ in requests]
    q.ADD_MAPPING.many(
        tx,
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
    q.ADD_REQUEST.many(
        tx,
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
    q.ADD_SPEC.many(tx, [{"server_id": r.server.id, "spec": spec} for r, spec in requests])


def building(tx: Tx, server_id: str) -> BuildRequest | None:
    """The build request of a server that is not (or was not yet) in a cell."""
    request: BuildRequest | None = q.REQUEST.scalar(tx, {"server_key": server_id})
    return request


def change_building(
    tx: Tx, server_id: str, change: Callable[[BuildRequest], BuildRequest]
) -> BuildRequest | None:
    """Replace the build request by ``change`` of it, unless its server is in a cell by now."""
    found: BuildRequest | None = q.CHANGEABLE_REQUEST.scalar(tx, {"server_key": server_id})
    if found is None:
        return None
    changed = change(found)
    q.CHANGE_REQUEST.run(tx, {"server_key": server_id, "request": changed})
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
    place = {"host": host, "node": node, "availability_zone": zone, "updated_at": now}
    present = get(tx, request.server.id, deleted=True, lock=True)
    if present is not None:
        return _save(tx, present, place)
    private = request.private
    server = msgspec.structs.replace(request.server, **place)
    number = q.ADD.insert(tx, row(server, private))
    server = _save(tx, server, {"number": number})
    _write_disks(tx, server.id, private.disks)
    attached = block_devices.volume_refs(private.disks)
    if attached:
        server = _save(tx, server, {"volumes": attached})
    if private.nics:
        server = set_nics(tx, server.id, private.nics, now=now)
    _write_tags(tx, server.id, server.tags)
    actions.start(
        tx,
        server.id,
        "create",
        request_id=request.request_id,
        user_id=server.user_id,
        project_id=server.project_id,
        now=server.created_at,
    )
    listener = notes(tx)
    if listener is not None:
        listener.server_changed(tx, None, server, frozenset())
    return server


def row(server: Server, private: Private) -> dict[str, Any]:
    """The row of ``instances`` of a server; its ``id`` only if it has a number already."""
    kept = msgspec.structs.replace(server, user_data=None, groups=())
    numbered = {"id": server.number} if server.number else {}
    return {
        "uuid": server.id,
        "server": _encode(kept) if numbered else b"",
        "user_data": private.user_data,
        "key_type": private.key_type,
        "public_key": private.public_key,
        "system": private.system,
        **numbered,
        **_columns(server, (*_REPEATED, *_MADE)),
    }


def leave_cell(tx: Tx, server_id: str) -> None:
    """Remove the server's rows here (it goes elsewhere); nothing there is success."""
    actions.forget(tx, server_id)
    tx.execute(guest_holds.delete().where(guest_holds.c.server_id == server_id))
    for table in (tags, disks, nics, fixed_ips, instance_faults):
        q.DROP[table].run(tx, {"server_key": server_id})
    tx.execute(instances.delete().where(instances.c.uuid == server_id))


def _columns(server: Server, names: Iterable[str]) -> dict[str, Any]:
    """The columns that repeat these fields."""
    values: dict[str, Any] = {}
    for name in names:
        if name in _REPEATED:
            values[name] = getattr(server, name)
        elif name in _MADE:
            column, make = _MADE[name]
            values[column] = make(server)
    return values


def _save(tx: Tx, before: Server, values: Mapping[str, Any]) -> Server:
    """Change fields (or private columns) of a row that this transaction has locked."""
    own = {name: value for name, value in values.items() if name not in _PRIVATE}
    after = msgspec.structs.replace(before, **own)
    kept = msgspec.structs.replace(after, user_data=None, groups=())
    columns = _columns(after, own)
    columns.update((name, value) for name, value in values.items() if name in _PRIVATE)
    q.CHANGE.run(tx, {"server_key": before.id, "server": _encode(kept), **columns})
    listener = notes(tx)
    if listener is not None:
        listener.server_changed(tx, before, after, frozenset(own))
    return after


@functools.cache
def _query(*, user_data: bool, deleted: bool, lock: bool) -> Prepared:
    query = select_servers(Extras(user_data=user_data)).where(instances.c.uuid == q.OF_SERVER)
    if not deleted:
        query = query.where(instances.c.deleted == sa.false())
    return Prepared(query.with_for_update() if lock else query)


def get(
    tx: Tx,
    server_id: str,
    extras: Extras = Extras(),  # noqa: B008  (frozen)
    *,
    deleted: bool = False,
    lock: bool = False,
) -> Server | None:
    """One server; deleted ones only if asked for. ``lock``: until the transaction ends."""
    query = _query(user_data=extras.user_data, deleted=deleted, lock=lock)
    found = complete(query.all(tx, {"server_key": server_id}), extras)
    return found[0] if found else None


def select_servers(extras: Extras) -> sa.Select[Any]:
    """The SELECT whose rows `complete` takes."""
    c = instances.c
    query: sa.Select[Any] = sa.select(c.server)
    if extras.user_data or extras.host:
        query = query.add_columns(c.user_data if extras.user_data else sa.null(), c.host)
    return query


def complete(rows: Sequence[Any], extras: Extras) -> list[Server]:
    """Rows of `select_servers` as Servers."""
    replace = msgspec.structs.replace
    found = [decode(row[0]) for row in rows]
    if extras.user_data:
        for place, row in enumerate(rows):
            if row[1] is not None:
                found[place] = replace(found[place], user_data=row[1])
    return found


def private(tx: Tx, server_id: str) -> Private | None:
    """What is needed to make the guest."""
    row = q.PRIVATE_COLUMNS.first(tx, {"server_key": server_id})
    if row is None:
        return None
    own_disks = tuple(q.DISKS.scalars(tx, {"server_key": server_id}))
    user_data, key_type, public_key, system, held, has_shares = row
    return Private(
        own_disks,
        get_nics(tx, server_id),
        user_data,
        key_type,
        public_key,
        system,
        held or msgspec.UNSET,
        shares.of_guest(tx, server_id) if has_shares else msgspec.UNSET,
    )


def get_nics(tx: Tx, server_id: str) -> tuple[Nic, ...]:
    """The server's cards in their order."""
    return tuple(q.NICS.scalars(tx, {"server_key": server_id}))


def _require(tx: Tx, server_id: str) -> Server:
    server = get(tx, server_id, lock=True)
    if server is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    return server


def update(tx: Tx, server_id: str, /, *, now: dt.datetime, **values: Any) -> Server:
    """Change fields of a server (of `Server` or `Private.system`); NotFound when it is gone."""
    return _save(tx, _require(tx, server_id), {**values, "updated_at": now})


def note(tx: Tx, server_id: str, key: str, value: str, *, now: dt.datetime) -> None:
    """Keep a word about a server beside it; NotFound when it is gone."""
    present = private(tx, server_id)
    system = {**present.system, key: value} if present is not None else {key: value}
    update(tx, server_id, now=now, system=system)


def set_aside(tx: Tx, before: dt.datetime) -> list[str]:
    """Soft-deleted servers that were deleted before that time and have no task."""
    c = instances.c
    rows = tx.execute(
        sa.select(c.uuid, c.system).where(
            c.vm_state == str(VmState.SOFT_DELETED),
            c.task_state.is_(None),
            c.deleted == sa.false(),
        )
    )
    limit = before.isoformat()
    return [server_id for server_id, system in rows if system.get(SET_ASIDE, "") < limit]


def begin(
    tx: Tx,
    server_id: str,
    action: str,
    /,
    *,
    task: str | None,
    now: dt.datetime,
    override_lock: bool = False,
    word: str = "",
    **values: Any,
) -> Server:
    """Check that the state allows ``action`` and set the task, under the row's lock.

    NotFound or Conflict (see `kilonova.domain.states.check`); what ``shares.refuse`` raises.
    ``task`` None leaves it as it is. The server as it was before.
    """
    server = _require(tx, server_id)
    shares.refuse(tx, server_id, action)
    states.check(action, server, override_lock=override_lock, word=word)
    if task is not None:
        values["task_state"] = task
    if values:
        _save(tx, server, {**values, "updated_at": now})
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
    server = get(tx, server_id, lock=True)
    if server is None or (expected is not None and server.task_state not in list(expected)):
        return False
    _save(tx, server, {"task_state": task, "updated_at": now})
    return True


def begin_task(
    tx: Tx, server_id: str, task: str, *, now: dt.datetime, unless: Iterable[str | None]
) -> Server | None:
    """Set the task unless it is one of ``unless``; the server as it is then, None when gone."""
    server = get(tx, server_id, lock=True)
    if server is None or server.task_state in unless:
        return server
    _save(tx, server, {"task_state": task, "updated_at": now})
    return msgspec.structs.replace(server, task_state=task, updated_at=now)


def finish(
    tx: Tx,
    server_id: str,
    vm_state: str,
    /,
    *,
    power: PowerState | int,
    now: dt.datetime,
    **values: Any,
) -> Server:
    """The work on a server ended well: stable state, no task; the first time sets launched_at."""
    server = _require(tx, server_id)
    if server.launched_at is None and vm_state == VmState.ACTIVE:
        values["launched_at"] = now
    ended = {"vm_state": str(vm_state), "task_state": None, "power_state": int(power)}
    return _save(tx, server, {**values, **ended, "updated_at": now})


def set_power(tx: Tx, server_id: str, power: PowerState | int, *, now: dt.datetime) -> None:
    """What the hypervisor says; unchanged rows are not written."""
    server = get(tx, server_id, lock=True)
    if server is not None and server.power_state != int(power):
        _save(tx, server, {"power_state": int(power), "updated_at": now})


def add_fault(tx: Tx, server_id: str, fault: ServerFault) -> None:
    """Record why something failed; the newest fault is shown while the server is in ERROR."""
    fault = msgspec.structs.replace(fault, message=fault.message[:255])
    tx.execute(
        instance_faults.insert().values(server_id=server_id, **msgspec.structs.asdict(fault))
    )
    server = get(tx, server_id, lock=True)
    if server is not None:
        _save(tx, server, {"fault": fault})


def set_error(
    tx: Tx, server_id: str, fault: ServerFault, *, now: dt.datetime, vm_state: str = VmState.ERROR
) -> None:
    """The work failed: the fault, ERROR (or another stable state), no task. Gone is success."""
    add_fault(tx, server_id, fault)
    server = get(tx, server_id, lock=True)
    if server is not None:
        _save(tx, server, {"vm_state": str(vm_state), "task_state": None, "updated_at": now})


def delete(tx: Tx, server_id: str, *, now: dt.datetime) -> None:
    """Mark the server deleted; its disks, cards and addresses are gone. Gone is success."""
    server = get(tx, server_id, lock=True)
    if server is None:
        return
    ended = {
        "vm_state": str(VmState.DELETED),
        "task_state": None,
        "power_state": 0,
        "deleted": True,
        "terminated_at": now,
        "updated_at": now,
        "addresses": EMPTY,
        "volumes": (),
    }
    _save(tx, server, ended)
    for table in (disks, nics, fixed_ips):
        q.DROP[table].run(tx, {"server_key": server_id})
    holds.leave(tx, server_id, now=now)


def set_disks(tx: Tx, server_id: str, wanted: Sequence[Disk], *, now: dt.datetime) -> None:
    """Replace the server's disks, and with them its list of volumes."""
    server = _require(tx, server_id)
    _write_disks(tx, server_id, wanted)
    _save(tx, server, {"volumes": block_devices.volume_refs(wanted), "updated_at": now})


def _write_disks(tx: Tx, server_id: str, wanted: Sequence[Disk]) -> None:
    q.DROP[disks].run(tx, {"server_key": server_id})
    q.ADD_DISK.many(
        tx,
        [
            {
                "server_id": server_id,
                "position": position,
                "volume_id": disk.volume_id,
                "delete_on_termination": disk.ends_with_server,
                "disk": disk,
            }
            for position, disk in enumerate(wanted)
        ],
    )


def set_nics(tx: Tx, server_id: str, wanted: Sequence[Nic], *, now: dt.datetime) -> Server:
    """Replace the server's cards, and with them its addresses; NotFound when it is gone."""
    server = _require(tx, server_id)
    for table in (nics, fixed_ips):
        q.DROP[table].run(tx, {"server_key": server_id})
    q.ADD_NIC.many(
        tx,
        [
            {"server_id": server_id, "position": position, "port_id": nic.port_id, "nic": nic}
            for position, nic in enumerate(wanted)
        ],
    )
    known = {ip.address for nic in wanted for ip in nic.ips}
    q.ADD_ADDRESS.many(
        tx, [{"server_id": server_id, "address": address} for address in sorted(known)]
    )
    return _save(tx, server, {"addresses": addresses(wanted), "updated_at": now})


def set_tags(tx: Tx, server_id: str, wanted: Iterable[str], *, now: dt.datetime) -> None:
    """Replace the server's tags."""
    server = _require(tx, server_id)
    own = tuple(sorted(set(wanted)))
    _write_tags(tx, server_id, own)
    tell(tx, "instance.update", _save(tx, server, {"tags": own, "updated_at": now}))


def _write_tags(tx: Tx, server_id: str, wanted: Iterable[str]) -> None:
    q.DROP[tags].run(tx, {"server_key": server_id})
    sql.insert_missing(tx, tags, [{"server_id": server_id, "tag": tag} for tag in wanted])


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
    server = _require(tx, server_id)
    states.check("metadata", server, override_lock=override_lock, word=word)
    return _save(tx, server, {"metadata": change(server.metadata), "updated_at": now}).metadata


def on_host(tx: Tx, host: str) -> list[Server]:
    """The servers of a host."""
    query = select_servers(Extras()).where(
        instances.c.host == host, instances.c.deleted == sa.false()
    )
    return complete(tx.execute(query.order_by(instances.c.id)).all(), Extras())


def on_hosts(tx: Tx, hosts: Iterable[str]) -> dict[str, list[Server]]:
    """Host → its servers, for each of these hosts."""
    found: dict[str, list[Server]] = {host: [] for host in hosts}
    query = select_servers(Extras()).where(
        instances.c.host.in_(list(found)), instances.c.deleted == sa.false()
    )
    for server in complete(tx.execute(query.order_by(instances.c.id)).all(), Extras()):
        if server.host in found:
            found[server.host].append(server)
    return found


def placed(tx: Tx) -> list[str]:
    """The ids of the servers that are on hosts."""
    c = instances.c
    query = sa.select(c.uuid).where(c.deleted == sa.false(), c.host.is_not(None)).order_by(c.id)
    return list(tx.execute(query).scalars())


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
