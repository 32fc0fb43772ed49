"""The audit: compares servers, allocations, ports, guests and sagas, and tells what does not match.

It only reads. What a living saga has in hand is left out. Everything is looked at one after
another, so that on a busy cloud only what two audits in a row report is wrong (see ``settled``).
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

import msgspec
import sqlalchemy as sa

from kilonova.base.aio import gather_bounded
from kilonova.base.clock import Clock
from kilonova.base.errors import Fault
from kilonova.db.cells import Cell, Cells
from kilonova.db.database import Database, Tx
from kilonova.domain.agent import GuestList, Known, Leftovers, topic
from kilonova.domain.group import broken_rule
from kilonova.domain.guest import GuestStatus, PowerState
from kilonova.domain.states import VmState
from kilonova.interfaces.network import Port
from kilonova.interfaces.placement import PlacementService
from kilonova.interfaces.volume import VolumeAttachment
from kilonova.messaging.bus import Bus
from kilonova.scheduler.demand import takes
from kilonova.store import block_devices, pictures
from kilonova.store.pictures import ApiPicture, CellPicture, Row
from kilonova.workflows.engine.journal import SAGAS, SagaRow

ASK_SECONDS = 30.0
IDLE_SECONDS = 300.0
API = "api"
# Dedicated CPUs may be taken out of shared ones and the other way round.
COMPARED = (("VCPU", "PCPU"), ("MEMORY_MB",), ("DISK_GB",))
GUESTLESS = (
    VmState.ERROR,
    VmState.BUILDING,
    VmState.DELETED,
    VmState.SOFT_DELETED,
    VmState.SHELVED_OFFLOADED,
)


class Finding(msgspec.Struct, frozen=True, order=True):
    """Something that does not match: a kind to count, whose it is, and a sentence."""

    kind: str
    id: str
    sentence: str


class AuditReport(msgspec.Struct, frozen=True):
    """What was found, and what could not be looked at."""

    findings: tuple[Finding, ...] = ()
    unseen: tuple[str, ...] = ()


class Sources(msgspec.Struct, frozen=True):
    """Where to look. ``ports`` gives every port of a server, ``volumes`` every attachment of one.

    ``more`` are further audits.
    """

    db: Database
    cells: Cells
    clock: Clock
    bus: Bus | None = None
    placement: PlacementService | None = None
    ports: Callable[[], Awaitable[Sequence[Port]]] | None = None
    volumes: Callable[[], Awaitable[Sequence[VolumeAttachment]]] | None = None
    down_after: float = 60.0
    more: tuple[Callable[[], Awaitable[Sequence[Finding]]], ...] = ()


class Seen(msgspec.Struct, frozen=True):
    """The pictures all checks share. ``busy``: servers that a saga has in hand."""

    api: ApiPicture
    cells: dict[str, CellPicture]
    sagas: dict[str, list[SagaRow]]
    busy: frozenset[str]

    def rows(self) -> Iterator[tuple[str, Row]]:
        """(cell id, row) of every living server."""
        for cell_id, picture in self.cells.items():
            for row in picture.servers.values():
                yield cell_id, row

    def row(self, server_id: str) -> Row | None:
        """A living server's row."""
        for picture in self.cells.values():
            if server_id in picture.servers:
                return picture.servers[server_id]
        return None


async def audit(sources: Sources) -> AuditReport:
    """Look at everything once; findings in a stable order."""
    unseen: list[str] = []
    seen = await _look(sources, unseen)
    found = [
        *_servers(seen),
        *_groups(seen),
        *_holds(seen),
        *_sagas(seen, sources.clock.now().timestamp()),
    ]
    if sources.placement is not None:
        found += await _told(unseen, "Placement", _allocations(seen, sources.placement))
    if sources.ports is not None:
        found += await _told(unseen, "the network service", _ports(seen, sources.ports))
    if sources.volumes is not None:
        found += await _told(unseen, "the volume service", _volumes(seen, sources))
    if sources.bus is not None:
        found += await _hosts(seen, sources, sources.bus, unseen)
    for look in sources.more:
        found += await look()
    return AuditReport(tuple(sorted(set(found))), tuple(unseen))


async def settled(sources: Sources, *, pause: float = 1.0) -> AuditReport:
    """What two looks, ``pause`` seconds apart, both report: work under way is no finding."""
    first = await audit(sources)
    if not first.findings:
        return first
    await sources.clock.sleep(pause)
    again = await audit(sources)
    before = {(finding.kind, finding.id) for finding in first.findings}
    return AuditReport(tuple(f for f in again.findings if (f.kind, f.id) in before), again.unseen)


# -- looking ---------------------------------------------------------------------------------------


