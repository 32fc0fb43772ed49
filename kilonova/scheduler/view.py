"""The hosts of one cell in memory, changed in place as news comes in."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from kilonova.scheduler.hosts import assemble
from kilonova.scheduler.state import Aggregate, HostState
from kilonova.store.host_changes import Changes, Occupant, Out, Whole
from kilonova.store.hosts import HostRow

MemberOf = Mapping[str, tuple[Aggregate, ...]]


class CellView:
    """Nodes by uuid with their states. ``looked``: when the database was looked at last.

    A state is put together again when something about its host changed, and only when somebody
    asks for it.
    """

    def __init__(self, cell_id: str) -> None:
        self.cell_id = cell_id
        self.rows: dict[str, HostRow] = {}
        self.stamps: dict[str, str] = {}
        self.looked: dt.datetime | None = None
        self.node_id = 0
        self._nodes_on: dict[str, set[str]] = defaultdict(set)
        self._occupants: dict[str, Occupant] = {}
        self._on: dict[str, dict[str, Occupant]] = defaultdict(dict)
        self._out: dict[str, Out] = {}
        self._states: dict[str, HostState] = {}
        self._shared: dict[bytes, object] = {}

    @property
    def building(self) -> list[str]:
        """Servers that may be taken back without a trace."""
        return [one.server_id for one in self._occupants.values() if one.building]

    def stale(self, changes: Changes) -> list[str]:
        """The nodes whose rows must be read again."""
        return [uuid for uuid, stamp in changes.nodes.items() if self.stamps.get(uuid) != stamp]

    def take(self, changes: Changes) -> None:
        """Servers, services and times of a look at the database."""
        for one in changes.occupants:
            self._place(one)
        out = {one.host: one for one in changes.out}
        for host in self._out.keys() | out.keys():
            if self._out.get(host) != out.get(host):
                self._touch(host)
        self._out = out
        self.node_id = max(self.node_id, changes.node_id)

    def take_rows(self, rows: Iterable[HostRow], stamps: Mapping[str, str]) -> None:
        """Nodes that are new or were written again."""
        for row in rows:
            before = self.rows.get(row.uuid)
            if before is not None and before.host != row.host:
                self._nodes_on[before.host].discard(row.uuid)
            self.rows[row.uuid] = self._lean(row)
            self.stamps[row.uuid] = stamps.get(row.uuid, "")
            self._nodes_on[row.host].add(row.uuid)
            self._states.pop(row.uuid, None)

    def take_whole(self, whole: Whole, asked: Iterable[str]) -> list[str]:
        """Forget what is not there any more; the nodes whose service changed, to be read again."""
        for uuid in self.rows.keys() - whole.nodes:
            self._nodes_on[self.rows.pop(uuid).host].discard(uuid)
            self._states.pop(uuid, None)
            self.stamps.pop(uuid, None)
        there = {one.server_id for one in whole.occupants}
        for server_id in asked:
            if server_id not in there:
                self._place(Occupant(server_id, None, busy=False, building=False))
        for one in whole.occupants:
            self._place(one)
        return [
            uuid
            for uuid, row in self.rows.items()
            if whole.versions.get(row.host) != (row.service.version if row.service else None)
        ]

    def touch_all(self, hosts: Iterable[str]) -> None:
        """These hosts are in other aggregates than before."""
        for host in hosts:
            self._touch(host)

    def states(
        self, uuids: Iterable[str], member_of: MemberOf, found: list[HostState]
    ) -> list[str]:
        """Add the states of nodes as they are now to ``found``; those that are not here."""
        known = self._states
        missing: list[str] = []
        for uuid in uuids:
            state = known.get(uuid)
            if state is None:
                row = self.rows.get(uuid)
                if row is None:
                    missing.append(uuid)
                    continue
                state = known[uuid] = self._assemble(row, member_of)
            found.append(state)
        return missing

    def _assemble(self, row: HostRow, member_of: MemberOf) -> HostState:
        here = self._on.get(row.host, {})
        out = self._out.get(row.host)
        service = row.service
        if service is not None:
            service = msgspec.structs.replace(
                service,
                disabled=out.disabled if out else False,
                disabled_reason=out.reason if out else "",
            )
        images = tuple(one.image for one in here.values() if one.image is not None)
        full = msgspec.structs.replace(
            row,
            service=service,
            servers=frozenset(here),
            busy=sum(one.busy for one in here.values()),
            images=images,
        )
        return assemble(
            full,
            cell_id=self.cell_id,
            member_of=member_of.get(row.host, ()),
            up=service is not None and (out is None or out.up),
        )

    def _place(self, one: Occupant) -> None:
        before = self._occupants.get(one.server_id)
        if before == one or (before is None and one.host is None):
            return
        if before is not None and before.host is not None:
            self._on[before.host].pop(one.server_id, None)
            self._touch(before.host)
        if one.host is None:
            self._occupants.pop(one.server_id, None)
            return
        self._occupants[one.server_id] = one
        self._on[one.host][one.server_id] = one
        self._touch(one.host)

    def _touch(self, host: str) -> None:
        for uuid in self._nodes_on.get(host, ()):
            self._states.pop(uuid, None)

    def _lean(self, row: HostRow) -> HostRow:
        """The row with what it says about its processor kept once for all hosts alike."""
        report = row.report
        shared = msgspec.structs.replace(
            report,
            cpu_info=self._once(report.cpu_info),
            supported=self._once(report.supported),
            traits=self._once(report.traits),
            shape=self._once(report.shape),
        )
        return msgspec.structs.replace(row, report=shared, servers=frozenset(), busy=0, images=())

    def _once(self, value: object) -> object:
        return self._shared.setdefault(msgspec.json.encode(value), value)