async def _look(sources: Sources, unseen: list[str]) -> Seen:
    databases = {API: sources.db, **{cell.id: cell.db for cell in sources.cells.all}}
    sagas: dict[str, list[SagaRow]] = {}
    gone: set[str] = set()
    for name, db in databases.items():
        try:
            sagas[name] = await db.read(_living)
        except Fault as fault:
            unseen.append(fault.message)
            gone.add(name)
    cells = {
        cell.id: await cell.db.read(pictures.cell)
        for cell in sources.cells.all
        if cell.id not in gone
    }
    return Seen(
        await sources.db.read(pictures.api),
        cells,
        sagas,
        frozenset(
            row.server_id
            for rows in sagas.values()
            for row in rows
            if row.server_id and row.state != "elsewhere"
        ),
    )


def _living(tx: Tx) -> list[SagaRow]:
    columns = [SAGAS.c[name] for name in SagaRow.__struct_fields__]
    return [SagaRow(*r) for r in tx.execute(sa.select(*columns).where(SAGAS.c.ended_at.is_(None)))]


async def _told(unseen: list[str], name: str, work: Awaitable[list[Finding]]) -> list[Finding]:
    try:
        return await work
    except Fault as fault:
        unseen.append(f"{name} does not answer: {fault.message}")
        return []


# -- servers and sagas -----------------------------------------------------------------------------


def _servers(seen: Seen) -> Iterator[Finding]:
    for server_id, (cell_id, gone) in seen.api.mappings.items():
        if server_id in seen.busy:
            continue
        if cell_id is None and not gone:
            if server_id in seen.api.requests:
                yield Finding(
                    "server.unattended", server_id, "It waits to be made, but no saga makes it."
                )
            else:
                yield Finding("server.lost", server_id, "It is mapped, but nowhere.")
        elif cell_id in seen.cells and not gone and server_id not in seen.cells[cell_id].servers:
            yield Finding("server.missing", server_id, f"Cell {cell_id} has no row of it.")
    for server_id in sorted(seen.api.requests - seen.busy):
        cell_id, gone = seen.api.mappings.get(server_id, (None, True))
        if cell_id is not None or gone:
            yield Finding("request.left", server_id, "Its build request was not forgotten.")
    for server_id in sorted(seen.api.secrets - seen.busy):
        yield Finding("secret.left", server_id, "Its password or files were not forgotten.")
    for cell_id, row in seen.rows():
        if row.id not in seen.busy:
            yield from _row(seen, cell_id, row)


def _row(seen: Seen, cell_id: str, row: Row) -> Iterator[Finding]:
    place, gone = seen.api.mappings.get(row.id, (None, False))
    if gone:
        yield Finding("server.quota", row.id, "Its row lives, but its quota was given back.")
    elif (row.id in seen.api.aside) != (row.vm_state == VmState.SOFT_DELETED):
        counts = "counts in no quota" if row.id in seen.api.aside else "counts in quotas"
        yield Finding("server.quota", row.id, f"It is {row.vm_state}, but {counts}.")
    elif place != cell_id:
        yield Finding(
            "server.unmapped", row.id, f"It has a row in cell {cell_id}, but is mapped to {place}."
        )
    if row.task_state is not None or row.vm_state == VmState.BUILDING:
        state = f"{row.vm_state}, {row.task_state or 'no task'}"
        yield Finding("server.unattended", row.id, f"It is {state}, but no saga works on it.")
    if row.vm_state == VmState.ERROR and not row.fault:
        yield Finding("server.unexplained", row.id, "It is in error without a fault.")
    if row.vm_state == VmState.ACTIVE and row.host is None:
        yield Finding("server.homeless", row.id, "It is active on no host.")
    for action in row.open_actions:
        yield Finding("action.open", row.id, f"Its action {action} was never finished.")


def _holds(seen: Seen) -> Iterator[Finding]:
    for picture in seen.cells.values():
        for holder, host in picture.holds:
            server_id = picture.moves.get(holder, holder)
            row = picture.servers.get(server_id)
            if server_id in seen.busy or (row is not None and row.vm_state == VmState.RESIZED):
                continue
            if row is None or row.host != host:
                sentence = f"It holds CPUs, pages or devices of host {host}, but is not there."
                yield Finding("hold.left", server_id, sentence)


def _groups(seen: Seen) -> Iterator[Finding]:
    for server_id in seen.api.members | seen.api.places.keys():
        row = seen.row(server_id)
        counted = seen.api.places.get(server_id, frozenset())
        real = {row.host} if row is not None and row.host else set()
        if server_id in seen.busy or (row is not None and row.vm_state == VmState.RESIZED):
            continue
        if real != counted:
            where, said = _listed(real), _listed(counted)
            sentence = f"Its group counts it on {said}, but it is on {where}."
            yield Finding("group.place", server_id, sentence)
    for group_id, (policy, rules, counts) in seen.api.crowds.items():
        for host, there in counts.items():
            others = {**counts, host: there - 1}
            broken = broken_rule(policy, rules, others, host)
            if broken is not None:
                yield Finding("group.rule", group_id, f"Host {host} breaks it: {broken}.")


def _listed(hosts: Iterable[str]) -> str:
    return ", ".join(sorted(hosts)) or "no host"


def _sagas(seen: Seen, now: float) -> Iterator[Finding]:
    living = {row.id for rows in seen.sagas.values() for row in rows if row.state != "elsewhere"}
    for place, rows in seen.sagas.items():
        for row in rows:
            what = f"{row.name} of server {row.server_id} in {place}"
            if row.state == "elsewhere":
                if row.id not in living:
                    yield Finding("saga.hold", row.id, f"{what} ended, but still holds it.")
                continue
            if row.state == "stuck":
                yield Finding("saga.stuck", row.id, f"{what} is stuck.")
            elif row.queued_after is not None and row.queued_after not in living:
                yield Finding("saga.forgotten", row.id, f"{what} waits for one that has ended.")
            elif row.ready_at is not None and row.ready_at < now - IDLE_SECONDS:
                yield Finding("saga.idle", row.id, f"{what} is run by no conductor.")
            if row.server_id and row.server_id not in seen.api.mappings:
                yield Finding("saga.ownerless", row.id, f"{what}: there is no such server.")


# -- neighbours ------------------------------------------------------------------------------------


async def _allocations(seen: Seen, placement: PlacementService) -> list[Finding]:
    nodes = {uuid: host for p in seen.cells.values() for uuid, (host, _) in p.nodes.items()}
    providers = list(nodes)
    answers = await gather_bounded(placement.allocations_for_provider, providers, limit=8)
    found = []
    holding: dict[str, dict[str, dict[str, int]]] = {}
    for uuid, consumers in zip(providers, answers, strict=True):
        for consumer, amounts in consumers.items():
            holding.setdefault(consumer, {})[uuid] = amounts
    moves = {uuid: server for p in seen.cells.values() for uuid, server in p.moves.items()}
    for consumer, uuids in holding.items():
        if consumer in moves and _on_the_way(seen, moves[consumer]):
            continue
        row = seen.row(consumer)
        if consumer in seen.busy:
            continue
        hosts = sorted(nodes[uuid] for uuid in uuids)
        if row is None or row.host is None:
            sentence = f"Placement has allocations on {', '.join(hosts)} for it, but it is on none."
            found.append(Finding("allocation.orphan", consumer, sentence))
        elif hosts != [row.host] and row.vm_state != VmState.RESIZED:
            sentence = f"It is on {row.host}, but holds allocations on {', '.join(hosts)}."
            found.append(Finding("allocation.elsewhere", consumer, sentence))
        else:
            differ = _amounts(row, uuids.values())
            if differ:
                # A part may lie on a provider that shares it: ask for all the server holds.
                whole = await placement.allocations_of(consumer)
                found += _amounts(row, whole.allocations.values())
    for _, row in seen.rows():
        if row.host is not None and row.id not in holding and row.id not in seen.busy:
            found.append(
                Finding("allocation.missing", row.id, f"It is on {row.host} without allocations.")
            )
    return found


def _on_the_way(seen: Seen, server_id: str) -> bool:
    """Whether a server has both ends of a move: something moves it, or a resize waits."""
    row = seen.row(server_id)
    return server_id in seen.busy or (row is not None and row.vm_state == VmState.RESIZED)


def _amounts(row: Row, held: Iterable[Mapping[str, int]]) -> list[Finding]:
    """What a server holds against what its flavor asks for."""
    if row.flavor is None or row.vm_state in (VmState.RESIZED, VmState.ERROR):
        return []
    total: Counter[str] = Counter()
    for amounts in held:
        total.update(amounts)
    # Without an image it was booted from a volume, and its root disk takes no room on the host.
    asked = takes(row.flavor, row.image, boot_from_volume=row.image is None)
    found = []
    for names in COMPARED:
        want, has = (sum(amounts.get(n, 0) for n in names) for amounts in (asked, total))
        if want != has:
            sentence = f"It holds {has} {names[0]}, but its flavor asks for {want}."
            found.append(Finding("allocation.amount", row.id, sentence))
    return found


async def _ports(seen: Seen, ports: Callable[[], Awaitable[Sequence[Port]]]) -> list[Finding]:
    found = []
    known: set[str] = set()
    for port in await ports():
        known.add(port.id)
        if port.device_id in seen.busy:
            continue
        row = seen.row(port.device_id)
        if row is None:
            sentence = f"It belongs to server {port.device_id}, which is not there."
            found.append(Finding("port.orphan", port.id, sentence))
        elif port.id not in row.ports and port.mark:
            sentence = f"It was made for server {row.id}, which does not have it."
            found.append(Finding("port.extra", port.id, sentence))
        elif port.host != (row.host or "") and row.vm_state != VmState.RESIZED:
            sentence = f"Its server {row.id} is on {row.host}, not on {port.host or 'none'}."
            found.append(Finding("port.host", port.id, sentence))
    for _, row in seen.rows():
        for port_id in row.ports:
            if port_id not in known and row.id not in seen.busy:
                found.append(Finding("port.missing", port_id, f"Server {row.id} lost this port."))
    return found


async def _volumes(seen: Seen, sources: Sources) -> list[Finding]:
    """Attachments and the disks of servers have to be the same."""
    assert sources.volumes is not None
    known = {item.id: item for item in await sources.volumes() if item.server_id}
    ours = []
    for cell in sources.cells.all:
        if cell.id in seen.cells:
            ours += await cell.db.read(block_devices.all_volumes)
    used = {disk.attachment_id for _, disk in ours}
    wanted = {(server_id, disk.volume_id) for server_id, disk in ours}
    found = [
        Finding(
            "volume.orphan", item.id, f"Server {item.server_id} does not have {item.volume_id}."
        )
        for item in known.values()
        if item.id not in used
        and (item.server_id, item.volume_id) not in wanted
        and item.server_id not in seen.busy
        and item.server_id not in seen.api.requests
    ]
    for server_id, disk in ours:
        row = seen.row(server_id)
        if row is None or server_id in seen.busy or disk.connection is None:
            continue
        there = known.get(disk.attachment_id or "")
        if there is None:
            text = f"Its volume {disk.volume_id} is attached to it no more."
            found.append(Finding("volume.lost", server_id, text))
        elif there.status not in ("attached", "", "detaching"):
            text = f"The attachment of {disk.volume_id} is {there.status}."
            found.append(Finding("volume.unfinished", server_id, text))
    return found


# -- hosts -----------------------------------------------------------------------------------------


async def _hosts(seen: Seen, sources: Sources, bus: Bus, unseen: list[str]) -> list[Finding]:
    now = sources.clock.now()
    asked: list[tuple[Cell, str]] = []
    for cell in sources.cells.real:
        picture = seen.cells.get(cell.id)
        for host, last in (picture.computes if picture else {}).items():
            if last is not None and now - last <= dt.timedelta(seconds=sources.down_after):
                asked.append((cell, host))
            else:
                unseen.append(f"Host {host} is down.")

    async def ask(one: tuple[Cell, str]) -> list[Finding]:
        _, host = one
        try:
            return await _host(seen, bus, host)
        except Fault as fault:
            unseen.append(f"Host {host} does not answer: {fault.message}")
            return []

    return [f for some in await gather_bounded(ask, asked, limit=16) for f in some]


async def _host(seen: Seen, bus: Bus, host: str) -> list[Finding]:
    told = await bus.call(topic(host), "guests", reply=GuestList, seconds=ASK_SECONDS)
    here = {row.id: row for _, row in seen.rows() if row.host == host}
    # What a saga has in hand may lie anywhere.
    moved = {i for p in seen.cells.values() for i in p.moves.values() if _on_the_way(seen, i)}
    known = Known(tuple(sorted({*here, *moved, *seen.busy})))
    left = await bus.call(topic(host), "leftovers", known, reply=Leftovers, seconds=ASK_SECONDS)
    found = [Finding("host.leftover", host, f"{line}.") for line in left.lines]
    found += [Finding("host.network", host, f"{line}.") for line in left.networks]
    guests: Mapping[str, GuestStatus] = {guest.server_id: guest for guest in told.guests}
    for server_id, row in here.items():
        if server_id in seen.busy or row.vm_state in GUESTLESS:
            continue
        guest = guests.get(server_id)
        if guest is None:
            found.append(Finding("guest.missing", server_id, f"Host {host} has no guest for it."))
        elif guest.power == PowerState.RUNNING and row.vm_state == VmState.STOPPED:
            found.append(Finding("guest.power", server_id, f"It is stopped, but runs on {host}."))
        elif guest.power == PowerState.SHUTDOWN and row.vm_state == VmState.ACTIVE:
            found.append(Finding("guest.power", server_id, f"It is active, but off on {host}."))
    return found


async def patiently(sources: Sources, *, within: float, pause: float = 0.5) -> AuditReport:
    """The audit, looked at again for ``within`` seconds until it is clean."""
    end = sources.clock.monotonic() + within
    while True:
        report = await audit(sources)
        if not report.findings or sources.clock.monotonic() >= end:
            return report
        await asyncio.sleep(0)
        await sources.clock.sleep(pause)
